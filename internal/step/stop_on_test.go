//go:build walqsteps && linux

package step

import (
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestAStoppedProcessStandsAtItsStepUntilItIsContinued(t *testing.T) {
	cmd, out := child("CommitBefore:2=stop")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var status unix.WaitStatus
	if _, err := unix.Wait4(cmd.Process.Pid, &status, unix.WUNTRACED, nil); err != nil {
		t.Fatal(err)
	}
	if !status.Stopped() || status.StopSignal() != syscall.SIGSTOP {
		t.Fatalf("wait status %#x, want stopped by SIGSTOP", status)
	}
	if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if got, want := out.String(), "passed 1\npassed 2\npassed 3\n"; got != want {
		t.Errorf("printed %q, want %q", got, want)
	}
}
