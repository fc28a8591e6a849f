//go:build !race

package walq

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/walq/walq/internal/testx"
)

// Producers are faster than a group that must keep its messages, and its consumers are
// killed all the time: the producers wait, the queue stays within its limit, and each
// message is handed out.
func TestStormOfAFullQueueLosesNothingAndKeepsItsLimit(t *testing.T) {
	needProcesses(t)
	const segment, limit = 64 << 10, 4 * 64 << 10
	count, every := 8_000, 40*time.Millisecond
	if os.Getenv("WALQ_STORM") != "" {
		count, every = 400_000, 200*time.Millisecond
	}
	w := &workshop{
		t: t, dir: filepath.Join(t.TempDir(), "q"), logs: t.TempDir(),
		random: rand.New(rand.NewPCG(testx.Seed(t), 0)), killed: map[string]time.Duration{},
	}
	var producers [3]*Queue
	for i := range producers {
		q, err := Open(t.Context(), w.dir, Options{Create: &QueueOptions{
			SegmentSize: segment, MaxBytes: limit, WhenFull: WaitWhenFull, Durability: SyncNever,
		}})
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := q.Close(); err != nil {
				t.Error(err)
			}
		}()
		producers[i] = q
	}
	g, err := producers[0].Group("a", GroupOptions{MaxDeaths: 3, DeadLetter: w.dir + ".dead"}) // from here on all is kept
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var want []Seq
	var all sync.WaitGroup
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	for _, q := range producers {
		all.Go(func() {
			for i := range count / len(producers) {
				seq, err := q.Append(ctx, fmt.Appendf(nil, "message %d %0500d", i, i))
				if err != nil {
					t.Errorf("an append that waits: %v", err)
					return
				}
				mu.Lock()
				want = append(want, seq)
				mu.Unlock()
			}
		})
	}
	appended := make(chan struct{})
	go func() { all.Wait(); close(appended) }()
	workers := []*proc{w.hire("a"), w.hire("a")}
	waited, done := false, false
	for !done {
		select {
		case <-appended:
			done = lagOf(t, producers[0], "a") == 0
		default:
		}
		time.Sleep(every)
		i := w.random.IntN(len(workers))
		w.kill(workers[i])
		var total int64
		files, err := filepath.Glob(filepath.Join(w.dir, "log", "*.seg"))
		if err != nil {
			t.Fatal(err)
		}
		for range files {
			total += segment
		}
		waited = waited || total >= limit
		if total > limit+segment { // one is removed while another one is made
			t.Errorf("%d bytes on disk, want at most %d", total, limit)
		}
		workers[i] = w.hire("a")
		if ctx.Err() != nil {
			t.Fatal("it takes too long")
		}
	}
	for _, p := range workers {
		p.leave(t)
	}
	if _, err := producers[0].Trim(t.Context()); err != nil {
		t.Error(err)
	}
	if s, err := producers[0].Stats(); err != nil || s.Bytes > limit {
		t.Errorf("%d bytes are left, want at most %d (%v)", s.Bytes, limit, err)
	}
	slices.Sort(want)
	w.judge("a", want)
	wantSoundGroups(t, producers[0])
	if len(w.killed) < 5 || !waited {
		t.Errorf("%d workers died, and that the queue was full is %v: this showed nothing", len(w.killed), waited)
	}
}
