package walq_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/walq/walq"
	"github.com/walq/walq/internal/testx"
)

// groupOf looks at one group.
func groupOf(t testing.TB, q *walq.Queue, name string) walq.GroupInfo {
	t.Helper()
	all, err := q.Groups()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(g walq.GroupInfo) bool { return g.Name == name })
	if i < 0 {
		t.Fatalf("there is no group %s among %v", name, all)
	}
	return all[i]
}

// fillWith appends so many messages.
func fillWith(t testing.TB, q *walq.Queue, n int) {
	t.Helper()
	for i := range n {
		appendText(t, q, fmt.Sprint(i))
	}
}

// Behind finds as many as a reader does, from everywhere: within a batch, behind what
// was given up, in segments that are full and in the last one.
func TestMessagesAreCountedFromEverywhere(t *testing.T) {
	random := rand.New(rand.NewPCG(testx.Seed(t), 0))
	q := create(t, newDir(t), walq.Options{Create: &walq.QueueOptions{SegmentSize: smallest}, Durability: walq.SyncNever})
	for range 300 {
		switch random.IntN(4) {
		case 0:
			c, err := q.Claim(t.Context(), 100)
			if err != nil {
				t.Fatal(err)
			}
			c.Abort()
		case 1:
			if _, err := q.Append(t.Context(), bytes.Repeat([]byte("x"), random.IntN(3000))); err != nil {
				t.Fatal(err)
			}
		default:
			bodies := make([][]byte, 1+random.IntN(20))
			if _, err := q.AppendBatch(t.Context(), bodies...); err != nil {
				t.Fatal(err)
			}
		}
	}
	all := rest(t, reader(t, q, walq.Oldest, walq.ReaderOptions{}))
	for seq, i := walq.Seq(0), 0; seq <= all[len(all)-1].Seq+1; seq++ {
		for i < len(all) && all[i].Seq < seq {
			i++
		}
		if _, n, err := q.Behind(walq.At(seq)); err != nil || n != uint64(len(all)-i) {
			t.Fatalf("from %d: got %d, %v, want %d", seq, n, err, len(all)-i)
		}
	}
	for _, p := range []walq.Position{walq.Oldest, walq.Newest, walq.Last(7), walq.Since(time.Now().Add(time.Hour))} {
		want := uint64(len(rest(t, reader(t, q, p, walq.ReaderOptions{}))))
		if _, n, err := q.Behind(p); err != nil || n != want {
			t.Errorf("%v: got %d, %v, want %d", p, n, err, want)
		}
	}
}

func TestGroupsTellHowFarTheyAre(t *testing.T) {
	dir := newDir(t)
	q := create(t, dir, walq.Options{Durability: walq.SyncNever})
	if all, err := q.Groups(); err != nil || len(all) > 0 {
		t.Errorf("without any: got %v, %v", all, err)
	}
	fillWith(t, q, 10)
	g := newGroup(t, q, "g", walq.GroupOptions{Window: 16})
	first, second, third := receive(t, g), receive(t, g), receive(t, g)
	ack(t, second)
	if err := third.Nak(time.Hour); err != nil {
		t.Fatal(err)
	}
	looker := open(t, dir, walq.Options{ReadOnly: true})
	for _, l := range []*walq.Queue{q, looker} {
		i := groupOf(t, l, "g")
		if i.Floor != first.Seq || i.Lag != 9 || i.InFlight != 1 || i.Delayed != 1 || i.Finished != 1 || i.Window < 16 || i.Paused || i.OldestUnfinishedSeconds <= 0 {
			t.Errorf("got %+v", i)
		}
	}
	ack(t, first)
	if i := groupOf(t, looker, "g"); i.Floor != third.Seq || i.Lag != 8 || i.InFlight != 0 || i.Delayed != 1 || i.Finished != 2 {
		t.Errorf("got %+v", i)
	}
}

// Messages of other topics count until somebody has gone past them.
func TestTheLagOfATopicIsAnUpperBound(t *testing.T) {
	q := create(t, newDir(t), walq.Options{Durability: walq.SyncNever})
	fillWith(t, q, 10)
	g := newGroup(t, q, "g", walq.GroupOptions{Topic: "t"})
	if i := groupOf(t, q, "g"); i.Topic != "t" || i.Lag != 10 {
		t.Errorf("got %+v, want all", i)
	}
	if got := drain(t, g); len(got) > 0 {
		t.Errorf("got %v", got)
	}
	if i := groupOf(t, q, "g"); i.Lag != 0 || i.OldestUnfinishedSeconds != 0 {
		t.Errorf("got %+v, want none", i)
	}
}

// Before anybody joins it again.
func TestAGroupIsLookedAtAfterAPowerLoss(t *testing.T) {
	dir := newDir(t)
	q := create(t, dir, walq.Options{})
	fillWith(t, q, 10)
	g := newGroup(t, q, "g", walq.GroupOptions{})
	for i := range 5 {
		if d := receive(t, g); i != 2 {
			ack(t, d)
		}
	}
	closeQueue(t, q)
	q = open(t, dir, walq.Options{Snapshot: true})
	if i := groupOf(t, q, "g"); i.Lag != 6 || i.Floor > 3 || i.InFlight != 0 || i.Finished != 4 {
		t.Errorf("got %+v, want 6 to finish", i)
	}
	if err := q.PauseGroup("g", true); err != nil {
		t.Fatal(err)
	}
	if i := groupOf(t, q, "g"); i.Lag != 6 || !i.Paused {
		t.Errorf("paused: got %+v, want 6 to finish", i)
	}
}

func TestAPausedGroupGoesOnWhenItIsTold(t *testing.T) {
	dir := newDir(t)
	q := create(t, dir, walq.Options{Durability: walq.SyncNever})
	g := newGroup(t, q, "g", walq.GroupOptions{})
	fillWith(t, q, 1)
	d := receive(t, g)
	other := open(t, dir, walq.Options{})
	if err := other.PauseGroup("g", true); err != nil {
		t.Fatal(err)
	}
	ack(t, d)
	fillWith(t, q, 1)
	if d, err := g.TryReceive(t.Context()); d != nil || err != nil {
		t.Errorf("paused: got %v, %v, want nothing", d, err)
	}
	got := make(chan error, 1)
	go func() {
		d, err := g.Receive(t.Context())
		if err == nil {
			err = d.Ack()
		}
		got <- err
	}()
	if err := other.PauseGroup("g", false); err != nil {
		t.Fatal(err)
	}
	within(t, "a message", func() {
		if err := <-got; err != nil {
			t.Error(err)
		}
	})
}

func TestAResetTakesLeasesAndMovesConsumers(t *testing.T) {
	dir := newDir(t)
	q := create(t, dir, walq.Options{Durability: walq.SyncNever})
	fillWith(t, q, 5)
	g := newGroup(t, q, "g", walq.GroupOptions{})
	for range 3 {
		ack(t, receive(t, g))
	}
	held := receive(t, g)
	other := open(t, dir, walq.Options{})
	if err := other.ResetGroup(t.Context(), "g", walq.At(2)); err != nil {
		t.Fatal(err)
	}
	wantIs(t, "what was held", held.Ack(), walq.ErrLeaseLost)
	wantLines(t, "after the reset", drain(t, g), "1", "2", "3", "4")
	if err := other.ResetGroup(t.Context(), "g", walq.Last(1)); err != nil {
		t.Fatal(err)
	}
	if i := groupOf(t, q, "g"); i.Lag != 1 || i.InFlight != 0 {
		t.Errorf("got %+v", i)
	}
	wantLines(t, "after another", drain(t, g), "4")
	if err := other.ResetGroup(t.Context(), "g", walq.At(100)); err != nil { // to come
		t.Fatal(err)
	}
	fillWith(t, q, 100)
	if got := drain(t, g); len(got) != 6 {
		t.Errorf("from 100 on: got %d, want 6", len(got))
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	wantIs(t, "with a context that is over", other.ResetGroup(over, "g", walq.Oldest), context.Canceled)
}

func TestAGroupThatSomebodyUsesIsNotRemoved(t *testing.T) {
	dir := newDir(t)
	q := create(t, dir, walq.Options{Durability: walq.SyncNever})
	fillWith(t, q, 3)
	g := newGroup(t, q, "g", walq.GroupOptions{})
	held := receive(t, g)
	other := open(t, dir, walq.Options{})
	if err := other.RemoveGroup("g"); err == nil || !strings.Contains(err.Error(), "at work") {
		t.Errorf("got %v, want that somebody is at work", err)
	}
	if i := groupOf(t, q, "g"); i.Paused {
		t.Error("it is paused")
	}
	ack(t, held)
	ack(t, receive(t, g))
	if err := other.RemoveGroup("g"); err != nil {
		t.Fatal(err)
	}
	if d, err := g.TryReceive(t.Context()); d != nil || err != nil {
		t.Errorf("who has it open: got %v, %v, want nothing", d, err)
	}
	again := newGroup(t, q, "g", walq.GroupOptions{})
	wantLines(t, "one of the same name", drain(t, again), "0", "1", "2")
	if err := q.RemoveGroup("g"); err != nil {
		t.Errorf("with leases of our own: %v", err)
	}
}

func TestAGroupThatIsNotThere(t *testing.T) {
	dir := newDir(t)
	q := create(t, dir, walq.Options{})
	looker := open(t, dir, walq.Options{ReadOnly: true})
	closed := open(t, dir, walq.Options{})
	closeQueue(t, closed)
	for what, f := range map[string]func(*walq.Queue, string) error{
		"pause":  func(q *walq.Queue, name string) error { return q.PauseGroup(name, true) },
		"reset":  func(q *walq.Queue, name string) error { return q.ResetGroup(t.Context(), name, walq.Oldest) },
		"remove": func(q *walq.Queue, name string) error { return q.RemoveGroup(name) },
	} {
		wantIs(t, what, f(q, "none"), fs.ErrNotExist)
		wantIs(t, what+", read-only", f(looker, "none"), walq.ErrReadOnly)
		wantIs(t, what+", closed", f(closed, "none"), walq.ErrClosed)
		if err := f(q, "../none"); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s of what is no name: got %v", what, err)
		}
	}
	_, err := closed.Groups()
	wantIs(t, "groups", err, walq.ErrClosed)
	_, _, err = closed.Behind(walq.Oldest)
	wantIs(t, "behind", err, walq.ErrClosed)
}

func TestDrainEndsWhenThereIsNothing(t *testing.T) {
	q := create(t, newDir(t), walq.Options{Durability: walq.SyncNever})
	fillWith(t, q, 100)
	g := newGroup(t, q, "g", walq.GroupOptions{Handlers: 4, BackOff: []time.Duration{0, time.Hour}})
	var calls atomic.Int64
	fail := errors.New("no")
	err := g.Drain(t.Context(), func(_ context.Context, d *walq.Delivery) error {
		calls.Add(1)
		if string(d.Body) == "7" {
			return fail
		}
		return nil
	})
	if i := groupOf(t, q, "g"); err != nil || calls.Load() != 101 || i.Lag != 1 || i.InFlight+i.Delayed != 1 {
		t.Errorf("got %v, %d calls, %+v, want 101 and one that waits", err, calls.Load(), i)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := g.Drain(over, nil); err != nil {
		t.Errorf("with a context that is over: got %v", err)
	}
	_, err = g.TryReceive(over)
	wantIs(t, "with a context that is over", err, context.Canceled)
}

// A handler that finds nothing stays as long as another one is at work, since that one may
// free more than one message: here a2, of its key, and b1, by the room in the window.
func TestDrainKeepsItsHandlersWhileOneIsAtWork(t *testing.T) {
	q := create(t, newDir(t), walq.Options{Durability: walq.SyncNever})
	publish(t, q, "a1", "a2", "a3", "b1")
	g := newGroup(t, q, "g", walq.GroupOptions{OrderedByKey: true, Window: 3, Handlers: 2})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var met sync.WaitGroup
	met.Add(2)
	err := g.Drain(ctx, func(_ context.Context, d *walq.Delivery) error {
		switch string(d.Body) {
		case "a1":
			time.Sleep(20 * time.Millisecond) // so that the other one most likely has found nothing
		case "a2", "b1":
			met.Done()
			both := make(chan struct{})
			go func() {
				met.Wait()
				close(both)
			}()
			select {
			case <-both:
			case <-ctx.Done():
				t.Errorf("%s: the other handler is gone", d.Body)
			}
		}
		return nil
	})
	if left := drain(t, g); err != nil || len(left) > 0 {
		t.Errorf("got %v, and %v is left, want all done", err, left)
	}
}

func TestDrainEndsWhenOneOfItsHandlersCannotGoOn(t *testing.T) {
	q := create(t, newDir(t), walq.Options{Durability: walq.SyncNever})
	publish(t, q, "a1")
	g := newGroup(t, q, "g", walq.GroupOptions{Handlers: 3})
	within(t, "Drain of a group that is closed", func() {
		err := g.Drain(t.Context(), func(context.Context, *walq.Delivery) error {
			time.Sleep(20 * time.Millisecond) // so that the others most likely have found nothing
			return g.Close()
		})
		wantIs(t, "drain", err, walq.ErrClosed)
	})
}
