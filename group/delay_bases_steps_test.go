//go:build walqsteps

package group

import (
	"errors"
	"testing"

	"github.com/walq/walq/internal/step"
)

// unfinished are the messages up to last that the ring brings, and how often a cell has
// each.
func (c *counter) unfinished(last uint64) (ring map[uint64]bool, cells map[uint64]int) {
	c.t.Helper()
	r, ok, err := c.file.Ring()
	if !ok || err != nil {
		c.t.Fatal(ok, err)
	}
	ring, cells = map[uint64]bool{}, map[uint64]int{}
	for n, seq := r.Base.Ordinal, r.Base.Seq; seq <= last; n, seq = n+1, seq+1 {
		if look, ok := r.Look(n); !ok || look.Word.State() != Finished {
			ring[seq] = true
		}
	}
	c.d.Each(func(seq uint64) { cells[seq]++ })
	return ring, cells
}

// The message is moved when the maker of a base has put the delay file on disk, and
// finished when its entry was emptied: it was not handed out again by the ring then.
func TestADelayedMessageThatIsFinishedWhileABaseIsMadeStaysFinished(t *testing.T) {
	c := newCounter(t, 8, 1)
	var l Lease
	defer step.Set(step.GroupBaseWritten, func() error {
		c.move(c.look.Now)
		var ok bool
		if l, _, ok = c.next(); !ok {
			t.Error("nothing is due")
		}
		return nil
	})()
	n, finished := 0, false
	defer step.Set(step.GroupBaseEmptied, func() error {
		if n++; n == 8 {
			finished = c.d.Finish(c.ring, &l)
		}
		return nil
	})()
	rebase := func() error {
		return c.file.Rebase(func(Before) (Base, bool, error) { return Base{Seq: 1}, true, nil }, bySeq)
	}
	if err := rebase(); err != nil {
		t.Fatal(err)
	}
	if ring, cells := c.unfinished(1); !finished || ring[1] || len(cells) != 0 {
		t.Errorf("finished: %v; the ring brings %v, cells have %v", finished, ring, cells)
	}
}

// The other way round: the maker is first.
func TestADelayedMessageThatABaseBringsAgainIsNotFinished(t *testing.T) {
	c := newCounter(t, 8, 1)
	var l Lease
	defer step.Set(step.GroupBaseWritten, func() error {
		c.move(c.look.Now)
		var ok bool
		if l, _, ok = c.next(); !ok {
			t.Error("nothing is due")
		}
		return nil
	})()
	finished := true
	defer step.Set(step.DelayPurged, func() error {
		finished = c.d.Finish(c.ring, &l)
		return nil
	})()
	if err := c.file.Rebase(func(Before) (Base, bool, error) { return Base{Seq: 1}, true, nil }, bySeq); err != nil {
		t.Fatal(err)
	}
	if ring, cells := c.unfinished(1); finished || !ring[1] || len(cells) != 0 {
		t.Errorf("finished: %v; the ring brings %v, cells have %v", finished, ring, cells)
	}
}

// Who moves a message is stopped before its last step. Whoever finishes the message, and
// syncs that, has it finished in the ring too, which else would bring it again after a
// power loss.
func TestADelayedMessageIsFinishedInTheRingWhileItsMoverIsStopped(t *testing.T) {
	c := newCounter(t, 8, 1)
	defer step.Set(step.DelayWaits, func() error {
		l, seq, ok := c.next()
		if !ok || seq != 1 || !c.d.Finish(c.ring, &l) {
			t.Fatal("it cannot be finished", seq, ok)
		}
		if k, ok := c.ring.Look(c.ring.Base.Ordinal); !ok || k.Word.State() != Finished {
			t.Errorf("its entry is %v, want it finished", k.Word)
		}
		return nil
	})()
	c.move(c.look.Now)
	if k, _ := c.ring.Look(c.ring.Base.Ordinal); k.Word.State() != Finished {
		t.Errorf("at last its entry is %v", k.Word)
	}
}

// Who removes a group is stopped on the way, or late: a group of its name that was made
// meanwhile keeps its files.
func TestWhoRemovesAGroupLeavesTheNextOneAlone(t *testing.T) {
	c := newCounter(t, 8, 1)
	c.move(c.look.Now + 5000)
	dir, err := c.file.dir.Again()
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	old, err := Open(dir, "g", false)
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	var next *counter
	err = c.file.Remove(func(name string) error {
		if err := dir.Unlink(name); err != nil || name != FileName("g") {
			return err
		}
		id := Identity{Entries: 8, Created: 5}
		if err := Create(dir, "g", "tmp", 0o600, id, Settings{Lease: 1}, Base{Seq: 1}); err != nil {
			return err
		}
		next = openCounter(t, dir)
		next.move(next.look.Now + 5000)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.file.Remove(dir.Unlink); err == nil {
		t.Error("it was removed twice")
	}
	again, err := Open(dir, "g", false)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if d, err := again.Delays(); d == nil || err != nil {
		t.Fatalf("the delay file of the next group: %v", err)
	} else if _, n := d.DelayedFrom(); n != 1 {
		t.Errorf("it has %d messages, want 1", n)
	}
	// Who has the removed group open, and has not seen its delay file, cares for nothing.
	if d, err := old.Delays(); d != nil || err != nil {
		t.Errorf("the removed group: %v", err)
	}
}

func TestAGroupThatIsRemovedByHalvesSaysSo(t *testing.T) {
	c := newCounter(t, 8, 1)
	c.move(c.look.Now + 5000)
	dir, err := c.file.dir.Again()
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	dies(t, step.DelayUnlinked, 1, func() error { return c.file.Remove(dir.Unlink) })
	f, err := Open(dir, "g", false)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	bad := new(CorruptError)
	if _, err := f.Delays(); !errors.As(err, &bad) {
		t.Errorf("got %v, want that the delay file is missing", err)
	}
	if err := RemoveDamaged("g")(dir.Unlink); err != nil {
		t.Error(err)
	}
}

// A power loss keeps what is in the blocks and not how many they are.
func TestBlocksThatAreUsedAnewAreEmpty(t *testing.T) {
	c := newCounter(t, 8, 4)
	for range 600 {
		c.move(c.look.Now + 5000)
	}
	c.d.r.Word(dlyBlocks).Store(1)
	err := c.file.Rebase(func(Before) (Base, bool, error) { return Base{Seq: 1, Boot: [16]byte{1}}, true, nil }, noMarks)
	if err != nil {
		t.Fatal(err)
	}
	c.ring, _, _ = c.file.Ring()
	for range 700 {
		c.move(c.look.Now + 5000)
	}
	if _, cells := c.unfinished(0); len(cells) != 700 {
		t.Errorf("%d messages are delayed, want 700", len(cells))
	} else if _, n := c.d.DelayedFrom(); n != 700 {
		t.Errorf("%d cells are used, want 700", n)
	}
}

// Who syncs the delay file may be stopped in it; the group does not stand still with it.
func TestTheFloorPassesWhatWasMovedWhileWhoSyncsIsStopped(t *testing.T) {
	c := newCounter(t, 8, 1)
	c.move(c.look.Now + 5000)
	err := c.file.locked(lockCheckpoint, 0, func() error {
		if err := c.file.SettleMoved(); !errors.Is(err, ErrBusy) {
			t.Errorf("got %v, want ErrBusy", err)
		}
		return c.file.SettleMovedAnyway()
	})
	if n := c.ring.Advance(); err != nil || n != c.ring.Base.Ordinal+1 {
		t.Errorf("%v; the floor is %d", err, n)
	}
}
