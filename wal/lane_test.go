package wal

import (
	"testing"
	"time"

	"github.com/walq/walq/internal/testx"
	"github.com/walq/walq/segment"
)

// hold takes the lane of s as a goroutine does that then loses its processor.
func hold(t *testing.T, s *seg) (at uint64) {
	t.Helper()
	at = s.lane.word.Load()
	if at&laneTaken != 0 || !s.lane.word.CompareAndSwap(at, at|laneTaken) {
		t.Fatal("somebody is in the lane")
	}
	return at
}

func TestWhoIsInTheLaneKeepsNobody(t *testing.T) {
	dir := newQueue(t)
	l, other := create(t, dir, Options{Durability: SyncNever}), open(t, dir, Options{Durability: SyncNever})
	defer closeLog(t, other)
	appendText(t, l, "first")
	s := tailOf(t, l)
	at := hold(t, s)
	var last Appended
	for i := range 20 {
		appendText(t, other, "another's")
		before := s.ownTail().Off
		last = appendText(t, l, "beside")
		if after := s.ownTail().Off; after != last.End.off() || after <= before {
			t.Fatalf("append %d ended at %d and the tail went from %d to %d: who comes next walks", i, last.End.off(), before, after)
		}
	}
	s.lane.leave(at, at) // late: where it was the tail is not any more
	if s.lane.taken() || s.ownTail().Off != last.End.off() {
		t.Errorf("taken %v, the tail at %d, want it to stay at %d", s.lane.taken(), s.ownTail().Off, last.End.off())
	}
	at = hold(t, s)
	s.lane.leave(at, lanePlace(segment.Cursor{Off: last.End.off() + 32, Seq: last.Seq + 2}, s.First))
	if c := s.ownTail(); s.lane.taken() || c.Off != last.End.off()+32 || c.Seq != last.Seq+2 {
		t.Errorf("taken %v, the tail at %+v", s.lane.taken(), c)
	}
	s.lane.word.Store(at)
	if a := appendText(t, l, "in the lane"); a.Seq != last.Seq+1 || len(readAll(t, l)) != 42 {
		t.Errorf("got number %d, want %d; %d messages are there", a.Seq, last.Seq+1, len(readAll(t, l)))
	}
}

func TestAnAppendInTheLaneGoesPastTheFramesOfOthers(t *testing.T) {
	dir := newQueue(t)
	l, other := create(t, dir, Options{Durability: SyncNever}), open(t, dir, Options{Durability: SyncNever})
	defer closeLog(t, other)
	appendText(t, l, "first")
	var last Appended
	for range 10 {
		last = appendText(t, other, "another's")
	}
	a, done, err := l.appendInLane(tailOf(t, l), []byte("behind"))
	if !done || err != nil || a.Seq != last.Seq+1 || tailOf(t, l).lane.taken() {
		t.Errorf("number %d, done %v, %v, want number %d", a.Seq, done, err, last.Seq+1)
	}
}

// The mapping may be gone: nothing of it may be touched.
func TestWhoTakesALaneTooLateLeavesIt(t *testing.T) {
	l := open(t, newQueue(t), Options{Create: &Settings{SegmentSize: segment.MinSize, Durability: SyncNever}})
	l.keeper.start.Do(func() { close(l.keeper.gone) })
	appendText(t, l, "first")
	late := func(s *seg, what string) {
		was := s.ownTail()
		a, done, err := l.appendInLane(s, []byte("late"))
		if done || err != nil || s.lane.taken() || s.ownTail() != was {
			t.Errorf("%s: got %+v, done %v, %v; taken %v", what, a, done, err, s.lane.taken())
		}
	}
	old := tailOf(t, l)
	for tailOf(t, l) == old {
		appendBytes(t, l, 4000)
	}
	if err := l.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.syncer.dropCursor(&l.table)
	for w := (watch{}); len(l.keeper.retired) > 0 || len(w.leaving) > 0; {
		l.releaseRetired(&w)
	}
	late(old, "in a segment that is gone")
	s := tailOf(t, l)
	l.gate.closed.Store(true)
	late(s, "while Close waits for others")
	l.gate.closed.Store(false)
	closeLog(t, l)
	late(s, "after Close")
	if _, err := l.Append(nil, []byte("late")); err != ErrClosed {
		t.Errorf("got %v, want ErrClosed", err)
	}
}

func TestASegmentStaysWhileSomebodyIsInItsLane(t *testing.T) {
	l := open(t, newQueue(t), Options{Create: &Settings{SegmentSize: segment.MinSize, Durability: SyncNever}})
	l.keeper.start.Do(func() { close(l.keeper.gone) })
	appendText(t, l, "first")
	old := tailOf(t, l)
	at := hold(t, old)
	for tailOf(t, l) == old {
		appendBytes(t, l, 4000)
	}
	if err := l.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	w := watch{}
	for range 5 {
		l.releaseRetired(&w)
	}
	if len(w.leaving) != 0 || len(l.keeper.retired) != 1 {
		t.Errorf("%d segments leave and %d are kept, want the one that is kept", len(w.leaving), len(l.keeper.retired))
	}
	old.lane.leave(at, at)
	if l.releaseRetired(&w); len(w.leaving) != 1 {
		t.Error("it does not leave when nobody is inside")
	}
	l.releaseLeaving(&w)
	closeLog(t, l)
}

func TestCloseWaitsForThoseInALane(t *testing.T) {
	for _, tail := range []bool{true, false} {
		l := open(t, newQueue(t), Options{Create: &Settings{SegmentSize: segment.MinSize, Durability: SyncNever}})
		appendText(t, l, "first")
		s := tailOf(t, l)
		at := hold(t, s)
		for !tail && tailOf(t, l) == s {
			appendBytes(t, l, 4000)
		}
		closed := make(chan error, 1)
		go func() { closed <- l.Close() }()
		<-l.keeper.gone
		time.Sleep(30 * time.Millisecond)
		if len(closed) != 0 {
			t.Errorf("Close did not wait; in the tail: %v", tail)
		} else {
			_ = s.Allocated() // still mapped
		}
		s.lane.leave(at, at)
		testx.Eventually(t, 20*time.Second, func() bool { return len(closed) == 1 }, "Close returns")
		if err := <-closed; err != nil {
			t.Error(err)
		}
	}
}

// In whatever order those leave who appended at once, in the lane and beside it, the tail
// of the handle is behind them all: what lies behind it would never be synced.
func TestTheTailOfAHandleNeverGoesBack(t *testing.T) {
	l := create(t, newQueue(t), Options{Durability: SyncNever})
	appendText(t, l, "first")
	s := tailOf(t, l)
	at := s.ownTail()
	place := func(n int64) segment.Cursor {
		return segment.Cursor{Off: at.Off + 32*n, Seq: at.Seq + uint64(n)}
	}
	was := s.lane.word.Load()
	for name, leave := range map[string]func(held uint64){
		"beside the lane, late": func(held uint64) {
			s.lane.leave(held, lanePlace(place(2), s.First))
			s.keepTail(place(1))
		},
		"in the lane, late": func(held uint64) {
			s.keepTail(place(2))
			s.lane.leave(held, lanePlace(place(1), s.First))
		},
		"in the lane, late but further on": func(held uint64) {
			s.keepTail(place(1))
			s.lane.leave(held, lanePlace(place(2), s.First))
		},
		"beside the lane twice": func(held uint64) {
			s.keepTail(place(2))
			s.keepTail(place(1))
			s.lane.leave(held, held)
		},
	} {
		leave(hold(t, s))
		if c := s.ownTail(); c != place(2) || s.lane.taken() {
			t.Errorf("%s: the tail is %+v, want %+v; taken: %v", name, c, place(2), s.lane.taken())
		}
		s.lane.word.Store(was)
	}
}
