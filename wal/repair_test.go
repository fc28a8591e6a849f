package wal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/walq/walq/internal/testx"
	"github.com/walq/walq/segment"
)

func repair(t testing.TB, dir string, o RepairOptions) RepairReport {
	t.Helper()
	rep, err := Repair(t.Context(), dir, o)
	if err != nil {
		t.Fatalf("repair: %v (%+v)", err, rep)
	}
	return rep
}

// longQueue is a queue of so many segments, closed in order, and what is in it.
func longQueue(t testing.TB, segments uint32) (dir string, want map[uint64]string) {
	t.Helper()
	dir, want = newQueue(t), map[uint64]string{}
	l := create(t, dir, Options{Durability: SyncNever})
	for a := (Appended{}); a.End.ordinal() < segments || len(want)%7 != 6; {
		body := fmt.Sprint(len(want), strings.Repeat("-", 1000+len(want)%500))
		a = appendText(t, l, body)
		want[a.Seq] = body
	}
	closeLog(t, l)
	return dir, want
}

// wantWorking opens a queue after a repair, reads all of want but what is lost, and
// appends: under a number that was never given out.
func wantWorking(t testing.TB, dir string, want map[uint64]string, rep RepairReport) {
	t.Helper()
	wantSound(t, dir, -1)
	if again := repair(t, dir, RepairOptions{DryRun: true}); !again.Sound() {
		t.Errorf("a second repair finds %+v %+v", again.Repaired, again.Ranges)
	}
	l := open(t, dir, Options{})
	got, highest := readAll(t, l), uint64(0)
	missing := uint64(0)
	for seq, body := range want {
		highest = max(highest, seq)
		switch lost := slices.ContainsFunc(rep.Ranges, func(r LostRange) bool { return r.First <= seq && seq <= r.Last }); {
		case got[seq] == body && lost:
			t.Errorf("message %d is there, but said to be lost", seq)
		case got[seq] != "" && got[seq] != body:
			t.Errorf("message %d is %.40q, want %.40q", seq, got[seq], body)
		case got[seq] == "":
			missing++
			if !lost && !rep.LostAtLeast {
				t.Errorf("message %d is missing, and no lost range has it", seq)
			}
		}
	}
	if missing != rep.Lost && !rep.LostAtLeast {
		t.Errorf("%d messages are missing, the report says %d", missing, rep.Lost)
	}
	if a := appendDurable(t, l, "after the repair"); a.Seq <= highest {
		t.Errorf("number %d is given out again", a.Seq)
	} else {
		got[a.Seq] = "after the repair"
	}
	closeLog(t, l)
	l = open(t, dir, Options{})
	if again := readAll(t, l); len(again) != len(got) {
		t.Errorf("after another append %d messages are read, want %d", len(again), len(got))
	}
	closeLog(t, l)
	wantSound(t, dir, len(got))
}

func TestAnUndamagedQueueIsLeftByteForByte(t *testing.T) {
	dir, want := longQueue(t, 3)
	before := testx.Fingerprint(t, dir)
	rep := repair(t, dir, RepairOptions{})
	if !rep.Sound() || rep.Messages != uint64(len(want)) || rep.Lost != 0 {
		t.Errorf("got %+v, want %d messages and nothing to do", rep, len(want))
	}
	if testx.Fingerprint(t, dir) != before {
		t.Error("files were changed")
	}
}

func TestADryRunWritesNothing(t *testing.T) {
	dir, _ := longQueue(t, 3)
	damage(t, segmentFile(t, dir, 1), func(b []byte) []byte { b[9000] ^= 1; clear(b[20000:24000]); return b })
	damage(t, filepath.Join(dir, controlName), func(b []byte) []byte { b[ctlDurable+6] ^= 1; return b })
	before := testx.Fingerprint(t, dir)
	rep := repair(t, dir, RepairOptions{DryRun: true})
	if rep.Sound() || rep.Lost == 0 || !rep.DryRun || len(rep.Quarantined) != 2 {
		t.Errorf("got %+v, want lost messages and two files for quarantine", rep)
	}
	if testx.Fingerprint(t, dir) != before {
		t.Error("files were changed")
	}
}

// Damage of every kind to real files.
func TestRepairKeepsAllThatCanBeRead(t *testing.T) {
	remove := func(n ...int) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			var paths []string
			for _, i := range n {
				paths = append(paths, segmentFile(t, dir, i))
			}
			for _, path := range paths {
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	inSegment := func(n int, f func([]byte) []byte) func(*testing.T, string) {
		return func(t *testing.T, dir string) { damage(t, segmentFile(t, dir, n), f) }
	}
	inControl := func(f func([]byte) []byte) func(*testing.T, string) {
		return func(t *testing.T, dir string) { damage(t, filepath.Join(dir, controlName), f) }
	}
	garbage := func(p []byte) { _, _ = rand.NewChaCha8([32]byte{1}).Read(p) }
	for _, c := range []struct {
		name  string
		harm  func(*testing.T, string)
		loses bool
	}{
		{"a body", inSegment(1, func(b []byte) []byte { b[20000] ^= 0xff; return b }), true},
		{"a torn page of zeros", inSegment(1, func(b []byte) []byte { clear(b[20480:24576]); return b }), true},
		{"a page of garbage", inSegment(1, func(b []byte) []byte { garbage(b[20480:24576]); return b }), true},
		{"garbage at the first frames", inSegment(1, func(b []byte) []byte { garbage(b[8192:10000]); return b }), true},
		{"garbage to the end of a sealed segment", inSegment(1, func(b []byte) []byte { garbage(b[40000:]); return b }), true},
		{"zeros to the end of a sealed segment", inSegment(1, func(b []byte) []byte { clear(b[40000:]); return b }), true},
		{"all frames of a sealed segment", inSegment(1, func(b []byte) []byte { garbage(b[8192:]); return b }), true},
		{"a sealed segment cut short", inSegment(1, func(b []byte) []byte { return b[:30001] }), true},
		{"a sealed segment cut within its header", inSegment(1, func(b []byte) []byte { return b[:100] }), true},
		{"an empty file", inSegment(1, func(b []byte) []byte { return nil }), true},
		{"an empty first file", inSegment(0, func(b []byte) []byte { return nil }), true},
		{"an empty last file", inSegment(-1, func(b []byte) []byte { return nil }), true},
		{"a header without its checksum", inSegment(1, func(b []byte) []byte { clear(b[4080:4096]); return b }), false},
		{"a header of which only the salt is left", inSegment(1, func(b []byte) []byte { garbage(b[:96]); garbage(b[104:4096]); return b }), false},
		{"the first header of which only the salt is left", inSegment(0, func(b []byte) []byte { garbage(b[:96]); garbage(b[104:4096]); return b }), false},
		{"the last header of which only the salt is left", inSegment(-1, func(b []byte) []byte { garbage(b[:96]); garbage(b[104:4096]); return b }), false},
		{"a header with its salt", inSegment(1, func(b []byte) []byte { garbage(b[:4096]); return b }), true},
		{"the shared words and the index", inSegment(1, func(b []byte) []byte { garbage(b[4096:8192]); return b }), false},
		{"the end of the log is zeros", inSegment(-1, func(b []byte) []byte { clear(b[9000:]); return b }), true},
		{"the end of the log is garbage", inSegment(-1, func(b []byte) []byte { garbage(b[9000:]); return b }), true},
		{"the last segment cut short", inSegment(-1, func(b []byte) []byte { return b[:9000] }), true},
		{"a SEAL of the wrong kind", inSegment(1, func(b []byte) []byte {
			seal := binary.LittleEndian.AppendUint64(nil, uint64(segment.MakeWord(segment.Seal, 0, 0, 0)))
			at := bytes.LastIndex(b, seal)
			binary.LittleEndian.PutUint64(b[at:], uint64(segment.MakeWord(segment.SealJump, 0, 0, 0)))
			return b
		}), false},
		{"a missing segment", remove(1), true},
		{"two missing segments", remove(1, 2), true},
		{"three missing segments", remove(1, 2, 3), true},
		{"the first segment is missing", remove(0), true},
		{"the last segment is missing", remove(-1), true},
		{"all segments are missing", remove(0, 1, 2, 3, 4, 5), true},
		{"the control file is missing", func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, controlName)); err != nil {
				t.Fatal(err)
			}
		}, false},
		{"the lock file is missing", func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, lockName)); err != nil {
				t.Fatal(err)
			}
		}, false},
		{"the control file is empty", inControl(func(b []byte) []byte { return nil }), false},
		{"the control file is cut short", inControl(func(b []byte) []byte { return b[:20000] }), false},
		{"the control file is too long", inControl(func(b []byte) []byte { return append(b, 1) }), false},
		{"the identity", inControl(func(b []byte) []byte { garbage(b[:4096]); return b }), false},
		{"the records", inControl(func(b []byte) []byte { garbage(b[4096:8192]); return b }), false},
		{"the shared words", inControl(func(b []byte) []byte { garbage(b[8192:12288]); return b }), false},
		{"the participants", inControl(func(b []byte) []byte { garbage(b[12288:]); return b }), false},
		{"the whole control file", inControl(func(b []byte) []byte { garbage(b); return b }), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir, want := longQueue(t, 6)
			c.harm(t, dir)
			if rep, err := Verify(t.Context(), dir, nil); err == nil && len(rep.Faults) == 0 {
				t.Error("verify finds nothing")
			}
			rep := repair(t, dir, RepairOptions{})
			if rep.Sound() || c.loses != (rep.Lost > 0) {
				t.Errorf("loses something: %v, want %v (%+v)", rep.Lost > 0, c.loses, rep)
			}
			for _, name := range rep.Quarantined {
				if _, err := os.Stat(name); err != nil {
					t.Errorf("not in quarantine: %v", err)
				}
			}
			wantWorking(t, dir, want, rep)
		})
	}
}

// The number behind a jump must not be given out again when all behind it is lost.
func TestRepairOfALostSegmentBehindAJumpGivesNoNumberTwice(t *testing.T) {
	for _, how := range []string{"removed", "empty"} {
		t.Run(how, func(t *testing.T) {
			dir := newQueue(t)
			l := create(t, dir, Options{})
			want := map[uint64]string{appendDurable(t, l, "before").Seq: "before"}
			crash(t, l)
			powerLoss(t, dir)
			l = open(t, dir, Options{})
			for i := range 5 {
				body := fmt.Sprint("behind ", i)
				want[appendDurable(t, l, body).Seq] = body
			}
			closeLog(t, l)
			last := segmentFile(t, dir, -1)
			if how == "removed" {
				if err := os.Remove(last); err != nil {
					t.Fatal(err)
				}
			} else {
				damage(t, last, func([]byte) []byte { return nil })
			}
			rep := repair(t, dir, RepairOptions{})
			if rep.Lost != 5 {
				t.Errorf("%d messages are lost, want 5 (%+v)", rep.Lost, rep.Ranges)
			}
			wantWorking(t, dir, want, rep)
		})
	}
}

// Where nothing tells how many messages there were, numbers jump beyond all that can
// have been.
func TestRepairOfAnUnknownEndMakesNumbersJump(t *testing.T) {
	dir := newQueue(t)
	l := create(t, dir, Options{Durability: SyncNever})
	l.keeper.started.Store(true) // it would raise the settled position, which tells
	l.keeper.start.Do(func() { close(l.keeper.gone) })
	want := map[uint64]string{}
	for i := range 20 {
		body := fmt.Sprint("message ", i, ".")
		want[appendText(t, l, body).Seq] = body
	}
	crash(t, l)
	damage(t, segmentFile(t, dir, 0), func(b []byte) []byte {
		at := where(t, b, "message 12.")
		for i := range b[at : at+1000] {
			b[at+i] = 0xa5
		}
		return b
	})
	rep := repair(t, dir, RepairOptions{})
	if rep.Lost == 0 || !rep.LostAtLeast || rep.Messages != 12 {
		t.Errorf("got %+v, want 12 messages, and at least one lost", rep)
	}
	wantWorking(t, dir, want, rep)
}

// What a message carries may look like frames of the very segment.
func TestFramesWithinAMessageAreNotTakenForFrames(t *testing.T) {
	dir := newQueue(t)
	l := create(t, dir, Options{Durability: SyncNever})
	want := map[uint64]string{}
	put := func(body string) { want[appendText(t, l, body).Seq] = body }
	for i := range 20 {
		put(fmt.Sprint("message ", i))
	}
	closeLog(t, l)
	b, err := os.ReadFile(segmentFile(t, dir, 0))
	if err != nil {
		t.Fatal(err)
	}
	l = open(t, dir, Options{Durability: SyncNever})
	put(string(b[8192 : 8192+20*48]))
	put("behind")
	put("and behind that")
	closeLog(t, l)
	damage(t, segmentFile(t, dir, 0), func(b []byte) []byte {
		at := where(t, b, "message 19") + 24 + 16 // the word of the message that carries frames
		copy(b[at:], "\x01\x02\x03\x04\x05\x06\x07\x08")
		return b
	})
	rep := repair(t, dir, RepairOptions{})
	if rep.Lost != 1 {
		t.Errorf("%d messages are lost, want 1 (%+v)", rep.Lost, rep.Ranges)
	}
	wantWorking(t, dir, want, rep)
}

func TestRepairEndsAPoison(t *testing.T) {
	for _, way := range []string{"the same boot", "another boot"} {
		t.Run(way, func(t *testing.T) {
			dir := newQueue(t)
			l := create(t, dir, Options{Durability: SyncAlways})
			want := map[uint64]string{}
			for i := range 30 {
				body := fmt.Sprint(i, strings.Repeat("p", 5000))
				want[appendDurable(t, l, body).Seq] = body
			}
			for i := range 5 {
				body := fmt.Sprint("not durable ", i)
				want[appendText(t, l, body).Seq] = body
			}
			l.ctl.poison(l.slot, errors.New("planted"))
			crash(t, l)
			if way == "another boot" {
				powerLoss(t, dir)
			}
			wantSound(t, dir, len(want)) // a poison is no fault of the files
			last := segmentFile(t, dir, -1)
			old, err := os.Stat(last)
			if err != nil {
				t.Fatal(err)
			}
			done := repair(t, dir, RepairOptions{})
			if !slices.ContainsFunc(done.Repaired, func(f Fault) bool { return f.Offset == ctlPoison && strings.Contains(f.Reason, "planted") }) {
				t.Errorf("got %+v, want the poison and its reason", done.Repaired)
			}
			if done.Lost != 0 || len(done.Quarantined) != 2 {
				t.Errorf("got %+v, want nothing lost, and the last segment and the control file in quarantine", done)
			}
			if now, err := os.Stat(last); err != nil || os.SameFile(old, now) {
				t.Errorf("%s is the same file as before (%v)", last, err)
			}
			wantWorking(t, dir, want, done)
		})
	}
}

func TestAPoisonedQueueWithDamageSaysWhatIsLost(t *testing.T) {
	dir := newQueue(t)
	l := create(t, dir, Options{Durability: SyncAlways})
	want := map[uint64]string{}
	for i := range 10 {
		body := fmt.Sprint("message ", i)
		want[appendDurable(t, l, body).Seq] = body
	}
	l.ctl.poison(l.slot, errors.New("planted"))
	crash(t, l)
	damage(t, segmentFile(t, dir, 0), func(b []byte) []byte { b[where(t, b, "message 7")+24] ^= 4; return b })
	rep := repair(t, dir, RepairOptions{})
	if rep.Lost != 1 || len(rep.Ranges) != 1 || rep.Ranges[0].First != 8 || rep.Ranges[0].Last != 8 {
		t.Errorf("got %+v, want message 8 lost", rep)
	}
	wantWorking(t, dir, want, rep)
}

// After a power loss the torn tail is recovery's; what is damaged below the
// durable position is not.
func TestRepairBeforeARecoveryLeavesTheTailToIt(t *testing.T) {
	dir := newQueue(t)
	l := create(t, dir, Options{})
	want := map[uint64]string{}
	for i := range 10 {
		body := fmt.Sprint("message ", i)
		want[appendDurable(t, l, body).Seq] = body
	}
	appendText(t, l, "torn")
	crash(t, l)
	powerLoss(t, dir)
	damage(t, segmentFile(t, dir, 0), func(b []byte) []byte { b[where(t, b, "torn")+24] ^= 4; return b })
	before := testx.Fingerprint(t, dir)
	if rep := repair(t, dir, RepairOptions{}); !rep.Sound() || testx.Fingerprint(t, dir) != before {
		t.Errorf("the torn tail was touched: %+v", rep)
	}
	damage(t, segmentFile(t, dir, 0), func(b []byte) []byte { b[where(t, b, "message 3")+24] ^= 4; return b })
	if _, err := Open(t.Context(), dir, Options{}); !errors.Is(err, ErrCorrupt) {
		t.Errorf("opening gives %v, want ErrCorrupt", err)
	}
	rep := repair(t, dir, RepairOptions{})
	if rep.Lost != 1 {
		t.Errorf("got %+v, want one message lost", rep)
	}
	wantWorking(t, dir, want, rep)
}
