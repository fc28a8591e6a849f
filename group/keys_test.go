package group

import (
	"math"
	"testing"
)

// Who was stopped before a mark, for a lap of the ring, does not take away the one that is
// there by then.
func TestALateMarkDoesNotTakeALaterOneAway(t *testing.T) {
	_, ring, _ := ringOf(t)
	if ring.Marked(8) {
		t.Error("nobody marked it")
	}
	ring.Mark(8)
	if !ring.Marked(8) || ring.Marked(9) || ring.Marked(16) {
		t.Errorf("marked are 8: %v, 9: %v, 16: %v, want 8", ring.Marked(8), ring.Marked(9), ring.Marked(16))
	}
	ring.Mark(16)
	ring.Mark(8)
	if !ring.Marked(16) || ring.Marked(24) {
		t.Error("the mark of 16 is gone")
	}
}

func TestAMarkOfADamagedFileOnlyWakesForNothing(t *testing.T) {
	_, ring, _ := ringOf(t)
	ring.r.Word(grpRing + 0*entryBytes + entryMark).Store(math.MaxUint64)
	ring.Mark(8)
	if !ring.Marked(8) {
		t.Error("a mark is lost")
	}
}

// What the key of an ordinal depends on goes by its own lap, or by the floor.
func TestAnOrdinalIsDoneOnceItIsFinishedForGood(t *testing.T) {
	_, ring, second := ringOf(t)
	if ring.Done(8) || ring.Done(9) || ring.Done(10) || !ring.Claimed(8) || ring.Claimed(10) {
		t.Error("8 and 9 are leased, 10 is free")
	}
	if !ring.Finish(&second) || !ring.Done(9) || ring.Done(17) || ring.Done(1) == (ring.Floor() <= 1) {
		t.Error("9 is finished, and no other one of its entry")
	}
	look, _ := ring.Look(8)
	if !ring.Release(8, look.Word, true) || ring.Done(8) {
		t.Error("8 was taken from a dead one: that does not finish it")
	}
	look, _ = ring.Look(8)
	first, ok := ring.Take(8, look.Word, 1, Owner{1, 1}, 1000)
	if !ok || !ring.Finish(&first) || ring.Advance() != 10 {
		t.Fatal("8 cannot be finished")
	}
	if l, out := ring.Claim(16, 9, Owner{1, 1}, 1000); out != Claimed || !ring.Done(8) || ring.Done(l.Ordinal) {
		t.Error("8 is below the floor, its entry is another's")
	}
}
