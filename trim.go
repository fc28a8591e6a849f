package walq

import (
	"context"
	"fmt"
	"time"

	"github.com/walq/walq/wal"
)

// Trim removes the oldest segments beyond the queue's limits, MaxBytes and
// MaxAge, and returns how many went. Writers do so by themselves after each
// segment and once a second; Trim is for a queue that nobody appends to, and for
// limits that were just changed. Nothing goes in part: the segment that appends
// go to stays, and on a SyncAlways queue all that is not yet durable. Readers
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
// before s, whatever the limits.
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
	err := q.log.SetLimits(ctx, func(s *wal.Settings) { s.MaxBytes, s.MaxAge = maxBytes, maxAge })
	if err != nil {
		return fmt.Errorf("walq: set limits: %w", err)
	}
	return nil
}
