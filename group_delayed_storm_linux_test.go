//go:build !race

package walq

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/walq/walq/internal/testx"
)

// appendDelayed appends so many messages that are due at random within a time, and gives
// when each is due.
func appendDelayed(t *testing.T, w *workshop, q *Queue, count int, from time.Time, within time.Duration) map[Seq]time.Time {
	t.Helper()
	due := make(map[Seq]time.Time, count)
	for len(due) < count {
		drafts := make([]Draft, min(500, count-len(due)))
		for i := range drafts {
			at := from.Add(time.Duration(w.random.Int64N(int64(within))))
			drafts[i] = Draft{NotBefore: at.Truncate(time.Millisecond), Body: fmt.Append(nil, "delayed ", i)}
		}
		first, err := q.Publish(t.Context(), drafts...)
		if err != nil {
			t.Fatal(err)
		}
		for i, d := range drafts {
			due[first+Seq(i)] = d.NotBefore
		}
	}
	return due
}

// Delayed messages, many times as many as the window has room for, are handed out in the
// order in which they are due, though all consumers are killed on the way, at once and
// again. With WALQ_STORM they are 200,000 within a minute, and it is reported how late
// they come.
func TestStormOverDelayedMessagesLosesNoneAndKeepsTheirOrder(t *testing.T) {
	needProcesses(t)
	count, ahead, within := 5_000, 3*time.Second, 4*time.Second
	if os.Getenv("WALQ_STORM") != "" {
		count, ahead, within = 200_000, 20*time.Second, time.Minute
	}
	w, q := newWorkshop(t)
	wall, boot := time.Now(), monotonic()
	due := appendDelayed(t, w, q, count, wall.Add(ahead), within)
	hire := func() (all []*proc) {
		for range 3 {
			all = append(all, w.hire("a"))
		}
		return all
	}
	workers := hire()
	ends := wall.Add(ahead + within)
	for round := 0; time.Now().Before(ends); round++ {
		time.Sleep(time.Until(ends) / 3)
		if round == 3 {
			break
		}
		for _, p := range workers { // all of them: nobody is there who knows anything
			w.kill(p)
		}
		workers = hire()
	}
	testx.Eventually(t, 3*time.Minute, func() bool { return lagOf(t, q, "a") == 0 }, "the group has finished all")
	for _, p := range workers {
		p.leave(t)
	}
	w.judge("a", slices.Sorted(keysOfDue(due)))
	w.judgeDelays("a", due, wall, boot)
}

func keysOfDue(due map[Seq]time.Time) func(func(Seq) bool) {
	return func(yield func(Seq) bool) {
		for seq := range due {
			if !yield(seq) {
				return
			}
		}
	}
}

// judgeDelays holds what the workers of a group wrote against when messages were due:
// none came too early, and to each worker they came in the order in which they were due,
// but for those that somebody who died had had.
func (w *workshop) judgeDelays(group string, due map[Seq]time.Time, wall time.Time, boot time.Duration) {
	w.t.Helper()
	type one struct {
		seq Seq
		handed
	}
	byWorker := map[string][]one{}
	got, _ := w.account(group)
	var late []time.Duration
	for seq, all := range got {
		slices.SortFunc(all, func(a, b handed) int { return int(a.at - b.at) })
		for i, h := range all {
			after := wall.Add(h.at - boot).Sub(due[seq])
			if after < -5*time.Millisecond { // the clocks were not read at one moment
				w.t.Errorf("message %d came %v before it was due", seq, -after)
			}
			if i == 0 {
				byWorker[h.worker] = append(byWorker[h.worker], one{seq, h})
				late = append(late, after)
			}
		}
	}
	disorder := 0
	for worker, all := range byWorker {
		slices.SortFunc(all, func(a, b one) int { return int(a.at - b.at) })
		for i, o := range all[1:] {
			// What is taken while another looks may overtake by what that takes; a message
			// that was moved late is due already.
			if before := due[all[i].seq]; due[o.seq].Before(before.Add(-orderSlack)) {
				if disorder++; disorder <= 5 {
					w.t.Logf("%s got message %d, due at %v, after %d, due at %v", worker, o.seq, due[o.seq], all[i].seq, before)
				}
			}
		}
	}
	slices.Sort(late)
	at := func(q float64) time.Duration { return late[int(q*float64(len(late)-1))].Round(time.Millisecond) }
	w.t.Logf("%s: %d messages; they came %v late in the median, p99 %v, %v at most; %d out of order", group, len(late), at(.5), at(.99), at(1), disorder)
	if disorder > len(late)/100 {
		w.t.Errorf("%d of %d came out of order", disorder, len(late))
	}
}

// orderSlack is how near two messages may be due to come in either order.
const orderSlack = 20 * time.Millisecond
