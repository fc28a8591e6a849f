package walq_test

import (
	"testing"

	"github.com/walq/walq"
)

// BenchmarkReplay100 reads the same 100,000 messages of 100 bytes again and again: what a
// caller of the package pays, from memory.
func BenchmarkReplay100(b *testing.B) {
	for _, batch := range []int{1, 16, 1000} {
		q := open(b, newDir(b), walq.Options{Create: &walq.QueueOptions{Durability: walq.SyncNever}})
		bodies := make([][]byte, batch)
		for i := range bodies {
			bodies[i] = make([]byte, 100)
		}
		for n := 0; n < 100_000; n += batch {
			if _, err := q.AppendBatch(b.Context(), bodies...); err != nil {
				b.Fatal(err)
			}
		}
		r := reader(b, q, walq.Oldest, walq.ReaderOptions{})
		replay := func(read func() (ok bool, err error)) func(*testing.B) {
			return func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					ok, err := read()
					if err == nil && !ok {
						err = r.Seek(walq.Oldest)
					}
					if err != nil {
						b.Fatal(err)
					}
				}
			}
		}
		left := 0
		view := func() (bool, error) {
			if left == 0 {
				left = 100_000 / batch * batch
				if err := r.Seek(walq.Oldest); err != nil {
					return false, err
				}
			}
			left--
			return true, r.View(b.Context(), func(walq.Message) error { return nil })
		}
		name := map[int]string{1: "single", 16: "batches-of-16", 1000: "batches-of-1000"}[batch]
		b.Run("TryNext/"+name, replay(func() (bool, error) { _, ok, err := r.TryNext(); return ok, err }))
		b.Run("View/"+name, replay(view))
	}
}
