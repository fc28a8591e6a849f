package walq

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// busyDead is a group with n messages, of which the first is received, and a dead-letter
// queue that takes none until it is freed.
func busyDead(t *testing.T, n int) (g *Group, first *Delivery, free func()) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "q")
	q, err := Open(t.Context(), dir, Options{Create: &QueueOptions{SegmentSize: 64 << 10}, Durability: SyncNever})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	})
	if g, err = q.Group("g", GroupOptions{DeadLetter: dir + ".dead", OrderedByKey: true}); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if _, err := q.Publish(t.Context(), Draft{Key: []byte{byte(i % 3)}, Body: fmt.Append(nil, i)}); err != nil {
			t.Fatal(err)
		}
	}
	g.dead.patience = time.Hour
	g.dead.turn <- struct{}{}
	free = sync.OnceFunc(func() { <-g.dead.turn })
	t.Cleanup(free)
	return g, wantNext(t, g, "0"), free
}

// untilOver waits until the delivery is its user's no more.
func untilOver(d *Delivery) {
	for over := false; !over; time.Sleep(time.Millisecond) { // until the next look
		d.g.mu.Lock()
		over = d.done
		d.g.mu.Unlock()
	}
}

func wantNext(t *testing.T, g *Group, want string) *Delivery {
	t.Helper()
	d, err := g.TryReceive(t.Context())
	if err != nil || d == nil || string(d.Body) != want {
		t.Fatalf("got %v, %v, want %s", d, err, want)
	}
	return d
}

// wantBuried wants the dead-letter queue to have these messages.
func wantBuried(t *testing.T, g *Group, want ...string) {
	t.Helper()
	q, err := Open(t.Context(), g.dead.path, Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	r, err := q.Reader(Oldest, ReaderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var got []string
	for m, err := range r.All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(m.Body))
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("dead letters are %v, want %v", got, want)
	}
}

// inTime gives what comes, and fails if nothing does.
func inTime[T any](t *testing.T, from <-chan T, what string) (v T) {
	t.Helper()
	select {
	case v = <-from:
	case <-time.After(time.Minute):
		t.Fatalf("%s: still not done", what)
	}
	return v
}

// While a message is on its way to a dead-letter queue that is busy, others of the Group
// receive, finish and extend; the message is nobody's but who gave it up.
func TestADeadLetterThatTakesLongHoldsNobodyUp(t *testing.T) {
	g, first, free := busyDead(t, 6)
	given := make(chan error, 1)
	go func() { given <- first.Term("no") }()
	others := make(chan error, 1)
	go func() {
		untilOver(first)
		var all []error
		for _, want := range []string{"1", "2"} { // of other keys
			d, err := g.TryReceive(t.Context())
			if err != nil || d == nil || string(d.Body) != want {
				all = append(all, fmt.Errorf("got %v, %w, want %s", d, err, want))
				break
			}
			all = append(all, d.Extend(time.Minute), d.Ack())
		}
		others <- errors.Join(all...)
	}()
	if err := inTime(t, others, "others"); err != nil {
		t.Error(err)
	}
	select {
	case err := <-given:
		t.Fatalf("it was given up, though the dead-letter queue is busy: %v", err)
	default:
	}
	if err := first.Nak(0); !errors.Is(err, ErrLeaseLost) {
		t.Errorf("once more: got %v, want ErrLeaseLost", err)
	}
	free()
	if err := inTime(t, given, "Term"); err != nil {
		t.Error(err)
	}
	wantBuried(t, g, "0")
	for _, want := range []string{"3", "4", "5"} { // the key of 0 is free
		if err := wantNext(t, g, want).Ack(); err != nil {
			t.Error(err)
		}
	}
}

// The same for one that was handed out too often, which Receive itself gives up.
func TestWhatReceiveGivesUpHoldsNobodyUp(t *testing.T) {
	g, first, free := busyDead(t, 3)
	g.settings.MaxDeliver = 1
	if err := first.Nak(0); err != nil {
		t.Fatal(err)
	}
	got := make(chan string, 1)
	ring := g.walk.ring
	go func() {
		d, err := g.Receive(t.Context()) // it comes upon 0 first
		if err != nil {
			got <- err.Error()
			return
		}
		got <- string(d.Body)
	}()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) { // until it has 0
		if look, ok := ring.Look(first.lease.Ordinal); ok && look.Word.Deliveries() == 2 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("0 is not given up")
		}
	}
	other := wantNext(t, g, "1")
	free()
	if body := inTime(t, got, "Receive"); body != "2" {
		t.Errorf("got %q, want 2", body)
	}
	if err := other.Ack(); err != nil {
		t.Error(err)
	}
	wantBuried(t, g, "0")
}

// Close waits for a dead letter that is on its way, gives back what else is at work, and
// the message is finished once.
func TestCloseWaitsForADeadLetter(t *testing.T) {
	g, first, free := busyDead(t, 2)
	second := wantNext(t, g, "1")
	given, closed := make(chan error, 1), make(chan error, 1)
	go func() { given <- first.Term("no") }()
	go func() {
		untilOver(first)
		closed <- g.Close()
	}()
	look, err := g.q.Group("g", GroupOptions{}) // another consumer
	if err != nil {
		t.Fatal(err)
	}
	again := inTime(t, received(t, look), "the other consumer")
	if string(again.Body) != "1" {
		t.Errorf("the other consumer got %s, want 1", again.Body)
	}
	select {
	case err := <-closed:
		t.Fatalf("it is closed already: %v", err)
	case err := <-given:
		t.Fatalf("it was given up: %v", err)
	default:
	}
	free()
	if err := errors.Join(inTime(t, given, "Term"), inTime(t, closed, "Close"), again.Ack()); err != nil {
		t.Error(err)
	}
	if err := second.Ack(); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v, want ErrClosed", err)
	}
	wantBuried(t, g, "0")
	all, err := g.q.Groups()
	if err != nil || all[0].Lag != 0 || all[0].DeadLettered != 1 {
		t.Errorf("got %+v, %v, want all finished, one as a dead letter", all, err)
	}
}

func received(t *testing.T, g *Group) <-chan *Delivery {
	got := make(chan *Delivery, 1)
	go func() {
		d, err := g.Receive(t.Context())
		if err != nil {
			t.Error(err)
		}
		got <- d
	}()
	return got
}
