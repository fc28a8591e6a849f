package walq_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/walq/walq"
)

func newGroup(t testing.TB, q *walq.Queue, name string, o walq.GroupOptions) *walq.Group {
	t.Helper()
	g, err := q.Group(name, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil && !errors.Is(err, walq.ErrClosed) {
			t.Errorf("closing the group: %v", err)
		}
	})
	return g
}

func receive(t testing.TB, g *walq.Group) *walq.Delivery {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	d, err := g.Receive(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func ack(t testing.TB, d *walq.Delivery) {
	t.Helper()
	if err := d.Ack(); err != nil {
		t.Fatalf("message %d: Ack: %v", d.Seq, err)
	}
}

// drain receives and acknowledges what there is.
func drain(t testing.TB, g *walq.Group) (bodies []string) {
	t.Helper()
	for {
		d, err := g.TryReceive(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if d == nil {
			return bodies
		}
		bodies = append(bodies, string(d.Body))
		ack(t, d)
	}
}

func TestEachGroupGetsEveryMessageOnce(t *testing.T) {
	q := create(t, newDir(t), walq.Options{Durability: walq.SyncNever})
	a := newGroup(t, q, "a", walq.GroupOptions{Window: 16})
	var want []string
	for i := range 3000 {
		body := fmt.Sprint("message ", i)
		want = append(want, body)
		if _, err := q.Append(t.Context(), []byte(body)); err != nil {
			t.Fatal(err)
		}
		if i == 1500 {
			if got := drain(t, a); !slices.Equal(got, want) {
				t.Fatalf("got %d messages, want %d", len(got), len(want))
			}
		}
	}
	if got := drain(t, a); !slices.Equal(got, want[1501:]) {
		t.Errorf("a: got %d messages, want %d", len(got), len(want)-1501)
	}
	b := newGroup(t, q, "b", walq.GroupOptions{})
	if got := drain(t, b); !slices.Equal(got, want) {
		t.Errorf("b: got %d messages, want %d", len(got), len(want))
	}
}

func TestWhatIsSentBackComesAgain(t *testing.T) {
	q := create(t, newDir(t), walq.Options{Durability: walq.SyncNever})
	g := newGroup(t, q, "g", walq.GroupOptions{})
	for i := range 3 {
		if _, err := q.Append(t.Context(), []byte(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	first := receive(t, g)
	if err := first.Nak(0); err != nil {
		t.Fatal(err)
	}
	if err := first.Ack(); !errors.Is(err, walq.ErrLeaseLost) {
		t.Errorf("Ack after Nak: got %v, want ErrLeaseLost", err)
	}
	again := receive(t, g)
	if again.Seq != first.Seq || again.Attempt() != 2 || string(again.Body) != "0" {
		t.Errorf("got %d %q, attempt %d, want message %d again", again.Seq, again.Body, again.Attempt(), first.Seq)
	}
	begun := time.Now()
	if err := again.Nak(80 * time.Millisecond); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		ack(t, receive(t, g))
	}
	late := receive(t, g)
	if took := time.Since(begun); late.Seq != first.Seq || took < 80*time.Millisecond {
		t.Errorf("got message %d after %v, want %d after 80 ms", late.Seq, took, first.Seq)
	}
	ack(t, late)
}

func TestALeaseEndsAndAnotherConsumerGetsTheMessage(t *testing.T) {
	q := create(t, newDir(t), walq.Options{Durability: walq.SyncNever})
	g := newGroup(t, q, "g", walq.GroupOptions{Lease: 50 * time.Millisecond})
	other := newGroup(t, q, "g", walq.GroupOptions{})
	if _, err := q.Append(t.Context(), []byte("slow")); err != nil {
		t.Fatal(err)
	}
	slow := receive(t, g)
	quick := receive(t, other)
	if quick.Seq != slow.Seq || quick.Attempt() != 2 {
		t.Errorf("got %d, attempt %d", quick.Seq, quick.Attempt())
	}
	if err := slow.Ack(); !errors.Is(err, walq.ErrLeaseLost) {
		t.Errorf("the late one: got %v, want ErrLeaseLost", err)
	}
	if err := slow.Extend(0); !errors.Is(err, walq.ErrLeaseLost) {
		t.Errorf("the late one extends: got %v, want ErrLeaseLost", err)
	}
	ack(t, quick)
}

func TestAGroupGoesOnWhereItWas(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "q")
	q, err := walq.Open(t.Context(), dir, walq.Options{Create: &walq.QueueOptions{SegmentSize: 64 << 10}, Durability: walq.SyncNever})
	if err != nil {
		t.Fatal(err)
	}
	g := newGroup(t, q, "g", walq.GroupOptions{Window: 8})
	for i := range 100 {
		if _, err := q.Append(t.Context(), []byte(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 50 {
		d := receive(t, g)
		if i == 48 {
			continue // it is not finished
		}
		ack(t, d)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	if q, err = walq.Open(t.Context(), dir, walq.Options{}); err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	got := drain(t, newGroup(t, q, "g", walq.GroupOptions{}))
	if len(got) != 51 || got[0] != "48" || got[1] != "50" || got[50] != "99" {
		t.Errorf("got %v, want 48 and 50 to 99", got)
	}
}

func TestWhatCannotBeWorkedOnGoesToTheDeadLetters(t *testing.T) {
	q := create(t, newDir(t), walq.Options{Durability: walq.SyncNever})
	dead := filepath.Join(t.TempDir(), "dead")
	g := newGroup(t, q, "g", walq.GroupOptions{MaxDeliver: 3, DeadLetter: dead, BackOff: []time.Duration{0}})
	for _, body := range []string{"good", "bad", "fine", "hopeless"} {
		if _, err := q.Publish(t.Context(), walq.Draft{Topic: "t", Key: []byte("k"), Headers: map[string]string{"h": "1"}, Body: []byte(body)}); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tries := map[string]int{}
	err := g.Consume(ctx, func(_ context.Context, d *walq.Delivery) error {
		body := string(d.Body)
		tries[body]++
		switch body {
		case "bad":
			return errors.New("it is bad")
		case "hopeless":
			cancel()
			return d.Term("without hope")
		}
		return nil
	})
	if err != nil || !errors.Is(ctx.Err(), context.Canceled) {
		t.Fatal(err, ctx.Err())
	}
	if got := drain(t, g); len(got) != 0 {
		t.Errorf("there was more: %v", got)
	}
	if tries["bad"] != 3 {
		t.Errorf("the bad one was tried %d times, want 3", tries["bad"])
	}
	d, err := walq.Open(t.Context(), dead, walq.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	r, err := d.Reader(walq.Oldest, walq.ReaderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got := map[string]string{}
	for m, err := range r.All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		got[string(m.Body)] = m.Header(walq.HeaderReason)
		if m.Topic() != "t" || string(m.Key()) != "k" || m.Header("h") != "1" || m.Header(walq.HeaderOriginGroup) != "g" {
			t.Errorf("%q came without what it had: %v", m.Body, m)
		}
	}
	if len(got) != 2 || got["hopeless"] != "without hope" || got["bad"] == "" {
		t.Errorf("dead letters: %v", got)
	}
	n, err := q.Redrive(t.Context(), d)
	if err != nil || n != 2 {
		t.Errorf("redrive: %d, %v, want 2", n, err)
	}
	if n, err := q.Redrive(t.Context(), d); err != nil || n != 0 {
		t.Errorf("redrive once more: %d, %v, want 0", n, err)
	}
}
