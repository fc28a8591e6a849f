package group

import (
	"maps"
	"testing"
	"time"

	"github.com/walq/walq/mmap"
)

// ringOf is a group of eight entries with ordinals 8 and 9 leased, for messages 1 and 2.
func ringOf(t *testing.T) (f *File, ring *Ring, second Lease) {
	t.Helper()
	dir, err := mmap.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if err := Create(dir, "g", "tmp", 0o600, Identity{Entries: 8}, Settings{Lease: time.Second}, Base{Seq: 1}); err != nil {
		t.Fatal(err)
	}
	if f, err = Open(dir, "g", false); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	ring, ok, err := f.Ring()
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	o := Owner{Slot: 1, Incarnation: 1}
	if _, out := ring.Claim(8, 1, o, 1000); out != Claimed {
		t.Fatal(out)
	}
	second, out := ring.Claim(9, 2, o, 1000)
	if out != Claimed {
		t.Fatal(out)
	}
	return f, ring, second
}

func bySeq(b Base, finished map[uint64]bool) (marks []Mark, err error) {
	for seq := range finished {
		marks = append(marks, Mark{int(seq - b.Seq), seq})
	}
	return marks, nil
}

func wantSecondFinished(t *testing.T, f *File) {
	t.Helper()
	ring, ok, err := f.Ring()
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	if k, ok := ring.Look(ring.Base.Ordinal + 1); !ok || k.Word.State() != Finished {
		t.Errorf("the second message is %v (%v), want it finished", k.Word, ok)
	}
	if _, ok := ring.Look(ring.Base.Ordinal); ok {
		t.Error("the first message is not free")
	}
}

func TestWhatIsFinishedWhileABaseIsMadeStaysFinished(t *testing.T) {
	f, ring, second := ringOf(t)
	err := f.Rebase(func(was Before) (Base, bool, error) {
		if !ring.Finish(&second) {
			t.Error("the lease is lost too early")
		}
		return Base{Seq: was.From}, true, nil
	}, bySeq)
	if err != nil {
		t.Fatal(err)
	}
	wantSecondFinished(t, f)
}

func TestADeathBeforeTheRingIsEmptiedForgetsNothing(t *testing.T) {
	f, ring, second := ringOf(t)
	ring.Finish(&second)
	half := Base{Seq: 1, Ordinal: 40}
	if err := f.writeBase(&half); err != nil { // and dies
		t.Fatal(err)
	}
	if _, ok, err := f.Ring(); ok || err != nil {
		t.Fatalf("between two bases: %v, %v", ok, err)
	}
	if err := f.Rebase(func(was Before) (Base, bool, error) { return Base{Seq: was.From}, true, nil }, bySeq); err != nil {
		t.Fatal(err)
	}
	wantSecondFinished(t, f)
}

func TestALeaseOfAnotherBaseIsLost(t *testing.T) {
	f, ring, second := ringOf(t)
	if err := f.Rebase(func(Before) (Base, bool, error) { return Base{Seq: 1}, true, nil }, nil); err != nil {
		t.Fatal(err)
	}
	if ring.Finish(&second) || ring.Extend(&second, 9) || ring.SendBack(&second, 0) {
		t.Error("a lease of the former base is still good")
	}
}

// Of a generation passed has the low 16 bits: the one after 65,535 looks like the first.
func TestALatePassOfAnOlderBaseChangesNothing(t *testing.T) {
	_, ring, _ := ringOf(t)
	old, next := *ring, *ring
	old.Base.Generation, next.Base.Generation = 1<<16-1, 1<<16
	ring.word(grpPassed).Store(old.Base.Generation << passedBits)
	old.Pass(5)
	if old.Overtaken() || !next.Overtaken() {
		t.Error("the older base is overtaken too early")
	}
	ring.word(grpPassed).Store(next.Base.Generation << passedBits)
	old.Pass(9)
	if !old.Overtaken() || next.Overtaken() {
		t.Errorf("passed is %#x: of the older base again", ring.word(grpPassed).Load())
	}
	next.Pass(3)
	if got := ring.word(grpPassed).Load(); got != next.Base.Generation<<passedBits|2 {
		t.Errorf("passed is %#x, want the next base's", got)
	}
}

// Consumers may go far on, past the window, before who makes a base empties the ring.
func TestAGroupThatGoesFarOnWhileABaseIsMadeRepeatsNothing(t *testing.T) {
	f, ring, second := ringOf(t)
	made := bySeq
	err := f.Rebase(func(was Before) (Base, bool, error) {
		ring.Finish(&second)
		first := Lease{Ordinal: 8, Word: Word(ring.at(8, entryWord).Load())}
		ring.Finish(&first)
		for n := uint64(10); n < 40; n++ {
			l, out := ring.Claim(n, n-7, Owner{Slot: 1, Incarnation: 1}, 1000)
			if out != Claimed || n < 39 && !ring.Finish(&l) {
				t.Fatalf("ordinal %d: %v", n, out)
			}
			ring.Advance()
		}
		return Base{Seq: was.From}, true, nil
	}, func(b Base, finished map[uint64]bool) ([]Mark, error) {
		maps.DeleteFunc(finished, func(seq uint64, _ bool) bool { return seq < b.Seq })
		return made(b, finished)
	})
	if err != nil {
		t.Fatal(err)
	}
	ring, ok, err := f.Ring()
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	if n, seq, ok := ring.Start(); !ok || n != ring.Base.Ordinal || seq != 32 {
		t.Errorf("counting begins at ordinal %d, message %d (%v), want 32: all before it were finished", n, seq, ok)
	}
	if _, ok := ring.Look(ring.Base.Ordinal); ok {
		t.Error("message 32 is not free")
	}
}
