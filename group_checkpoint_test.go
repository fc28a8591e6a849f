//go:build walqsteps

package walq_test

import (
	"testing"

	"github.com/walq/walq"
	"github.com/walq/walq/internal/step"
)

func reset(t *testing.T, q *walq.Queue, to walq.Position) {
	t.Helper()
	if err := q.ResetGroup(t.Context(), "g", to); err != nil {
		t.Fatal(err)
	}
}

func TestCloseAfterAResetByAnotherIsNoError(t *testing.T) {
	q := create(t, newDir(t), walq.Options{Durability: walq.SyncNever})
	g := newGroup(t, q, "g", walq.GroupOptions{})
	for _, body := range []string{"1", "2", "3"} {
		appendText(t, q, body)
	}
	ack(t, receive(t, g))
	ack(t, receive(t, g))
	reset(t, q, walq.Oldest)
	if err := g.Close(); err != nil {
		t.Error(err)
	}
	// A checkpoint of the base before would say that the first two are finished.
	if got := len(drain(t, newGroup(t, q, "g", walq.GroupOptions{}))); got != 3 {
		t.Errorf("got %d messages after the reset, want 3", got)
	}
}

// The group gets another base between the two things that AckSync does.
func TestAckSyncPutsOnDiskWhatAnotherBaseTookOver(t *testing.T) {
	q := create(t, newDir(t), walq.Options{Durability: walq.SyncNever})
	g := newGroup(t, q, "g", walq.GroupOptions{})
	appendText(t, q, "1")
	d := receive(t, g)
	done := false
	defer step.Set(step.GroupFinished, func() error {
		if !done {
			done = true
			reset(t, q, walq.Newest)
		}
		return nil
	})()
	if err := d.AckSync(t.Context()); err != nil || !done {
		t.Errorf("%v (%v)", err, done)
	}
}
