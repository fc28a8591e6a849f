package walq_test

import (
	"fmt"
	"testing"

	"github.com/walq/walq"
)

// BenchmarkReplay reads a whole queue that was opened anew, so that its files are in the
// page cache but not yet mapped: what a caller of the package pays. ns/op is for all
// messages, ns/message what each costs.
func BenchmarkReplay(b *testing.B) {
	for _, size := range []int{100, 1 << 10} {
		for _, batch := range []int{1, 100} {
			dir, n := newDir(b), (1<<27)/(24+size)/batch*batch
			o := walq.Options{Create: &walq.QueueOptions{Durability: walq.SyncNever}}
			q := open(b, dir, o)
			bodies := make([][]byte, batch)
			for i := range bodies {
				bodies[i] = make([]byte, size)
			}
			for range n / batch {
				if _, err := q.AppendBatch(b.Context(), bodies...); err != nil {
					b.Fatal(err)
				}
			}
			if err := q.Close(); err != nil {
				b.Fatal(err)
			}
			for _, way := range []struct {
				name string
				read func(b *testing.B, r *walq.Reader, n int) error
			}{{"ViewBatch", replayByViewBatch}, {"View", replayByView}, {"Next", replayByNext}, {"All", replayByAll}} {
				b.Run(fmt.Sprintf("%s/%dB/batches-of-%d", way.name, size, batch), func(b *testing.B) {
					for b.Loop() {
						b.StopTimer()
						q, err := walq.Open(b.Context(), dir, o)
						if err != nil {
							b.Fatal(err)
						}
						b.StartTimer()
						r, err := q.Reader(walq.Oldest, walq.ReaderOptions{})
						if err != nil {
							b.Fatal(err)
						}
						if err := way.read(b, r, n); err != nil {
							b.Fatal(err)
						}
						b.StopTimer()
						if err := r.Close(); err != nil {
							b.Fatal(err)
						}
						if err := q.Close(); err != nil {
							b.Fatal(err)
						}
						b.StartTimer()
					}
					b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/message")
				})
			}
		}
	}
}

func replayByViewBatch(b *testing.B, r *walq.Reader, n int) error {
	bytes := 0
	for n > 0 {
		shown, err := r.ViewBatch(b.Context(), n, func(m walq.Message) error { bytes += len(m.Body); return nil })
		if err != nil {
			return err
		}
		n -= shown
	}
	return nil
}

func replayByView(b *testing.B, r *walq.Reader, n int) error {
	bytes := 0
	for range n {
		if err := r.View(b.Context(), func(m walq.Message) error { bytes += len(m.Body); return nil }); err != nil {
			return err
		}
	}
	return nil
}

func replayByNext(b *testing.B, r *walq.Reader, n int) error {
	bytes := 0
	for range n {
		m, err := r.Next(b.Context())
		if err != nil {
			return err
		}
		bytes += len(m.Body)
	}
	return nil
}

func replayByAll(b *testing.B, r *walq.Reader, n int) error {
	bytes := 0
	for m, err := range r.All(b.Context()) {
		if err != nil {
			return err
		}
		bytes += len(m.Body)
		n--
	}
	if n != 0 {
		return fmt.Errorf("%d messages are missing", n)
	}
	return nil
}
