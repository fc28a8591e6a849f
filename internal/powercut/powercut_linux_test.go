//go:build !race

package powercut

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/walq/walq"
	"github.com/walq/walq/internal/faults"
	"github.com/walq/walq/internal/testx"
)

// patience is for a machine under load: only what never happens takes longer.
const patience = time.Minute

// defaultCuts is how often the power goes in an ordinary run of the tests.
const defaultCuts = 2

// cutsPerDisk is after how many cuts a new disk, formatted and mounted in another
// way, is begun.
const cutsPerDisk = 4

func cuts(t *testing.T) int {
	t.Helper()
	value := os.Getenv("WALQ_POWERCUT")
	if value == "" {
		return defaultCuts
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 {
		t.Fatalf("WALQ_POWERCUT=%s: want how often the power is to go", value)
	}
	return n
}

// Several writers append, others read and trim, and the power goes at a random
// moment; also while the queue is made, and while it is recovered. Afterwards
// every line that was acknowledged as durable, or seen by a reader of durable
// messages, is there, once, whole and in order, under the number that it was
// promised; no number was given twice; the queue is sound and takes new messages.
func TestThePowerGoesAndNothingThatWasAcknowledgedIsLost(t *testing.T) {
	random := rand.New(rand.NewPCG(testx.Seed(t), 0))
	bin := testx.BuildBinary(t)
	left := cuts(t)
	for disk := 0; left > 0; disk++ {
		n := min(left, cutsPerDisk)
		left -= n
		t.Run(fmt.Sprint("disk ", disk), func(t *testing.T) { stormOnOneDisk(t, bin, random, n) })
		if t.Failed() {
			return
		}
	}
}

func stormOnOneDisk(t *testing.T, bin string, random *rand.Rand, cuts int) {
	s := newSite(t, bin, random, mounts[random.IntN(len(mounts))])
	if random.IntN(2) == 0 {
		s.create()
	}
	for s.round = range cuts {
		s.storm()
		for range random.IntN(3) {
			s.cutRecovery()
		}
		s.recover(20)
		if t.Failed() || s.poisoned {
			return
		}
	}
}

// A site is a queue on a disk whose power goes.
type site struct {
	t       *testing.T
	bin     string
	random  *rand.Rand
	disk    *faults.Disk
	dir     string
	making  []string // flags with which the queue is made
	made    bool     // the queue is there
	account faults.Account
	round   int
	tries   int // recoveries so far

	safe          map[string]int // by putter, its acknowledgements that are safe from the last cut
	dying         bool           // the processes were there to see the last cut
	mayBePoisoned bool           // and may have said so on the disk
	poisoned      bool           // the queue is, so that it has no future
}

// formats and mounts are ways to make and mount a file system in which more or
// less of a page is written at once, and data and names in this or that order.
var (
	formats = [][]string{nil, {"-b", "1024"}}
	mounts  = []string{"", "data=writeback", "commit=1", "nodelalloc"}
)

func newSite(t *testing.T, bin string, random *rand.Rand, mount string) *site {
	format := formats[random.IntN(len(formats))]
	s := &site{t: t, bin: bin, random: random, disk: faults.NewDisk(t, 256, mount, format...)}
	s.dir = filepath.Join(s.disk.Dir, "q")
	s.making = []string{"--segment-size", []string{"64K", "256K", "1M"}[random.IntN(3)]}
	if random.IntN(3) == 0 {
		s.making = append(s.making, "--max-bytes", "3M")
	}
	t.Logf("mkfs %q, mount %q, queue %q", format, mount, s.making)
	return s
}

func (s *site) create() {
	code, _, talk := faults.Run(s.t, s.bin, append([]string{"create", s.dir}, s.making...)...)
	if code != 0 {
		s.t.Fatalf("create: exit %d: %s", code, talk)
	}
	s.made = true
}

// casts are those who work when the power goes.
var casts = [][][]string{
	{{}, {}, {}},
	{{}, {"--batch", "10"}, {"--topic", "t", "--key", "k"}},
	{{}, {"--sync", "interval"}, {"--sync", "interval", "--batch", "7"}},
	{{}, {"--sync", "never"}, {"--batch", "40"}},
	{{"--sync", "interval"}, {"--sync", "never"}},
}

// storm lets several processes work until the power goes.
func (s *site) storm() {
	cast := casts[s.random.IntN(len(casts))]
	delay := time.Duration(s.random.Int64N(int64(200 * time.Millisecond)))
	how := []faults.Cut{faults.CutAtOnce, faults.CutAtOnce, faults.CutAtOnce, faults.CutJournal, faults.CutSynced}[s.random.IntN(5)]
	s.t.Logf("round %d: %q, cut %d after %v", s.round, cast, how, delay)
	var putters []*faults.Putter
	for i, flags := range cast {
		if !s.made {
			flags = append(flags[:len(flags):len(flags)], s.making...)
		}
		putters = append(putters, faults.Put(s.t, nil, s.bin, s.dir, fmt.Sprintf("r%dw%d", s.round, i), flags...))
	}
	var followers []*follower
	if s.made {
		for _, p := range putters {
			s.await(p, 1)
		}
		followers = []*follower{s.follow("--durable"), s.follow()}
	} else {
		delay /= 4 // in the middle of making it, perhaps
	}
	trims := s.trimAgainAndAgain()
	time.Sleep(delay)
	s.cut(how, s.random.IntN(4) == 0, putters, followers, trims)
	s.end(putters, followers, trims)
}

// await waits until the putter has n acknowledgements.
func (s *site) await(p *faults.Putter, n int) {
	s.t.Helper()
	testx.Eventually(s.t, patience, func() bool {
		if !p.Running() {
			s.t.Fatalf("%s ended with exit %d: %s", p.Name, p.Code(), p.Talk())
		}
		return len(p.Acks()) >= n
	}, p.Name+" appends")
}

// A trimmer runs `walq trim` again and again; a nil one does nothing.
type trimmer struct {
	mu   sync.Mutex
	over bool            // no further one is to start
	now  *faults.Process // the latest one, nil before the first
	done chan struct{}
}

func (s *site) trimAgainAndAgain() *trimmer {
	r := &trimmer{done: make(chan struct{})}
	go func() {
		defer close(r.done)
		for r.next(s) {
			<-r.now.Ended() // with an error when the power goes
		}
	}()
	return r
}

func (r *trimmer) next(s *site) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over || !s.made {
		return false
	}
	var out faults.Text
	r.now = faults.Start(s.t, "trim", exec.Command(s.bin, "trim", s.dir), &out)
	return true
}

// freeze freezes the one that runs, and no other starts.
func (r *trimmer) freeze() {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.over = true
	if r.now != nil {
		r.now.Freeze()
	}
}

func (r *trimmer) end(t *testing.T) {
	if r == nil {
		return
	}
	r.mu.Lock()
	r.over = true
	r.mu.Unlock()
	if r.now == nil {
		return
	}
	r.now.Kill()
	<-r.done
	if how := r.now.Crashed(true); how != "" {
		t.Errorf("trim crashed (%s):\n%s", how, r.now.Talk())
	}
}

// cut cuts the power, and keeps what was promised until then. A machine without
// power does nothing more, so the processes are frozen right before: what the kernel
// answers to them while it lets go of the disk is no word of the disk.
//
// A dying disk is seen by them, since they are not: they may say so on the disk, if
// a page that tells of the poison was about to be written anyway.
func (s *site) cut(how faults.Cut, dying bool, putters []*faults.Putter, followers []*follower, trims *trimmer) {
	s.safe = map[string]int{}
	s.dying = dying
	s.mayBePoisoned = s.mayBePoisoned || s.dying
	for _, p := range putters {
		s.safe[p.Name] = p.Safe()
		if !s.dying {
			p.Freeze()
		}
	}
	for _, f := range followers {
		f.safe = len(f.out.String())
		if !s.dying {
			f.Freeze()
		}
	}
	if !s.dying {
		trims.freeze()
	}
	s.disk.Cut(s.t, how)
}

// end lets go of everybody, whose disk is gone, and enters what they know.
func (s *site) end(putters []*faults.Putter, followers []*follower, trims *trimmer) {
	if s.dying { // they have a moment to notice: a disk that dies ends nobody but by an error
		time.Sleep(time.Duration(s.random.Int64N(int64(100 * time.Millisecond))))
	}
	for _, p := range putters {
		p.Kill()
		if how := p.Crashed(true); how != "" {
			s.t.Errorf("%s crashed (%s):\n%s", p.Name, how, p.Talk())
		}
		s.account.Add(p, s.safe[p.Name])
	}
	for _, f := range followers {
		f.Kill()
		if how := f.Crashed(true); how != "" {
			s.t.Errorf("%s crashed (%s):\n%s", f.Name, how, f.Talk())
		}
		f.enter(s)
	}
	trims.end(s.t)
	s.disk.Replug(s.t)
}

// A follower prints messages as they come.
type follower struct {
	*faults.Process
	durable bool
	out     faults.Text
	safe    int // so many bytes of it were printed when the power went
}

func (s *site) follow(flags ...string) *follower {
	f := &follower{durable: len(flags) > 0}
	cmd := exec.Command(s.bin, append([]string{"cat", s.dir, "-f", "--from", "newest", "-o", "json"}, flags...)...)
	f.Process = faults.Start(s.t, fmt.Sprint("follower ", flags), cmd, &f.out)
	return f
}

// enter enters what the follower printed, but for a last line that is cut short.
func (f *follower) enter(s *site) {
	at := 0
	for line := range strings.Lines(f.out.String()) {
		at += len(line)
		if !strings.HasSuffix(line, "\n") {
			continue
		}
		var m struct {
			Seq  uint64
			Body string
		}
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			s.t.Errorf("%s printed %.60q: %v", f.Name, line, err)
			continue
		}
		see := s.account.See
		if f.durable && at <= f.safe {
			see = s.account.SeeDurable
		}
		if wrong := see(m.Seq, m.Body); wrong != "" {
			s.t.Errorf("%s: %s", f.Name, wrong)
		}
	}
}

// cutRecovery lets the power go while somebody recovers the queue, or just after.
func (s *site) cutRecovery() {
	delay := time.Duration(s.random.Int64N(int64(30 * time.Millisecond)))
	s.t.Logf("round %d: recovery is cut after %v", s.round, delay)
	p := s.recoverer()
	time.Sleep(delay)
	all := []*faults.Putter{p}
	s.cut(faults.CutAtOnce, false, all, nil, nil)
	s.end(all, nil, nil)
}

// recoverer starts a process that opens the queue as after a restart of the
// machine, and then appends.
func (s *site) recoverer(env ...string) *faults.Putter {
	self, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	s.tries++
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), append(env, recoverEnv+"="+s.dir)...)
	return faults.PutBy(s.t, cmd, fmt.Sprint("recoverer", s.tries), true)
}

// recover makes the queue fit for use, appends n messages or more and checks everything.
func (s *site) recover(n int) {
	// What verify says of a queue that nobody recovered yet is open; it must not
	// crash.
	_, _, _ = faults.Run(s.t, s.bin, "verify", s.dir)
	highest := s.account.Highest()
	p := s.recoverer()
	p.Finish(n)
	p.Await(s.t)
	code, acks := p.Code(), p.Acks()
	switch {
	case code == 1 && s.mayBePoisoned && strings.Contains(p.Talk(), walq.ErrPoisoned.Error()):
		s.poisoned = true
	case code != 0 || len(acks) < n:
		s.t.Fatalf("recovery ended with exit %d and %d acks, want 0 and %d or more:\n%s", code, len(acks), n, p.Talk())
	case acks[0] <= highest:
		s.t.Errorf("the first new number is %d, and somebody knows number %d already", acks[0], highest)
	}
	s.account.Add(p, p.Safe())
	s.made, s.mayBePoisoned = true, false
	code, out, talk := faults.Run(s.t, s.bin, "verify", s.dir)
	if code != 0 {
		s.t.Errorf("verify: exit %d\n%s%s", code, out, talk)
	}
	all, first, poisoned, err := contents(s.t.Context(), s.dir)
	if err != nil {
		s.t.Fatal(err)
	}
	if poisoned != s.poisoned {
		s.t.Errorf("poisoned: got %v, want %v", poisoned, s.poisoned)
	}
	wrong := s.account.Check(all, first, true)
	for _, text := range wrong[:min(len(wrong), 10)] {
		s.t.Error(text)
	}
	if n := len(wrong); n > 10 {
		s.t.Errorf("and %d more", n-10)
	}
	s.account.Settle(all)
	s.t.Logf("round %d: %d messages from %d on, %d of them new, poisoned %v", s.round, len(all), first, len(acks), poisoned)
}

// contents reads the whole queue.
func contents(ctx context.Context, dir string) (all []walq.Message, first uint64, poisoned bool, err error) {
	q, err := walq.Open(ctx, dir, walq.Options{ReadOnly: true})
	if err != nil {
		return nil, 0, false, err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	s, err := q.Stats()
	if err != nil {
		return nil, 0, false, err
	}
	r, err := q.Reader(walq.Oldest, walq.ReaderOptions{})
	if err != nil {
		return nil, 0, false, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	for m, err := range r.All(ctx) {
		if err != nil {
			return nil, 0, false, err
		}
		all = append(all, m.Clone())
	}
	return all, uint64(s.FirstSeq), s.Poisoned != nil, nil
}
