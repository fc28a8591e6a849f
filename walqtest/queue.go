package walqtest

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/walq/walq"
)

// smallest is the smallest segment size, with which trimming needs few messages.
const smallest = 64 << 10

// New makes a queue in a temporary directory and opens it; it is closed when the
// test ends, if it was not before. o are the options that the code under test uses;
// if Create is nil the segments are as small as they can be, 64 KiB.
func New(t testing.TB, o walq.Options) *walq.Queue {
	t.Helper()
	if o.Create == nil {
		o.Create = &walq.QueueOptions{SegmentSize: smallest}
	}
	return Open(t, filepath.Join(t.TempDir(), "queue"), o)
}

// Open opens the queue in dir again, as the code under test does after a restart. It
// is closed when the test ends, if it was not before.
func Open(t testing.TB, dir string, o walq.Options) *walq.Queue {
	t.Helper()
	o.AnyFileSystem = true
	q, err := walq.Open(t.Context(), dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		err := q.Close()
		switch {
		case err == nil, errors.Is(err, walq.ErrClosed):
		case errors.Is(err, walq.ErrCorrupt), errors.Is(err, walq.ErrPoisoned):
			t.Log(err) // as the test wanted
		default:
			t.Error(err)
		}
	})
	return q
}

// Close closes the queue now, as an orderly end of the process does.
func Close(t testing.TB, q *walq.Queue) {
	t.Helper()
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
}

// Fill appends n messages, "message 1" to "message n", and returns their numbers.
// They are as durable as the queue's handle makes them.
func Fill(t testing.TB, q *walq.Queue, n int) []walq.Seq {
	t.Helper()
	bodies := make([]string, n)
	for i := range bodies {
		bodies[i] = fmt.Sprintf("message %d", i+1)
	}
	return Put(t, q, bodies...)
}

// Put appends a message for each body and returns their numbers.
func Put[Body ~string | ~[]byte](t testing.TB, q *walq.Queue, bodies ...Body) []walq.Seq {
	t.Helper()
	seqs := make([]walq.Seq, 0, len(bodies))
	for _, b := range bodies {
		seq, err := q.Append(t.Context(), []byte(b))
		if err != nil {
			t.Fatal(err)
		}
		seqs = append(seqs, seq)
	}
	return seqs
}

// Bodies is what a reader gets from the oldest message to the end, or to the error
// at which it stops.
func Bodies(t testing.TB, q *walq.Queue) (bodies []string, err error) {
	t.Helper()
	r, err := q.Reader(walq.Oldest, walq.ReaderOptions{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	for m, err := range r.All(t.Context()) {
		if err != nil {
			return bodies, err
		}
		bodies = append(bodies, string(m.Body))
	}
	return bodies, nil
}

// TrimAll removes every message that is in the queue now, as limits do that are
// reached before a reader came to them. A reader that resumes at one of them gets a
// walq.GapError. One that already stands among them first reads the file to its end
// in which it stands: 64 KiB of messages at most, if New chose their size. Others
// must not append meanwhile. Groups count as such that may lose messages while it runs.
func TrimAll(t testing.TB, q *walq.Queue) {
	t.Helper()
	all, err := q.Groups()
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range all {
		if g.MayLose {
			continue
		}
		if err := q.SetGroupMayLose(g.Name, true); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := q.SetGroupMayLose(g.Name, false); err != nil {
				t.Error(err)
			}
		}()
	}
	s, err := q.Stats()
	if err != nil {
		t.Fatal(err)
	}
	last := s.LastSeq
	for {
		// Room as large as a segment, given back: it leaves no message, and what
		// follows goes to a segment of its own.
		c, err := q.Claim(t.Context(), int(q.MaxMessage()))
		if err != nil {
			t.Fatal(err)
		}
		c.Abort()
		if err := q.Sync(t.Context()); err != nil { // what is not durable stays
			t.Fatal(err)
		}
		if _, err := q.TrimBefore(t.Context(), last+1); err != nil {
			t.Fatal(err)
		}
		if s, err = q.Stats(); err != nil {
			t.Fatal(err)
		}
		if s.FirstSeq > last {
			return
		}
	}
}
