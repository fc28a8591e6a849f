//go:build walqsteps

package powercut

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/walq/walq/internal/faults"
	"github.com/walq/walq/internal/step"
	"github.com/walq/walq/internal/testx"
)

// recoverySteps are those that a recovery after a power loss passes.
var recoverySteps = []step.ID{
	step.RecoverLocked, step.RecoverScanned, step.RecoverCutCleared, step.RecoverJumpWritten, step.RecoverJumpSynced,
	step.RecoverQuarantined, step.RollTempMade, step.RollHeaderSynced, step.RollLinked, step.RollTempUnlinked, step.RollDirSynced,
	step.RecoverSegmentMade, step.RecoverControlWritten, step.RecoverControlSynced,
	step.SlotLocked, step.SlotPadded, step.SlotIncarnationRaised,
}

// The power goes while a recovery stands at a step. The next one finishes it, and
// whoever stood there goes on to find a dead disk, which is an error.
func TestThePowerMayGoAtAnyStepOfRecovery(t *testing.T) {
	if testx.Race {
		testx.Skip(t, "several processes cannot share heap memory")
	}
	random := rand.New(rand.NewPCG(testx.Seed(t), 0))
	// Here a store into a page of a dead disk is a fault, not only its sync an error.
	s := newSite(t, testx.BuildBinary(t, "walqsteps"), random, "nodelalloc")
	s.create()
	s.storm()
	for i, id := range recoverySteps {
		for _, goesOn := range []bool{false, true} {
			s.round = i + 1
			s.stopRecovery(id, goesOn)
			s.recover(20)
			if s.poisoned || t.Failed() {
				t.Fatalf("%v, goes on %v: poisoned %v", id, goesOn, s.poisoned)
			}
		}
	}
}

func (s *site) stopRecovery(id step.ID, goesOn bool) {
	p := s.recoverer("WALQ_STEP=" + fmt.Sprint(id) + "=stop")
	testx.Eventually(s.t, patience, func() bool {
		if !p.Running() {
			s.t.Fatalf("it ended before %v: %s", id, p.Talk())
		}
		return stopped(p)
	}, "recovery comes to "+id.String())
	s.disk.Cut(s.t, faults.CutAtOnce)
	if goesOn {
		if err := p.Cmd.Process.Signal(syscall.SIGCONT); err != nil {
			s.t.Fatal(err)
		}
		p.Await(s.t)
		if how := p.Crashed(false); how != "" {
			s.t.Errorf("at %v: it crashed (%s):\n%s", id, how, p.Talk())
		} else if p.Code() != 1 {
			s.t.Errorf("at %v: got exit %d, want 1: %s", id, p.Code(), p.Talk())
		}
	}
	s.safe, s.dying = nil, false
	s.end([]*faults.Putter{p}, nil, nil)
}

// stopped reports whether the process was stopped by a signal.
func stopped(p *faults.Putter) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.Cmd.Process.Pid))
	_, rest, _ := strings.Cut(string(stat), ") ")
	return err == nil && strings.HasPrefix(rest, "T")
}
