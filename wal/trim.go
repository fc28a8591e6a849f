package wal

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/walq/walq/internal/step"
	"github.com/walq/walq/segment"
)

// Trimming removes whole segments, the oldest first. What it takes away is told
// before it is gone: the oldest kept sequence number is on disk before the first
// file is unlinked, so whoever dies, or loses power, in between leaves files that
// nobody counts any more, and the next opener removes them.

// Trim removes the oldest segments as far as the queue's limits ask for it, and
// those that hold only messages with sequence numbers below before. It never
// removes a segment that appends may still go to, nor what somebody needs (see
// SetHolds), nor, on a SyncAlways queue, anything that is not durable. It returns how
// many segments went. One trims at a time; waiting for another who does honours ctx.
func (l *Log) Trim(ctx context.Context, before uint64) (removed int, err error) {
	if l.slot < 0 {
		return 0, ErrReadOnly
	}
	ticket, ok := l.gate.enter()
	if !ok {
		return 0, ErrClosed
	}
	defer l.gate.exit(ticket)
	if err := l.takeTrimLock(ctx); err != nil {
		return 0, err
	}
	err = l.guarded(func() (err error) {
		removed, err = l.trim(ctx, before, nil)
		return err
	})
	return removed, errors.Join(err, l.dropTrimLock())
}

// takeTrimLock takes the trim lock, of this handle and of the queue, waiting for
// whoever has it until ctx ends or the log is closed.
func (l *Log) takeTrimLock(ctx context.Context) error {
	for pause := 100 * time.Microsecond; ; pause = min(2*pause, 10*time.Millisecond) {
		ok, err := l.tryTrimLock()
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for another process that trims %s: %w", l.dir.Path(), ctx.Err())
		case <-l.closing:
			return ErrClosed
		case <-time.After(pause):
		}
	}
}

func (l *Log) tryTrimLock() (bool, error) {
	if !l.trimming.TryLock() {
		return false, nil
	}
	ok, err := l.locks.TryLock(lockTrim, true)
	if !ok || err != nil {
		l.trimming.Unlock()
	}
	return ok && err == nil, err
}

func (l *Log) dropTrimLock() error {
	defer l.trimming.Unlock()
	return l.locks.Unlock(lockTrim)
}

// tryTrim trims by the limits, unless somebody does so at this moment.
func (l *Log) tryTrim() error {
	ok, err := l.tryTrimLock()
	if !ok || err != nil {
		return err
	}
	_, err = l.trimLocked(nil)
	return err
}

// trimLocked trims by the limits, and drops the trim lock.
func (l *Log) trimLocked(need *room) (removed int, err error) {
	err = l.guarded(func() error {
		removed, err = l.trim(context.Background(), 0, need)
		return err
	})
	return removed, joinFirst(err, l.dropTrimLock())
}

// trim does it. If need is not nil there is to be room for it when it returns without an
// error, unless something else keeps the oldest segment than that it is needed. The
// caller holds the trim lock.
func (l *Log) trim(ctx context.Context, before uint64, need *room) (removed int, err error) {
	settings, err := l.ctl.settings()
	if err == nil {
		err = l.settle(new(observer), math.MaxInt64) // which does not wait for those who are merely stopped
	}
	if err != nil {
		return 0, err
	}
	if l.nothingToTrim(before, settings, need) {
		return 0, ctx.Err() // who does not want to wait any more is told so here too
	}
	defer func() {
		if err != nil && !errors.Is(err, ErrFull) && ctx.Err() == nil {
			l.kept = keptSegments{} // what it knows may be what is wrong
		}
	}()
	if err := l.kept.update(l); err != nil {
		return 0, err
	}
	all, total := l.kept.all, l.kept.bytes
	var more int64
	end := uint64(math.MaxUint64) // of the last segment
	if need != nil {
		more, end = need.bytes, need.end
	}
	start := func(i int) uint64 {
		if i == len(all) {
			return end
		}
		return all[i].first
	}
	kept := 0 // index of the first segment that stays
	for left := total; kept+1 < len(all) && ctx.Err() == nil; kept++ {
		n, err := l.acquireKept(all[kept+1].first)
		if err != nil {
			return 0, err
		}
		wanted := n.First <= before || tooOld(n.Created, settings) || settings.MaxBytes > 0 && left+more > settings.MaxBytes
		if n.PrevFirst != all[kept].first {
			err = &CorruptError{Path: n.Path(), Reason: fmt.Sprintf("it does not name %s as its predecessor; nothing is trimmed", segment.Name(all[kept].first))}
		}
		may := wanted && l.mayGoBefore(n, settings)
		l.table.release(n)
		if err != nil {
			return 0, err
		}
		if !may {
			break
		}
		left -= all[kept].bytes
	}
	hold := NoHold
	if kept > 0 || need != nil && total+more > settings.MaxBytes {
		below := kept // where trimming would stop otherwise
		if need != nil {
			below++
		}
		hold = l.hold(start(below))
		step.At(step.TrimAsked)
	}
	for kept > 0 && all[kept].first > hold.From {
		kept--
	}
	for _, k := range all[:kept] {
		total -= k.bytes
	}
	second := start(kept + 1)
	if kept > 0 {
		err = l.removeBelow(kept, settings)
	}
	if need != nil && err == nil {
		err = full(settings, total, *need, hold, second)
	}
	return kept, errors.Join(err, ctx.Err())
}

// tooOld reports whether what lies before a segment that was created then, in
// nanoseconds since the Unix epoch, is older than is kept: a roll closes a segment, so
// what is in it is no younger than the next one.
func tooOld(created int64, s Settings) bool {
	return s.MaxAge > 0 && created < time.Now().Add(-s.MaxAge).UnixNano()
}

// mayGoBefore reports whether everything before the segment n may be removed:
// its own name is on disk, all frames before it are final, so that no append can
// still be going on there, and what was promised to be durable is.
func (l *Log) mayGoBefore(n *seg, settings Settings) bool {
	start := n.position(n.Start().Off)
	if !n.Linked() || start > l.ctl.settled() {
		return false
	}
	return settings.Durability != SyncAlways || start <= l.ctl.durable()
}

// removeBelow makes the segment that l.kept has at i the one with the oldest kept
// sequence number, on disk too, and only then removes what lies below.
func (l *Log) removeBelow(i int, settings Settings) error {
	first := l.kept.all[i].first
	n, err := l.acquire(&l.table, first)
	if err != nil {
		return err
	}
	defer l.table.release(n)
	start := n.Start()
	if settings.Durability != SyncAlways {
		// What is removed needs no sync, and nobody can sync it any more. A power
		// loss that finds the position raised must find that it goes.
		l.ctl.announceTrim(first)
		l.ctl.raiseDurable(n, start)
		l.wake(WaitDurable)
	}
	// The durable position is on disk before the oldest number is stored: they lie
	// in different sectors, and a power loss must not find the second without the
	// first, which would be taken for damage.
	if err := l.syncControl(); err != nil {
		return err
	}
	segment.RaiseMax(l.ctl.word(ctlOldest), first)
	step.At(step.TrimOldestSet)
	if err := l.syncControl(); err != nil {
		return err
	}
	step.At(step.TrimControlSynced)
	if err := l.kept.remove(l, i); err != nil {
		return err
	}
	l.wake(WaitSpace)
	return nil
}

// SetLimits changes how much the queue keeps, and what appends do when it is full, for
// everyone and at once; what is beyond goes with the next Trim. The other settings are
// what the queue was made with.
func (l *Log) SetLimits(ctx context.Context, change func(*Settings)) error {
	if l.slot < 0 {
		return ErrReadOnly
	}
	ticket, ok := l.gate.enter()
	if !ok {
		return ErrClosed
	}
	defer l.gate.exit(ticket)
	if err := l.takeTrimLock(ctx); err != nil {
		return err
	}
	err := l.guarded(func() error {
		s, err := l.ctl.settings()
		if err != nil {
			return err
		}
		changed := s
		change(&changed)
		s.MaxBytes, s.MaxAge, s.WaitWhenFull = changed.MaxBytes, changed.MaxAge, changed.WaitWhenFull
		if err := s.Check(); err != nil {
			return fmt.Errorf("limits: %w", err)
		}
		if err := l.ctl.writeSettings(s); err != nil {
			return err
		}
		l.wake(WaitSpace)
		return l.syncControl()
	})
	return errors.Join(err, l.dropTrimLock())
}
