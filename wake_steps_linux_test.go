//go:build walqsteps && !race

package walq

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/walq/walq/internal/step"
	"github.com/walq/walq/internal/testx"
	"github.com/walq/walq/wal"
)

// A ward is a queue with processes that sleep in it, and a handle of the test's own
// that neither sleeps nor dies.
type ward struct {
	t       *testing.T
	dir     string
	q       *Queue
	own     int                // messages that the test itself appended
	readers map[bool]*Reader   // of the test, by whether durable
	inLog   [2]map[string]int  // what those have read: the highest number of each sender
	healthy map[*proc]struct{} // sleepers that nothing happens to
	durable map[*proc]bool     // those that read durable messages
}

func newWard(t *testing.T) *ward {
	t.Helper()
	w := &ward{t: t, dir: filepath.Join(t.TempDir(), "q"), healthy: map[*proc]struct{}{}, durable: map[*proc]bool{}}
	q, err := Open(t.Context(), w.dir, Options{Create: &QueueOptions{SegmentSize: 64 << 10}})
	if err != nil {
		t.Fatal(err)
	}
	w.q, w.readers = q, map[bool]*Reader{}
	for i, durable := range []bool{false, true} {
		if w.readers[durable], err = q.Reader(Oldest, ReaderOptions{Durable: durable}); err != nil {
			t.Fatal(err)
		}
		w.inLog[i] = map[string]int{}
	}
	t.Cleanup(func() {
		for _, r := range w.readers {
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		}
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// sleeper starts a process that sleeps, and waits until it is in the queue.
func (w *ward) sleeper(name string, durable bool, env ...string) *proc {
	w.t.Helper()
	if durable {
		env = append(env, "WALQ_TEST_DURABLE=1")
	}
	p := startProc(w.t, "sleeper", name, w.dir, env...)
	w.durable[p] = durable
	if !p.ready(w.t) {
		w.t.Fatalf("%s died before it was in the queue: %s", name, &p.stderr)
	}
	return p
}

// commit appends a message of the test itself, durable.
func (w *ward) commit() {
	w.t.Helper()
	w.own++
	ctx, cancel := context.WithTimeout(w.t.Context(), bound)
	defer cancel()
	if _, err := w.q.Append(ctx, fmt.Appendf(nil, "test %d %d", w.own, monotonic())); err != nil {
		w.t.Fatal(err)
	}
}

// sent is the highest number of a sender's messages that a reader can see.
func (w *ward) sent(who string, durable bool) int {
	w.t.Helper()
	i := 0
	if durable {
		i = 1
	}
	for m, err := range w.readers[durable].All(w.t.Context()) {
		if err != nil {
			w.t.Fatal(err)
		}
		var from string
		var n int
		if _, err := fmt.Sscan(string(m.Body), &from, &n); err != nil {
			w.t.Fatalf("message %d: %q", m.Seq, m.Body)
		}
		w.inLog[i][from] = n
	}
	return w.inLog[i][who]
}

// allSee wants every healthy sleeper to get what it can of a sender, within the
// bound, with nobody committing anything meanwhile.
func (w *ward) allSee(who string) {
	w.t.Helper()
	for p := range w.healthy {
		if n := w.sent(who, w.durable[p]); !p.sees(w.t, who, n) {
			w.t.Fatalf("%s died", p.name)
		}
	}
}

// runInto lets a committer append until it is stopped or killed at its step.
func (w *ward) runInto(victim *proc) {
	w.t.Helper()
	for n := 1; n <= 1000; n++ {
		if !victim.tell(n) {
			break
		}
		done := false
		testx.Eventually(w.t, bound, func() bool {
			select {
			case line, ok := <-victim.lines:
				done = ok
				if ok && line != fmt.Sprint("done ", n) {
					w.t.Fatalf("%s: got %q", victim.name, line)
				}
				return true
			default:
				stopped, dead := victim.look(w.t)
				return stopped || dead
			}
		}, victim.name+" neither commits nor comes to its step")
		if !done {
			return
		}
		w.allSee(victim.name) // and go to sleep, so that there is somebody to wake
	}
	w.t.Fatalf("%s never came to its step", victim.name)
}

// wakeCases are the steps of waking, each with the role that passes it. The second
// passage is, where there are two, for the reason of those who read what is durable.
var wakeCases = []struct {
	role    string
	id      step.ID
	passage int
}{
	{"committer", step.CommitAfter, 1},
	{"committer", step.WakeSummaryCleared, 1},
	{"committer", step.WakeSummaryCleared, 2},
	{"committer", step.WakeLeafTaken, 1},
	{"committer", step.WakeLeafTaken, 2},
	{"committer", step.WakeSent, 1},
	{"committer", step.WakeSent, 2},
	{"sleeper", step.SocketUnlinked, 1},
	{"sleeper", step.SocketBound, 1},
	{"sleeper", step.SocketReady, 1},
	{"sleeper", step.SleepLeafMarked, 1},
	{"sleeper", step.SleepMarked, 1},
	{"sleeper", step.SleepMarked, 2},
	{"sleeper", step.SleepLooked, 1},
	{"sleeper", step.SocketClosed, 1},
}

// Whoever dies or stops between two steps of waking and of falling asleep costs
// the others one sleep at most; who goes on after a stop sleeps and wakes as before,
// and who takes the place of a dead one does so too.
func TestWhoWakesOrFallsAsleepMayDieOrStopAtAnyStep(t *testing.T) {
	needProcesses(t)
	for _, action := range []string{"kill", "stop"} {
		t.Run(action, func(t *testing.T) {
			t.Parallel() // it is mostly sleep
			w := newWard(t)
			for i := range 3 {
				w.healthy[w.sleeper(fmt.Sprint("healthy", i), i == 2)] = struct{}{}
			}
			for i, c := range wakeCases {
				before := time.Now()
				at := fmt.Sprintf("%v:%d", c.id, c.passage)
				env := fmt.Sprintf("WALQ_STEP=%s=%s", at, action)
				if name := fmt.Sprint("victim", i); c.role == "committer" {
					w.committerComesTo(name, env, action)
				} else {
					w.sleeperComesTo(name, env, action, c.id)
				}
				if t.Failed() {
					t.Fatalf("%s of a %s at %s", action, c.role, at)
				}
				t.Logf("%s of a %s at %s: %v", action, c.role, at, time.Since(before).Round(time.Millisecond))
			}
			w.end()
		})
	}
}

// end lets everybody leave and wants the queue tidy and sound.
func (w *ward) end() {
	w.t.Helper()
	for p := range w.healthy {
		w.t.Logf("%s: slept %d times, waited %v at most, %d times for more than half a sleep", p.name, p.sleeps, p.worst, p.late)
		p.leave(w.t)
	}
	if sockets, err := os.ReadDir(filepath.Join(w.dir, "wake")); err != nil || len(sockets) > 0 {
		w.t.Errorf("sockets %v, %v, want none", sockets, err)
	}
	rep, err := wal.Verify(w.t.Context(), w.dir, nil)
	if err != nil || len(rep.Faults) > 0 {
		w.t.Errorf("verify: %v, %v", rep.Faults, err)
	}
}

func (w *ward) committerComesTo(name, env, action string) {
	w.t.Helper()
	victim := startProc(w.t, "committer", name, w.dir, "WALQ_TEST_DURABLE=1", env)
	if !victim.ready(w.t) {
		w.t.Fatalf("%s died before it was in the queue: %s", name, &victim.stderr)
	}
	w.runInto(victim)
	w.allSee(name) // woken by nobody, perhaps
	w.commit()
	w.allSee("test")
	if action == "stop" {
		w.resume(victim)
		if line, ok := victim.line(w.t); !ok || !strings.HasPrefix(line, "done ") {
			w.t.Errorf("%s went on to %q", name, line)
		}
		if !victim.commits(w.t, 2000) {
			w.t.Errorf("%s died", name)
		}
		w.allSee(name)
		victim.leave(w.t)
	}
	victim.kill()
}

func (w *ward) sleeperComesTo(name, env, action string, at step.ID) {
	w.t.Helper()
	victim := w.sleeper(name, false, env)
	if at == step.SocketClosed {
		w.commit()
		victim.sees(w.t, "test", w.own)
		asleepProc(w.t, victim)
		if err := victim.in.Close(); err != nil {
			w.t.Fatal(err)
		}
	}
	testx.Eventually(w.t, bound, func() bool {
		stopped, dead := victim.look(w.t)
		return stopped && action == "stop" || dead && action == "kill"
	}, name+" does not come to its step")
	for range 3 { // by the second one its bit is taken and its socket known
		w.commit()
		w.allSee("test")
	}
	if action == "stop" {
		w.resume(victim)
		if at != step.SocketClosed {
			if !victim.sees(w.t, "test", w.own) {
				w.t.Errorf("%s died", name)
			}
			w.commit()
			if !victim.sees(w.t, "test", w.own) {
				w.t.Errorf("%s died", name)
			}
		}
		victim.leave(w.t)
	}
	victim.kill()
	next := w.sleeper(name+"-heir", false)
	asleepProc(w.t, next)
	w.commit()
	if !next.sees(w.t, "test", w.own) {
		w.t.Errorf("%s died", next.name)
	}
	w.allSee("test")
	next.leave(w.t)
}

func (w *ward) resume(p *proc) {
	w.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		w.t.Fatal(err)
	}
}
