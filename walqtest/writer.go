package walqtest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/walq/walq"
)

// A Step is how far a writer has come when it is killed.
type Step int

const (
	// Opened: it has the queue open and has appended nothing.
	Opened Step = iota
	// Claimed: it is in the middle of an append. Half of the message lies in the
	// room that it claimed. Whoever is held up by that room finds that its owner
	// is dead and steps over it: the message never was, and its number is not
	// used.
	Claimed
	// Committed: the message is in and can be read, and the writer never got to
	// know. One that is careful appends it again after its restart, so that
	// consumers get it twice, with two numbers.
	Committed
)

var stepNames = [...]string{"opened", "claimed", "committed"}

func (s Step) String() string {
	if s < 0 || int(s) >= len(stepNames) {
		return fmt.Sprintf("step %d", int(s))
	}
	return stepNames[s]
}

// KillWriter starts a process that opens the queue in dir and appends body, kills it
// with SIGKILL when it has come to the step, and returns when it is gone. Committed
// gives the number of its message, others 0. Others may have the queue open.
//
// The process is the test binary again; it becomes a writer before any test, and any
// code of the packages under test, is run.
func KillWriter(t testing.TB, dir string, s Step, body []byte) walq.Seq {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var talk strings.Builder
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), envQueue+"="+dir, fmt.Sprint(envStep, "=", int(s)), fmt.Sprint(envBytes, "=", len(body)))
	cmd.Stderr = &talk
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	slow := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer slow.Stop()
	_, err = in.Write(body) // it stays open: the writer waits for its end
	line, rerr := bufio.NewReader(out).ReadString('\n')
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	seq, perr := strconv.ParseUint(strings.TrimSpace(line), 10, 64)
	if err := errors.Join(rerr, perr); err != nil {
		t.Fatalf("walqtest: the writer did not get as far as %v: %v\n%s", s, err, &talk)
	}
	if err != nil {
		t.Fatal(err)
	}
	return walq.Seq(seq)
}

// patience is for a machine under load.
const patience = time.Minute

// How a writer learns what it is.
const (
	envQueue = "WALQTEST_WRITER_QUEUE"
	envStep  = "WALQTEST_WRITER_STEP"
	envBytes = "WALQTEST_WRITER_BYTES"
)

func init() {
	dir := os.Getenv(envQueue)
	if dir == "" || !testing.Testing() {
		return
	}
	if err := beWriter(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(1) // it should have been killed
}

// beWriter comes to its step, says so, and waits for its end.
func beWriter(dir string) error {
	step, err := strconv.Atoi(os.Getenv(envStep))
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(os.Getenv(envBytes))
	if err != nil {
		return err
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(os.Stdin, body); err != nil {
		return err
	}
	ctx := context.Background()
	q, err := walq.Open(ctx, dir, walq.Options{Durability: walq.SyncNever, AnyFileSystem: true, Role: "walqtest"})
	if err != nil {
		return err
	}
	var seq walq.Seq
	switch Step(step) {
	case Opened:
	case Claimed:
		c, err := q.Claim(ctx, len(body))
		if err != nil {
			return err
		}
		copy(c.Bytes(), body[:len(body)/2])
		defer c.Abort() // so that it is not collected as forgotten before the end
	case Committed:
		if seq, err = q.Append(ctx, body); err != nil {
			return err
		}
	default:
		return fmt.Errorf("there is no step %d", step)
	}
	fmt.Println(uint64(seq))
	_, _ = io.Copy(io.Discard, os.Stdin)
	runtime.KeepAlive(q) // nothing of it is collected before the end
	return errors.New("nobody killed the writer")
}
