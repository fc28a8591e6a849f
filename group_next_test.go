package walq_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/walq/walq"
)

// A consumer that read ahead hands out the next message at once only if there is nothing
// else to think of. ahead has it read ahead, does something, and returns what it gets then.
func ahead(t *testing.T, o walq.GroupOptions, do func(q *walq.Queue, g *walq.Group, had []*walq.Delivery)) *walq.Delivery {
	t.Helper()
	q := create(t, newDir(t), walq.Options{Durability: walq.SyncNever})
	for i := range 400 {
		if _, err := q.Publish(t.Context(), walq.Draft{Body: []byte(fmt.Sprint(i)), Expire: expiry(i)}); err != nil {
			t.Fatal(err)
		}
	}
	g := newGroup(t, q, "g", o)
	var had []*walq.Delivery
	for i := range 150 { // of 255 that it read by then
		d := receive(t, g)
		if string(d.Body) != fmt.Sprint(i) {
			t.Fatalf("message %d is %q", i, d.Body)
		}
		had = append(had, d)
	}
	do(q, g, had)
	d, err := g.TryReceive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// expiry is that of message 151 only.
func expiry(i int) time.Time {
	if i != 151 {
		return time.Time{}
	}
	return time.Now().Add(-time.Second)
}

func TestWhatWasReadAheadIsNotAllThereIsToThinkOf(t *testing.T) {
	t.Run("nothing", func(t *testing.T) {
		d := ahead(t, walq.GroupOptions{}, func(*walq.Queue, *walq.Group, []*walq.Delivery) {})
		if string(d.Body) != "150" {
			t.Errorf("got message %q, want 150", d.Body)
		}
	})
	t.Run("a pause", func(t *testing.T) {
		d := ahead(t, walq.GroupOptions{}, func(q *walq.Queue, _ *walq.Group, _ []*walq.Delivery) {
			if err := q.PauseGroup("g", true); err != nil {
				t.Fatal(err)
			}
		})
		if d != nil {
			t.Errorf("got message %q of a group that is paused", d.Body)
		}
	})
	t.Run("what was sent back", func(t *testing.T) {
		d := ahead(t, walq.GroupOptions{}, func(_ *walq.Queue, _ *walq.Group, had []*walq.Delivery) {
			if err := had[7].Nak(0); err != nil {
				t.Fatal(err)
			}
		})
		if string(d.Body) != "7" || d.Attempt() != 2 {
			t.Errorf("got message %q for the %dth time, want 7 for the second", d.Body, d.Attempt())
		}
	})
	t.Run("a lease that ended", func(t *testing.T) {
		d := ahead(t, walq.GroupOptions{Lease: time.Millisecond}, func(_ *walq.Queue, _ *walq.Group, had []*walq.Delivery) {
			time.Sleep(1100 * time.Millisecond) // the look over what is in flight is due then
		})
		if string(d.Body) != "0" || d.Attempt() < 2 {
			t.Errorf("got message %q for the %dth time, want 0 once more", d.Body, d.Attempt())
		}
	})
	t.Run("a delayed message", func(t *testing.T) {
		d := ahead(t, walq.GroupOptions{}, func(_ *walq.Queue, _ *walq.Group, had []*walq.Delivery) {
			if err := had[9].Nak(1500 * time.Millisecond); err != nil { // so long that it leaves the ring
				t.Fatal(err)
			}
			time.Sleep(1700 * time.Millisecond)
		})
		if string(d.Body) != "9" {
			t.Errorf("got message %q, want 9", d.Body)
		}
	})
	t.Run("another base", func(t *testing.T) {
		d := ahead(t, walq.GroupOptions{}, func(q *walq.Queue, _ *walq.Group, had []*walq.Delivery) {
			for _, d := range had {
				ack(t, d)
			}
			if err := q.ResetGroup(t.Context(), "g", walq.Oldest); err != nil {
				t.Fatal(err)
			}
		})
		if string(d.Body) != "0" {
			t.Errorf("got message %q of a base that counts no more, want 0", d.Body)
		}
	})
	t.Run("a message that expired", func(t *testing.T) {
		d := ahead(t, walq.GroupOptions{}, func(_ *walq.Queue, g *walq.Group, _ []*walq.Delivery) {
			receive(t, g)
		})
		if string(d.Body) != "152" {
			t.Errorf("got message %q, want 152: the one before has expired", d.Body)
		}
	})
	t.Run("a Group that is closed", func(t *testing.T) {
		q := create(t, newDir(t), walq.Options{Durability: walq.SyncNever})
		numbered(t, q, 100)
		g := newGroup(t, q, "g", walq.GroupOptions{})
		for range 20 {
			receive(t, g)
		}
		if err := g.Close(); err != nil {
			t.Fatal(err)
		}
		d, err := g.Receive(t.Context())
		wantIs(t, fmt.Sprint("a message: ", d), err, walq.ErrClosed)
	})
}
