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
	"time"

	"github.com/walq/walq"
	"github.com/walq/walq/group"
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
	os.Exit(run(ctx, os.Args[1:], os.Stdin, stdout{os.Stdout, ctx}, os.Stderr))
}

// run is one call of the program. It returns the exit status.
func run(ctx context.Context, args []string, in io.Reader, out, errs io.Writer) int {
	root, talk := newRoot(), newTalk(errs)
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
		// The library says walq too, perhaps behind what we were doing.
		text := strings.ReplaceAll(strings.TrimPrefix(err.Error(), "walq: "), ": walq: ", ": ")
		fmt.Fprintf(talk, "walq: %s\n", text)
	}
	if code == exitUsage {
		fmt.Fprintf(talk, "\nUsage:\n  %s\n\n\"%s --help\" tells more.\n", cmd.UseLine(), cmd.CommandPath())
	}
	return code
}

// exitCode tells by an error how the process ends.
func exitCode(ctx context.Context, err error) int {
	var s signalled
	switch {
	case errors.Is(err, walq.ErrCorrupt) || errors.Is(err, errFaults) || errors.As(err, new(*group.CorruptError)):
		return exitCorrupt // also if nobody wants to know the rest
	case errors.Is(err, errPipeClosed) || errors.Is(context.Cause(ctx), errPipeClosed):
		return exitOK
	case errors.As(err, &s) || errors.As(context.Cause(ctx), &s) && errors.Is(err, context.Canceled):
		return s.code
	case errors.As(err, new(usageError)):
		return exitUsage
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

// besides adds to an error what went wrong with the output after it: not the same
// again, and not that nobody wants to read more.
func besides(err, output error) error {
	if err != nil && (errors.Is(output, errPipeClosed) || errors.Is(err, output)) {
		return err
	}
	return errors.Join(err, output)
}

// stdout is standard output. It tells a closed pipe from other errors, and a
// signal ends a write that nobody takes.
type stdout struct {
	f   *os.File
	ctx context.Context // of the program
}

// stuckAfter is how long somebody may take to read on once the program is to end.
const stuckAfter = time.Second

func (s stdout) Write(p []byte) (int, error) {
	type result struct {
		n   int
		err error
	}
	written := make(chan result, 1)
	go func() {
		n, err := s.f.Write(p)
		if errors.Is(err, syscall.EPIPE) {
			err = errPipeClosed
		}
		written <- result{n, err}
	}()
	select {
	case r := <-written:
		return r.n, r.err
	case <-s.ctx.Done():
	}
	select {
	case r := <-written:
		return r.n, r.err
	case <-time.After(stuckAfter):
		return 0, stopped(s.ctx) // the goroutine is left behind: the program ends
	}
}
