package wal

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/walq/walq/segment"
)

func TestAHandleThatCannotAskGroupsTrimsNothing(t *testing.T) {
	dir := newQueue(t)
	l := open(t, dir, Options{Create: &Settings{SegmentSize: segment.MinSize, Durability: SyncNever, MaxBytes: 2 * segment.MinSize}})
	path := filepath.Join(dir, groupsName, "any.grp")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var full *FullError
	for full == nil {
		if _, err := l.Append(nil, make([]byte, 10000)); err != nil && !errors.As(err, &full) {
			t.Fatal(err)
		}
	}
	if n := trim(t, l, math.MaxUint64); n != 0 || segments(t, dir) != 2 {
		t.Errorf("%d segments went and %d are left, want all of 2", n, segments(t, dir))
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	fillSegments(t, l, 3)
	trim(t, l, 0)
	if n := segments(t, dir); n > 2 {
		t.Errorf("%d segments are left without a group, want at most 2", n)
	}
}

// What a hook holds stays, from the segment on that it lies in; the rest may go.
func TestTrimmingStopsBeforeWhatIsHeld(t *testing.T) {
	dir := newQueue(t)
	l := create(t, dir, Options{Durability: SyncNever})
	var from uint64
	l.SetHolds(func(uint64) Hold { return Hold{From: from, By: "a test"} })
	from = fillSegments(t, l, 3).Seq
	last := fillSegments(t, l, 4)
	if err := l.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, before := range []uint64{from / 2, last.Seq} {
		trim(t, l, before)
		if oldest := l.ctl.oldest(); oldest > from {
			t.Errorf("below %d: the oldest is %d, and %d is held", before, oldest, from)
		}
	}
	if oldest := l.ctl.oldest(); oldest != from { // it is the first of its segment
		t.Errorf("the oldest is %d, want %d", oldest, from)
	}
	from = math.MaxUint64
	if trim(t, l, last.Seq); segments(t, dir) != 1 {
		t.Errorf("%d segments are left, want the last", segments(t, dir))
	}
}

// Two find the last segment sealed, and there is room for one more. Who is slower uses the
// one that the other made, be the queue full by it.
func TestTheLastSegmentThatAnotherMadeHasRoom(t *testing.T) {
	dir := newQueue(t)
	settings := &Settings{SegmentSize: segment.MinSize, Durability: SyncNever, MaxBytes: 2 * segment.MinSize}
	l, other := open(t, dir, Options{Create: settings}), open(t, dir, Options{})
	defer closeLog(t, l)
	defer closeLog(t, other)
	someone := Hold{From: 1, By: "somebody"}
	other.SetHolds(func(uint64) Hold { return someone })
	asked := false
	l.SetHolds(func(uint64) Hold {
		if !asked {
			asked = true
			fillSegments(t, other, 1)
		}
		return someone
	})
	for end := uint32(0); !asked; {
		if a, err := l.Append(nil, make([]byte, 10000)); err != nil {
			t.Fatalf("there is room in the segment that another made: %v", err)
		} else if n := a.End.ordinal(); end != 0 && n > end+1 {
			t.Fatal("nobody was asked")
		} else if end == 0 {
			end = n
		}
	}
	for range 100 {
		_, err := l.Append(nil, make([]byte, 10000))
		if errors.Is(err, ErrFull) {
			if n := segments(t, dir); n != 2 {
				t.Errorf("full with %d segments, want 2", n)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Error("the queue is never full")
}
