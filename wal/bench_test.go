package wal

import (
	"context"
	"testing"

	"github.com/walq/walq/segment"
)

func benchLog(b *testing.B, d Durability, size int64) *Log {
	b.Helper()
	l, err := Open(context.Background(), b.TempDir()+"/q", Options{Create: &Settings{SegmentSize: size, Durability: d}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := l.Close(); err != nil {
			b.Error(err)
		}
	})
	return l
}

// BenchmarkAppend100 appends from the beginning of a new log on: pages are made as it goes.
func BenchmarkAppend100(b *testing.B) {
	l := benchLog(b, SyncNever, 64<<20)
	body := make([]byte, 100)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := l.Append(nil, body); err != nil {
			b.Fatal(err)
		}
	}
}

// prepared is a log whose only segment is in memory: what an append costs by itself.
// -benchtime must be a number of messages that fits it, 7000000x.
func prepared(b *testing.B) *Log {
	b.Helper()
	l := benchLog(b, SyncNever, segment.MaxSize)
	if _, err := l.Append(nil, nil); err != nil {
		b.Fatal(err)
	}
	s := l.tail.Load()
	if err := s.Grow(s.Size); err != nil {
		b.Fatal(err)
	}
	s.Region().Touch(0, s.Size)
	b.ReportAllocs()
	b.ResetTimer()
	return l
}

func BenchmarkAppendPrepared100(b *testing.B) {
	l, body := prepared(b), make([]byte, 100)
	for range b.N {
		if _, err := l.Append(nil, body); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
}

func BenchmarkAppendPreparedBatch16(b *testing.B)   { benchAppendBatch(b, 16) }
func BenchmarkAppendPreparedBatch1000(b *testing.B) { benchAppendBatch(b, 1000) }

func benchAppendBatch(b *testing.B, batch int) {
	l, bodies := prepared(b), make([][]byte, batch)
	for i := range bodies {
		bodies[i] = make([]byte, 100)
	}
	for n := 0; n < b.N; n += batch {
		if _, err := l.AppendBodies(bodies); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
}

// BenchmarkAppendPrepared1K needs -benchtime of 900000x at most.
func BenchmarkAppendPrepared1K(b *testing.B) {
	l, body := prepared(b), make([]byte, 1<<10)
	for range b.N {
		if _, err := l.Append(nil, body); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
}

// benchRead reads the same messages again and again. Few fit a processor's cache,
// many do not.
func benchRead(b *testing.B, messages, batch int, read func(*Reader) (bool, error)) {
	l := benchLog(b, SyncNever, 64<<20)
	parts := make([]Part, batch)
	for i := range parts {
		parts[i].Body = make([]byte, 100)
	}
	for n := 0; n < messages; n += batch {
		var err error
		if batch == 1 {
			_, err = l.Append(nil, parts[0].Body)
		} else {
			_, err = l.AppendBatch(parts)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	r, err := l.NewReader(false)
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	b.ReportAllocs()
	for b.Loop() {
		ok, err := read(r)
		if err == nil && !ok {
			err = r.SeekOldest()
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRead100(b *testing.B) {
	next := func(r *Reader) (bool, error) { _, ok, err := r.Next(); return ok, err }
	view := func(r *Reader) (bool, error) { return r.View(func(Message) error { return nil }) }
	for name, read := range map[string]func(*Reader) (bool, error){"Next": next, "View": view} {
		b.Run(name+"/in-cache", func(b *testing.B) { benchRead(b, 20_000, 1, read) })
		b.Run(name+"/1M", func(b *testing.B) { benchRead(b, 1_000_000, 1, read) })
		b.Run(name+"/1M-batches-of-1000", func(b *testing.B) { benchRead(b, 1_000_000, 1000, read) })
	}
}
