//go:build !race

package walq

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/walq/walq/internal/testx"
)

// beWorker works for the group WALQ_TEST_GROUP until its input ends, and writes to a
// file what it was handed and what it finished. A message that begins with "poison"
// kills it.
func beWorker(ctx context.Context, dir string, in *bufio.Reader) (err error) {
	log, err := os.OpenFile(os.Getenv("WALQ_TEST_ACKS"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	q, err := Open(ctx, dir, Options{Role: "worker"})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	o := GroupOptions{MaxDeaths: 3, DeadLetter: dir + ".dead", OrderedByKey: os.Getenv("WALQ_TEST_BY_KEY") != ""}
	if o.OrderedByKey {
		o.MaxDeaths = 62 // who is killed all the time has poisoned nothing
	}
	if lease := os.Getenv("WALQ_TEST_LEASE"); lease != "" {
		if o.Lease, err = time.ParseDuration(lease); err != nil {
			return err
		}
	}
	g, err := q.Group(os.Getenv("WALQ_TEST_GROUP"), o)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		_, _ = io.Copy(io.Discard, in)
		stop()
	}()
	takes := time.Duration(0)
	if work := os.Getenv("WALQ_TEST_WORK"); work != "" {
		if takes, err = time.ParseDuration(work); err != nil {
			return err
		}
	}
	fmt.Println("ready")
	for d, err := range g.All(ctx) {
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if err := work(d, takes, log); err != nil {
			return fmt.Errorf("message %d: %w", d.Seq, err)
		}
	}
	return nil
}

// work is what a worker does with a message, for so long: one that begins with "again"
// it sends back at first, with a delay.
func work(d *Delivery, takes time.Duration, log io.Writer) (err error) {
	body := string(d.Body)
	fmt.Fprintf(log, "got %d %d %d\n", d.Seq, d.Attempt(), monotonic()) // in one write
	time.Sleep(takes)
	switch {
	case strings.HasPrefix(body, "poison"):
		self, _ := os.FindProcess(os.Getpid())
		_ = self.Kill()
		select {}
	case strings.HasPrefix(body, "again") && d.Attempt() == 1:
		fmt.Fprintf(log, "end %d %d\n", d.Seq, monotonic())
		err = d.Nak(time.Millisecond)
	default:
		fmt.Fprintf(log, "end %d %d\n", d.Seq, monotonic())
		if err = d.Ack(); err == nil {
			fmt.Fprintf(log, "ack %d\n", d.Seq)
		}
	}
	if errors.Is(err, ErrLeaseLost) {
		return nil // it was stopped for longer than its lease
	}
	return err
}

// A workshop is a queue with the workers of its groups.
type workshop struct {
	t      *testing.T
	dir    string
	logs   string
	random *rand.Rand
	made   int
	killed map[string]time.Duration // by name of the worker, when
}

func newWorkshop(t *testing.T) (*workshop, *Queue) {
	t.Helper()
	w := &workshop{
		t: t, dir: filepath.Join(t.TempDir(), "q"), logs: t.TempDir(),
		random: rand.New(rand.NewPCG(testx.Seed(t), 0)), killed: map[string]time.Duration{},
	}
	q, err := Open(t.Context(), w.dir, Options{Create: &QueueOptions{SegmentSize: 1 << 20}, Durability: SyncNever})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	})
	return w, q
}

func (w *workshop) hire(group string, env ...string) *proc {
	w.made++
	name := fmt.Sprintf("%s.%d", group, w.made)
	env = append(env, "WALQ_TEST_GROUP="+group, "WALQ_TEST_ACKS="+filepath.Join(w.logs, name))
	return startProc(w.t, "worker", name, w.dir, env...)
}

func (w *workshop) kill(p *proc) {
	w.killed[p.name] = monotonic()
	p.kill()
}

// A handed is one delivery of a message, by what its worker wrote.
type handed struct {
	worker  string
	attempt int
	at      time.Duration
	end     time.Duration // when its worker was about to give it back; 0: it died before
}

// account reads what the workers of a group wrote.
func (w *workshop) account(group string) (got map[Seq][]handed, acked map[Seq]int) {
	w.t.Helper()
	got, acked = map[Seq][]handed{}, map[Seq]int{}
	files, err := filepath.Glob(filepath.Join(w.logs, group+".*"))
	if err != nil {
		w.t.Fatal(err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			w.t.Fatal(err)
		}
		whole := bytes.LastIndexByte(content, '\n') + 1 // a kill tears a line between two pages of the file
		for sc := bufio.NewScanner(bytes.NewReader(content[:whole])); sc.Scan(); {
			var seq Seq
			var h handed
			if n, _ := fmt.Sscanf(sc.Text(), "got %d %d %d", &seq, &h.attempt, (*int64)(&h.at)); n == 3 {
				h.worker = filepath.Base(file)
				got[seq] = append(got[seq], h)
			} else if n, _ := fmt.Sscanf(sc.Text(), "end %d %d", &seq, (*int64)(&h.end)); n == 2 {
				got[seq][len(got[seq])-1].end = h.end
			} else if n, _ := fmt.Sscanf(sc.Text(), "ack %d", &seq); n == 1 {
				acked[seq]++
			} else {
				w.t.Fatalf("%s: %q", file, sc.Text())
			}
		}
	}
	return got, acked
}

// judge holds it against the promise: every message was handed out, none was finished
// twice, and none was handed out again but after the death of who had it.
func (w *workshop) judge(group string, want []Seq) {
	w.t.Helper()
	got, acked := w.account(group)
	again, waits := 0, []time.Duration(nil)
	for _, seq := range want {
		all := got[seq]
		if len(all) == 0 {
			w.t.Errorf("%s: message %d was never handed out", group, seq)
			continue
		}
		if acked[seq] > 1 {
			w.t.Errorf("%s: message %d was finished %d times", group, seq, acked[seq])
		}
		slices.SortFunc(all, func(a, b handed) int { return int(a.at - b.at) })
		for i, h := range all[1:] {
			died, dead := w.killed[all[i].worker]
			if !dead {
				w.t.Errorf("%s: message %d was handed out again, but %s lived", group, seq, all[i].worker)
			}
			again++
			waits = append(waits, h.at-died)
		}
	}
	for seq := range got {
		if _, ok := slices.BinarySearch(want, seq); !ok {
			w.t.Errorf("%s: message %d, which nobody appended", group, seq)
		}
	}
	median, worst := time.Duration(0), time.Duration(0)
	if len(waits) > 0 {
		slices.Sort(waits)
		median, worst = waits[len(waits)/2], waits[len(waits)-1]
	}
	w.t.Logf("%s: %d messages, %d handed out again after a death: %v later, %v at most", group, len(want), again, median, worst)
}

func TestStormOfDyingWorkersFinishesEveryMessage(t *testing.T) {
	needProcesses(t)
	count, every := 60_000, 15*time.Millisecond
	if os.Getenv("WALQ_STORM") != "" {
		count, every = 1_000_000, 200*time.Millisecond
	}
	w, q := newWorkshop(t)
	groups := []string{"a", "a", "a", "a", "b", "b"}
	var workers []*proc
	for _, group := range groups {
		workers = append(workers, w.hire(group))
	}
	want := make([]Seq, 0, count)
	done := make(chan error, 1)
	go func() {
		for i := range count {
			seq, err := q.Append(t.Context(), fmt.Appendf(nil, "message %d", i))
			if err != nil {
				done <- err
				return
			}
			want = append(want, seq)
			if i%1000 == 999 { // so that workers die on the way, and not only before
				time.Sleep(10 * time.Millisecond)
			}
		}
		done <- nil
	}()
	appended := false
	idle := func() bool {
		for _, name := range []string{"a", "b"} {
			if n := lagOf(t, q, name); n != 0 {
				return false
			}
		}
		return true
	}
	for deadline := time.Now().Add(10 * time.Minute); !appended || !idle(); {
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
		workers[i] = w.hire(groups[i])
		if time.Now().After(deadline) {
			t.Fatal("it takes too long")
		}
	}
	for _, p := range workers {
		p.leave(t)
	}
	w.judge("a", want)
	w.judge("b", want)
	wantSoundGroups(t, q)
	if len(w.killed) < 5 {
		t.Errorf("only %d workers died: this showed nothing", len(w.killed))
	}
}

// lagOf is how many messages a group has not finished.
func lagOf(t *testing.T, q *Queue, name string) int64 {
	t.Helper()
	all, err := q.Groups()
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range all {
		if g.Name == name {
			return int64(g.Lag)
		}
	}
	return -1
}

// A message that kills whoever works on it is given up, and the others flow on.
func TestAMessageThatKillsItsWorkersIsGivenUp(t *testing.T) {
	needProcesses(t)
	w, q := newWorkshop(t)
	var poison Seq
	for i := range 200 {
		body := fmt.Sprint("message ", i)
		if i == 20 {
			body = "poison"
		}
		seq, err := q.Append(t.Context(), []byte(body))
		if err != nil {
			t.Fatal(err)
		}
		if i == 20 {
			poison = seq
		}
	}
	workers := []*proc{w.hire("a"), w.hire("a")}
	testx.Eventually(t, patienceForWorkers, func() bool {
		for i, p := range workers {
			if _, dead := p.look(t); dead {
				_ = p.reap()
				workers[i] = w.hire("a")
			}
		}
		return lagOf(t, q, "a") == 0
	}, "the group has finished all")
	for _, p := range workers {
		p.leave(t)
	}
	got, acked := w.account("a")
	if len(got[poison]) != 3 || acked[poison] != 0 {
		t.Errorf("the poison was handed out %d times, finished %d times, want 3 and 0", len(got[poison]), acked[poison])
	}
	if len(acked) != 199 {
		t.Errorf("%d messages were finished, want 199", len(acked))
	}
	dead, err := Open(t.Context(), w.dir+".dead", Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer dead.Close()
	r, err := dead.Reader(Oldest, ReaderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	m, ok, err := r.TryNext()
	if err != nil || !ok || string(m.Body) != "poison" || m.Header(HeaderDeaths) != "3" {
		t.Errorf("dead letters: %q, %v, %v, want the poison with 3 deaths", m.Body, ok, err)
	}
}

// patienceForWorkers is for a machine under load.
const patienceForWorkers = time.Minute
