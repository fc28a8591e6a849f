//go:build !race

package wal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/walq/walq/internal/testx"
	"github.com/walq/walq/mmap"
	"github.com/walq/walq/segment"
)

// Under the race detector files lie in ordinary memory, where nothing faults.

// doomed is a new log that is to lose its file: there is nothing in it to be closed.
func doomed(t *testing.T, durability Durability) *Log {
	t.Helper()
	l, err := Open(t.Context(), newQueue(t), Options{Create: &Settings{SegmentSize: 16 << 20, Durability: durability}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		l.keeper.stop()
		if err := errors.Join(l.dropPrepared(), l.abandon()); err != nil {
			t.Error(err)
		}
	})
	return l
}

// cutShort takes all of the tail's file away, as an outsider may.
func cutShort(t *testing.T, l *Log) {
	t.Helper()
	if err := os.Truncate(tailOf(t, l).Path(), 0); err != nil {
		t.Fatal(err)
	}
}

// appendMuch appends so much at once that pages are to be made ready.
func appendMuch(t *testing.T, l *Log) {
	t.Helper()
	for range 200 {
		if _, err := l.Append(nil, make([]byte, 4<<10)); err != nil {
			t.Fatal(err)
		}
	}
}

// A keeper that cannot make pages ready does not try again without a pause.
func TestAKeeperThatMeetsAFaultIsNotBehind(t *testing.T) {
	l, w := doomed(t, SyncNever), watch{}
	l.keeper.start.Do(func() { close(l.keeper.gone) }) // the test is the keeper
	appendText(t, l, "first")
	if _, err := l.tickGuarded(&w); err != nil {
		t.Fatal(err)
	}
	appendMuch(t, l)
	cutShort(t, l)
	w.pace.since = time.Now().Add(time.Hour) // the tick is never over, however slow this test is
	err := l.guarded(func() error { _, err := l.tickGuarded(&w); return err })
	if !errors.Is(err, mmap.ErrFault) {
		t.Fatalf("got %v, want a fault", err)
	}
	if w.behind {
		t.Error("it would try again at once, and for ever")
	}
}

// A file that an outsider cut short keeps nobody awake.
func TestAKeeperThatMeetsFaultsComesToRest(t *testing.T) {
	for _, durability := range []Durability{SyncAlways, SyncInterval, SyncNever} {
		t.Run(fmt.Sprint("durability ", durability), func(t *testing.T) {
			l := doomed(t, durability)
			appendMuch(t, l)
			cutShort(t, l)
			testx.Eventually(t, 10*time.Second, func() bool { return !l.keeper.awake.Load() }, "the keeper rests")
			if l.keeper.havePrepared() {
				t.Error("at rest the next segment is still held ready")
			}
		})
	}
}

// A keeper that meets a fault while it looks at what was retired forgets none of it: Close
// waits for those in their lanes, and gives them back.
func TestAFaultForgetsNoRetiredSegment(t *testing.T) {
	dir := newQueue(t)
	l := open(t, dir, Options{Create: &Settings{SegmentSize: segment.MinSize, Durability: SyncNever}})
	l.keeper.start.Do(func() { close(l.keeper.gone) })
	fillSegments(t, l, 3)
	had := len(l.keeper.retired)
	path := filepath.Join(dir, controlName)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	w := watch{}
	err = l.guarded(func() error { l.releaseRetired(&w); return nil })
	if werr := os.WriteFile(path, content, 0o600); werr != nil {
		t.Fatal(werr)
	}
	if !errors.Is(err, mmap.ErrFault) {
		t.Errorf("got %v, want a fault", err)
	}
	if n := len(l.keeper.retired); n != had || had == 0 {
		t.Errorf("%d retired segments are known, want %d", n, had)
	}
	closeLog(t, l)
}
