package walq_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/walq/walq"
	"github.com/walq/walq/internal/testx"
)

// held is what this process holds of a directory: descriptors, mappings, and of
// everything its goroutines.
type held struct{ descriptors, mappings, goroutines int }

func holds(t *testing.T, dir string) (h held) {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && strings.HasPrefix(to, dir) {
			h.descriptors++
		}
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	h.mappings, h.goroutines = strings.Count(string(maps), dir), runtime.NumGoroutine()
	return h
}

func TestAThousandOpensLeaveNothingBehind(t *testing.T) {
	opens := 1000
	if testx.Race {
		opens = 50
	}
	dir := filepath.Join(testx.InMemory(t), "q") // a thousand times the syncs of an orderly end
	closeQueue(t, create(t, dir, walq.Options{Durability: walq.SyncNever}))
	before := holds(t, dir)
	for i := range opens {
		o := walq.Options{Durability: walq.SyncNever, ReadOnly: i%10 == 9}
		if err := openAndUse(t, dir, o, text(i, 500)); err != nil {
			t.Fatalf("open %d: %v", i, err)
		}
	}
	testx.Eventually(t, 20*time.Second, func() bool {
		after := holds(t, dir)
		return after.descriptors == before.descriptors && after.mappings == before.mappings && after.goroutines <= before.goroutines
	}, "no descriptor, mapping or goroutine more than before")
	left, err := os.ReadDir(filepath.Join(dir, "wake"))
	if err != nil || len(left) > 0 {
		t.Errorf("sockets: got %v, %v, want none", left, err)
	}
}

// openAndUse opens the queue, appends, lets a reader fall asleep, and closes.
func openAndUse(t *testing.T, dir string, o walq.Options, body string) error {
	q, err := walq.Open(t.Context(), dir, o)
	if err != nil {
		return err
	}
	r, err := q.Reader(walq.Newest, walq.ReaderOptions{Spin: -1})
	if err != nil {
		return errors.Join(err, q.Close())
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := r.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
		return errors.Join(fmt.Errorf("read %w behind the newest", err), r.Close(), q.Close())
	}
	if !o.ReadOnly {
		_, err = q.Append(t.Context(), []byte(body))
	}
	return errors.Join(err, r.Close(), q.Close())
}
