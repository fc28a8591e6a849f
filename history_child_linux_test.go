package walq_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/walq/walq"
	"github.com/walq/walq/internal/history"
	"github.com/walq/walq/internal/testx"
	"github.com/walq/walq/wal"
)

// The parts of a history with several processes are played by this test binary
// again, told by its environment what to be. It becomes that here, before it is a
// test at all.
func init() {
	dir := os.Getenv("WALQ_HISTORY_QUEUE")
	if dir == "" {
		return
	}
	if err := playPart(dir); err != nil {
		fmt.Fprintln(os.Stderr, os.Getenv("WALQ_HISTORY_LOG"), err)
		os.Exit(1)
	}
	os.Exit(0)
}

// playPart is the life of such a process. It leaves in order when its input ends.
func playPart(dir string) (err error) {
	path := os.Getenv("WALQ_HISTORY_LOG")
	seed, err := strconv.ParseUint(os.Getenv("WALQ_HISTORY_SEED"), 10, 64)
	if err != nil {
		return err
	}
	most, err := strconv.ParseInt(os.Getenv("WALQ_HISTORY_CALLS"), 10, 64)
	if err != nil {
		return err
	}
	log, err := history.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	end := make(chan struct{})
	go func() {
		defer close(end)
		_, _ = io.Copy(io.Discard, os.Stdin)
	}()
	p := &part{dir: dir, name: filepath.Base(path), log: log, random: rand.New(rand.NewPCG(seed, 0)), most: most, end: end}
	if place := os.Getenv("WALQ_HISTORY_PLACE"); place != "" {
		if p.place, err = os.OpenFile(place, os.O_CREATE|os.O_RDWR, 0o600); err != nil {
			return err
		}
		return errors.Join(p.read(context.Background()), p.place.Close())
	}
	return p.write(context.Background())
}

// An actor is one part of a cast, which many processes play one after the other.
type actor struct {
	name    string
	place   string // of a reader
	lives   int
	cmd     *exec.Cmd
	in      io.Closer
	talk    strings.Builder
	ended   chan struct{}
	outcome error
	until   time.Time // it is stopped until then; zero: it is not
}

// A cast is the processes that make a history.
type cast struct {
	t      *testing.T
	dir    string // the queue
	logs   string // directory of the logs
	random *rand.Rand
	most   int // calls in a life
	actors []*actor
	deaths int
	stops  int
}

// newCast makes a queue and those who will use it.
func newCast(t *testing.T, random *rand.Rand, o walq.QueueOptions, most, writers, readers int) *cast {
	t.Helper()
	c := &cast{t: t, dir: newDir(t), logs: t.TempDir(), random: random, most: most}
	closeQueue(t, open(t, c.dir, walq.Options{Create: &o}))
	places := t.TempDir()
	for i := range writers {
		c.actors = append(c.actors, &actor{name: fmt.Sprint("w", i)})
	}
	for i := range readers {
		name := fmt.Sprint("r", i)
		c.actors = append(c.actors, &actor{name: name, place: filepath.Join(places, name)})
	}
	t.Cleanup(c.killAll)
	return c
}

// enter begins the next life of an actor.
func (c *cast) enter(a *actor) {
	c.t.Helper()
	self, err := os.Executable()
	if err != nil {
		c.t.Fatal(err)
	}
	a.lives++
	a.talk.Reset()
	a.ended = make(chan struct{})
	a.cmd = exec.Command(self)
	a.cmd.Stderr = &a.talk
	a.cmd.Env = append(os.Environ(), "WALQ_HISTORY_QUEUE="+c.dir, "WALQ_HISTORY_PLACE="+a.place,
		"WALQ_HISTORY_LOG="+filepath.Join(c.logs, fmt.Sprintf("%s.%d", a.name, a.lives)),
		fmt.Sprint("WALQ_HISTORY_SEED=", c.random.Uint64()), fmt.Sprint("WALQ_HISTORY_CALLS=", c.most))
	in, err := a.cmd.StdinPipe()
	if err == nil {
		err = a.cmd.Start()
	}
	if err != nil {
		c.t.Fatal(err)
	}
	a.in = in
	go func(cmd *exec.Cmd, ended chan struct{}) {
		a.outcome = cmd.Wait()
		close(ended)
	}(a.cmd, a.ended)
}

func (c *cast) enterAll() {
	c.t.Helper()
	for _, a := range c.actors {
		c.enter(a)
	}
}

// alive reports whether an actor is on the stage. It fails if one left by an error.
func (c *cast) alive(a *actor) bool {
	c.t.Helper()
	select {
	case <-a.ended:
		if a.outcome != nil {
			c.t.Fatalf("life %d of %s ended by itself: %v\n%s", a.lives, a.name, a.outcome, &a.talk)
		}
		return false
	default:
		return true
	}
}

// kill ends a life, wherever it is.
func (c *cast) kill(a *actor) {
	if a.cmd == nil {
		return
	}
	_ = a.cmd.Process.Kill() // it may have left already
	<-a.ended
	a.until = time.Time{}
	a.cmd = nil
	c.deaths++
}

// killAll ends all lives at once: whoever opens the queue next recovers it.
func (c *cast) killAll() {
	for _, a := range c.actors {
		if a.cmd != nil {
			_ = a.cmd.Process.Kill()
		}
	}
	for _, a := range c.actors {
		c.kill(a)
	}
}

// stop stops an actor where it is, for a while.
func (c *cast) stop(a *actor, lasts time.Duration) {
	if a.until.IsZero() {
		_ = a.cmd.Process.Signal(syscall.SIGSTOP) // it may have left already
		c.stops++
	}
	a.until = time.Now().Add(lasts)
}

// resume lets those go on whose time has come.
func (c *cast) resume(now time.Time) {
	for _, a := range c.actors {
		if !a.until.IsZero() && now.After(a.until) {
			_ = a.cmd.Process.Signal(syscall.SIGCONT)
			a.until = time.Time{}
		}
	}
}

// leave lets all actors leave in order, and wants them to.
func (c *cast) leave() {
	c.t.Helper()
	c.resume(time.Now().Add(time.Hour))
	for _, a := range c.actors {
		_ = a.in.Close() // who left has closed its end
	}
	for _, a := range c.actors {
		testx.Eventually(c.t, 3*patience, func() bool { return !c.alive(a) }, a.name+" leaves")
		a.cmd = nil
	}
}

// judge reads the logs and the queue, which nobody has open any more.
func (c *cast) judge() (logs []history.Log, final history.Final) {
	c.t.Helper()
	logs, err := history.LoadAll(c.logs)
	if err != nil {
		c.t.Fatal(err)
	}
	final = lastReading(c.t, c.dir)
	for _, wrong := range history.Check(logs, final) {
		c.t.Error(wrong)
	}
	rep, err := wal.Verify(c.t.Context(), c.dir, nil)
	if err != nil || len(rep.Faults) > 0 {
		c.t.Errorf("verify: got %v, %v, want no faults", rep.Faults, err)
	}
	return logs, final
}
