//go:build !race

package wal

import (
	"bytes"
	"context"
	"testing"
)

// Under the race detector files lie in ordinary memory, which has no blocks.

// aheadOf appends some bytes, lets the keeper's work be done once, and returns how far
// blocks were written beyond the tail, or 0 if none were.
func aheadOf(t *testing.T, durability Durability, synced int64) (ahead, size int64) {
	t.Helper()
	l := open(t, newQueue(t), Options{Create: &Settings{SegmentSize: 8 << 20, Durability: durability}})
	body := bytes.Repeat([]byte("walq"), 1000)
	var last Appended
	for range 5 {
		var err error
		if last, err = l.Append(nil, body); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.WaitAppended(context.Background(), last); err != nil {
		t.Fatal(err)
	}
	l.syncer.spanBytes.Store(synced)
	s, w := tailOf(t, l), watch{rate: 1000}
	l.writeAhead(&w, s, last.End)
	size, err := s.File().Size()
	if err != nil {
		t.Fatal(err)
	}
	for range 5 { // what lies there now is as good as what did
		appendDurable(t, l, string(body))
	}
	if got := len(readAll(t, l)); got != 10 {
		t.Errorf("%d messages are there, want 10", got)
	}
	if w.written == 0 {
		return 0, size
	}
	return w.written.off() - last.End.off(), size
}

func TestBlocksAreWrittenAheadWhereEachSyncIsSmall(t *testing.T) {
	ahead, size := aheadOf(t, SyncAlways, 4096)
	if ahead <= 0 || ahead > minWriteAhead {
		t.Errorf("%d bytes were written ahead of the tail, want some, at most %d", ahead, minWriteAhead)
	}
	if size > 2*minWriteAhead {
		t.Errorf("the file of a small queue has %d bytes", size)
	}
	for _, c := range []struct {
		durability Durability
		synced     int64
	}{{SyncNever, 4096}, {SyncInterval, 4096}, {SyncAlways, writeAheadSpan + 1}} {
		if ahead, _ := aheadOf(t, c.durability, c.synced); ahead != 0 {
			t.Errorf("durability %v, syncs of %d bytes: %d bytes were written ahead, want none", c.durability, c.synced, ahead)
		}
	}
}
