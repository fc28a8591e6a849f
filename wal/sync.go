package wal

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/walq/walq/internal/step"
	"github.com/walq/walq/mmap"
	"github.com/walq/walq/segment"
)

// The durable position is the end of the contiguous run of final frames that
// is on stable storage. It is one shared word: whoever syncs moves it for
// everyone, and whoever finds it past its own frame is done.
//
// Within a handle those who wait form rounds: one of them leads and syncs for
// all, the others sleep until a round served them. Between processes a gathering
// lock makes leaders take turns; it only gathers, so a holder that stops costs
// the others gatherPatience and no more.

const (
	// gatherTime is how long a leader waits for company that it has reason
	// to expect; a sync takes two to three times as long.
	gatherTime = 50 * time.Microsecond
	// gatherPatience is how long a leader lets another process sync for it.
	gatherPatience = 100 * time.Millisecond
	// claimPatience is how long a leader waits for a claim that lies before
	// what it is to sync, before it syncs what it can and looks again.
	claimPatience = 2 * time.Millisecond
	// standingIntent stands for a syncer that nobody knows: a failed write may
	// have been reported to someone dead.
	standingIntent = ^uint64(0)
)

type syncer struct {
	mu sync.Mutex // held by the one goroutine of this handle that syncs
	// at and c are how far this handle has seen the log final, guarded by mu.
	at *seg
	c  segment.Cursor
	o  observer // of the claim that holds this handle's syncs up, guarded by mu

	spanBytes atomic.Int64 // what a sync writes, smoothed

	rounds rounds
}

func (y *syncer) dropCursor(t *table) {
	y.mu.Lock()
	defer y.mu.Unlock()
	t.release(y.at)
	y.at = nil
}

// A span is what is to be synced in one segment.
type span struct {
	s        *seg
	from, to segment.Cursor
	sealed   bool
	next     *seg // the successor, if the segment is sealed and has one
}

// syncNow moves the durable position to the end of the final frames, at least
// beyond t if no claim is in the way.
func (l *Log) syncNow(t target) error {
	y := &l.syncer
	y.mu.Lock()
	defer y.mu.Unlock()
	if p := l.ctl.poisoned(); p != nil {
		return &PoisonError{*p}
	}
	// What syncers before us saw final is loaded before the walk: it is then
	// final for us too, and lies within our range.
	seen := Position(l.ctl.word(ctlIntentEnd).Load())
	spans, whole, err := l.unsynced(t)
	defer func() { l.releaseSpans(spans) }()
	if err != nil {
		return err
	}
	last := spans[len(spans)-1]
	end := last.s.position(last.to.Off)
	if l.ctl.durable() > end {
		return nil // others synced on, or trimmed the segments that the walk missed
	}
	if whole && end < seen {
		return l.poison(fmt.Errorf("%s: frames up to %v were seen and are gone, the log ends at %v: a write to the disk failed", last.s.Path(), seen, end))
	}
	// A fault is made an error before the spans are given back, and unmapped.
	return l.guarded(func() error { return l.syncSpans(spans, end, whole) })
}

// syncSpans syncs what was walked, under the intent. An intent that is not ours
// stays, as a standing one, unless we synced all that its owner may have tried:
// its owner may be told of a failed write, and die, after us.
func (l *Log) syncSpans(spans []span, end Position, whole bool) error {
	intent, intentEnd := l.ctl.word(ctlIntentOwner), l.ctl.word(ctlIntentEnd)
	segment.RaiseMax(intentEnd, uint64(end))
	owner := intent.Swap(l.tag()) // after our files were opened: a failure from here on is told us
	foreign := owner != 0 && owner != l.tag()
	leave := standingIntent // also if we do not come to the end
	if !foreign {
		leave = 0
	}
	defer func() { intent.CompareAndSwap(l.tag(), leave) }()
	step.At(step.SyncIntentSet)
	for i := range spans {
		if err := l.syncSpan(&spans[i], foreign); err != nil {
			return err
		}
	}
	if whole && Position(intentEnd.Load()) <= end {
		leave = 0
	}
	intent.CompareAndSwap(l.tag(), leave)
	step.At(step.SyncIntentCleared)
	return nil
}

// syncSpan syncs what is new in one segment, and tells everyone. An intent that
// is not ours means that a write of this range may have failed and been
// reported to a process that cannot tell us: the kernel then takes the pages
// for clean. So they are made dirty again first, and read back after.
func (l *Log) syncSpan(p *span, foreign bool) error {
	n := p.to.Off - p.from.Off
	if p.sealed {
		n += segment.SealBytes
	}
	if foreign && !mmap.HeapFiles() {
		p.s.Region().Touch(p.from.Off, n)
	}
	err := step.Err(step.SyncFlushBefore)
	if err == nil {
		err = p.s.Region().Flush(p.from.Off, n)
	}
	if err == nil && p.sealed {
		err = p.s.FlushShared()
	}
	if err == nil && foreign {
		err = checkFrames(p.s, p.from, p.to)
	}
	if err == nil && p.next != nil && !p.next.Linked() {
		// The next segment's name must be on disk before anything in it counts.
		if err = l.log.Sync(); err == nil {
			p.next.SetLinked()
		}
	}
	if err != nil {
		step.At(step.SyncFailed)
		return l.poison(err)
	}
	step.At(step.SyncFlushed)
	if p := l.ctl.poisoned(); p != nil {
		return &PoisonError{*p} // somebody was told of a failed write of the same range
	}
	l.syncer.spanBytes.Store((7*l.syncer.spanBytes.Load() + n) / 8)
	at, c := p.s, p.to
	if p.next != nil {
		at, c = p.next, p.next.Start()
	}
	l.moveCursor(at, c)
	l.ctl.raiseDurable(at, c)
	l.wake(WaitDurable)
	step.At(step.SyncDurableRaised)
	return nil
}

func checkFrames(s *seg, c, end segment.Cursor) error {
	for c.Off < end.Off {
		w, err := s.Word(c.Off)
		if err == nil && w.State() == segment.Committed {
			_, err = s.Frame(c, w)
		}
		if err != nil {
			return fmt.Errorf("after a sync that may have failed: %w", err)
		}
		if w == 0 || w.Size() == 0 {
			return fmt.Errorf("after a sync that may have failed: %w", &CorruptError{Path: s.Path(), Offset: c.Off, Reason: "a frame vanished"})
		}
		c = c.After(w)
	}
	return nil
}

// poison stops the queue for everyone, and says so on disk as well as a broken
// disk allows.
func (l *Log) poison(cause error) error {
	l.ctl.poison(l.slot, cause)
	step.At(step.SyncPoisoned)
	l.warn("the queue is poisoned", "queue", l.dir.Path(), "cause", cause)
	if err := l.ctl.sync(); err != nil {
		l.warn("the poison could not be written to disk", "cause", err)
	}
	return &PoisonError{*l.ctl.poisoned()}
}

// unsynced walks from the durable position to the end of the final frames, or
// to just beyond t, and returns what lies there by segment: at least one span,
// maybe empty. A claim in the way is given a moment.
func (l *Log) unsynced(t target) (spans []span, whole bool, err error) {
	for start := time.Now(); ; {
		var w segment.Word
		spans, w, err = l.walkUnsynced()
		if err != nil {
			return spans, false, err // the caller releases them
		}
		if spans[len(spans)-1].next != nil {
			return spans, false, nil // as many as one goes for at once
		}
		last := spans[len(spans)-1]
		covered := t.end != 0 && last.s.position(last.to.Off) >= t.end || t.end == 0 && last.to.Seq > t.seq
		if w.State() != segment.Claimed || covered || time.Since(start) > claimPatience {
			return spans, true, nil
		}
		err = l.look(&l.syncer.o, last.s, last.to, w)
		l.releaseSpans(spans)
		if err != nil {
			return nil, false, err
		}
	}
}

// maxSpans bounds the segments that one sync holds open.
const maxSpans = 16

// walkUnsynced makes the spans from the durable position to the end of the
// final frames, or of the first few segments, and returns the word that ended
// the walk.
func (l *Log) walkUnsynced() (spans []span, w segment.Word, err error) {
	if err := l.followDurable(l.ctl.durable()); err != nil {
		l.table.release(l.syncer.at) // a place that led nowhere is not kept
		l.syncer.at = nil
		return nil, 0, err
	}
	s, c := l.table.again(l.syncer.at), l.syncer.c
	walked := false
	defer func() {
		if !walked { // a look at it faulted
			l.releaseSpans(append(spans, span{s: s}))
		}
	}()
	for {
		p := span{s: s, from: c}
		p.to, w, err = s.Walk(c)
		if err == nil && w.Sealed() {
			p.sealed = true
			p.next, err = l.successor(&l.table, s, p.to, w)
		}
		spans = append(spans, p)
		if err != nil || p.next == nil || len(spans) == maxSpans {
			walked = true
			return spans, w, err
		}
		s, c = l.table.again(p.next), p.next.Start()
	}
}

func (l *Log) releaseSpans(spans []span) {
	for _, p := range spans {
		l.table.release(p.s)
		l.table.release(p.next)
	}
}

// moveCursor makes (s, c) the place up to which this handle knows the log to
// be durable.
func (l *Log) moveCursor(s *seg, c segment.Cursor) {
	old := l.syncer.at
	l.syncer.at, l.syncer.c = l.table.again(s), c
	l.table.release(old)
}

// followDurable moves the syncer's cursor up to the durable position d, which
// other processes move too, so that its sequence number is known.
func (l *Log) followDurable(d Position) error {
	fresh := l.syncer.at == nil
	if fresh {
		s, now, err := l.locateMoving(l.ctl.durable)
		if err != nil {
			return err
		}
		d = now
		c := s.Start()
		if hint := s.Tail(); hint.Off <= d.off() {
			c = hint
		}
		l.moveCursor(s, c)
		l.table.release(s)
	}
	for {
		s, c := l.syncer.at, l.syncer.c
		if s.position(c.Off) == d {
			return nil
		}
		w, err := s.Word(c.Off)
		if err != nil {
			return err
		}
		switch {
		case s.position(c.Off) > d || !w.Final():
			return &CorruptError{Path: s.Path(), Offset: c.Off, Reason: fmt.Sprintf("the durable position (%v) is no end of a frame", d)}
		case w.Sealed():
			n, err := l.successor(&l.table, s, c, w)
			if err != nil {
				return err
			}
			if n == nil && fresh && !l.trimmedAway(s, c, w) {
				return &CorruptError{Path: s.Path(), Offset: c.Off, Reason: fmt.Sprintf("the log ends here, below the durable position (%v)", d)}
			}
			if n == nil { // trimmed since: start over from the directory
				l.table.release(s)
				l.syncer.at = nil
				return l.followDurable(d)
			}
			l.moveCursor(n, n.Start())
			l.table.release(n)
		default:
			l.syncer.c = c.After(w)
		}
	}
}
