package walq

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/walq/walq/wal"
)

// Trim removes the oldest segments beyond the queue's limits, MaxBytes and
// MaxAge, and returns how many went. Writers do so by themselves after each
// segment and once a second; Trim is for a queue that nobody appends to, and for
// limits that were just changed. Nothing goes in part: the segment that appends
// go to stays, as does what a group needs that must keep its messages, and on a
// SyncAlways queue all that is not yet durable. Readers
// that were overtaken get a GapError, one that reads a segment which goes when it
// comes to that segment's end. Waiting for another process that trims
// honours ctx.
func (q *Queue) Trim(ctx context.Context) (segments int, err error) {
	n, err := q.log.Trim(ctx, 0)
	if err != nil {
		return n, fmt.Errorf("walq: trim: %w", err)
	}
	return n, nil
}

// TrimBefore is Trim, and removes also every segment that holds only messages
// before s, whatever the limits. What a group must keep it leaves too: finish it, or
// SetGroupMayLose, or remove the group.
func (q *Queue) TrimBefore(ctx context.Context, s Seq) (segments int, err error) {
	n, err := q.log.Trim(ctx, uint64(s))
	if err != nil {
		return n, fmt.Errorf("walq: trim: %w", err)
	}
	return n, nil
}

// SetLimits changes MaxBytes and MaxAge of the queue for everyone who uses it,
// from now on; 0 is no limit. What lies beyond goes with the next trim.
func (q *Queue) SetLimits(ctx context.Context, maxBytes int64, maxAge time.Duration) error {
	return q.setLimits(ctx, func(s *wal.Settings) { s.MaxBytes, s.MaxAge = maxBytes, maxAge })
}

// SetWhenFull changes what appends do when groups need all that MaxBytes allows, for
// everyone who uses the queue, from now on. Those that wait already go on waiting, or
// return ErrFull within a moment.
func (q *Queue) SetWhenFull(ctx context.Context, w WhenFull) error {
	if w != FailWhenFull && w != WaitWhenFull {
		return fmt.Errorf("walq: set limits: %v is not known", w)
	}
	return q.setLimits(ctx, func(s *wal.Settings) { s.WaitWhenFull = w == WaitWhenFull })
}

func (q *Queue) setLimits(ctx context.Context, change func(*wal.Settings)) error {
	if err := q.log.SetLimits(ctx, change); err != nil {
		return fmt.Errorf("walq: set limits: %w", err)
	}
	return nil
}

// roomNap bounds the sleep of an append that waits for room: what would have woken it
// may have died before it did.
const roomNap = 50 * time.Millisecond

// awaitRoom tries an append again that could not be done because of err, which it returns
// unless the queue is full and the append is to wait. Nothing is held meanwhile.
func (q *Queue) awaitRoom(ctx context.Context, err error, again func() (wal.Appended, error)) (wal.Appended, error) {
	for nap := shortestNap; ; nap = min(2*nap, longestNap) {
		if !errors.Is(err, ErrFull) || q.neverWait {
			return wal.Appended{}, err
		}
		if waits, werr := q.log.WaitWhenFull(); werr != nil {
			return wal.Appended{}, werr
		} else if !waits {
			return wal.Appended{}, err
		}
		bed := q.bed.lieDown(wal.WaitSpace)
		a, aerr := again()
		if err = aerr; err == nil || !errors.Is(err, ErrFull) {
			if bed != nil {
				bed.getUp()
			}
			return a, err
		}
		var over error
		if bed != nil {
			over = bed.sleepAtMost(ctx, roomNap)
		} else {
			timer := time.NewTimer(nap)
			select {
			case <-ctx.Done():
				over = ctx.Err()
			case <-timer.C:
			}
			timer.Stop()
		}
		if over != nil {
			return wal.Appended{}, fmt.Errorf("%w (waited for room: %w)", err, over)
		}
	}
}
