//go:build walqsteps

package step

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain makes this binary its own subprocess: with the variable set it
// passes CommitBefore so many times, tells each, and leaves.
func TestMain(m *testing.M) {
	if os.Getenv("STEP_TEST_CHILD") == "" {
		os.Exit(m.Run())
	}
	for n := range 3 {
		if err := Err(CommitBefore); err != nil {
			fmt.Printf("error %v\n", err)
		}
		fmt.Printf("passed %d\n", n+1)
	}
}

// child prepares the subprocess with its orders.
func child(orders string) (*exec.Cmd, *bytes.Buffer) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "STEP_TEST_CHILD=1", "WALQ_STEP="+orders)
	out := new(bytes.Buffer)
	cmd.Stdout, cmd.Stderr = out, out
	return cmd, out
}

func TestTheEnvironmentOrders(t *testing.T) {
	for _, c := range []struct {
		orders, output, exit string
	}{
		{"", "passed 1\npassed 2\npassed 3\n", "<nil>"},
		{"CommitBefore=kill", "", "signal: killed"},
		{"CommitBefore:3=kill", "passed 1\npassed 2\n", "signal: killed"},
		{"3:2=kill", "passed 1\n", "signal: killed"},
		{"CommitBefore:9=kill", "passed 1\npassed 2\npassed 3\n", "<nil>"},
		{"CommitBefore:2=exit", "passed 1\n", fmt.Sprintf("exit status %d", ExitStatus)},
		{"CommitBefore=eio", "error " + syscall.EIO.Error() + "\npassed 1\npassed 2\npassed 3\n", "<nil>"},
		{"CommitBefore:2=enospc,ClaimAfter=kill", "passed 1\nerror " + syscall.ENOSPC.Error() + "\npassed 2\npassed 3\n", "<nil>"},
		{"CommitBefore=sleep=1ms,CommitBefore:2=kill", "passed 1\n", "signal: killed"},
	} {
		t.Run(c.orders, func(t *testing.T) {
			cmd, out := child(c.orders)
			err := cmd.Run()
			if got := fmt.Sprint(err); got != c.exit {
				t.Errorf("ended with %s, want %s", got, c.exit)
			}
			if got := out.String(); got != c.output {
				t.Errorf("printed %q, want %q", got, c.output)
			}
		})
	}
}

func TestAMisspeltOrderEndsTheProcess(t *testing.T) {
	for _, orders := range []string{
		"CommitBefore", "NoSuchStep=kill", "0=kill", "9999=kill", "CommitBefore=die",
		"CommitBefore:0=kill", "CommitBefore:x=kill", "CommitBefore=sleep=long",
		"CommitBefore=kill,", ",", "CommitBefore= kill",
	} {
		t.Run(orders, func(t *testing.T) {
			cmd, out := child(orders)
			var exit *exec.ExitError
			if err := cmd.Run(); !errors.As(err, &exit) || exit.ExitCode() != 2 {
				t.Errorf("ended with %v, want exit status 2", err)
			}
			if !strings.Contains(out.String(), "WALQ_STEP") || strings.Contains(out.String(), "passed") {
				t.Errorf("printed %q", out)
			}
		})
	}
}

func TestSleepDelaysThePassage(t *testing.T) {
	all, err := parse("CommitBefore:2=sleep=20ms")
	if err != nil {
		t.Fatal(err)
	}
	defer Set(CommitBefore, all[CommitBefore].passage)()
	At(CommitBefore)
	start := time.Now()
	At(CommitBefore)
	if took := time.Since(start); took < 20*time.Millisecond {
		t.Errorf("the second passage took %v, want at least 20 ms", took)
	}
}
