//go:build !race

package walq_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/walq/walq"
	"github.com/walq/walq/internal/faults"
	"github.com/walq/walq/internal/testx"
)

// others are processes that work on the queue when somebody's sync fails.
func (c *crew) others() []*faults.Putter {
	c.t.Helper()
	all := []*faults.Putter{
		c.put(nil, "always"), c.put(nil, "interval", "--sync", "interval"), c.put(nil, "never", "--sync", "never"),
	}
	for _, p := range all {
		c.await(p, 1)
	}
	return all
}

// follow starts a process that prints what comes.
func (c *crew) follow() (*faults.Process, *faults.Text) {
	c.t.Helper()
	out := new(faults.Text)
	return faults.Start(c.t, "follower", exec.Command(c.bin, "cat", c.dir, "-f"), out), out
}

// poisoned fails unless the victim's failed sync is known to everybody: to those
// who append, who say why and since when, and to those who come later. Reading
// goes on, and nothing that was acknowledged is lost. They say which file it was
// too, if the words are to have it.
func (c *crew) poisoned(victim *faults.Putter, others []*faults.Putter, words ...string) {
	c.t.Helper()
	said := append([]string{"the queue is poisoned", "(at 20", "input/output error"}, words...)
	c.ends(victim.Process, 1, said...)
	for _, p := range others {
		c.ends(p.Process, 1, "the queue is poisoned")
		// Who is told in the moment in which the reason is written does not see it.
		if talk := p.Talk(); !strings.Contains(talk, ": a sync failed)") {
			for _, word := range said {
				if !strings.Contains(talk, word) {
					c.t.Errorf("%s: it does not say %q:\n%s", p.Name, word, talk)
				}
			}
		}
	}
	before := len(c.sound())
	for range 2 { // it is not forgotten
		again := c.put(nil, "later")
		c.ends(again.Process, 1, said...)
		if acks := again.Acks(); len(acks) > 0 {
			c.t.Errorf("somebody who came later got %d messages acknowledged", len(acks))
		}
		c.putters = nil
	}
	if code, out, talk := c.run("cat"); code != 0 || strings.Count(out, "\n") != before {
		c.t.Errorf("cat: exit %d, %d lines, want %d: %s", code, strings.Count(out, "\n"), before, talk)
	}
	if code, out, _ := c.run("stat", "-o", "json"); code != 0 || !strings.Contains(out, "input/output error") {
		c.t.Errorf("stat: exit %d, want 0 and the cause: %s", code, out)
	}
	c.sound()
}

// failing is a command that runs another whose system calls fail: expression is
// one of strace's option inject.
func failing(t *testing.T, expression string) []string {
	t.Helper()
	needProcesses(t)
	path, err := exec.LookPath("strace")
	if err != nil {
		testx.Skip(t, "needs strace")
	}
	wrap := []string{path, "-f", "-qq", "-o", "/dev/null", "-e", "trace=msync,fsync,sync_file_range", "-e", "inject=" + expression}
	if out, err := exec.Command(path, append(wrap[1:], "true")...).CombinedOutput(); err != nil {
		testx.Skip(t, "strace cannot trace or inject: "+string(out))
	}
	return wrap
}

// The segments are so large that none is made meanwhile: that its sync fails is a
// matter of who makes it, see below.
func TestEIOOfOneProcessPoisonsTheQueueForAll(t *testing.T) {
	for _, when := range []string{"1+", "2+", "7+"} {
		t.Run("msync "+when, func(t *testing.T) {
			wrap := failing(t, "msync:error=EIO:when="+when)
			c := newCrew(t, testx.BuildBinary(t), "", "--segment-size", "32M")
			others := c.others()
			follower, printed := c.follow()
			victim := c.put(wrap, "victim")
			c.poisoned(victim, others, c.dir)
			all, _, err := allOf(t.Context(), c.dir)
			if err != nil {
				t.Fatal(err)
			}
			testx.Eventually(t, patience, func() bool { return strings.Count(printed.String(), "\n") == len(all) }, "the follower has printed all")
			if !follower.Running() {
				t.Errorf("the follower ended: %s", follower.Talk())
			}
		})
	}
}

// Blocks ahead of the tail are written without waiting; that they cannot be is told to
// nobody but who asked for it.
func TestEIOOfAWriteAheadPoisonsTheQueueForAll(t *testing.T) {
	wrap := failing(t, "sync_file_range:error=EIO:when=1+")
	c := newCrew(t, testx.BuildBinary(t), "", "--segment-size", "32M")
	others := c.others()
	c.poisoned(c.put(wrap, "victim"), others, c.dir)
}

// A seccomp filter answers EPERM to what it does not know: that is no failure of a disk.
func TestNoEIOIfAFilterRefusesToWriteAhead(t *testing.T) {
	wrap := failing(t, "sync_file_range:error=EPERM:when=1+")
	c := newCrew(t, testx.BuildBinary(t), "", "--segment-size", "32M")
	p := c.put(wrap, "filtered")
	c.await(p, 300)
	c.finish(p)
	c.sound()
}

func TestEIOWhileAQueueIsOpenedPoisonsIt(t *testing.T) {
	wrap := failing(t, "msync:error=EIO:when=1+")
	c := newCrew(t, testx.BuildBinary(t), "", "--segment-size", "32M")
	first := c.put(nil, "first")
	c.await(first, 10)
	c.finish(first)
	victim := c.put(wrap, "victim")
	c.poisoned(victim, nil, c.dir)
}

// A segment is synced as a file before it gets its name, and the directory after.
func TestEIOWhileASegmentIsMadeLosesNothing(t *testing.T) {
	for _, when := range []string{"1+", "2+"} {
		t.Run("fsync "+when, func(t *testing.T) {
			wrap := failing(t, "fsync:error=EIO:when="+when)
			c := newCrew(t, testx.BuildBinary(t), "", "--segment-size", "64K")
			victim := c.put(wrap, "victim")
			c.ends(victim.Process, 1, "input/output error", c.dir)
			c.sound()
			_, s, err := allOf(t.Context(), c.dir)
			if err != nil {
				t.Fatal(err)
			}
			again := c.put(nil, "again")
			if s.Poisoned != nil {
				c.ends(again.Process, 1, walq.ErrPoisoned.Error())
			} else {
				c.await(again, 300) // beyond the end of the segment
				c.finish(again)
			}
			c.sound()
		})
	}
}

// Who dies in a sync may have been told of a failure and could not say so. Its
// intent makes the others sync the same range again; nothing is poisoned.
func TestDeathInASyncIsNoEIO(t *testing.T) {
	wrap := failing(t, "msync:error=EIO:signal=KILL:when=3")
	c := newCrew(t, testx.BuildBinary(t), "", "--segment-size", "256K")
	others := c.others()
	victim := c.put(wrap, "victim")
	victim.Await(t)
	if victim.Code() == 0 || victim.Code() == 1 {
		t.Errorf("the victim was not killed: exit %d: %s", victim.Code(), victim.Talk())
	}
	for _, p := range others {
		c.await(p, 300)
	}
	c.finish(others...)
	c.sound()
	if _, s, err := allOf(t.Context(), c.dir); err != nil || s.Poisoned != nil {
		t.Errorf("got %v, poisoned %v", err, s.Poisoned)
	}
}
