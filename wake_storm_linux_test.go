//go:build !race

package walq

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/walq/walq/internal/step"
	"github.com/walq/walq/internal/testx"
	"github.com/walq/walq/wal"
)

// A wakeStorm is processes that sleep and processes that commit. In each round one
// committer or two of them append a message, and every sleeper must report it
// before the next round: so each message finds every sleeper asleep, or about to
// fall asleep, and a wake-up that is lost is not made good by the next one.
type wakeStorm struct {
	t          *testing.T
	dir        string
	random     *rand.Rand
	q          *Queue
	r          *Reader // of the test: what is in the log
	inLog      map[string]int
	sleepers   []*proc
	committers []*proc
	sent       map[*proc]int
	started    int
	limit      string // of a sleep; empty: the usual
	sleeps     int    // of those who are gone
	worst      time.Duration
	late       int
	deaths     int
}

const (
	stormSleepers   = 4
	stormCommitters = 2
)

func newWakeStorm(t *testing.T, limit time.Duration) *wakeStorm {
	t.Helper()
	s := &wakeStorm{
		t: t, dir: filepath.Join(t.TempDir(), "q"), random: rand.New(rand.NewPCG(testx.Seed(t), 0)),
		inLog: map[string]int{}, sent: map[*proc]int{},
	}
	if limit != 0 {
		s.limit = limit.String()
	}
	q, err := Open(t.Context(), s.dir, Options{Create: &QueueOptions{SegmentSize: 1 << 20}})
	if err != nil {
		t.Fatal(err)
	}
	if s.r, err = q.Reader(Oldest, ReaderOptions{}); err != nil {
		t.Fatal(err)
	}
	s.q = q
	t.Cleanup(func() {
		if err := s.r.Close(); err != nil {
			t.Error(err)
		}
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	})
	for range stormSleepers {
		s.sleepers = append(s.sleepers, s.start("sleeper"))
	}
	for range stormCommitters {
		s.committers = append(s.committers, s.start("committer"))
	}
	return s
}

// start starts a process that is in the queue when start returns.
func (s *wakeStorm) start(role string, env ...string) *proc {
	s.t.Helper()
	s.started++
	if s.limit != "" {
		env = append(env, "WALQ_TEST_LIMIT="+s.limit)
	}
	p := startProc(s.t, role, fmt.Sprintf("%s%d", role, s.started), s.dir, env...)
	if !p.ready(s.t) {
		s.t.Fatalf("%s died before it was in the queue: %s", p.name, &p.stderr)
	}
	return p
}

// total is how often anybody slept so far.
func (s *wakeStorm) total() int {
	n := s.sleeps
	for _, p := range s.sleepers {
		n += p.sleeps
	}
	return n
}

// round lets committers append and wants every sleeper to see it. Meanwhile the
// victim, if there is one, gets a signal; if that stops it, it goes on a moment
// later.
func (s *wakeStorm) round(victim *proc, signal syscall.Signal) {
	s.t.Helper()
	who := s.committers
	if s.random.IntN(4) != 0 {
		who = who[:1]
	}
	for _, c := range who {
		s.sent[c]++
		c.tell(s.sent[c])
	}
	if victim != nil {
		time.Sleep(time.Duration(s.random.Int64N(int64(300 * time.Microsecond)))) // anywhere in the round
		s.signal(victim, signal)
		if signal == syscall.SIGSTOP {
			time.Sleep(time.Duration(s.random.Int64N(int64(3 * time.Millisecond))))
			s.signal(victim, syscall.SIGCONT)
		}
	}
	for _, c := range who {
		line, alive := c.line(s.t)
		if alive && line != fmt.Sprint("done ", s.sent[c]) {
			s.t.Fatalf("%s: got %q, want done %d", c.name, line, s.sent[c])
		}
		if alive || s.isInLog(c) {
			s.allSee(c.name, s.sent[c])
		}
	}
	s.replaceTheDead()
	s.random.Shuffle(len(s.committers), func(i, j int) {
		s.committers[i], s.committers[j] = s.committers[j], s.committers[i]
	})
}

func (s *wakeStorm) signal(p *proc, signal syscall.Signal) {
	s.t.Helper()
	if err := p.cmd.Process.Signal(signal); err != nil {
		s.t.Fatal(err)
	}
}

// isInLog tells whether the last message of someone who died got into the log.
func (s *wakeStorm) isInLog(c *proc) bool {
	s.t.Helper()
	for m, err := range s.r.All(s.t.Context()) {
		if err != nil {
			s.t.Fatal(err)
		}
		var from string
		var n int
		if _, err := fmt.Sscan(string(m.Body), &from, &n); err != nil {
			s.t.Fatalf("message %d: %q", m.Seq, m.Body)
		}
		s.inLog[from] = n
	}
	return s.inLog[c.name] == s.sent[c]
}

func (s *wakeStorm) allSee(who string, n int) {
	s.t.Helper()
	for _, p := range s.sleepers {
		p.sees(s.t, who, n) // false: it died, which shows below
	}
}

// replaceTheDead puts new processes in the place of those that died.
func (s *wakeStorm) replaceTheDead() {
	s.t.Helper()
	for _, crew := range [][]*proc{s.sleepers, s.committers} {
		for i, p := range crew {
			if _, dead := p.look(s.t); !dead {
				continue
			}
			p.kill()
			s.bury(p)
			s.deaths++
			crew[i] = s.start(strings.TrimRight(p.name, "0123456789"))
		}
	}
}

func (s *wakeStorm) bury(p *proc) {
	s.sleeps += p.sleeps
	s.worst = max(s.worst, p.worst)
	s.late += p.late
}

// kill has one process die: at once, somewhere in this round, or where there are
// step hooks at a step of waking, some rounds later.
func (s *wakeStorm) kill() {
	s.t.Helper()
	crew, steps := s.sleepers, []step.ID{step.SleepLeafMarked, step.SleepMarked, step.SleepLooked, step.SocketUnlinked, step.SocketBound, step.SocketReady}
	if s.random.IntN(3) != 0 {
		crew, steps = s.committers, []step.ID{step.CommitAfter, step.WakeSummaryCleared, step.WakeLeafTaken, step.WakeSent}
	}
	i := s.random.IntN(len(crew))
	if !step.Enabled || s.random.IntN(2) == 0 {
		s.round(crew[i], syscall.SIGKILL)
		return
	}
	at, passage := steps[s.random.IntN(len(steps))], 1+s.random.IntN(20)
	if at == step.SocketUnlinked || at == step.SocketBound || at == step.SocketReady {
		passage = 1
	}
	old := crew[i]
	old.leave(s.t)
	s.bury(old)
	crew[i] = s.start(strings.TrimRight(old.name, "0123456789"), fmt.Sprintf("WALQ_STEP=%v:%d=kill", at, passage))
}

// run goes on until there were so many sleeps, with so many deaths on the way, and
// stops between them.
func (s *wakeStorm) run(sleeps, deaths int) {
	s.t.Helper()
	begin := time.Now()
	for killed := 0; s.total() < sleeps && !s.t.Failed(); {
		if killed < deaths && s.total() >= sleeps/(deaths+1)*(killed+1) {
			killed++
			s.kill()
		}
		if all := slices.Concat(s.sleepers, s.committers); deaths > 0 && s.random.IntN(50) == 0 {
			s.round(all[s.random.IntN(len(all))], syscall.SIGSTOP)
		}
		s.round(nil, 0)
	}
	for _, p := range slices.Concat(s.sleepers, s.committers) {
		p.leave(s.t)
		s.bury(p)
	}
	s.t.Logf("%d sleeps of %d processes at a time, %d of which died, in %v: waited %v at most, %d times for more than half a sleep",
		s.sleeps, stormSleepers, s.deaths, time.Since(begin).Round(time.Millisecond), s.worst, s.late)
	if sockets, err := os.ReadDir(filepath.Join(s.dir, "wake")); err != nil || len(sockets) > 0 {
		s.t.Errorf("sockets %v, %v, want none", sockets, err)
	}
	rep, err := wal.Verify(s.t.Context(), s.dir, nil)
	if err != nil || len(rep.Faults) > 0 {
		s.t.Errorf("verify: %v, %v", rep.Faults, err)
	}
}

// Where nobody dies no wake-up is lost: here only a wake-up ends a sleep.
func TestStormOfProcessesLosesNoWakeUp(t *testing.T) {
	needProcesses(t)
	sleeps := 6_000
	if os.Getenv("WALQ_STORM") != "" {
		sleeps = 750_000
	}
	newWakeStorm(t, time.Hour).run(sleeps, 0)
}

// Where sleepers and committers are killed and stopped nobody waits longer than a sleep lasts.
func TestStormOfDyingProcessesKeepsNobodyAsleep(t *testing.T) {
	needProcesses(t)
	sleeps, deaths := 3_000, 4
	if os.Getenv("WALQ_STORM") != "" {
		sleeps, deaths = 250_000, 150
	}
	newWakeStorm(t, 0).run(sleeps, deaths)
}

// A reader asleep in a queue in which nothing happens wakes up once a second and
// takes no processor worth speaking of.
func TestASleepingProcessCostsNothing(t *testing.T) {
	needProcesses(t)
	s := &wakeStorm{t: t, dir: filepath.Join(t.TempDir(), "q")}
	q, err := Open(t.Context(), s.dir, Options{Create: &QueueOptions{SegmentSize: 64 << 10}})
	if err != nil {
		t.Fatal(err)
	}
	p, begin := s.start("sleeper"), time.Now()
	asleepProc(t, p)
	const (
		window = 600 * time.Millisecond
		// A reader that looked every 20 ms would be off the processor 30 times; one
		// that wakes up once takes, with what Go's runtime does then, about four.
		maxTurns = 12
		maxCPU   = window / 100
	)
	for windows := 1; ; windows++ {
		before := p.cost(t)
		time.Sleep(window) // what is measured is that nothing happens
		after := p.cost(t)
		cpu, turns := after.cpu-before.cpu, after.turns-before.turns
		t.Logf("in %v: %v of a processor in %d turns", window, cpu, turns)
		if turns <= maxTurns && cpu <= maxCPU {
			break
		}
		if windows == 8 { // the first holds the runtime's own beginning
			t.Fatalf("a sleeping process took %v of a processor in %d turns, in %v; want %v and %d at most", cpu, turns, window, time.Duration(maxCPU), maxTurns)
		}
	}
	if _, err := q.Append(t.Context(), fmt.Appendf(nil, "test 1 %d", monotonic())); err != nil {
		t.Fatal(err)
	}
	p.sees(t, "test", 1)
	if limit := 2 + int(time.Since(begin)/time.Second); p.sleeps > limit {
		t.Errorf("it slept %d times in %v, want %d at most", p.sleeps, time.Since(begin), limit)
	}
	p.leave(t)
	if err := q.Close(); err != nil {
		t.Error(err)
	}
}

type processCost struct {
	cpu   time.Duration
	turns int // on a processor
}

// cost is what the process has taken so far, by the kernel's account.
func (p *proc) cost(t *testing.T) (c processCost) {
	t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", p.cmd.Process.Pid))
	if err != nil || len(threads) == 0 {
		t.Fatalf("%v, %v", threads, err)
	}
	for _, thread := range threads {
		b, err := os.ReadFile(filepath.Join(thread, "schedstat"))
		if err != nil {
			continue // the thread has ended
		}
		var ran, waited int64
		var turns int
		if _, err := fmt.Sscan(string(b), &ran, &waited, &turns); err != nil {
			t.Fatalf("%q: %v", b, err)
		}
		c.cpu += time.Duration(ran)
		c.turns += turns
	}
	return c
}
