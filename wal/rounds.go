package wal

import (
	"context"
	"time"

	"github.com/walq/walq/internal/spin"
	"github.com/walq/walq/mmap"
)

// Waiting to be durable.

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
	return l.guarded(func() error {
		end, err := l.end()
		if err != nil {
			return err
		}
		return l.awaitDurable(ctx, target{end: end}, l.closing)
	})
}

// syncAll is Sync for Close, when nobody is inside any more.
func (l *Log) syncAll(ctx context.Context) error {
	end, err := l.end()
	if err != nil {
		return err
	}
	return l.awaitDurable(ctx, target{end: end}, nil)
}

// end is the position behind the last frame, final or not.
func (l *Log) end() (Position, error) {
	s := l.tail.Load()
	if s != nil {
		s = l.table.again(s)
	} else {
		var err error
		if s, _, err = l.settledSegment(); err != nil {
			return 0, err
		}
	}
	for {
		c, w, err := s.WalkToFree(s.ownTail())
		var n *seg
		if err == nil && w.Sealed() {
			n, err = l.successor(&l.table, s, c, w)
		}
		trimmed := err == nil && n == nil && l.trimmedAway(s, c, w)
		end := s.position(c.Off)
		l.table.release(s)
		if trimmed {
			n, err = l.keptSegment()
		}
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
	return l.awaitDurable(ctx, t, l.closing)
}

// awaitDurable waits for t, and syncs in turns with the others who wait. A close
// of closing ends it.
func (l *Log) awaitDurable(ctx context.Context, t target, closing <-chan struct{}) error {
	var idle time.Duration
	called := false // to lead, and did not yet
	defer func() {
		if called {
			l.syncer.rounds.pass() // who leaves without leading has somebody else called
		}
	}()
	for {
		if l.reached(t) {
			return nil
		}
		select {
		case <-closing:
			return ErrClosed
		default:
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
		if !called {
			lead, w := l.syncer.rounds.enrol(t, closing != nil)
			if !lead {
				called = l.syncer.rounds.ride(ctx, w)
				continue
			}
		}
		before := l.ctl.durable()
		called = false
		if err := l.leadRound(t); err != nil {
			return err
		}
		if l.ctl.durable() != before {
			idle = 0
			continue
		}
		// There was nothing to sync: what is awaited was not appended yet,
		// or lies behind a claim. It gets longer chances.
		idle = min(max(2*idle, shortPause), longPause)
		timer := time.NewTimer(idle)
		select {
		case <-timer.C:
		case <-ctx.Done():
		case <-closing:
		}
		timer.Stop()
	}
}

func (l *Log) leadRound(t target) error {
	defer l.endRound()
	l.syncer.rounds.awaitCompany()
	if held := l.takeGathering(t); held {
		defer l.ctl.word(ctlGather).CompareAndSwap(l.tag(), 0)
	}
	if l.reached(t) {
		return nil
	}
	return l.syncNow(t)
}

// endRound wakes those whose target is reached, and calls another one to lead if
// somebody is left.
func (l *Log) endRound() {
	var durable Position
	var seq uint64
	err := l.guarded(func() error {
		durable, seq = l.ctl.durable(), l.ctl.word(ctlDurableSeq).Load()
		return nil
	})
	if err != nil {
		durable, seq = 0, 0 // each of them will meet the same fault
	}
	l.syncer.rounds.end(durable, seq)
}

// takeGathering waits for the turn to sync. It returns false if another process
// synced what the caller needs meanwhile.
func (l *Log) takeGathering(t target) (held bool) {
	lock := l.ctl.word(ctlGather)
	if lock.CompareAndSwap(0, l.tag()) {
		return true
	}
	start, last := time.Now(), lock.Load()
	for i := 0; ; i++ {
		if l.reached(t) || l.ctl.poisoned() != nil {
			return false
		}
		holder := lock.Load()
		if holder != last { // patience is with one holder, not with all
			start, last = time.Now(), holder
		}
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
