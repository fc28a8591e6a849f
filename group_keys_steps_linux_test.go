//go:build walqsteps && !race

package walq

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/walq/walq/internal/step"
	"github.com/walq/walq/internal/testx"
)

// keyedQueue is a queue with two messages of one key, a1 and a2, and two consumers of a group
// that is ordered by key, in handles of their own. The first has a1.
func keyedQueue(t *testing.T) (g, other *Group, a1 *Delivery) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "q")
	for _, group := range []**Group{&g, &other} {
		q, err := Open(t.Context(), dir, Options{Create: &QueueOptions{SegmentSize: 64 << 10}, Durability: SyncNever})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := q.Close(); err != nil {
				t.Error(err)
			}
		})
		if *group, err = q.Group("g", GroupOptions{OrderedByKey: true, Lease: time.Hour}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 2 {
		if _, err := g.q.Publish(t.Context(), Draft{Key: []byte("a"), Body: fmt.Append(nil, "a", i+1)}); err != nil {
			t.Fatal(err)
		}
	}
	a1, err := g.TryReceive(t.Context())
	if err != nil || a1 == nil || string(a1.Body) != "a1" {
		t.Fatalf("got %v, %v", a1, err)
	}
	return g, other, a1
}

// What is finished between the look and the mark of who would wait for it is seen by the
// look behind the mark: who finished it saw no mark, and told nobody.
func TestAKeyThatIsFreedBeforeItsMarkIsSeenByTheNextLook(t *testing.T) {
	_, other, a1 := keyedQueue(t)
	passed := 0
	defer step.Set(step.KeyMarkBefore, func() error {
		if passed++; passed == 1 {
			if err := a1.Ack(); err != nil {
				t.Error(err)
			}
		}
		return nil
	})()
	if d, err := other.try(t.Context(), false); err != nil || d == nil || string(d.Body) != "a2" || passed == 0 {
		t.Errorf("got %v, %v after %d marks, want a2 at the first look", d, err, passed)
	}
}

// Who frees a key wakes who sleeps until then.
func TestWhoFreesAKeyWakesWhoSleepsForIt(t *testing.T) {
	_, other, a1 := keyedQueue(t)
	asleep, goOn := make(chan struct{}), make(chan struct{})
	passed, wakes := false, 0
	defer step.Set(step.SleepLooked, func() error {
		if !passed {
			passed = true
			close(asleep)
			<-goOn
		}
		return nil
	})()
	got := make(chan string, 1)
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	go func() {
		d, err := other.Receive(ctx)
		if err != nil {
			got <- err.Error()
			return
		}
		got <- string(d.Body)
	}()
	<-asleep // it has looked for the last time
	unset := step.Set(step.WakeSent, func() error { wakes++; return nil })
	if err := a1.Ack(); err != nil {
		t.Error(err)
	}
	unset()
	close(goOn)
	if body := <-got; body != "a2" || wakes == 0 {
		t.Errorf("got %q, %d were woken, want a2 and one", body, wakes)
	}
}

// A worker is killed at the steps at which a key is waited for, and freed: the other one
// goes on with the next message of the key.
func TestAWorkerThatDiesWhereAKeyIsFreedHoldsNobodyUp(t *testing.T) {
	needProcesses(t)
	for _, id := range []step.ID{step.KeyMarkBefore, step.KeyMarked, step.GroupFinished, step.KeyFreed, step.GroupClaimed} {
		t.Run(id.String(), func(t *testing.T) {
			t.Parallel()
			w, q := newWorkshop(t)
			keys := map[Seq]string{}
			more := func(n int) {
				for i := range n {
					seq, err := q.Publish(t.Context(), Draft{Key: []byte("a"), Body: fmt.Append(nil, []string{"plain", "again"}[i%2], i)})
					if err != nil {
						t.Fatal(err)
					}
					keys[seq] = "a"
				}
			}
			more(40)
			env := []string{"WALQ_TEST_BY_KEY=1", fmt.Sprintf("WALQ_STEP=%v:3=kill", id)}
			victims := []*proc{w.hire("a", env...), w.hire("a", env...)}
			// Which of the two comes to the step depends on who has to wait.
			testx.Eventually(t, patienceForWorkers, func() bool {
				_, a := victims[0].look(t)
				_, b := victims[1].look(t)
				if !a && !b && lagOf(t, q, "a") == 0 {
					more(40)
				}
				return a || b
			}, "a worker dies at the step")
			for _, p := range victims {
				w.kill(p)
			}
			wantSoundGroups(t, q)
			other := w.hire("a", "WALQ_TEST_BY_KEY=1")
			testx.Eventually(t, patienceForWorkers, func() bool { return lagOf(t, q, "a") == 0 }, "another one finishes all")
			other.leave(t)
			wantSoundGroups(t, q)
			got, acked := w.account("a")
			for seq := range keys {
				if len(got[seq]) == 0 || acked[seq] > 1 {
					t.Errorf("message %d was handed out %d times and finished %d times", seq, len(got[seq]), acked[seq])
				}
			}
			w.judgeKeys(got, keys)
		})
	}
}
