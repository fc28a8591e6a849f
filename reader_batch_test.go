package walq_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/walq/walq"
)

// numberedQueue is a queue of n messages, "0" to "n-1", half of them in batches of ten, and a
// reader before the first.
func numberedQueue(t *testing.T, n int) (*walq.Queue, *walq.Reader) {
	t.Helper()
	q := create(t, newDir(t), walq.Options{Durability: walq.SyncNever})
	for i := 0; i < n; i += 10 {
		var bodies [][]byte
		for k := i; k < min(i+10, n); k++ {
			bodies = append(bodies, fmt.Append(nil, k))
		}
		for len(bodies) > 0 {
			now := len(bodies)
			if i%20 == 0 {
				now = 1
			}
			if _, err := q.AppendBatch(t.Context(), bodies[:now]...); err != nil {
				t.Fatal(err)
			}
			bodies = bodies[now:]
		}
	}
	return q, reader(t, q, walq.Oldest, walq.ReaderOptions{})
}

// Whatever fn does, what it was called with is behind the reader and nothing else, and the
// queue can be closed.
func TestViewBatchGoesOnBehindTheMessageThatItsFunctionEndedAt(t *testing.T) {
	cause := errors.New("mine")
	const n = 60
	for name, end := range map[string]func(){
		"an error": nil,
		"a panic":  func() { panic(cause) },
		"Goexit":   runtime.Goexit,
	} {
		t.Run(name, func(t *testing.T) {
			q, r := numberedQueue(t, n)
			got, rounds := 0, 0
			round := func() (err error) {
				defer func() {
					if p := recover(); p != nil && p != any(cause) {
						panic(p)
					}
				}()
				before, last := got, got+rounds%13
				shown, err := r.ViewBatch(t.Context(), n, func(m walq.Message) error {
					if string(m.Body) != fmt.Sprint(got) {
						t.Errorf("message %d is %q", got, m.Body)
					}
					if got++; got > last {
						if end != nil {
							end()
						}
						return cause
					}
					return nil
				})
				if shown != got-before {
					t.Errorf("returned %d, called %d times", shown, got-before)
				}
				return err
			}
			for ; got < n && rounds < n; rounds++ {
				done := make(chan error, 1)
				go func() {
					defer close(done)
					done <- round()
				}()
				if err := <-done; name == "an error" && got < n && err != cause {
					t.Fatalf("got %v, want exactly the function's error", err)
				}
			}
			if got != n {
				t.Fatalf("saw %d messages, want %d", got, n)
			}
			within(t, "Close", func() { closeQueue(t, q) })
		})
	}
}

func TestViewBatchWaitsForTheFirstMessageOnly(t *testing.T) {
	q := create(t, newDir(t), walq.Options{Durability: walq.SyncNever})
	for _, spin := range []time.Duration{0, -1, time.Millisecond} {
		r := reader(t, q, walq.Newest, walq.ReaderOptions{Spin: spin})
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
		defer cancel()
		n, err := r.ViewBatch(ctx, 5, nil)
		wantIs(t, "ViewBatch", err, context.DeadlineExceeded)
		arrives := notice(t.Context())
		go func() {
			<-arrives.waiting
			if _, err := q.AppendBatch(t.Context(), []byte("x"), []byte("y")); err != nil {
				t.Error(err)
			}
		}()
		var got []string
		n, err = r.ViewBatch(arrives, 5, func(m walq.Message) error { got = append(got, string(m.Body)); return nil })
		if n != 2 || err != nil || !slices.Equal(got, []string{"x", "y"}) {
			t.Errorf("got %d, %v: %q", n, err, got)
		}
	}
	r := reader(t, q, walq.Oldest, walq.ReaderOptions{})
	if n, err := r.ViewBatch(t.Context(), 0, nil); n != 0 || err != nil {
		t.Errorf("none was asked for, got %d, %v", n, err)
	}
}

func TestViewBatchEndsSoonWithItsContextAndWhenTheQueueIsClosed(t *testing.T) {
	const n = 200
	q, r := numberedQueue(t, n)
	ctx, cancel := context.WithCancel(t.Context())
	got, err := r.ViewBatch(ctx, n, func(m walq.Message) error {
		if string(m.Body) == "20" {
			cancel()
		}
		return nil
	})
	if wantIs(t, "ViewBatch", err, context.Canceled); got != 32 {
		t.Errorf("shown %d messages, want 32", got)
	}
	closed := make(chan struct{})
	got, err = r.ViewBatch(t.Context(), n, func(m walq.Message) error {
		if string(m.Body) == "50" {
			go func() { defer close(closed); closeQueue(t, q) }()
			within(t, "Close begins", func() {
				for {
					if _, err := q.Stats(); errors.Is(err, walq.ErrClosed) {
						return
					}
				}
			})
			select {
			case <-closed:
				t.Error("Close did not wait")
			default:
			}
		}
		return nil
	})
	if wantIs(t, "ViewBatch", err, walq.ErrClosed); got != 51-32 {
		t.Errorf("shown %d messages, want %d", got, 51-32)
	}
	<-closed
}

// fn may use the reader, and the batch goes on from where it is then.
func TestViewBatchGoesOnFromWhereItsFunctionWent(t *testing.T) {
	_, r := numberedQueue(t, 40)
	var got []string
	n, err := r.ViewBatch(t.Context(), 7, func(m walq.Message) error {
		got = append(got, string(m.Body))
		switch string(m.Body) {
		case "1":
			return r.Seek(walq.At(15))
		case "15":
			m, err := r.Next(t.Context())
			got = append(got, "next "+string(m.Body))
			return err
		case "18":
			return r.Close()
		}
		return nil
	})
	wantIs(t, "ViewBatch", err, walq.ErrClosed)
	wantLines(t, "shown", got, "0", "1", "14", "15", "next 16", "17", "18")
	if n != 6 {
		t.Errorf("got %d, want 6", n)
	}
}

// The same within one batch of the log, whose messages are shown in a loop of their own.
func TestViewBatchGoesOnFromWhereItsFunctionWentWithinABatch(t *testing.T) {
	q := create(t, newDir(t), walq.Options{Durability: walq.SyncNever})
	var bodies [][]byte
	for i := range 40 {
		bodies = append(bodies, fmt.Append(nil, i))
	}
	first, err := q.AppendBatch(t.Context(), bodies...)
	if err != nil {
		t.Fatal(err)
	}
	r := reader(t, q, walq.Oldest, walq.ReaderOptions{})
	var got []string
	note := func(m walq.Message) { got = append(got, string(m.Body)) }
	n, err := r.ViewBatch(t.Context(), 100, func(m walq.Message) error {
		note(m)
		switch string(m.Body) {
		case "2":
			return r.Seek(walq.At(first + 10))
		case "12": // several are copied ahead
			for range 4 {
				m, err := r.Next(t.Context())
				if err != nil {
					return err
				}
				note(m)
			}
		case "22":
			return r.View(t.Context(), func(m walq.Message) error { note(m); return nil })
		case "25":
			_, err := r.ViewBatch(t.Context(), 3, func(m walq.Message) error { note(m); return nil })
			return err
		case "30":
			return r.Close()
		}
		return nil
	})
	wantIs(t, "ViewBatch", err, walq.ErrClosed)
	want := []string{"0", "1", "2"}
	for i := 10; i <= 30; i++ {
		want = append(want, fmt.Sprint(i))
	}
	wantLines(t, "shown", got, want...)
	if n != len(want)-4-1-3 {
		t.Errorf("got %d, want %d", n, len(want)-4-1-3)
	}
}
