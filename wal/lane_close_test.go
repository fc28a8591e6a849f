package wal

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/walq/walq/internal/testx"
	"github.com/walq/walq/segment"
)

// Goroutines of several handles append in the lanes and beside them, in segments that are
// rolled all the time, while others sync and handles are closed under their appenders: what
// was acknowledged is there once, under its number, and each goroutine's in its order.
func TestLanesLoseNothingWhileHandlesAreClosed(t *testing.T) {
	dir := newQueue(t)
	create(t, dir, Options{Durability: SyncNever}) // stays
	all := map[uint64]string{}
	var mu sync.Mutex
	for round := range 6 {
		var handles sync.WaitGroup
		for h := range 2 {
			l, err := Open(t.Context(), dir, Options{Durability: []Durability{SyncNever, SyncInterval}[h], SyncEvery: time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			var appenders sync.WaitGroup
			for g := range 4 {
				appenders.Go(func() {
					got, last := map[uint64]string{}, uint64(0)
					for i := 0; ; i++ {
						size := rand.IntN(200)
						if i%37 == 0 {
							size = maxLaneBody - 1 + rand.IntN(4)
						}
						body := fmt.Sprintf("%d.%d.%d.%d-%s", round, h, g, i, strings.Repeat("x", size))
						var a Appended
						var err error
						if i%11 == 0 {
							a, err = l.AppendBodies([][]byte{[]byte(body)})
						} else {
							a, err = l.Append(nil, []byte(body))
						}
						if errors.Is(err, ErrClosed) {
							break
						}
						if err != nil {
							t.Errorf("append: %v", err)
							break
						}
						if a.Seq <= last {
							t.Errorf("number %d after %d", a.Seq, last)
						}
						last = a.Seq
						got[a.Seq] = body
						if i%97 == 0 {
							if err := l.WaitAppended(t.Context(), a); err != nil && !errors.Is(err, ErrClosed) {
								t.Errorf("wait: %v", err)
							}
						}
					}
					mu.Lock()
					defer mu.Unlock()
					for seq, body := range got {
						if _, ok := all[seq]; ok {
							t.Errorf("number %d was given twice", seq)
						}
						all[seq] = body
					}
				})
			}
			handles.Go(func() {
				time.Sleep(time.Duration(10+rand.IntN(60)) * time.Millisecond)
				if err := l.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
				appenders.Wait()
			})
		}
		handles.Wait()
	}
	l := open(t, dir, Options{})
	got := readAll(t, l)
	wantAll(t, got, all)
	if len(got) != len(all) {
		t.Errorf("%d messages are there, %d were acknowledged", len(got), len(all))
	}
}

// Whoever panics or ends its goroutine in the lane leaves it, and Close does not wait.
func TestWhoEndsInTheLaneLeavesIt(t *testing.T) {
	for name, end := range map[string]func(){"a panic": func() { panic("in the waker") }, "Goexit": runtime.Goexit} {
		l := open(t, newQueue(t), Options{Create: &Settings{SegmentSize: segment.MinSize, Durability: SyncNever}})
		appendText(t, l, "first")
		s := tailOf(t, l)
		l.waker = func(int) { end() }
		if !l.MarkSleeper(WaitMessage) {
			t.Fatal("nobody sleeps")
		}
		gone := make(chan any)
		go func() {
			defer func() { gone <- recover() }()
			_, _ = l.Append(nil, []byte("second"))
		}()
		p := <-gone
		if s.lane.taken() || (name == "a panic") != (p != nil) {
			t.Errorf("%s: taken %v, recovered %v", name, s.lane.taken(), p)
		}
		if end, err := l.end(); err != nil || s.position(s.ownTail().Off) != end {
			t.Errorf("%s: what was committed ends at %v, %v, and the tail is at %d: nobody would sync it", name, end, err, s.ownTail().Off)
		}
		l.waker = nil
		a := appendText(t, l, "third")
		if got := readAll(t, l); got[a.Seq] != "third" || len(got) != 3 {
			t.Errorf("%s: %d messages", name, len(got))
		}
		closed := make(chan error, 1)
		go func() { closed <- l.Close() }()
		testx.Eventually(t, 20*time.Second, func() bool { return len(closed) == 1 }, "Close returns")
		if err := <-closed; err != nil {
			t.Error(err)
		}
	}
}
