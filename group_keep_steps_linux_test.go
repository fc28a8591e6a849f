//go:build walqsteps && !race

package walq_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/walq/walq"
	"github.com/walq/walq/internal/step"
	"github.com/walq/walq/internal/testx"
)

// A process that trims is killed, or stopped, at each step, also of the checkpoint that it
// makes for a group. No message is missing that the group must keep, and appends go on: at
// once, but for where a checkpoint was stopped in.
func TestWhoTrimsForAGroupMayDieOrStopAtAnyStep(t *testing.T) {
	needProcesses(t)
	bin := testx.BuildBinary(t, "walqsteps")
	ofCheckpoint := []step.ID{step.GroupCheckpointReady, step.CheckpointWritten}
	for _, action := range []string{"kill", "stop"} {
		for _, id := range append([]step.ID{step.TrimAsked, step.TrimOldestSet, step.TrimControlSynced, step.TrimUnlinked}, ofCheckpoint...) {
			t.Run(fmt.Sprint(action, " at ", id), func(t *testing.T) {
				t.Parallel()
				for range 20 { // until it is the victim who makes the checkpoint
					if trimAndDie(t, bin, id, action, slices.Contains(ofCheckpoint, id)) {
						return
					}
				}
				t.Error("the victim never came to the step")
			})
		}
	}
}

// trimAndDie is false if the victim ended without having come to the step.
func trimAndDie(t *testing.T, bin string, id step.ID, action string, ofCheckpoint bool) bool {
	q := limited(t, 4, walq.FailWhenFull)
	g := newGroup(t, q, "g", walq.GroupOptions{})
	last, _ := fillQueue(t, q)
	wantAllOf(t, g, 1, last/2)
	victim := exec.Command(bin, "trim", q.Path(), "--before", fmt.Sprint(last/2), "--yes")
	victim.Env = append(os.Environ(), fmt.Sprintf("WALQ_STEP=%v=%s", id, action))
	victim.Stderr = &talk{}
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- victim.Wait() }()
	stopped := false
	testx.Eventually(t, patience, func() bool {
		select {
		case err := <-ended:
			ended <- err
			return true
		default:
			stopped = isStopped(t, victim.Process.Pid)
			return stopped
		}
	}, "the victim comes to the step, or to its end")
	defer func() {
		if stopped {
			if err := victim.Process.Signal(syscall.SIGCONT); err != nil {
				t.Error(err)
			}
		}
		<-ended
		for range 60 { // with whatever it does then
			if _, err := q.Append(t.Context(), make([]byte, 1000)); errors.Is(err, walq.ErrFull) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
		}
		wantAllOf(t, g, last/2+1, stats(t, q).LastSeq)
		if _, err := q.Trim(t.Context()); err != nil {
			t.Error(err)
		}
		if n := onDisk(t, q); n > 4*smallest {
			t.Errorf("%d bytes are left, want at most %d", n, 4*smallest)
		}
		closeQueue(t, q)
	}()
	if !stopped {
		err := <-ended
		ended <- err
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL && action == "kill" {
			appendText(t, q, "there is room")
			return true
		}
		if err != nil {
			t.Fatalf("the victim: %v: %s", err, victim.Stderr)
		}
		return false
	}
	switch _, err := q.Append(t.Context(), make([]byte, 1000)); {
	case ofCheckpoint && err != nil && !errors.Is(err, walq.ErrFull), !ofCheckpoint && err != nil:
		t.Errorf("an append while the victim is stopped: %v", err)
	}
	time.Sleep(10 * time.Millisecond) // the victim is not quick either
	return true
}

// isStopped reports whether the process was stopped by a signal.
func isStopped(t *testing.T, pid int) bool {
	t.Helper()
	p, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false // it ended
	}
	i := slices.Index(p, ')')
	return i > 0 && len(p) > i+2 && p[i+2] == 'T'
}
