//go:build !race

package walq

import (
	"fmt"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/walq/walq/internal/testx"
)

// Processes share the work so that none starves, and one that never comes to an end
// with its message holds up that message only, until it dies.
func TestASlowWorkerHoldsUpItsOwnMessageOnly(t *testing.T) {
	needProcesses(t)
	const count, quick = 2000, 3
	w, q := newWorkshop(t)
	var want []Seq
	put := func(n int) {
		for range n {
			seq, err := q.Append(t.Context(), []byte("message"))
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, seq)
		}
	}
	put(1)
	slow := w.hire("a", "WALQ_TEST_WORK=1h")
	testx.Eventually(t, patienceForWorkers, func() bool {
		got, _ := w.account("a")
		return len(got) == 1
	}, "the slow worker has the first message")
	var workers []*proc
	for range quick {
		p := w.hire("a", "WALQ_TEST_WORK=1ms")
		if !p.ready(t) {
			t.Fatal("a worker is not ready")
		}
		workers = append(workers, p)
	}
	put(count - 1)
	testx.Eventually(t, patienceForWorkers, func() bool { return lagOf(t, q, "a") == 1 }, "the others finish all but its message")
	w.kill(slow)
	testx.Eventually(t, patienceForWorkers, func() bool { return lagOf(t, q, "a") == 0 }, "its message goes to another when it dies")
	for _, p := range workers {
		p.leave(t)
	}
	w.judge("a", want)
	by := map[string]int{}
	got, _ := w.account("a")
	for _, all := range got {
		by[all[len(all)-1].worker]++
	}
	for _, p := range workers {
		if by[p.name] < count/quick/10 {
			t.Errorf("%s did %d of %d: it starves", p.name, by[p.name], count)
		}
	}
}

// A stop is a time for which a worker did not run.
type stop struct{ from, to time.Duration }

// Workers are stopped for longer than their lease, and killed, while others go on.
func TestStormOfStoppedWorkersFinishesEveryMessage(t *testing.T) {
	needProcesses(t)
	const lease = 300 * time.Millisecond
	count := 5000
	if os.Getenv("WALQ_STORM") != "" {
		count = 100_000
	}
	w, q := newWorkshop(t)
	hire := func() *proc { return w.hire("a", "WALQ_TEST_LEASE="+lease.String(), "WALQ_TEST_WORK=2ms") }
	var workers []*proc
	for range 4 {
		workers = append(workers, hire())
	}
	want, done := make([]Seq, 0, count), make(chan error, 1)
	go func() {
		for i := range count {
			seq, err := q.Append(t.Context(), fmt.Append(nil, []string{"plain", "plain", "again"}[i%3], i))
			if err != nil {
				done <- err
				return
			}
			want = append(want, seq)
			if i%10 == 9 {
				time.Sleep(time.Millisecond)
			}
		}
		done <- nil
	}()
	stops := map[string][]stop{}
	for appended := false; !appended || lagOf(t, q, "a") != 0; {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			appended = true
		case <-time.After(20 * time.Millisecond):
		}
		i := w.random.IntN(len(workers))
		if w.random.IntN(4) == 0 {
			w.kill(workers[i])
			workers[i] = hire()
			continue
		}
		from := monotonic()
		if err := workers[i].cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		time.Sleep(lease + time.Duration(w.random.IntN(200))*time.Millisecond)
		if err := workers[i].cmd.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		stops[workers[i].name] = append(stops[workers[i].name], stop{from, monotonic()})
	}
	for _, p := range workers {
		p.leave(t)
	}
	got, acked := w.account("a")
	again := 0
	for i, seq := range want {
		all := got[seq]
		if len(all) == 0 || acked[seq] > 1 {
			t.Errorf("message %d was handed out %d times and finished %d times", seq, len(all), acked[seq])
			continue
		}
		slices.SortFunc(all, func(a, b handed) int { return a.attempt - b.attempt })
		for k, next := range all[1:] {
			if i%3 == 2 && all[k].attempt == 1 {
				continue // it may have sent the message back
			}
			again++
			had, now := all[k], next
			_, killed := w.killed[had.worker]
			stopped := slices.ContainsFunc(stops[had.worker], func(s stop) bool {
				return s.from <= now.at && had.at <= s.to+lease
			})
			if !killed && !stopped && now.at-had.at < lease/2 { // it says when it had it somewhat later
				t.Errorf("message %d was handed out again after %v, but %s neither died nor stopped", seq, now.at-had.at, had.worker)
			}
		}
	}
	if len(stops) == 0 || again == 0 {
		t.Errorf("%d workers stopped, %d messages were handed out again: this showed nothing", len(stops), again)
	}
	t.Logf("%d messages, %d workers killed, %d stopped, %d messages handed out again for that", count, len(w.killed), len(stops), again)
}
