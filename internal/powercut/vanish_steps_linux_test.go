//go:build walqsteps

package powercut

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/walq/walq/internal/faults"
	"github.com/walq/walq/internal/step"
	"github.com/walq/walq/internal/testx"
)

// An outsider empties the files of the log while a recovery stands at a step.
// Whoever recovers ends with an error that says which file it was, unless nothing
// of what is gone is looked at any more.
func TestTheLogMayBeTruncatedAtAnyStepOfRecovery(t *testing.T) {
	if testx.Race {
		testx.Skip(t, "several processes cannot share heap memory")
	}
	bin := testx.BuildBinary(t, "walqsteps")
	for _, id := range recoverySteps {
		t.Run(id.String(), func(t *testing.T) {
			t.Parallel()
			truncateUnderRecovery(t, bin, id)
		})
	}
}

func truncateUnderRecovery(t *testing.T, bin string, id step.ID) {
	s := &site{t: t, bin: bin, dir: filepath.Join(t.TempDir(), "q"), making: []string{"--segment-size", "64K"}}
	s.create()
	first := faults.Put(t, nil, bin, s.dir, "first")
	s.await(first, 10)
	first.Kill()
	p := s.recoverer("WALQ_STEP=" + fmt.Sprint(id) + "=stop")
	testx.Eventually(t, patience, func() bool { return !p.Running() || stopped(p) }, "recovery comes to "+id.String())
	all, err := filepath.Glob(filepath.Join(s.dir, "log", "*"))
	if err != nil || len(all) == 0 {
		t.Fatalf("no files in the log: %v", err)
	}
	for _, path := range all {
		if err := os.Truncate(path, 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	p.Finish(5)
	p.Await(t)
	if how := p.Crashed(false); how != "" {
		t.Errorf("it crashed (%s):\n%s", how, p.Talk())
	} else if p.Code() != 0 && (p.Code() != 1 || !strings.Contains(p.Talk(), filepath.Join(s.dir, "log"))) {
		t.Errorf("got exit %d, want 0, or 1 and the name of a file: %s", p.Code(), p.Talk())
	}
}
