//go:build !race

package walq

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/walq/walq/internal/testx"
	"github.com/walq/walq/wal"
)

// guestBody is the n-th message of a guest, of a length that differs. Every byte
// follows from the two, so that one that is torn shows.
func guestBody(who string, n int) string {
	head := fmt.Sprintf("%s %d ", who, n)
	pad := fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(head)))
	return head + strings.Repeat(pad, 1+n%97)
}

func parseGuestBody(body []byte) (who string, n int, err error) {
	if _, err := fmt.Sscan(string(body), &who, &n); err != nil || string(body) != guestBody(who, n) {
		return who, n, fmt.Errorf("torn: %.60q, %d bytes (%v)", body, len(body), err)
	}
	return who, n, nil
}

// beGuest opens the queue, appends, reads, sleeps a moment perhaps, closes it, and
// does so again and again until its input ends. What was acknowledged it writes to
// a file. At the end it must own nothing that it did not own at the beginning.
func beGuest(ctx context.Context, dir string, in *bufio.Reader) error {
	acks, err := os.OpenFile(os.Getenv("WALQ_TEST_ACKS"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer acks.Close()
	before := owned(dir)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(io.Discard, in)
	}()
	fmt.Println("ready")
	const last = 3
	visits, end := 0, -1
	for n := 1; visits != end; visits++ {
		select {
		case <-done:
			if end < 0 {
				// What was forgotten must stay: no collector closes it from here on.
				debug.SetGCPercent(-1)
				end = visits + last
			}
		default:
		}
		if n, err = visit(ctx, dir, acks, n); err != nil {
			return err
		}
	}
	fmt.Println("visits", visits)
	return leavesNothing(dir, before)
}

// visit is one stay of a guest, whose next message is its n-th; it returns which
// one is next after it.
func visit(ctx context.Context, dir string, acks io.Writer, n int) (_ int, err error) {
	durability := []Durability{SyncNever, SyncInterval, SyncNever, SyncAlways}[rand.IntN(4)]
	q, err := Open(ctx, dir, Options{Durability: durability, Role: "guest"})
	if err != nil {
		return n, err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	r, err := q.Reader(Last(5), ReaderOptions{Spin: -1})
	if err != nil {
		return n, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	who := os.Getenv("WALQ_TEST_NAME")
	for range 1 + rand.IntN(8) {
		seq, err := q.Append(ctx, []byte(guestBody(who, n)))
		if err != nil {
			return n, err
		}
		if _, err := fmt.Fprintln(acks, n, seq); err != nil { // one write: a kill leaves it whole
			return n, err
		}
		n++
	}
	short, cancel := context.WithTimeout(ctx, time.Duration(rand.IntN(10))*time.Millisecond)
	defer cancel()
	for range 20 {
		m, err := r.Next(short)
		if errors.Is(err, context.DeadlineExceeded) {
			break
		}
		if err != nil {
			return n, err
		}
		if _, _, err := parseGuestBody(m.Body); err != nil {
			return n, fmt.Errorf("message %d: %w", m.Seq, err)
		}
	}
	return n, nil
}

// owned is what this process has: goroutines, open files, mappings of the queue.
func owned(dir string) map[string]int {
	all := map[string]int{"goroutines": runtime.NumGoroutine()}
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		panic(err)
	}
	for _, fd := range fds {
		target, err := os.Readlink("/proc/self/fd/" + fd.Name())
		if err != nil || strings.HasPrefix(target, "anon_inode:[event") || strings.HasPrefix(target, "/proc/") {
			continue // the directory that is just read, and what Go's runtime has
		}
		kind, _, _ := strings.Cut(target, ":[")
		all["descriptor "+kind]++
	}
	mapped, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		panic(err)
	}
	all["mappings"] = strings.Count(string(mapped), dir)
	return all
}

// leavesNothing tells what the process has that it had not before.
func leavesNothing(dir string, before map[string]int) error {
	var after map[string]int
	for deadline := time.Now().Add(bound / 2); time.Now().Before(deadline); time.Sleep(time.Millisecond) { // until the next look
		after = owned(dir)
		more := false
		for what, n := range after {
			more = more || n > before[what]
		}
		if !more {
			return nil
		}
	}
	return fmt.Errorf("left behind: before %v, after %v", before, after)
}

// A crowd is processes that open, append to, read and close one queue, all the time.
type crowd struct {
	t      *testing.T
	dir    string
	acks   string // directory of the files of what was acknowledged
	random *rand.Rand
	guests []*proc
	killed map[string]bool // by name
	came   int
}

func (c *crowd) invite() *proc {
	c.t.Helper()
	c.came++
	name := fmt.Sprint("guest", c.came)
	return startProc(c.t, "guest", name, c.dir, "WALQ_TEST_ACKS="+filepath.Join(c.acks, name))
}

// storm lasts for a while; every now and then a guest is killed and another comes.
func (c *crowd) storm(size int, lasts, killEvery time.Duration) {
	c.t.Helper()
	for range size {
		c.guests = append(c.guests, c.invite())
	}
	for _, p := range c.guests {
		p.ready(c.t)
	}
	for end := time.Now().Add(lasts); time.Now().Before(end) && !c.t.Failed(); {
		time.Sleep(time.Duration(c.random.Int64N(int64(2 * killEvery)))) // a storm, not a wait
		i := c.random.IntN(size)
		if _, dead := c.guests[i].look(c.t); dead {
			c.t.Errorf("%s ended by itself: %v\n%s", c.guests[i].name, c.guests[i].reap(), &c.guests[i].stderr)
			return
		}
		c.guests[i].kill()
		c.killed[c.guests[i].name] = true
		c.guests[i] = c.invite()
	}
	for _, p := range c.guests {
		if err := p.in.Close(); err != nil { // all leave at once
			c.t.Error(err)
		}
	}
	visits := 0
	for _, p := range c.guests {
		for line, ok := p.line(c.t); ok; line, ok = p.line(c.t) {
			var n int
			if _, err := fmt.Sscanf(line, "visits %d", &n); err == nil {
				visits += n
			}
		}
		p.leave(c.t)
	}
	c.t.Logf("%d guests, %d of them killed; those who stayed came %d times", c.came, len(c.killed), visits)
}

// account reads the queue and holds it against what was acknowledged.
func (c *crowd) account() {
	c.t.Helper()
	q, err := Open(c.t.Context(), c.dir, Options{})
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() {
		if err := q.Close(); err != nil {
			c.t.Error(err)
		}
	}()
	r, err := q.Reader(Oldest, ReaderOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() {
		if err := r.Close(); err != nil {
			c.t.Error(err)
		}
	}()
	seqs := map[string][]Seq{} // of each guest's messages
	messages := 0
	for m, err := range r.All(c.t.Context()) {
		if err != nil {
			c.t.Fatal(err)
		}
		who, n, err := parseGuestBody(m.Body)
		if err != nil {
			c.t.Fatalf("message %d: %v", m.Seq, err)
		}
		if n != len(seqs[who])+1 {
			c.t.Fatalf("message %d: the %d-th of %s, want its %d-th", m.Seq, n, who, len(seqs[who])+1)
		}
		seqs[who] = append(seqs[who], m.Seq)
		messages++
	}
	for i := range c.came {
		c.accountOf(fmt.Sprint("guest", i+1), seqs)
	}
	if len(seqs) > 0 {
		c.t.Errorf("messages of nobody: %v", slices.Collect(maps.Keys(seqs)))
	}
	c.t.Logf("%d messages", messages)
}

// accountOf holds the messages of one guest against its acknowledgements, and takes
// them off the map. One that was killed may have got one more in than it was told.
func (c *crowd) accountOf(who string, seqs map[string][]Seq) {
	c.t.Helper()
	b, err := os.ReadFile(filepath.Join(c.acks, who))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		c.t.Fatal(err)
	}
	all, acked := seqs[who], 0
	delete(seqs, who)
	for line := range strings.Lines(string(b)) {
		var n int
		var seq Seq
		if _, err := fmt.Sscan(line, &n, &seq); err != nil || n != acked+1 {
			c.t.Fatalf("%s acknowledged %q behind its %d-th: %v", who, line, acked, err)
		}
		acked = n
		if n > len(all) || all[n-1] != seq {
			c.t.Errorf("%s: its %d-th message, acknowledged as %d, is not there under that number", who, n, seq)
		}
	}
	if more := len(all) - acked; more > 1 || more == 1 && !c.killed[who] {
		c.t.Errorf("%s: %d messages are there, %d were acknowledged", who, len(all), acked)
	}
}

// tidy wants nothing left of anybody, once as many have come again, at once, as
// there ever were: what the dead left goes with their slots.
func (c *crowd) tidy(size int) {
	c.t.Helper()
	left, err := filepath.Glob(filepath.Join(c.dir, "wake", "*"))
	if err != nil || len(left) > 0 {
		c.t.Errorf("sockets %v, %v, want none", left, err)
	}
	slots, files := c.left()
	c.t.Logf("the dead left %d slots and %d temporary files", len(slots), len(files))
	var again []*Queue
	for range size {
		q, err := Open(c.t.Context(), c.dir, Options{Durability: SyncNever})
		if err != nil {
			c.t.Fatal(err)
		}
		again = append(again, q)
	}
	for _, q := range again {
		if err := q.Close(); err != nil {
			c.t.Error(err)
		}
	}
	if slots, files := c.left(); len(slots) > 0 || len(files) > 0 {
		c.t.Errorf("%d slots are marked in use and the files %q are left, want none", len(slots), files)
	}
	rep, err := wal.Verify(c.t.Context(), c.dir, nil)
	if err != nil || len(rep.Faults) > 0 {
		c.t.Errorf("verify: %v, %v", rep.Faults, err)
	}
}

// left is what those who are gone have left: slots that are marked in use, and files
// that were never finished.
func (c *crowd) left() (slots []Participant, files []string) {
	c.t.Helper()
	q, err := Open(c.t.Context(), c.dir, Options{ReadOnly: true}) // takes no slot
	if err != nil {
		c.t.Fatal(err)
	}
	st, err := q.Stats()
	if err := errors.Join(err, q.Close()); err != nil {
		c.t.Fatal(err)
	}
	files, err = filepath.Glob(filepath.Join(c.dir, "log", "tmp.*"))
	if err != nil {
		c.t.Fatal(err)
	}
	return st.Participants, files
}

func TestStormACrowdComesAndGoesAndLosesNothing(t *testing.T) {
	needProcesses(t)
	size, lasts, killEvery := 24, 1500*time.Millisecond, 40*time.Millisecond
	if storm := os.Getenv("WALQ_STORM"); storm != "" {
		d, err := time.ParseDuration(storm)
		if err != nil {
			t.Fatalf("WALQ_STORM: %v", err)
		}
		size, lasts = 100, max(d, time.Minute)
	}
	c := &crowd{
		t: t, dir: filepath.Join(t.TempDir(), "q"), acks: t.TempDir(),
		random: rand.New(rand.NewPCG(testx.Seed(t), 0)), killed: map[string]bool{},
	}
	q, err := Open(t.Context(), c.dir, Options{Create: &QueueOptions{SegmentSize: 64 << 10}})
	if err == nil {
		err = q.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	c.storm(size, lasts, killEvery)
	c.account()
	if !t.Failed() {
		c.tidy(size + 1)
	}
}
