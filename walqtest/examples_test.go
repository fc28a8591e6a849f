package walqtest_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/walq/walq"
	"github.com/walq/walq/walqtest"
)

// consume is the consumer under test: it gives each body to do, from a position to
// the end, and returns how to go on. What it lost it counts and leaves behind.
func consume(ctx context.Context, q *walq.Queue, from walq.Position, do func(string)) (_ walq.Position, lost int, err error) {
	r, err := q.Reader(from, walq.ReaderOptions{})
	if err != nil {
		return from, 0, err
	}
	defer r.Close()
	var last walq.Seq
	for {
		m, ok, err := r.TryNext()
		var gap *walq.GapError
		switch {
		case errors.As(err, &gap): // told once, and reading goes on behind it
			lost++
			last = walq.Seq(gap.To - 1)
		case errors.Is(err, walq.ErrCorrupt): // told until Seek
			lost++
			last++
			if err := r.Seek(walq.After(last)); err != nil {
				return from, lost, err
			}
		case err != nil:
			return from, lost, err
		case !ok:
			return walq.After(last), lost, nil
		default:
			do(string(m.Body))
			last = m.Seq
		}
	}
}

func show(body string) { fmt.Println(body) }

func Example() {
	// In a test, t is its *testing.T.
	q := walqtest.New(&t, walq.Options{})
	walqtest.Put(&t, q, "one", "two")
	_, lost, err := consume(t.Context(), q, walq.Oldest, show)
	fmt.Println("lost:", lost, "error:", err)
	// Output:
	// one
	// two
	// lost: 0 error: <nil>
}

// A bit rots under a consumer.
func ExampleFlip() {
	q := walqtest.New(&t, walq.Options{})
	seqs := walqtest.Fill(&t, q, 4)
	walqtest.Flip(&t, q.Path(), seqs[1])

	bodies, err := walqtest.Bodies(&t, q)
	fmt.Println(bodies, errors.Is(err, walq.ErrCorrupt))

	_, lost, err := consume(t.Context(), q, walq.Oldest, show)
	fmt.Println("lost:", lost, "error:", err)
	// Output:
	// [message 1] true
	// message 1
	// message 3
	// message 4
	// lost: 1 error: <nil>
}

// A consumer was away for so long that limits took what it had not read.
func ExampleTrimAll() {
	q := walqtest.New(&t, walq.Options{})
	walqtest.Put(&t, q, "one")
	resume, _, _ := consume(t.Context(), q, walq.Oldest, show)
	walqtest.Put(&t, q, "two", "three")
	walqtest.TrimAll(&t, q)
	walqtest.Put(&t, q, "four")

	_, lost, err := consume(t.Context(), q, resume, show)
	fmt.Println("gaps:", lost, "error:", err)
	// Output:
	// one
	// four
	// gaps: 1 error: <nil>
}

// A consumer acted on a message that was visible and not durable, and the power
// failed. One that must not reads with ReaderOptions.Durable.
func ExamplePowerCut() {
	q := walqtest.New(&t, walq.Options{Durability: walq.SyncNever})
	walqtest.Put(&t, q, "synced")
	if err := q.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	walqtest.Put(&t, q, "not synced")
	resume, _, _ := consume(t.Context(), q, walq.Oldest, show)
	walqtest.PowerCut(&t, q)

	again := walqtest.Open(&t, q.Path(), walq.Options{})
	walqtest.Put(&t, again, "after the restart")
	bodies, err := walqtest.Bodies(&t, again)
	fmt.Printf("%q %v\n", bodies, err)

	// Numbers jumped, so that none is given twice, and who resumes misses nothing.
	_, lost, err := consume(t.Context(), again, resume, show)
	fmt.Println("lost:", lost, "error:", err)
	// Output:
	// synced
	// not synced
	// ["synced" "after the restart"] <nil>
	// after the restart
	// lost: 0 error: <nil>
}

// The disk fails a sync: a producer must notice, and a consumer need not.
func ExamplePoison() {
	q := walqtest.New(&t, walq.Options{})
	walqtest.Put(&t, q, "one")
	walqtest.Poison(&t, q.Path(), "input/output error")

	_, err := q.Append(t.Context(), []byte("two"))
	var why *walq.PoisonError
	fmt.Println(errors.Is(err, walq.ErrPoisoned), errors.As(err, &why) && why.Reason == "input/output error")
	_, _, err = consume(t.Context(), q, walq.Oldest, show)
	fmt.Println("error:", err)
	// Output:
	// true true
	// one
	// error: <nil>
}

// A writer is killed in the middle of an append, and another one before it got to
// know that its message is in: that one will append it again.
func ExampleKillWriter() {
	q := walqtest.New(&t, walq.Options{})
	walqtest.Put(&t, q, "one")
	walqtest.KillWriter(&t, q.Path(), walqtest.Claimed, []byte("never was"))
	walqtest.KillWriter(&t, q.Path(), walqtest.Committed, []byte("two"))
	walqtest.Put(&t, q, "two") // after its restart

	bodies, err := walqtest.Bodies(&t, q)
	fmt.Println(bodies, err)
	// Output:
	// [one two two] <nil>
}

// A consumer is restarted: it goes on where it had saved that it was, and gets again
// what it had done since.
func ExampleOpen() {
	q := walqtest.New(&t, walq.Options{})
	walqtest.Put(&t, q, "one")
	saved, _, _ := consume(t.Context(), q, walq.Oldest, show)
	walqtest.Put(&t, q, "two")
	_, _, _ = consume(t.Context(), q, saved, show) // ended before it saved
	walqtest.Close(&t, q)

	again := walqtest.Open(&t, q.Path(), walq.Options{})
	_, lost, err := consume(t.Context(), again, saved, show)
	fmt.Println("lost:", lost, "error:", err)
	// Output:
	// one
	// two
	// two
	// lost: 0 error: <nil>
}
