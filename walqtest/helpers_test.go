package walqtest_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/walq/walq"
	"github.com/walq/walq/mmap"
)

// t stands in the examples for the *testing.T of a test.
var t stage

// A stage is a testing.TB for examples, which have none.
type stage struct {
	testing.TB // nil: what is not below must not be called
	dirs       []string
	cleanups   []func()
	failed     bool
}

func (s *stage) Helper()                  {}
func (s *stage) Context() context.Context { return context.Background() }
func (s *stage) Cleanup(f func())         { s.cleanups = append(s.cleanups, f) }
func (s *stage) Log(args ...any)          {}

func (s *stage) Error(args ...any) {
	s.failed = true
	fmt.Fprintln(os.Stderr, args...)
}

func (s *stage) Fatal(args ...any) { panic(fmt.Sprint(args...)) }

func (s *stage) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

func (s *stage) TempDir() string {
	dir, err := os.MkdirTemp("", "walqtest")
	if err != nil {
		s.Fatal(err)
	}
	s.dirs = append(s.dirs, dir)
	return dir
}

// leave cleans up behind the examples.
func (s *stage) leave() {
	for _, f := range slices.Backward(s.cleanups) {
		f()
	}
	for _, dir := range s.dirs {
		if err := os.RemoveAll(dir); err != nil {
			s.Error(err)
		}
	}
}

func TestMain(m *testing.M) {
	code := m.Run()
	if t.leave(); t.failed {
		code = 1
	}
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

// next is what a reader gets next, without waiting for ever.
func next(t *testing.T, r *walq.Reader) (walq.Message, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return r.Next(ctx)
}

// wantNext fails unless the reader gets the body next.
func wantNext(t *testing.T, r *walq.Reader, body string) walq.Message {
	t.Helper()
	m, err := next(t, r)
	if err != nil || string(m.Body) != body {
		t.Fatalf("got %q and error %v, want %q", m.Body, err, body)
	}
	return m
}

// wantBodies fails unless these, and no others, can be read.
func wantBodies(t *testing.T, got []string, err error, want ...string) {
	t.Helper()
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %.300q and error %v, want %.300q", got, err, want)
	}
}

// newReader reads from the oldest message on.
func newReader(t *testing.T, q *walq.Queue) *walq.Reader {
	t.Helper()
	r, err := q.Reader(walq.Oldest, walq.ReaderOptions{})
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
