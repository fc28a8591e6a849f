package wal

import (
	"context"
	"testing"
)

func benchLog(b *testing.B, d Durability) *Log {
	b.Helper()
	l, err := Open(context.Background(), b.TempDir()+"/q", Options{Create: &Settings{SegmentSize: 64 << 20, Durability: d}})
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

func BenchmarkAppend100(b *testing.B) {
	l := benchLog(b, SyncNever)
	body := make([]byte, 100)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := l.Append(nil, body); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkNext100(b *testing.B) {
	l := benchLog(b, SyncNever)
	body := make([]byte, 100)
	for range 1_000_000 {
		if _, err := l.Append(nil, body); err != nil {
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
		_, ok, err := r.Next()
		if err != nil {
			b.Fatal(err)
		}
		if !ok {
			if err := r.SeekOldest(); err != nil {
				b.Fatal(err)
			}
		}
	}
}
