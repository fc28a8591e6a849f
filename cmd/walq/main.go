// Command walq works with walq queues from a shell: it makes them, puts lines in,
// prints what is there, looks after them, and shows with `walq demo` that they
// lose nothing.
//
// What a command found goes to standard output, what it has to say about that to
// standard error. The exit status is 0 if all went well, also when nobody reads
// the output any more, 1 after an error, 2 if the command line makes no sense,
// 3 if a file is corrupt, and 130 after Ctrl-C.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/walq/walq"
)

const (
	exitOK      = 0
	exitError   = 1
	exitUsage   = 2
	exitCorrupt = 3
	exitSignal  = 128 // and the number of the signal
)

func main() {
	ctx := interruptible(context.Background())
	// Without this a write to a closed pipe would end the process by a signal.
	signal.Ignore(syscall.SIGPIPE)
	os.Exit(run(ctx, os.Args[1:], os.Stdin, stdout{os.Stdout}, os.Stderr))
}

// run is one call of the program. It returns the exit status.
func run(ctx context.Context, args []string, in io.Reader, out, talk io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(talk)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	code := exitCode(ctx, err)
	if code != exitOK && code < exitSignal { // else the user knows
		fmt.Fprintf(talk, "walq: %s\n", strings.TrimPrefix(err.Error(), "walq: "))
	}
	if code == exitUsage {
		fmt.Fprintf(talk, "\n%s", cmd.UsageString())
	}
	return code
}

// exitCode tells by an error how the process ends.
func exitCode(ctx context.Context, err error) int {
	var s signalled
	switch {
	case errors.Is(err, errPipeClosed) || errors.Is(context.Cause(ctx), errPipeClosed):
		return exitOK
	case errors.As(err, &s) || errors.As(context.Cause(ctx), &s) && errors.Is(err, context.Canceled):
		return s.code
	case errors.As(err, new(usageError)):
		return exitUsage
	case errors.Is(err, walq.ErrCorrupt) || errors.Is(err, errFaults):
		return exitCorrupt
	}
	return exitError
}

// signalled is the reason why a command stops early.
type signalled struct {
	name string
	code int
}

func (s signalled) Error() string { return "stopped by " + s.name }

// interruptible returns a context that ends with the first SIGINT or SIGTERM.
// The second one ends the process: nothing in a queue needs an orderly end.
func interruptible(parent context.Context) context.Context {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		for first := true; ; first = false {
			s := signalled{"SIGINT", exitSignal + 2}
			if sig := <-signals; sig == syscall.SIGTERM {
				s = signalled{"SIGTERM", exitSignal + 15}
			}
			if !first {
				os.Exit(s.code)
			}
			cancel(s)
		}
	}()
	return ctx
}

// stopped is the reason why ctx ended.
func stopped(ctx context.Context) error { return context.Cause(ctx) }

// errPipeClosed: nobody reads standard output any more. That is how `walq cat |
// head` ends, and no failure.
var errPipeClosed = errors.New("standard output was closed")

// stdout tells a closed pipe from other errors.
type stdout struct{ f *os.File }

func (s stdout) Write(p []byte) (int, error) {
	n, err := s.f.Write(p)
	if errors.Is(err, syscall.EPIPE) {
		err = errPipeClosed
	}
	return n, err
}
