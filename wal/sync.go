package wal

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/walq/walq/internal/spin"
	"github.com/walq/walq/internal/step"
	"github.com/walq/walq/mmap"
	"github.com/walq/walq/segment"
)

// The durable position is the end of the contiguous run of final frames that
// is on stable storage. It is one shared word: whoever syncs moves it for
// everyone, and whoever finds it past its own frame is done.
//
// Within a handle those who wait form rounds: one of them leads and syncs for
// all, the others sleep until the round is over. Between processes a gathering
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

	rounds struct {
		sync.Mutex
		running bool
		waiting int           // members of the round to come, leader included
		before  int           // members of the last round
		over    chan struct{} // closed when the running round is over
	}
}

func (y *syncer) init() { y.rounds.over = make(chan struct{}) }

func (y *syncer) dropCursor(t *table) {
	y.mu.Lock()
	defer y.mu.Unlock()
	t.release(y.at)
	y.at = nil
}

// A target is what someone waits to be durable: an end position, or where that
// is not known a sequence number.
type target struct {
	end Position
	seq uint64
}

func (l *Log) reached(t target) bool {
	if t.end != 0 {
		return l.ctl.durable() >= t.end
	}
	return l.ctl.word(ctlDurableSeq).Load() > t.seq
}

// WaitDurable returns when the message with this sequence number, and all
// before it, are on stable storage. It syncs if nobody else does, whatever the
// durability of the queue.
func (l *Log) WaitDurable(ctx context.Context, seq uint64) error {
	return l.waitDurable(ctx, target{seq: seq})
}

// WaitAppended returns when the append that ends there, and all before it, are
// on stable storage, like WaitDurable.
func (l *Log) WaitAppended(ctx context.Context, a Appended) error {
	return l.waitDurable(ctx, target{end: a.End})
}

// Sync returns when everything that was appended before the call, by anyone, is
// on stable storage.
func (l *Log) Sync(ctx context.Context) error {
	if l.slot < 0 {
		return ErrReadOnly
	}
	ticket, ok := l.gate.enter()
	if !ok {
		return ErrClosed
	}
	defer l.gate.exit(ticket)
	return l.syncAll(ctx)
}

// syncAll is Sync for who is inside the gate, or alone with the log.
func (l *Log) syncAll(ctx context.Context) (err error) {
	defer mmap.Recover(mmap.Protect(), &err)
	end, err := l.end()
	if err != nil {
		return err
	}
	return l.awaitDurable(ctx, target{end: end})
}

// end is the position behind the last frame, final or not.
func (l *Log) end() (Position, error) {
	s := l.table.again(l.tail.Load())
	for {
		c, w, err := s.WalkToFree(s.ownTail())
		var n *seg
		if err == nil && w.Sealed() {
			n, err = l.successor(&l.table, s, c, w)
		}
		end := s.position(c.Off)
		l.table.release(s)
		if err != nil || n == nil {
			return end, err
		}
		s = n
	}
}

// behind reports whether this handle appended what is not known to be durable.
func (l *Log) behind() bool {
	s := l.tail.Load()
	return s != nil && s.position(s.ownTail().Off) > l.ctl.durable()
}

func (l *Log) waitDurable(ctx context.Context, t target) (err error) {
	ticket, ok := l.gate.enter()
	if !ok {
		return ErrClosed
	}
	defer l.gate.exit(ticket)
	defer mmap.Recover(mmap.Protect(), &err)
	return l.awaitDurable(ctx, t)
}

func (l *Log) awaitDurable(ctx context.Context, t target) error {
	for {
		if l.reached(t) {
			return nil
		}
		if p := l.ctl.poisoned(); p != nil {
			return &PoisonError{*p}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if l.slot < 0 {
			return ErrReadOnly
		}
		lead, over := l.syncer.enrol()
		if lead {
			if err := l.leadRound(t); err != nil {
				return err
			}
			continue
		}
		select {
		case <-over:
		case <-ctx.Done():
		case <-l.closing:
			if !l.reached(t) {
				return ErrClosed
			}
		}
	}
}

// enrol makes the caller a member of the next round. Either it leads it, or it
// waits until the round that runs now is over: if that one came too late for
// the caller's frame, the caller enrols again.
func (y *syncer) enrol() (lead bool, over <-chan struct{}) {
	r := &y.rounds
	r.Lock()
	defer r.Unlock()
	r.waiting++
	if r.running {
		return false, r.over
	}
	r.running = true
	return true, nil
}

func (y *syncer) waiting() (now, before int) {
	y.rounds.Lock()
	defer y.rounds.Unlock()
	return y.rounds.waiting, y.rounds.before
}

// endRound wakes the members of the round. Who enrolled while it ran was woken
// too, and enrols again unless the sync covered it.
func (y *syncer) endRound() {
	r := &y.rounds
	r.Lock()
	defer r.Unlock()
	r.before, r.waiting, r.running = r.waiting, 0, false
	close(r.over)
	r.over = make(chan struct{})
}

func (l *Log) leadRound(t target) error {
	defer l.syncer.endRound()
	l.awaitCompany()
	if held := l.takeGathering(t); held {
		defer l.ctl.word(ctlGather).CompareAndSwap(l.tag(), 0)
	}
	if l.reached(t) {
		return nil
	}
	return l.syncNow(t)
}

// awaitCompany lets those who rode along last time come aboard again. Alone
// last time, alone now: a lone appender never waits.
func (l *Log) awaitCompany() {
	now, before := l.syncer.waiting()
	if now >= before {
		return
	}
	for start := time.Now(); now < before && time.Since(start) < gatherTime; {
		spin.Wait()
		now, _ = l.syncer.waiting()
	}
}

// takeGathering waits for the turn to sync. It returns false if another process
// synced what the caller needs meanwhile.
func (l *Log) takeGathering(t target) (held bool) {
	lock := l.ctl.word(ctlGather)
	if lock.CompareAndSwap(0, l.tag()) {
		return true
	}
	start := time.Now()
	for i := 0; ; i++ {
		if l.reached(t) || l.ctl.poisoned() != nil {
			return false
		}
		holder := lock.Load()
		if holder == 0 && lock.CompareAndSwap(0, l.tag()) {
			return true
		}
		waited := time.Since(start)
		if waited > gatherPatience || i%64 == 63 && !l.tagAlive(holder) {
			return lock.CompareAndSwap(holder, l.tag())
		}
		if waited < gatherTime {
			spin.Wait()
		} else {
			time.Sleep(gatherTime)
		}
	}
}

// tagAlive reports whether the participant that a tag names is still there.
func (l *Log) tagAlive(tag uint64) bool {
	slot := int(tag&0xffff) - 1
	if slot < 0 || slot >= maxSlots || l.ctl.participant(slot, parIncarnation).Load() != tag>>16 {
		return false
	}
	alive, err := l.alive(slot)
	return alive || err != nil
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
	intent := l.ctl.word(ctlIntentOwner)
	// The intent is loaded before the walk: what its owner saw final is then
	// final for us too, and lies within our range.
	owner := intent.Load()
	foreign := owner != 0 && owner != l.tag()
	spans, err := l.unsynced(t)
	defer func() { l.releaseSpans(spans) }()
	if err != nil {
		return err
	}
	last := spans[len(spans)-1]
	end := last.s.position(last.to.Off)
	if foreign && uint64(end) < l.ctl.word(ctlIntentEnd).Load() {
		return l.poison(fmt.Errorf("%s: frames up to %v were seen and are gone, the log ends at %v: a write to the disk failed", last.s.Path(), Position(l.ctl.word(ctlIntentEnd).Load()), end))
	}
	segment.RaiseMax(l.ctl.word(ctlIntentEnd), uint64(end))
	intent.Store(l.tag())
	step.At(step.SyncIntentSet)
	for i := range spans {
		if err := l.syncSpan(&spans[i], foreign); err != nil {
			return err
		}
	}
	intent.CompareAndSwap(l.tag(), 0)
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
		return l.poison(err)
	}
	step.At(step.SyncFlushed)
	at, c := p.s, p.to
	if p.next != nil {
		at, c = p.next, p.next.Start()
	}
	l.moveCursor(at, c)
	l.ctl.raiseDurable(at.position(c.Off), c.Seq)
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
func (l *Log) unsynced(t target) ([]span, error) {
	var o observer
	for start := time.Now(); ; {
		spans, w, err := l.walkUnsynced()
		if err != nil {
			return spans, err // the caller releases them
		}
		last := spans[len(spans)-1]
		covered := t.end != 0 && last.s.position(last.to.Off) >= t.end || t.end == 0 && last.to.Seq > t.seq
		if w.State() != segment.Claimed || covered || time.Since(start) > claimPatience {
			return spans, nil
		}
		err = l.look(&o, last.s, last.to, w)
		l.releaseSpans(spans)
		if err != nil {
			return nil, err
		}
	}
}

// walkUnsynced makes the spans from the durable position to the end of the
// final frames, and returns the word that ended the walk.
func (l *Log) walkUnsynced() (spans []span, w segment.Word, err error) {
	if err := l.followDurable(l.ctl.durable()); err != nil {
		return nil, 0, err
	}
	s, c := l.table.again(l.syncer.at), l.syncer.c
	for {
		p := span{s: s, from: c}
		p.to, w, err = s.Walk(c)
		if err == nil && w.Sealed() {
			p.sealed = true
			p.next, err = l.successor(&l.table, s, p.to, w)
		}
		spans = append(spans, p)
		if err != nil || p.next == nil {
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
	if l.syncer.at == nil {
		s, err := l.locate(&l.table, d)
		if err != nil {
			return err
		}
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
