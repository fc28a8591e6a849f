package wal

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/walq/walq/segment"
)

// manySegments makes a clean queue of n segments, with messages in batches of so many,
// and returns its path, the sequence number behind the last message, and the times of
// the first and the last one.
func manySegments(b *testing.B, n int, size int64, batch int) (path string, end uint64, from, to int64) {
	b.Helper()
	path = b.TempDir() + "/q"
	l, err := Open(context.Background(), path, Options{Create: &Settings{SegmentSize: size, Durability: SyncNever}})
	if err != nil {
		b.Fatal(err)
	}
	from = time.Now().UnixNano()
	parts := make([]Part, batch)
	for i := range parts {
		parts[i].Body = make([]byte, 1000)
	}
	for end < 60 || tailOf(b, l).Ordinal < uint32(n) {
		var a Appended
		if batch == 1 {
			a, err = l.Append(nil, parts[0].Body)
		} else {
			a, err = l.AppendBatch(parts)
		}
		if err != nil {
			b.Fatal(err)
		}
		end = a.Seq + uint64(batch)
	}
	to = time.Now().UnixNano()
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
	return path, end, from, to
}

var segmentCounts = []int{1, 100, 1000}

// What merely exists costs nothing: opening and seeking take as long in a log of
// a thousand segments as in one.
func BenchmarkOpenClose(b *testing.B) {
	for _, n := range segmentCounts {
		b.Run(fmt.Sprint(n, "-segments"), func(b *testing.B) {
			path, _, _, _ := manySegments(b, n, segment.MinSize, 1)
			b.ReportAllocs()
			for b.Loop() {
				l, err := Open(context.Background(), path, Options{})
				if err != nil {
					b.Fatal(err)
				}
				b.StopTimer() // closing syncs
				if err := l.Close(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}

func benchSeek(b *testing.B, seek func(r *Reader, end uint64, from, to int64) error) {
	for _, log := range []struct {
		segments int
		size     int64
		batch    int
	}{{1, segment.MinSize, 1}, {100, segment.MinSize, 1}, {1000, segment.MinSize, 1}, {4, 64 << 20, 1}, {4, 64 << 20, 100}} {
		n := log.segments
		b.Run(fmt.Sprint(n, "-segments-of-", log.size>>10, "K-in-batches-of-", log.batch), func(b *testing.B) {
			path, end, from, to := manySegments(b, n, log.size, log.batch)
			l, err := Open(context.Background(), path, Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			r, err := l.NewReader(false)
			if err != nil {
				b.Fatal(err)
			}
			defer r.Close()
			b.ReportAllocs()
			for b.Loop() {
				if err := seek(r, end, from, to); err != nil {
					b.Fatal(err)
				}
				if _, ok, err := r.Next(); err != nil || !ok {
					b.Fatal(ok, err)
				}
			}
		})
	}
}

func BenchmarkSeekSeq(b *testing.B) {
	benchSeek(b, func(r *Reader, end uint64, _, _ int64) error { return r.SeekSeq(1 + rand.Uint64N(end-1)) })
}

func BenchmarkSeekTime(b *testing.B) {
	benchSeek(b, func(r *Reader, _ uint64, from, to int64) error { return r.SeekTime(from + rand.Int64N(to-from)/2) })
}

func BenchmarkSeekLast(b *testing.B) {
	benchSeek(b, func(r *Reader, _ uint64, _, _ int64) error { return r.SeekLast(10) })
}
