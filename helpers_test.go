package walq_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/walq/walq"
	"github.com/walq/walq/internal/testx"
	"github.com/walq/walq/mmap"
)

// Under the race detector, which is blind in mappings, the queues of this
// process share heap memory.
func TestMain(m *testing.M) {
	mmap.UseHeapFiles(testx.Race)
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Println(err)
			code = 1
		}
		if n := mmap.Mappings(); n != 0 {
			fmt.Printf("%d mappings are left behind\n", n)
			code = 1
		}
	}
	os.Exit(code)
}

// patience is for a machine under load: only what never happens takes longer.
const patience = 20 * time.Second

// smallest is the smallest segment size: queues of it roll soon.
const smallest = 64 << 10

func newDir(t testing.TB) string { return filepath.Join(t.TempDir(), "q") }

// open opens a queue and closes it when the test ends, unless the test did.
func open(t testing.TB, dir string, o walq.Options) *walq.Queue {
	t.Helper()
	q, err := walq.Open(t.Context(), dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := q.Close(); err != nil && !errors.Is(err, walq.ErrClosed) {
			t.Error(err)
		}
	})
	return q
}

// create makes a queue of small segments.
func create(t testing.TB, dir string, o walq.Options) *walq.Queue {
	t.Helper()
	o.Create = &walq.QueueOptions{SegmentSize: smallest}
	return open(t, dir, o)
}

func closeQueue(t testing.TB, q *walq.Queue) {
	t.Helper()
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
}

func appendText(t testing.TB, q *walq.Queue, body string) walq.Seq {
	t.Helper()
	seq, err := q.Append(t.Context(), []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return seq
}

// reader makes a reader that is closed when the test ends.
func reader(t testing.TB, q *walq.Queue, from walq.Position, o walq.ReaderOptions) *walq.Reader {
	t.Helper()
	r, err := q.Reader(from, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil && !errors.Is(err, walq.ErrClosed) {
			t.Error(err)
		}
	})
	return r
}

// rest reads what is left up to the end of the queue.
func rest(t testing.TB, r *walq.Reader) (all []walq.Message) {
	t.Helper()
	for m, err := range r.All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, m.Clone())
	}
	return all
}

// contents is everything in the queue, as "seq body".
func contents(t testing.TB, q *walq.Queue) []string {
	t.Helper()
	r := reader(t, q, walq.Oldest, walq.ReaderOptions{})
	defer func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}()
	return lines(rest(t, r))
}

func lines(all []walq.Message) []string {
	list := make([]string, 0, len(all))
	for _, m := range all {
		list = append(list, fmt.Sprintf("%d %s", m.Seq, m.Body))
	}
	return list
}

func wantLines(t testing.TB, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %.300q, want %.300q", what, got, want)
	}
}

func wantIs(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got error %v, want one that Is %q", what, err, want)
	}
}

// wantSentence fails unless the error is of the kind, names the path, and reads
// as one line.
func wantSentence(t testing.TB, err, kind error, path string) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Errorf("got error %v, want one that Is %q", err, kind)
		return
	}
	if text := err.Error(); !strings.HasPrefix(text, "walq: ") || !strings.Contains(text, path) || strings.Contains(text, "\n") {
		t.Errorf("the error does not read as a sentence with %s: %q", path, text)
	}
}

// within fails if f takes longer than any correct program would.
func within(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatalf("%s: still not done", what)
	}
}

// A noticing context tells when somebody waits for it to end.
type noticing struct {
	context.Context
	once    sync.Once
	waiting chan struct{}
}

func notice(ctx context.Context) *noticing {
	return &noticing{Context: ctx, waiting: make(chan struct{})}
}

func (n *noticing) Done() <-chan struct{} {
	n.once.Do(func() { close(n.waiting) })
	return n.Context.Done()
}

// damage changes a file that nobody has open.
func damage(t testing.TB, path string, f func([]byte)) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before := bytes.Clone(b)
	if f(b); bytes.Equal(before, b) {
		t.Fatal("the damage changed nothing")
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// segmentFile is the path of the i-th segment.
func segmentFile(t testing.TB, dir string, i int) string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(dir, "log", "*.seg"))
	if err != nil || i >= len(all) {
		t.Fatalf("no segment %d among %q (%v)", i, all, err)
	}
	return all[i]
}

// text is a body of n bytes that differs with i.
func text(i, n int) string {
	s := fmt.Sprintf("%d.", i)
	return s + strings.Repeat("x", max(n-len(s), 0))
}
