//go:build !race

package walq

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"
)

// Workers of a group that is ordered by key are killed all the time: the messages of each
// key are handed out in order, each when the one before it was given back, or its worker
// was killed.
func TestStormOfDyingWorkersKeepsTheOrderOfEachKey(t *testing.T) {
	needProcesses(t)
	count, every := 12_000, 25*time.Millisecond
	if os.Getenv("WALQ_STORM") != "" {
		count, every = 400_000, 100*time.Millisecond
	}
	w, q := newWorkshop(t)
	workers := make([]*proc, 4)
	for i := range workers {
		workers[i] = w.hire("a", "WALQ_TEST_BY_KEY=1")
	}
	keys := map[Seq]string{}
	want := make([]Seq, 0, count)
	done := make(chan error, 1)
	go func() {
		for i := range count {
			n := i * i % 29 // some keys are busy, others are not
			draft := Draft{Body: fmt.Appendf(nil, "%s %d", []string{"plain", "again"}[min(1, i%11/10)], i)}
			if n != 0 {
				draft.Key = fmt.Appendf(nil, "key %d", n)
			}
			seq, err := q.Publish(t.Context(), draft)
			if err != nil {
				done <- err
				return
			}
			want = append(want, seq)
			keys[seq] = string(draft.Key)
			if i%500 == 499 {
				time.Sleep(20 * time.Millisecond)
			}
		}
		done <- nil
	}()
	appended := false
	for deadline := time.Now().Add(10 * time.Minute); !appended || lagOf(t, q, "a") != 0; {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			appended = true
		case <-time.After(every):
		}
		i := w.random.IntN(len(workers))
		w.kill(workers[i])
		workers[i] = w.hire("a", "WALQ_TEST_BY_KEY=1")
		if time.Now().After(deadline) {
			t.Fatal("it takes too long")
		}
	}
	for _, p := range workers {
		p.leave(t)
	}
	wantSoundGroups(t, q)
	got, acked := w.account("a")
	for _, seq := range want {
		if len(got[seq]) == 0 || acked[seq] > 1 {
			t.Errorf("message %d was handed out %d times and finished %d times", seq, len(got[seq]), acked[seq])
		}
	}
	if len(w.killed) < 5 {
		t.Errorf("only %d workers died: this showed nothing", len(w.killed))
	}
	w.judgeKeys(got, keys)
}

// judgeKeys holds what was handed out against the order of each key.
func (w *workshop) judgeKeys(got map[Seq][]handed, keys map[Seq]string) {
	w.t.Helper()
	type one struct {
		handed
		seq Seq
	}
	lines := map[string][]one{}
	for seq, all := range got {
		for _, h := range all {
			lines[keys[seq]] = append(lines[keys[seq]], one{h, seq})
		}
	}
	delete(lines, "")
	again, wrong := 0, 0
	for key, line := range lines {
		slices.SortFunc(line, func(a, b one) int { return int(a.at - b.at) })
		for i, now := range line[1:] {
			was := line[i]
			killed, dead := w.killed[was.worker]
			switch {
			case now.seq < was.seq:
				w.t.Errorf("%s: message %d was handed out after %d", key, now.seq, was.seq)
			case was.end == 0 && (!dead || now.at < killed), was.end > now.at:
				w.t.Errorf("%s: message %d was handed out while %s was at work on %d", key, now.seq, was.worker, was.seq)
			case now.seq == was.seq:
				again++
				continue
			default:
				continue
			}
			if wrong++; wrong > 20 {
				w.t.Fatal("and so on")
			}
		}
	}
	w.t.Logf("%d keys, %d workers killed, %d messages handed out again", len(lines), len(w.killed), again)
}
