//go:build !race

package walq_test

import (
	"testing"

	"github.com/walq/walq"
)

// Appending and reading allocate nothing, but for what a run of readers grows to.
func TestNothingIsAllocatedForAMessage(t *testing.T) {
	ctx := t.Context()
	q, err := walq.Open(ctx, t.TempDir()+"/q", walq.Options{Create: &walq.QueueOptions{Durability: walq.SyncNever}})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	r, err := q.Reader(walq.Oldest, walq.ReaderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	body, seen := make([]byte, 100), 0
	batch := [][]byte{body, body[:50], nil}
	count := func(m walq.Message) error { seen += len(m.Body); return nil }
	for name, f := range map[string]func() error{
		"Append and Next": func() error {
			if _, err := q.Append(ctx, body); err != nil {
				return err
			}
			_, err := r.Next(ctx)
			return err
		},
		"AppendBatch and Next": func() (err error) {
			if _, err = q.AppendBatch(ctx, batch...); err != nil {
				return err
			}
			for range batch {
				if _, err = r.Next(ctx); err != nil {
					return err
				}
			}
			return nil
		},
		"Append and View": func() error {
			if _, err := q.Append(ctx, body); err != nil {
				return err
			}
			return r.View(ctx, count)
		},
	} {
		if n := testing.AllocsPerRun(1000, func() {
			if err := f(); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations, want 0", name, n)
		}
	}
	if seen != 1001*len(body) {
		t.Errorf("View showed %d bytes, want %d", seen, 1001*len(body))
	}
}
