//go:build walqsteps

package walq

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/walq/walq/internal/step"
)

// Each append to a full queue asks what a group needs. It syncs for that only if the answer
// can be another by that.
func TestWhoTrimsSyncsNothingForADelayedMessage(t *testing.T) {
	_, q, _ := timed(t)
	g := timedGroup(t, q, GroupOptions{})
	for range 3 {
		publish(t, q, Draft{})
		finish(t, got(t, g, 1))
	}
	var checkpoints atomic.Int64
	defer step.Set(step.CheckpointWritten, func() error { checkpoints.Add(1); return nil })()
	asked := func(from uint64, want int64) {
		t.Helper()
		checkpoints.Store(0)
		if h := q.hold(1 << 60); h.From != from || checkpoints.Load() != want {
			t.Errorf("it needs %d after %d checkpoints, want %d and %d", h.From, checkpoints.Load(), from, want)
		}
	}
	asked(4, 1)
	delayed := uint64(publish(t, q, Draft{NotBefore: time.Unix(1<<33, 0)}))
	for range 3 {
		publish(t, q, Draft{})
		finish(t, got(t, g, 1))
		if err := g.checkpoint(g.walk.ring, time.Second); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		publish(t, q, Draft{})
		finish(t, got(t, g, 1))
		asked(delayed, 0)
	}
}
