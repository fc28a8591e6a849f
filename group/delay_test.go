package group

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/walq/walq/mmap"
)

// smallDelays has delay files made with few blocks: under the race detector the whole of
// one is memory.
func smallDelays(t testing.TB, blocks int) {
	was := delayBlocks
	delayBlocks = blocks
	t.Cleanup(func() { delayBlocks = was })
}

// A counter is a group with a delay file, and who looks at it.
type counter struct {
	t     *testing.T
	file  *File
	ring  *Ring
	d     *Delays
	look  Looker
	owner Owner
	dead  map[Owner]bool
}

func newCounter(t *testing.T, entries, blocks int) *counter {
	t.Helper()
	smallDelays(t, blocks)
	dir, err := mmap.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	id := Identity{Entries: entries, Created: 1_000_000_000_000}
	if err := Create(dir, "g", "tmp", 0o600, id, Settings{Lease: time.Second}, Base{Seq: 1}); err != nil {
		t.Fatal(err)
	}
	return openCounter(t, dir)
}

func openCounter(t *testing.T, dir *mmap.Dir) *counter {
	t.Helper()
	c := &counter{t: t, owner: Owner{1, 1}, dead: map[Owner]bool{}}
	var err error
	if c.file, err = Open(dir, "g", false); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.file.Close() })
	ring, ok, err := c.file.Ring()
	if !ok || err != nil {
		t.Fatal(ok, err)
	}
	c.ring = ring
	if c.d, err = c.file.MakeDelays("tmp.1", 0o600); err != nil {
		t.Fatal(err)
	}
	c.look = Looker{
		Ring: ring, Now: 10_000_000, Boot: 1000,
		Dead: func(w Word) (bool, error) { return c.dead[w.Owner()], nil },
		Left: func(uint64, Word) int64 { return 1 },
	}
	return c
}

// claim leases the next message, whose sequence number is its ordinal's distance.
func (c *counter) claim() (Lease, uint64) {
	c.t.Helper()
	for n := c.ring.Floor(); ; n++ {
		seq := c.ring.Base.Seq + n - c.ring.Base.Ordinal
		switch l, out := c.ring.Claim(n, seq, c.owner, c.look.Boot+1000); out {
		case Claimed:
			return l, seq
		case Taken:
		case Full:
			c.settle()
			n = c.ring.Floor() - 1
		default:
			c.t.Fatalf("ordinal %d: %v", n, out)
		}
	}
}

// settle lets the floor pass what was moved.
func (c *counter) settle() {
	c.t.Helper()
	was := c.ring.Floor()
	if err := c.file.SettleMoved(); err != nil {
		c.t.Fatal(err)
	}
	if c.ring.Advance() == was {
		c.t.Fatal("the floor stands still")
	}
}

// move moves the next message.
func (c *counter) move(due int64) (seq uint64) {
	c.t.Helper()
	l, seq := c.claim()
	if out, err := c.d.Move(c.ring, &l, seq, c.owner, false, due, c.look.Now); out != Arrived || err != nil {
		c.t.Fatalf("message %d: %v, %v", seq, out, err)
	}
	c.ring.Advance()
	return seq
}

// next takes what is due first, if anything is.
func (c *counter) next() (l Lease, seq uint64, ok bool) {
	c.t.Helper()
	f, ok, _, err := c.d.Next(&c.look)
	if !ok || err != nil {
		return l, 0, false
	}
	l, seq, ok, err = c.d.Take(&f, c.owner, c.look.Boot+1000)
	if !ok || err != nil {
		c.t.Fatal(ok, err)
	}
	return l, seq, true
}

func TestDelayedMessagesLeaveTheWindowAndComeInTheOrderInWhichTheyAreDue(t *testing.T) {
	c := newCounter(t, 8, 8)
	const many = 3000
	due := map[uint64]int64{}
	for i := range many {
		at := c.look.Now + 1000 + int64(i*7919%5000) // each of its own block, without an order
		due[c.move(at)] = at
	}
	if from, n := c.d.DelayedFrom(); from != 1 || n != many {
		t.Errorf("%d delayed from %d on, want %d from 1", n, from, many)
	}
	c.settle()
	if floor := c.ring.Floor(); floor != c.ring.Base.Ordinal+many {
		t.Errorf("the floor is %d, want it to pass what was moved: %d", floor, c.ring.Base.Ordinal+many)
	}
	if _, _, ok := c.next(); ok {
		t.Fatal("something is due too early")
	}
	var last int64
	for got := 0; got < many; {
		_, soonest, _ := c.d.soonest()
		if soonest == Never {
			t.Fatalf("nothing is to be looked at, with %d of %d handed out", got, many)
		}
		c.look.Now = max(c.look.Now, soonest)
		for {
			l, seq, ok := c.next()
			if !ok {
				break
			}
			if due[seq] > c.look.Now || due[seq] < last {
				t.Fatalf("message %d is due at %d, handed out at %d after one of %d", seq, due[seq], c.look.Now, last)
			}
			if l.Word.Deliveries() != 1 {
				t.Errorf("message %d: delivery %d, want the first", seq, l.Word.Deliveries())
			}
			last = due[seq]
			delete(due, seq)
			if !c.d.Finish(c.ring, &l) {
				t.Fatal("the lease is lost")
			}
			got++
		}
	}
	if _, n := c.d.DelayedFrom(); n != 0 {
		t.Errorf("%d are left", n)
	}
}

func TestAFullDelayFileChangesNothing(t *testing.T) {
	c := newCounter(t, 1024, 1)
	for range cellsPerBlock {
		c.move(c.look.Now + 5000)
	}
	l, seq := c.claim()
	if out, err := c.d.Move(c.ring, &l, seq, c.owner, false, c.look.Now+5000, c.look.Now); out != NoRoom || err != nil {
		t.Fatalf("got %v, %v, want no room", out, err)
	}
	if !c.ring.Delay(&l, c.look.Now+5000) {
		t.Error("the message cannot wait in the ring")
	}
	// What becomes free is used again.
	c.look.Now += 5000
	done, _, ok := c.next()
	if !ok || !c.d.Finish(c.ring, &done) {
		t.Fatal("nothing is due")
	}
	c.move(c.look.Now + 100)
	if _, n := c.d.DelayedFrom(); n != cellsPerBlock {
		t.Errorf("%d are delayed, want %d", n, cellsPerBlock)
	}
}

func TestALeaseOfADelayedMessageIsAsThatOfAnother(t *testing.T) {
	c := newCounter(t, 8, 1)
	seq := c.move(c.look.Now + 1000)
	c.look.Now += 1000
	first, _, ok := c.next()
	if !ok || !c.d.Held(&first) || !c.d.Extend(&first, c.look.Boot+5000) {
		t.Fatal("it cannot be held")
	}
	if _, _, ok := c.next(); ok {
		t.Error("another consumer gets it too")
	}
	if !c.d.SendBack(&first, c.look.Now+300) || c.d.Finish(c.ring, &first) || c.d.Held(&first) {
		t.Error("sent back, and still held")
	}
	if _, _, ok := c.next(); ok {
		t.Error("it comes before it is due")
	}
	c.look.Now += 300
	again, got, ok := c.next()
	if !ok || got != seq || again.Word.Deliveries() != 2 {
		t.Fatalf("got message %d, %v, %v", got, again.Word, ok)
	}
	// The owner dies; then the lease of the next one ends.
	c.dead[c.owner] = true
	c.owner.Slot++
	c.look.Now += Watch
	again, _, ok = c.next()
	if !ok || again.Word.Deaths() != 1 || again.Word.Deliveries() != 3 {
		t.Fatalf("after a death: %v, %v", again.Word, ok)
	}
	c.look.Now += Watch
	if _, _, ok := c.next(); ok {
		t.Error("a lease that is not over ends")
	}
	c.look.Boot += 1001
	c.look.Now += Watch
	late, _, ok := c.next()
	if !ok || late.Word.Deaths() != 1 || late.Word.Deliveries() != 4 {
		t.Fatalf("after the end of its lease: %v, %v", late.Word, ok)
	}
	if c.d.Finish(c.ring, &again) || !c.d.Finish(c.ring, &late) {
		t.Error("the wrong one finishes it")
	}
	if !c.d.Delay(&late, 5) == false {
		t.Error("what is finished is sent back")
	}
}

// Each way a mover can end: what the others make of it.
func TestWhatTheDeadLeavePendingIsDecidedByTheRing(t *testing.T) {
	c := newCounter(t, 8, 1)
	// Before the ring knows: the message comes by the ring, the cell is free.
	l, _ := c.claim()
	cell, pending, err := c.d.claim(c.owner, l.Word.notYet())
	if pending == 0 || err != nil {
		t.Fatal(err)
	}
	c.d.cover(0, c.look.Now)
	if _, _, ok := c.next(); ok || Word(c.d.cell(cell, cellWord).Load()) != pending {
		t.Fatal("a pending cell of the living is touched")
	}
	c.dead[c.owner] = true
	c.look.Now += Watch
	if _, _, ok := c.next(); ok || Word(c.d.cell(cell, cellWord).Load()).State() != Finished {
		t.Error("the cell is not free")
	}
	if k, ok := c.ring.Look(l.Ordinal); !ok || k.Word != l.Word {
		t.Errorf("the entry is %v", k.Word)
	}
	// Behind it: it is delivered from the cell, and the floor goes on.
	c.dead[c.owner] = false
	seq := c.ring.Base.Seq
	cell, pending, _ = c.d.claim(c.owner, l.Word.notYet())
	c.d.cell(cell, cellSeq).Store(seq)
	c.d.cell(cell, cellTime).Store(makeTime(pending.tag()|dueBit, c.look.Now))
	c.d.cell(cell, cellCheck).Store(c.d.checkCell(cell, pending.lap(), seq, l.Ordinal%8))
	c.d.cover(0, c.look.Now)
	c.ring.storeTime(&l, makeTime(l.Word.tag()|dueBit, makePlace(cell, pending.lap())))
	c.ring.at(l.Ordinal, entryWord).Store(uint64(l.Word.in(Moving)))
	if floor := c.ring.Advance(); floor != l.Ordinal {
		t.Errorf("the floor passes what is moving: %d", floor)
	}
	c.dead[c.owner] = true
	c.look.Now += Watch
	got, gotSeq, ok := c.next()
	if !ok || gotSeq != seq || !c.d.Finish(c.ring, &got) {
		t.Errorf("got message %d, %v", gotSeq, ok)
	}
	if k, _ := c.ring.Look(l.Ordinal); k.Word.State() != Finished {
		t.Errorf("the entry is %v, want it finished with its message", k.Word)
	}
}

func TestAMoveThatNamesNoCellGoesBackToTheRing(t *testing.T) {
	c := newCounter(t, 8, 1)
	for i, place := range []int64{1 << 47, makePlace(cellsPerBlock, 1), makePlace(3, 7), 0} {
		l, _ := c.claim()
		c.ring.storeTime(&l, makeTime(l.Word.tag()|dueBit, place))
		w := l.Word.in(Moving)
		c.ring.at(l.Ordinal, entryWord).Store(uint64(w))
		if c.d.Help(c.ring, l.Ordinal, w); i < 3 {
			if k, _ := c.ring.Look(l.Ordinal); k.Word.State() != Ready {
				t.Errorf("place %x: the entry is %v, want it ready", place, k.Word)
			}
		}
	}
}

func TestAMoverThatLostItsLeaseLeavesNothing(t *testing.T) {
	c := newCounter(t, 8, 1)
	l, seq := c.claim()
	c.ring.Release(l.Ordinal, l.Word, false)
	if out, err := c.d.Move(c.ring, &l, seq, c.owner, true, c.look.Now+5000, c.look.Now); out != Lost || err != nil {
		t.Errorf("got %v, %v", out, err)
	}
	if _, n := c.d.DelayedFrom(); n != 0 || Word(c.d.cell(0, cellWord).Load()).State() != Finished {
		t.Error("its cell is not free")
	}
}

// A group of 16 entries whose messages 1 to 6 are delayed, 1 to 4 of them on disk, gets
// another base; 1 is handed out. marks: of those that are finished in the ring behind the
// base, the ring does not bring any again.
func TestABaseForgetsDelayedMessagesThatTheRingBringsAgain(t *testing.T) {
	for _, c := range []struct {
		name  string
		boot  byte
		from  uint64
		marks func(Base, map[uint64]bool) ([]Mark, error)
		left  []uint64
		lease bool // that of message 1 holds
	}{
		{"the same boot", 0, 3, bySeq, []uint64{1, 2, 3, 4, 5, 6}, true},
		{"another boot", 1, 3, bySeq, []uint64{1, 2, 3, 4}, false},
		{"another boot, all behind the base", 1, 1, bySeq, []uint64{1, 2, 3, 4}, false},
		{"no room for marks", 1, 3, noMarks, []uint64{1, 2}, false},
		{"another place", 0, 3, nil, nil, false},
		{"the log is behind all", 0, 9, bySeq, []uint64{1, 2, 3, 4, 5, 6}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := newCounter(t, 16, 1)
			for i := range 6 {
				if k.move(k.look.Now + 1000); i == 3 {
					k.settle()
				}
			}
			l7, _ := k.claim()
			_, pending, _ := k.d.claim(k.owner, l7.Word)
			k.look.Now += 1000
			leased, seq, ok := k.next()
			if !ok || seq != 1 {
				t.Fatal(seq, ok)
			}
			err := k.file.Rebase(func(Before) (Base, bool, error) {
				return Base{Seq: c.from, Boot: [16]byte{c.boot}}, true, nil
			}, c.marks)
			if err != nil {
				t.Fatal(err)
			}
			var left []uint64
			for cell := range uint64(6) {
				if Word(k.d.cell(cell, cellWord).Load()).State() != Finished {
					left = append(left, k.d.cell(cell, cellSeq).Load())
				}
			}
			if fmt.Sprint(left) != fmt.Sprint(c.left) {
				t.Errorf("left are %v, want %v", left, c.left)
			}
			ring, ok, err := k.file.Ring()
			if !ok || err != nil {
				t.Fatal(ok, err)
			}
			for n, seq := ring.Base.Ordinal, c.from; seq <= 6; n, seq = n+1, seq+1 {
				look, claimed := ring.Look(n)
				brings := !claimed || look.Word.State() != Finished
				if delayed := slices.Contains(c.left, seq); brings == delayed {
					t.Errorf("message %d: the ring brings it: %v, a cell has it: %v", seq, brings, delayed)
				}
			}
			if got := k.d.Finish(ring, &leased); got != c.lease {
				t.Errorf("the lease holds: %v, want %v", got, c.lease)
			}
			want := Dropped // its owner may still store into it
			if c.boot != 0 {
				want = Finished
			}
			if got := Word(k.d.cell(6, cellWord).Load()); got.State() != want {
				t.Errorf("the pending cell is %v, want %v", got, want)
			}
			if k.d.drop(6, pending) != (c.boot == 0) || Word(k.d.cell(6, cellWord).Load()).State() != Finished {
				t.Error("its owner cannot free it")
			}
		})
	}
}

func noMarks(Base, map[uint64]bool) ([]Mark, error) { return nil, nil }

// What a power loss may leave: cells that are torn, and a file that is too short.
func TestTornCellsAreFreedAndMissingBlocksForgotten(t *testing.T) {
	c := newCounter(t, 16, 4)
	for range 4 {
		c.move(c.look.Now + 1000)
	}
	c.settle()
	c.d.cell(1, cellSeq).Add(1)
	c.d.cell(2, cellCheck).Add(1 << 60)
	err := c.file.Rebase(func(was Before) (Base, bool, error) { return Base{Seq: 5, Boot: [16]byte{1}}, true, nil }, bySeq)
	if err != nil {
		t.Fatal(err)
	}
	if from, n := c.d.DelayedFrom(); n != 2 || from != 1 {
		t.Errorf("%d are left, from %d on, want 2 from 1", n, from)
	}
	c.d.r.Word(dlyBlocks).Store(3)
	if err := c.d.clamp(); err != nil || c.d.blocks() != 1 {
		t.Errorf("%d blocks, %v, want the one that is there", c.d.blocks(), err)
	}
	c.d.r.Word(dlyBlocks).Store(math.MaxUint64)
	if got := c.d.blocks(); got != 4 {
		t.Errorf("%d blocks, want no more than there may be", got)
	}
}
