//go:build !race

package walq_test

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/walq/walq"
	"github.com/walq/walq/internal/testx"
	"github.com/walq/walq/mmap"
)

// needMappings skips a test where files are not mapped.
func needMappings(t *testing.T) {
	t.Helper()
	if testx.Race {
		testx.Skip(t, "heap memory does not fault")
	}
}

// truncateAll empties every segment of a queue under those who use it.
func truncateAll(t *testing.T, dir string) {
	t.Helper()
	for _, path := range segments(t, dir) {
		if err := os.Truncate(path, 0); err != nil {
			t.Fatal(err)
		}
	}
}

// wantFault fails unless the error is of a fault in the file, and names it.
func wantFault(t *testing.T, what string, err error, path string) {
	t.Helper()
	if !errors.Is(err, mmap.ErrFault) || !strings.Contains(err.Error(), path) {
		t.Errorf("%s: got error %v, want one that Is %q and names %s", what, err, mmap.ErrFault, path)
	}
}

// leave closes a queue whose files are gone: with an error perhaps, but it closes.
func leave(t *testing.T, q *walq.Queue) {
	t.Helper()
	within(t, "Close", func() {
		if err := q.Close(); err != nil {
			t.Logf("close: %v", err)
		}
	})
}

func TestATruncatedFileInAViewIsAnError(t *testing.T) {
	needMappings(t)
	dir := newDir(t)
	q := create(t, dir, walq.Options{})
	path := segmentFile(t, dir, 0)
	appendText(t, q, text(0, 20_000))
	r := reader(t, q, walq.Oldest, walq.ReaderOptions{})
	err := r.View(t.Context(), func(m walq.Message) error {
		truncateAll(t, dir)
		if bytes.Contains(m.Body, []byte("y")) { // a look at each byte
			t.Error("there is no y in it")
		}
		t.Error("fn went on behind what is gone")
		return nil
	})
	wantFault(t, "View", err, path)
	_, _, err = r.TryNext()
	wantFault(t, "TryNext", err, path)
	leave(t, q)
}

func TestATruncatedFileInAViewBatchIsAnError(t *testing.T) {
	needMappings(t)
	dir := newDir(t)
	q := create(t, dir, walq.Options{})
	path := segmentFile(t, dir, 0)
	for i := range 3 {
		appendText(t, q, text(i, 9_000))
	}
	r := reader(t, q, walq.Oldest, walq.ReaderOptions{})
	n, err := r.ViewBatch(t.Context(), 10, func(m walq.Message) error {
		if m.Seq == 2 {
			truncateAll(t, dir)
			if bytes.Contains(m.Body, []byte("y")) { // a look at each byte
				t.Error("there is no y in it")
			}
			t.Error("fn went on behind what is gone")
		}
		return nil
	})
	wantFault(t, "ViewBatch", err, path)
	if n != 2 {
		t.Errorf("fn was called %d times, want 2", n)
	}
	_, err = r.ViewBatch(t.Context(), 10, func(walq.Message) error { t.Error("shown"); return nil })
	wantFault(t, "the next", err, path)
	leave(t, q)
}

func TestATruncatedFileInAppendFuncIsAnError(t *testing.T) {
	needMappings(t)
	dir := newDir(t)
	q := create(t, dir, walq.Options{})
	path := segmentFile(t, dir, 0)
	_, err := q.AppendFunc(t.Context(), 20_000, func(p []byte) error {
		truncateAll(t, dir)
		clear(p)
		t.Error("fill went on behind what is gone")
		return nil
	})
	wantFault(t, "AppendFunc", err, path)
	_, err = q.Append(t.Context(), []byte("x"))
	wantFault(t, "Append", err, path)
	if err := q.Sync(t.Context()); err == nil {
		t.Error("Sync: no error")
	}
	leave(t, q)
}

// A control file that is gone stops everything by an error, and nothing hangs.
func TestATruncatedControlFileIsAnErrorInEveryCall(t *testing.T) {
	needMappings(t)
	dir := newDir(t)
	q := create(t, dir, walq.Options{})
	appendText(t, q, "x")
	r := reader(t, q, walq.Newest, walq.ReaderOptions{Durable: true})
	if err := os.Truncate(dir+"/walq.ctl", 0); err != nil {
		t.Fatal(err)
	}
	within(t, "the calls", func() {
		for name, call := range map[string]func() error{
			"Append":  func() error { _, err := q.Append(t.Context(), []byte("x")); return err },
			"Claim":   func() error { _, err := q.Claim(t.Context(), 10); return err },
			"Sync":    func() error { return q.Sync(t.Context()) },
			"Stats":   func() error { _, err := q.Stats(); return err },
			"Trim":    func() error { _, err := q.Trim(t.Context()); return err },
			"Limits":  func() error { return q.SetLimits(t.Context(), 1<<20, 0) },
			"TryNext": func() error { _, _, err := r.TryNext(); return err },
			"Next":    func() error { _, err := r.Next(t.Context()); return err },
			"Seek":    func() error { return r.Seek(walq.Oldest) },
		} {
			wantFault(t, name, call(), "walq.ctl")
		}
	})
	leave(t, q)
}
