//go:build !race

package wal

import (
	"errors"
	"os"
	"testing"

	"github.com/walq/walq/mmap"
	"github.com/walq/walq/segment"
)

// A file that is cut short within a batch is an error, whether the batch is being verified
// then or shown, and what was shown until then is counted.
func TestAFaultWithinABatchIsAnErrorBehindWhatWasShown(t *testing.T) {
	const n, each = 300, 100
	for _, cutAt := range []int{0, 1, 2, 50} { // so many were shown
		dir := newQueue(t)
		l := create(t, dir, Options{Durability: SyncNever})
		parts := make([]segment.Part, n)
		for i := range parts {
			parts[i].Body = make([]byte, each)
		}
		if _, err := l.AppendBatch(parts); err != nil {
			t.Fatal(err)
		}
		r, err := l.NewReader(false)
		if err != nil {
			t.Fatal(err)
		}
		path, was := segmentFile(t, dir, 0), tailOf(t, l).Size
		cut := func() {
			if err := os.Truncate(path, 16<<10); err != nil {
				t.Fatal(err)
			}
		}
		if cutAt == 0 {
			cut()
		}
		called := 0
		shown, err := r.ViewRun(n, false, func(*Message) (Verdict, error) {
			if called++; called == cutAt {
				cut()
			}
			return More, nil
		})
		if !errors.Is(err, mmap.ErrFault) || shown != called || called == n || called < cutAt {
			t.Errorf("cut after %d: %d of %d are shown, %v", cutAt, shown, called, err)
		}
		r.Close()
		if err := os.Truncate(path, was); err != nil {
			t.Fatal(err)
		}
		closeLog(t, l)
	}
}
