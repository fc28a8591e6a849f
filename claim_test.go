package walq_test

import (
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/walq/walq"
	"github.com/walq/walq/internal/testx"
)

func TestAppendFuncFillsInPlace(t *testing.T) {
	q := create(t, newDir(t), walq.Options{})
	for i, n := range []int{5, 0, int(q.MaxMessage())} {
		seq, err := q.AppendFunc(t.Context(), n, func(p []byte) error {
			if len(p) != n || cap(p) != n {
				t.Errorf("got %d bytes, capacity %d, want %d", len(p), cap(p), n)
			}
			copy(p, text(i, n))
			return nil
		})
		if err != nil || seq != walq.Seq(i+1) {
			t.Errorf("%d bytes: got %d, %v", n, seq, err)
		}
	}
	got := rest(t, reader(t, q, walq.Oldest, walq.ReaderOptions{}))
	if len(got) != 3 || string(got[0].Body) != "0.xxx" || len(got[1].Body) != 0 || string(got[2].Body) != text(2, int(q.MaxMessage())) {
		t.Errorf("got %.100q", lines(got))
	}
}

func TestAFillThatFailsAppendsNothing(t *testing.T) {
	q := create(t, newDir(t), walq.Options{})
	cause := errors.New("no more data")
	seq, err := q.AppendFunc(t.Context(), 10, func([]byte) error { return cause })
	wantIs(t, "the error", err, cause)
	if seq != 0 || errors.Is(err, walq.ErrNotDurable) {
		t.Errorf("got %d, %v", seq, err)
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic of fill was swallowed")
			}
		}()
		_, err := q.AppendFunc(t.Context(), 10, func([]byte) error { panic("fill") })
		t.Errorf("returned %v", err)
	}()
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_, err := q.AppendFunc(t.Context(), 10, func([]byte) error { runtime.Goexit(); return nil })
		t.Errorf("returned %v", err)
	}()
	<-gone
	within(t, "an append behind what was given up", func() { appendText(t, q, "next") })
	got := rest(t, reader(t, q, walq.Oldest, walq.ReaderOptions{}))
	if len(got) != 1 || string(got[0].Body) != "next" {
		t.Errorf("got %q, want next alone", lines(got))
	}
}

func TestAClaimIsCommittedOnce(t *testing.T) {
	q := create(t, newDir(t), walq.Options{})
	c, err := q.Claim(t.Context(), 4)
	if err != nil {
		t.Fatal(err)
	}
	if n := copy(c.Bytes(), "body"); n != 4 || len(c.Bytes()) != 4 {
		t.Errorf("got room for %d bytes", len(c.Bytes()))
	}
	seq, err := c.Commit(t.Context())
	if err != nil || seq != 1 {
		t.Fatalf("got %d, %v", seq, err)
	}
	_, err = c.Commit(t.Context())
	wantIs(t, "a second Commit", err, walq.ErrClaimOver)
	if errors.Is(err, walq.ErrNotDurable) {
		t.Errorf("a second Commit says that it appended: %v", err)
	}
	c.Abort() // does nothing
	wantLines(t, "contents", contents(t, q), "1 body")
}

func TestAnAbortedClaimLeavesAGapInTheNumbersOnly(t *testing.T) {
	q := create(t, newDir(t), walq.Options{})
	appendText(t, q, "before")
	c, err := q.Claim(t.Context(), 100)
	if err != nil {
		t.Fatal(err)
	}
	c.Abort()
	c.Abort()
	_, err = c.Commit(t.Context())
	wantIs(t, "Commit after Abort", err, walq.ErrClaimOver)
	appendText(t, q, "after")
	wantLines(t, "contents", contents(t, q), "1 before", "3 after")
	s, err := q.Stats()
	if err != nil || s.Messages != 2 {
		t.Errorf("Stats counts %d messages, %v, want 2", s.Messages, err)
	}
}

func TestNobodyReadsPastAnOpenClaim(t *testing.T) {
	q := create(t, newDir(t), walq.Options{Durability: walq.SyncNever, StallTimeout: -1})
	c, err := q.Claim(t.Context(), 5)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Abort()
	appendText(t, q, "second")
	r := reader(t, q, walq.Oldest, walq.ReaderOptions{})
	if m, ok, err := r.TryNext(); ok || err != nil {
		t.Fatalf("got message %d, %v past an open claim", m.Seq, err)
	}
	copy(c.Bytes(), "first")
	if _, err := c.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantLines(t, "contents", lines(rest(t, r)), "1 first", "2 second")
}

func TestAForgottenClaimIsAbortedByTheGarbageCollector(t *testing.T) {
	q := create(t, newDir(t), walq.Options{Durability: walq.SyncNever, StallTimeout: -1})
	func() {
		if _, err := q.Claim(t.Context(), 5); err != nil {
			t.Fatal(err)
		}
	}()
	appendText(t, q, "behind")
	r := reader(t, q, walq.Oldest, walq.ReaderOptions{})
	testx.Eventually(t, patience, func() bool {
		runtime.GC()
		_, ok, err := r.TryNext()
		return ok && err == nil
	}, "a forgotten claim lets others pass")
}

func TestCloseAbortsOpenClaims(t *testing.T) {
	dir := newDir(t)
	q := create(t, dir, walq.Options{StallTimeout: -1})
	c, err := q.Claim(t.Context(), 5)
	if err != nil {
		t.Fatal(err)
	}
	within(t, "Close", func() { closeQueue(t, q) })
	_, err = c.Commit(t.Context())
	wantIs(t, "Commit after Close", err, walq.ErrClosed)
	c.Abort()
	q = open(t, dir, walq.Options{})
	appendText(t, q, "next")
	wantLines(t, "contents", contents(t, q), "2 next")
}

// A claim that takes longer than the stall time-out is revoked by whoever it
// holds up; its bytes are appended all the same, behind them, and once.
func TestARevokedClaimIsAppendedBehindThoseItHeldUp(t *testing.T) {
	dir := newDir(t)
	slow := create(t, dir, walq.Options{})
	q := open(t, dir, walq.Options{StallTimeout: 10 * time.Millisecond})
	c, err := slow.Claim(t.Context(), 4)
	if err != nil {
		t.Fatal(err)
	}
	copy(c.Bytes(), "slow")
	within(t, "an append behind a stalled claim", func() { appendText(t, q, "quick") })
	seq, err := c.Commit(t.Context())
	if err != nil || seq != 3 {
		t.Errorf("got %d, %v, want 3", seq, err)
	}
	wantLines(t, "contents", contents(t, q), "2 quick", fmt.Sprintf("%d slow", seq))
}
