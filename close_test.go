package walq_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/walq/walq"
)

func TestBlockedCallsReturnErrClosed(t *testing.T) {
	dir := newDir(t)
	q := create(t, dir, walq.Options{StallTimeout: -1})
	holder := open(t, dir, walq.Options{})
	claim, err := holder.Claim(t.Context(), 8)
	if err != nil {
		t.Fatal(err)
	}
	defer claim.Abort()
	// Newest stands before the claim, where nothing is to be had.
	next, view, follow := reader(t, q, walq.Newest, walq.ReaderOptions{}), reader(t, q, walq.Newest, walq.ReaderOptions{}), reader(t, q, walq.Newest, walq.ReaderOptions{Durable: true})
	quiet := create(t, newDir(t), walq.Options{})
	tail, idle := reader(t, quiet, walq.Oldest, walq.ReaderOptions{}), reader(t, quiet, walq.Oldest, walq.ReaderOptions{Spin: -1})
	calls := map[string]func(context.Context) error{
		"WaitDurable": func(ctx context.Context) error { return q.WaitDurable(ctx, 100) },
		"Next":        func(ctx context.Context) error { _, err := next.Next(ctx); return err },
		"View":        func(ctx context.Context) error { return view.View(ctx, func(walq.Message) error { return nil }) },
		"Follow": func(ctx context.Context) error {
			for _, err := range follow.Follow(ctx) {
				return err
			}
			return nil
		},
		"Next at the end": func(ctx context.Context) error { _, err := tail.Next(ctx); return err },
		"View at the end": func(ctx context.Context) error { return idle.View(ctx, func(walq.Message) error { return nil }) },
	}
	ended := make(chan string, len(calls))
	for name, call := range calls {
		ctx := notice(t.Context())
		go func() {
			if err := call(ctx); errors.Is(err, walq.ErrClosed) {
				ended <- ""
			} else {
				ended <- fmt.Sprintf("%s: got %v, want ErrClosed", name, err)
			}
		}()
		if name == "WaitDurable" || name == "Next at the end" || name == "View at the end" {
			<-ctx.waiting
		}
	}
	within(t, "Close of an idle queue", func() { closeQueue(t, quiet) })
	claim.Abort() // else Close waits for what is behind it
	within(t, "Close", func() { closeQueue(t, q) })
	within(t, "the calls", func() {
		for range calls {
			if s := <-ended; s != "" {
				t.Error(s)
			}
		}
	})
}

func TestAnAppendThatWaitsIsToldThatItsMessageIsIn(t *testing.T) {
	dir := newDir(t)
	q := create(t, dir, walq.Options{StallTimeout: -1})
	holder := open(t, dir, walq.Options{})
	claim, err := holder.Claim(t.Context(), 8)
	if err != nil {
		t.Fatal(err)
	}
	defer claim.Abort()
	type result struct {
		seq walq.Seq
		err error
	}
	done := make(chan result, 1)
	ctx := notice(t.Context())
	go func() {
		seq, err := q.Append(ctx, []byte("x"))
		done <- result{seq, err}
	}()
	<-ctx.waiting
	closed := make(chan error, 1)
	go func() { closed <- q.Close() }()
	got := <-done
	if got.seq != 2 || !errors.Is(got.err, walq.ErrNotDurable) || !errors.Is(got.err, walq.ErrClosed) {
		t.Errorf("got %d, %v, want 2 and an error that Is both ErrNotDurable and ErrClosed", got.seq, got.err)
	}
	claim.Abort()
	if err := <-closed; err != nil {
		t.Error(err)
	}
	wantLines(t, "contents", contents(t, holder), "2 x")
}

func TestEveryCallAfterCloseReturnsErrClosed(t *testing.T) {
	q := create(t, newDir(t), walq.Options{})
	appendText(t, q, "x")
	r := reader(t, q, walq.Oldest, walq.ReaderOptions{})
	closeQueue(t, q)
	ctx := t.Context()
	seq := func(_ walq.Seq, err error) error { return err }
	for name, err := range map[string]error{
		"Close":       q.Close(),
		"Append":      seq(q.Append(ctx, nil)),
		"AppendBatch": seq(q.AppendBatch(ctx, nil, nil)),
		"Publish":     seq(q.Publish(ctx, fullDraft)),
		"Submit":      seq(q.Submit(ctx, fullDraft)),
		"AppendFunc":  seq(q.AppendFunc(ctx, 1, func([]byte) error { t.Error("fill was called"); return nil })),
		"Claim":       func() error { _, err := q.Claim(ctx, 1); return err }(),
		"Sync":        q.Sync(ctx),
		"WaitDurable": q.WaitDurable(ctx, 1),
		"Reader":      func() error { _, err := q.Reader(walq.Oldest, walq.ReaderOptions{}); return err }(),
		"Stats":       func() error { _, err := q.Stats(); return err }(),
		"Next":        func() error { _, err := r.Next(ctx); return err }(),
		"TryNext":     func() error { _, _, err := r.TryNext(); return err }(),
		"View":        r.View(ctx, func(walq.Message) error { t.Error("fn was called"); return nil }),
		"Seek":        r.Seek(walq.Newest),
		"All": func() (last error) {
			for _, err := range r.All(ctx) {
				last = err
			}
			return last
		}(),
	} {
		wantIs(t, name, err, walq.ErrClosed)
	}
	if q.ID() == (walq.UUID{}) || q.Path() == "" || q.MaxMessage() == 0 {
		t.Error("what a closed queue was is not known any more")
	}
}

func TestEveryCallOfAClosedReaderReturnsErrClosed(t *testing.T) {
	q := create(t, newDir(t), walq.Options{})
	appendText(t, q, "x")
	r := reader(t, q, walq.Oldest, walq.ReaderOptions{})
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := r.Next(t.Context())
	wantIs(t, "Next", err, walq.ErrClosed)
	_, _, err = r.TryNext()
	wantIs(t, "TryNext", err, walq.ErrClosed)
	wantIs(t, "View", r.View(t.Context(), func(walq.Message) error { return nil }), walq.ErrClosed)
	_, err = r.ViewBatch(t.Context(), 1, func(walq.Message) error { return nil })
	wantIs(t, "ViewBatch", err, walq.ErrClosed)
	wantIs(t, "Seek", r.Seek(walq.Oldest), walq.ErrClosed)
	wantIs(t, "Close", r.Close(), walq.ErrClosed)
	for _, err := range r.All(t.Context()) {
		wantIs(t, "All", err, walq.ErrClosed)
	}
	appendText(t, q, "the queue goes on")
}

func TestCloseWaitsForARunningView(t *testing.T) {
	q := create(t, newDir(t), walq.Options{})
	appendText(t, q, "body")
	r := reader(t, q, walq.Oldest, walq.ReaderOptions{})
	entered, leave, left := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		left <- r.View(t.Context(), func(m walq.Message) error {
			close(entered)
			<-leave
			if string(m.Body) != "body" { // still mapped
				t.Errorf("got %q", m.Body)
			}
			return nil
		})
	}()
	<-entered
	var order sync.Mutex
	var events []string
	note := func(s string) { order.Lock(); defer order.Unlock(); events = append(events, s) }
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		closeQueue(t, q)
		note("closed")
	}()
	// Close has begun when others are turned away.
	within(t, "Close begins", func() {
		for {
			if _, err := q.Stats(); errors.Is(err, walq.ErrClosed) {
				return
			}
		}
	})
	note("view")
	close(leave)
	if err := <-left; err != nil {
		t.Error(err)
	}
	<-closed
	wantLines(t, "the order", events, "view", "closed")
}

func TestAllUsesOfAQueueCanBeClosedAtOnce(t *testing.T) {
	dir := newDir(t)
	q := create(t, dir, walq.Options{})
	var users sync.WaitGroup
	for i := range 4 {
		users.Go(func() {
			for {
				if _, err := q.Append(t.Context(), []byte(text(i, 100))); err != nil {
					if !errors.Is(err, walq.ErrClosed) {
						t.Error(err)
					}
					return
				}
			}
		})
		r := reader(t, q, walq.Oldest, walq.ReaderOptions{})
		users.Go(func() {
			for _, err := range r.Follow(t.Context()) {
				if err != nil && !errors.Is(err, walq.ErrClosed) {
					t.Error(err)
				}
			}
		})
	}
	r := reader(t, q, walq.Oldest, walq.ReaderOptions{})
	for range 20 {
		if _, err := r.Next(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	results := make(chan error, 3)
	for range cap(results) {
		go func() { results <- q.Close() }()
	}
	good := 0
	for range cap(results) {
		if err := <-results; err == nil {
			good++
		} else {
			wantIs(t, "another Close", err, walq.ErrClosed)
		}
	}
	if good != 1 {
		t.Errorf("%d Closes succeeded, want 1", good)
	}
	within(t, "everyone leaves", users.Wait)
}
