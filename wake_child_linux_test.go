//go:build !race

package walq

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/walq/walq/internal/testx"
)

// The tests of waking and joining start processes that sleep, commit, come and go:
// this test binary again, told by its environment what to be. It becomes that here,
// before it is a test at all, and so needs no word of TestMain.
func init() {
	dir := os.Getenv("WALQ_TEST_QUEUE")
	if dir == "" {
		return
	}
	roles := map[string]func(context.Context, string, *bufio.Reader) error{
		"sleeper": beSleeper, "committer": beCommitter, "guest": beGuest, "worker": beWorker,
	}
	be := roles[os.Getenv("WALQ_TEST_ROLE")]
	if err := be(context.Background(), dir, bufio.NewReader(os.Stdin)); err != nil {
		fmt.Fprintln(os.Stderr, os.Getenv("WALQ_TEST_ROLE"), os.Getenv("WALQ_TEST_NAME"), err)
		os.Exit(1)
	}
	os.Exit(0)
}

// monotonic is a clock that all processes of the machine share.
func monotonic() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(err)
	}
	return time.Duration(ts.Nano())
}

// beSleeper reads from the end of the queue on, always asleep when there is
// nothing, and prints of each message who sent it, its number there, how long it
// was under way, and how often this process slept so far. It leaves in order when
// its input ends.
func beSleeper(ctx context.Context, dir string, in *bufio.Reader) (err error) {
	q, err := Open(ctx, dir, Options{Durability: SyncNever})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	if limit := os.Getenv("WALQ_TEST_LIMIT"); limit != "" {
		if q.bed.limit, err = time.ParseDuration(limit); err != nil {
			return err
		}
	}
	r, err := q.Reader(Newest, ReaderOptions{Spin: -1, Durable: os.Getenv("WALQ_TEST_DURABLE") != ""})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		defer cancel()
		_, _ = io.Copy(io.Discard, in)
	}()
	fmt.Println("ready")
	for sleeps := 0; ; {
		m, slept, err := nextCounting(ctx, r)
		if errors.Is(err, context.Canceled) {
			return nil
		}
		if err != nil {
			return err
		}
		sleeps += slept
		who, rest, _ := strings.Cut(string(m.Body), " ")
		n, stamp, _ := strings.Cut(rest, " ")
		sent, err := strconv.ParseInt(stamp, 10, 64)
		if err != nil {
			return fmt.Errorf("message %d: %q", m.Seq, m.Body)
		}
		fmt.Println(who, n, int64(monotonic())-sent, sleeps)
	}
}

// nextCounting is Next, and tells how often it slept.
func nextCounting(ctx context.Context, r *Reader) (m Message, slept int, err error) {
	for w := (waiter{r: r}); ; {
		ok, err := r.try(ctx, false, &m)
		if ok || err != nil {
			w.getUp()
			return m, slept, err
		}
		if w.bed != nil {
			slept++
		}
		if err := w.wait(ctx); err != nil {
			return m, slept, err
		}
	}
}

// beCommitter appends a message for each line that it reads, with the line as its
// number, and prints that line when it is acknowledged. It leaves in order when its
// input ends.
func beCommitter(ctx context.Context, dir string, in *bufio.Reader) (err error) {
	o := Options{Durability: SyncNever}
	if os.Getenv("WALQ_TEST_DURABLE") != "" {
		o.Durability = SyncAlways
	}
	q, err := Open(ctx, dir, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	fmt.Println("ready")
	for {
		line, err := in.ReadString('\n')
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		n := strings.TrimSpace(line)
		if _, err := q.Append(ctx, fmt.Appendf(nil, "%s %s %d", os.Getenv("WALQ_TEST_NAME"), n, monotonic())); err != nil {
			return err
		}
		fmt.Println("done", n)
	}
}

// A proc is such a process, seen by the test that started it.
type proc struct {
	name    string
	cmd     *exec.Cmd
	in      io.WriteCloser
	lines   chan string // what it printed; closed at its end
	stderr  strings.Builder
	seen    map[string]int // the highest number that it reported, by sender
	worst   time.Duration  // that a message was under way
	late    int            // messages that were under way for more than half a sleep
	sleeps  int
	reaped  bool
	outcome error
}

func startProc(t *testing.T, role, name, dir string, env ...string) *proc {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &proc{name: name, cmd: exec.Command(self), lines: make(chan string, 1<<12), seen: map[string]int{}}
	p.cmd.Env = append(os.Environ(), "WALQ_TEST_ROLE="+role, "WALQ_TEST_NAME="+name, "WALQ_TEST_QUEUE="+dir)
	p.cmd.Env = append(p.cmd.Env, env...)
	p.cmd.Stderr = &p.stderr
	out, err := p.cmd.StdoutPipe()
	if err == nil {
		p.in, err = p.cmd.StdinPipe()
	}
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.lines)
		for sc := bufio.NewScanner(out); sc.Scan(); {
			p.lines <- sc.Text()
		}
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() && p.stderr.Len() > 0 {
			t.Logf("%s wrote: %s", name, &p.stderr)
		}
	})
	return p
}

// bound is how long anybody may wait for anything here: a sleep ends after a
// second, the rest is for a machine under load.
const bound = 10 * time.Second

// line is the next line that the process prints; ok is false if it ended instead.
func (p *proc) line(t *testing.T) (line string, ok bool) {
	t.Helper()
	select {
	case line, ok = <-p.lines:
		return line, ok
	default:
	}
	timer := time.NewTimer(bound)
	defer timer.Stop()
	select {
	case line, ok = <-p.lines:
		return line, ok
	case <-timer.C:
		t.Fatalf("%s says nothing for %v", p.name, bound)
		return "", false
	}
}

// ready waits until the process has opened the queue; false: it died before.
func (p *proc) ready(t *testing.T) bool {
	t.Helper()
	line, ok := p.line(t)
	if ok && line != "ready" {
		t.Fatalf("%s: got %q, want ready", p.name, line)
	}
	return ok
}

// sees waits until the sleeper reports the n-th message of a sender, within the
// bound; false: it died before.
func (p *proc) sees(t *testing.T, who string, n int) bool {
	t.Helper()
	for p.seen[who] < n {
		line, ok := p.line(t)
		if !ok {
			return false
		}
		if line == "ready" {
			continue
		}
		var from string
		var number, sleeps int
		var way time.Duration
		if _, err := fmt.Sscan(line, &from, &number, (*int64)(&way), &sleeps); err != nil {
			t.Fatalf("%s: got %q: %v", p.name, line, err)
		}
		if number <= p.seen[from] {
			t.Fatalf("%s: got message %d of %s after its %d", p.name, number, from, p.seen[from])
		}
		p.seen[from], p.sleeps, p.worst = number, sleeps, max(p.worst, way)
		if way > longestSleep/2 {
			p.late++
		}
		if way > bound {
			t.Errorf("%s: message %d of %s was under way for %v, want %v at most", p.name, number, from, way, bound)
		}
	}
	return true
}

// tell gives the process a line; false: nobody reads it any more.
func (p *proc) tell(n int) bool {
	_, err := io.WriteString(p.in, strconv.Itoa(n)+"\n")
	return err == nil
}

// commits lets a committer append its n-th message and waits until it has; false:
// it died on the way, and the message may be there or not.
func (p *proc) commits(t *testing.T, n int) bool {
	t.Helper()
	if !p.tell(n) {
		return false
	}
	line, ok := p.line(t)
	if ok && line != fmt.Sprint("done ", n) {
		t.Fatalf("%s: got %q, want done %d", p.name, line, n)
	}
	return ok
}

// kill ends the process with SIGKILL, if it has not ended yet.
func (p *proc) kill() {
	if p.reaped {
		return
	}
	_ = p.cmd.Process.Kill() // it may be dead already
	p.reap()
}

// reap waits for the end of the process.
func (p *proc) reap() error {
	if !p.reaped {
		_ = p.in.Close() // broken, if the process is gone
		for range p.lines {
		}
		p.outcome, p.reaped = p.cmd.Wait(), true
	}
	return p.outcome
}

// leave lets the process leave the queue in order, and wants it to.
func (p *proc) leave(t *testing.T) {
	t.Helper()
	if err := p.reap(); err != nil {
		t.Errorf("%s: %v\n%s", p.name, err, &p.stderr)
	}
}

// look tells whether the process has been stopped, or killed and not reaped yet.
func (p *proc) look(t *testing.T) (stopped, dead bool) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	return rest[0] == 'T', rest[0] == 'Z'
}

// asleepProc waits until a thread of the process is in the receive.
func asleepProc(t *testing.T, p *proc) {
	t.Helper()
	receiving := fmt.Sprint(unix.SYS_PPOLL, " ")
	testx.Eventually(t, bound, func() bool {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/syscall", p.cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(threads, func(thread string) bool {
			b, _ := os.ReadFile(thread) // the thread may have ended
			return strings.HasPrefix(string(b), receiving)
		})
	}, p.name+" does not sleep")
}

func needProcesses(t *testing.T) {
	t.Helper()
}
