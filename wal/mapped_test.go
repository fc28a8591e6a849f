//go:build !race

// What needs real mappings: under the race detector files are backed by the heap.

package wal

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/walq/walq/mmap"
	"github.com/walq/walq/segment"
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

// A reader that copies several messages at once meets the fault at a later one: what
// was before it comes first, then the fault, at each call.
func TestAFaultWhileCopyingAheadHandsOutWhatWasBeforeIt(t *testing.T) {
	for _, batch := range []bool{false, true} {
		t.Run(fmt.Sprint("batch ", batch), func(t *testing.T) {
			dir := newQueue(t)
			l := create(t, dir, Options{})
			bodies := [][]byte{[]byte("first"), bytes.Repeat([]byte("second"), 1000), bytes.Repeat([]byte("third"), 2000)}
			if batch {
				var parts []segment.Part
				for _, b := range bodies {
					parts = append(parts, segment.Part{Body: b})
				}
				if _, err := l.AppendBatch(parts); err != nil {
					t.Fatal(err)
				}
			} else {
				for _, b := range bodies {
					if _, err := l.Append(nil, b); err != nil {
						t.Fatal(err)
					}
				}
			}
			r, err := l.NewReader(false)
			if err != nil {
				t.Fatal(err)
			}
			for i, b := range bodies {
				m, ok, err := r.Next()
				if i == 0 {
					if err := os.Truncate(segmentFile(t, dir, 0), 16<<10); err != nil { // within the third
						t.Fatal(err)
					}
				}
				if i < 2 {
					if err != nil || !ok || !bytes.Equal(m.Body, b) {
						t.Fatalf("message %d: got %.20q, %v, %v, want %.20q", i, m.Body, ok, err, b)
					}
					continue
				}
				for range 3 {
					var fault *mmap.FaultError
					if m, ok, err := r.Next(); ok || !errors.As(err, &fault) {
						t.Errorf("behind the end of the file: got %.20q, %v, %v, want a FaultError", m.Body, ok, err)
					}
				}
			}
			r.Close()
			if err := l.Close(); err == nil {
				t.Error("Close of a queue whose file was truncated succeeded")
			}
		})
	}
}

// The file may also go away between the look at the checksum and the copy.
func TestAFaultAtAnyMomentOfCopyingAheadHandsNothingBadOut(t *testing.T) {
	big := bytes.Repeat([]byte("a big message. "), 200_000)
	before := mmap.Mappings()
	for round := range 60 {
		dir := newQueue(t)
		l := open(t, dir, Options{Create: &Settings{SegmentSize: 8 << 20, Durability: SyncNever}})
		for _, b := range [][]byte{[]byte("first"), []byte("second"), big} {
			if _, err := l.Append(nil, b); err != nil {
				t.Fatal(err)
			}
		}
		r, err := l.NewReader(false)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok, err := r.Next(); !ok || err != nil {
			t.Fatal(ok, err)
		}
		done := make(chan error)
		go func() {
			for end := time.Now().Add(time.Duration(round) * 50 * time.Microsecond); time.Now().Before(end); {
			}
			done <- os.Truncate(segmentFile(t, dir, 0), 64<<10)
		}()
		if m, ok, err := r.Next(); !ok || err != nil || string(m.Body) != "second" {
			t.Fatalf("got %q, %v, %v", m.Body, ok, err)
		}
		m, ok, err := r.Next()
		if terr := <-done; terr != nil {
			t.Fatal(terr)
		}
		var fault *mmap.FaultError
		switch {
		case ok && bytes.Equal(m.Body, big):
		case !ok && errors.As(err, &fault):
			if _, ok, err := r.Next(); ok || !errors.As(err, &fault) {
				t.Errorf("round %d: after the fault: got %v, %v, want it again", round, ok, err)
			}
		default:
			t.Errorf("round %d: got %.20q, %v, %v", round, m.Body, ok, err)
		}
		r.Close()
		l.Close() // whatever it says of the file
	}
	if n := mmap.Mappings(); n > before {
		t.Errorf("%d mappings are left behind", n-before)
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
