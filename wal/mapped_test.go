//go:build !race

// What needs real mappings: under the race detector files are backed by the heap.

package wal

import (
	"os"
	"testing"
	"time"
)

func TestATruncatedFileIsAnErrorAndLeavesNoLockBehind(t *testing.T) {
	dir := newQueue(t)
	l := create(t, dir, Options{})
	for range 30 {
		appendBytes(t, l, 1000)
	}
	_, err := l.AppendFunc(nil, 5000, func([]byte) error { return os.Truncate(segmentFile(t, dir, 0), 8192) })
	if err == nil {
		t.Error("an append into a truncated file succeeded")
	}
	within(t, "Close", func() { err = l.Close() })
	if err == nil {
		t.Error("Close of a queue whose file was truncated succeeded")
	}
	for range 2 {
		within(t, "Open", func() { _, err = Open(t.Context(), dir, Options{}) })
		if err == nil {
			t.Error("opened a queue whose file was truncated")
		}
	}
}

func TestADumpWorksWhileTheQueueIsInUse(t *testing.T) {
	dir := newQueue(t)
	l := open(t, dir, Options{Create: &Settings{SegmentSize: 1 << 24, Durability: SyncNever}})
	quit, done := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-quit:
				done <- nil
				return
			default:
			}
			if _, err := l.Append(nil, make([]byte, 1000)); err != nil {
				done <- err
				return
			}
		}
	}()
	deadline := time.Now().Add(20 * time.Second)
	for before := 0; before < 3 && time.Now().Before(deadline); {
		v := viewOf(segmentFile(t, dir, 0))
		if v.err != nil || len(v.faults) != 0 {
			t.Errorf("got %v, %v", v.err, v.faults)
			break
		}
		if len(v.frames) > 1000 {
			before++
		}
	}
	close(quit)
	if err := <-done; err != nil {
		t.Error(err)
	}
}
