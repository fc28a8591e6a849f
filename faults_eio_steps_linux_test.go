//go:build walqsteps

package walq_test

import (
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"

	"github.com/walq/walq/internal/faults"
	"github.com/walq/walq/internal/testx"
)

// victim adds a process that meets steps.
func (c *crew) victim(steps string, flags ...string) *faults.Putter {
	c.t.Helper()
	cmd := exec.Command(c.bin, append([]string{"put", c.dir, "--ack"}, flags...)...)
	cmd.Env = append(cmd.Environ(), "WALQ_STEP="+steps)
	p := faults.PutBy(c.t, cmd, "victim", true)
	c.putters = append(c.putters, p)
	return p
}

func TestWhicheverSyncFailsEverybodyLearnsOfIt(t *testing.T) {
	needProcesses(t)
	random := rand.New(rand.NewPCG(testx.Seed(t), 0))
	every := make([]string, 100)
	for i := range every {
		every[i] = fmt.Sprintf("SyncFlushBefore:%d=eio", i+1)
	}
	for name, steps := range map[string]string{
		"the first": every[0],
		"the n-th":  every[1+random.IntN(20)],
		"every":     strings.Join(every, ","),
	} {
		t.Run(name, func(t *testing.T) {
			c := newCrew(t, testx.BuildBinary(t, "walqsteps"), "", "--segment-size", "256K")
			others := c.others()
			c.poisoned(c.victim(steps), others)
		})
	}
}

// The victim dies when the poison is set and the reason perhaps not on disk.
func TestAPoisonOutlivesWhoSetIt(t *testing.T) {
	needProcesses(t)
	c := newCrew(t, testx.BuildBinary(t, "walqsteps"), "", "--segment-size", "256K")
	others := c.others()
	victim := c.victim("SyncFlushBefore:3=eio,SyncPoisoned=kill")
	victim.Await(t)
	if code := victim.Code(); code != -1 {
		t.Errorf("the victim was not killed: exit %d: %s", code, victim.Talk())
	}
	for _, p := range others {
		c.ends(p.Process, 1, "the queue is poisoned")
	}
	c.sound()
	c.ends(c.put(nil, "later").Process, 1, "the queue is poisoned", "input/output error")
}

// The nearest to a syncer that is told of a failure and dies before it says so.
func TestDeathBeforeASyncPoisonsNothing(t *testing.T) {
	needProcesses(t)
	c := newCrew(t, testx.BuildBinary(t, "walqsteps"), "", "--segment-size", "256K")
	others := c.others()
	victim := c.victim("SyncFlushBefore:3=kill")
	victim.Await(t)
	for _, p := range others {
		c.await(p, 300)
	}
	c.finish(others...)
	c.sound()
}
