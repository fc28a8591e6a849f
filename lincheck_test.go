package walq_test

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/walq/walq"
	"github.com/walq/walq/internal/history"
	"github.com/walq/walq/internal/testx"
)

// mostCalls is how long a history may be for the search of an order.
const mostCalls = 2000

// wantLinear looks for an order that explains a history.
func wantLinear(t *testing.T, logs []history.Log, final history.Final) {
	t.Helper()
	calls := tally(logs, history.Invoked) + tally(logs, history.Got)
	if tally(logs, history.Acked) == 0 || tally(logs, history.Got) == 0 || calls > mostCalls {
		t.Fatalf("%d acknowledged, %d read, %d calls, want some of each and at most %d calls",
			tally(logs, history.Acked), tally(logs, history.Got), calls, mostCalls)
	}
	begun := time.Now()
	if err := history.Linear(logs, final, 2*patience); err != nil {
		t.Error(err)
	}
	t.Logf("%d calls, %d of them never returned; judged in %v", calls,
		tally(logs, history.Invoked)-tally(logs, history.Acked)-tally(logs, history.Refused), time.Since(begun).Round(time.Millisecond))
}

// tally counts the events of a kind.
func tally(logs []history.Log, kind history.Kind) (n int) {
	for _, l := range logs {
		for _, e := range l.Events {
			if e.Kind == kind {
				n++
			}
		}
	}
	return n
}

// lastReading is what is in the queue, which nobody appends to any more.
func lastReading(t *testing.T, dir string) (final history.Final) {
	t.Helper()
	q := open(t, dir, walq.Options{ReadOnly: true}) // one that writes would trim
	defer closeQueue(t, q)
	s, err := q.Stats()
	if err != nil {
		t.Fatal(err)
	}
	final.First = uint64(s.FirstSeq)
	r := reader(t, q, walq.Oldest, walq.ReaderOptions{})
	for _, m := range rest(t, r) {
		final.Messages = append(final.Messages, history.Message{Seq: uint64(m.Seq), Body: history.Label(m.Body)})
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	return final
}

// Handles of one process are participants like those of several; under the race
// detector only these can be looked at.
func TestWhatHandlesOfAProcessSeeHasOneOrder(t *testing.T) {
	random := rand.New(rand.NewPCG(testx.Seed(t), 0))
	for round := range 3 {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			dir, logs := newDir(t), t.TempDir()
			create(t, dir, walq.Options{})
			end := make(chan struct{})
			play := func(name string, most int64) *part {
				log, err := history.Create(filepath.Join(logs, name))
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() {
					if err := log.Close(); err != nil {
						t.Error(err)
					}
				})
				return &part{dir: dir, name: name, log: log, random: rand.New(rand.NewPCG(random.Uint64(), 0)), most: most, end: end}
			}
			var writers, readers sync.WaitGroup
			for i := range 3 {
				w, r := play(fmt.Sprint("w", i), 60), play(fmt.Sprint("r", i), 300)
				writers.Go(func() {
					if err := w.write(t.Context()); err != nil {
						t.Error(err)
					}
				})
				readers.Go(func() {
					if err := r.read(t.Context()); err != nil {
						t.Error(err)
					}
				})
			}
			writers.Wait()
			close(end)
			readers.Wait()
			all, err := history.LoadAll(logs)
			if err != nil {
				t.Fatal(err)
			}
			final := lastReading(t, dir)
			for _, wrong := range history.Check(all, final) {
				t.Error(wrong)
			}
			wantLinear(t, all, final)
		})
	}
}
