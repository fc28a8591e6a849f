package faults

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience is for a machine under load: only what never happens takes longer.
const patience = 60 * time.Second

// A Process is a running walq.
type Process struct {
	Name string
	Cmd  *exec.Cmd

	talk  Text // its standard error
	ended chan struct{}
	err   error // how it ended
}

// Start starts the command; out gets its standard output. It is killed when the
// test ends, if it did not end before.
func Start(t testing.TB, name string, cmd *exec.Cmd, out io.Writer) *Process {
	t.Helper()
	p := &Process{Name: name, Cmd: cmd, ended: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = out, &p.talk
	// A crash shall show in what it says, whatever the tests were started with.
	cmd.Env = append(cmd.Environ(), "GOTRACEBACK=single")
	cmd.WaitDelay = patience // for an input that nobody reads any more
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(p.Kill)
	return p
}

// Kill kills the process, if it is there, and waits until it is gone.
func (p *Process) Kill() {
	_ = p.Cmd.Process.Kill() // it may be gone already
	<-p.ended
}

// Freeze stops the process where it is. A system call that is under way goes on in
// the kernel, and its answer reaches nobody.
func (p *Process) Freeze() { _ = stopProcess(p.Cmd.Process) } // it may be gone already

// Ended is closed when the process is gone.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Running reports whether it still runs.
func (p *Process) Running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// Await waits until the process has ended, and fails if it never does.
func (p *Process) Await(t testing.TB) {
	t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		t.Fatalf("%s hangs", p.Name)
	}
}

// Code is the exit status of a process that ended, -1 if a signal ended it.
func (p *Process) Code() int {
	<-p.ended
	return p.Cmd.ProcessState.ExitCode()
}

// Talk is what it said on standard error so far.
func (p *Process) Talk() string { return p.talk.String() }

// Crashed tells how the process died of a bug, or "" if it did not: a signal that
// nobody sent, or a panic. killed says that SIGKILL was sent.
func (p *Process) Crashed(killed bool) string {
	talk := p.Talk()
	for _, word := range []string{"panic:", "fatal error:", "SIGBUS", "SIGSEGV", "goroutine "} {
		if strings.Contains(talk, word) {
			return word
		}
	}
	var exit *exec.ExitError
	if !p.Running() && errors.As(p.err, &exit) && exit.ExitCode() == -1 && !killed {
		return exit.String()
	}
	return ""
}

// Run runs a command to its end and returns its status, output and talk.
func Run(t testing.TB, bin string, args ...string) (code int, out, talk string) {
	t.Helper()
	var stdout Text
	p := Start(t, strings.Join(args, " "), exec.Command(bin, args...), &stdout)
	p.Await(t)
	if how := p.Crashed(false); how != "" {
		t.Errorf("walq %s crashed (%s):\n%s", p.Name, how, p.Talk())
	}
	return p.Code(), stdout.String(), p.Talk()
}

// A Text is a buffer that one goroutine writes and others read.
type Text struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write adds to the text.
func (x *Text) Write(p []byte) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.b.Write(p)
}

// String is what was written so far.
func (x *Text) String() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.b.String()
}

// A feed is an input of numbered lines that runs ahead of what is acknowledged by
// a bounded number: a fast process does not fill the disk.
type feed struct {
	mu      sync.Mutex
	changed sync.Cond
	next    func(n int) string
	given   int
	acked   int
	end     int // no lines after so many; -1: as many as are read
	window  int
	rest    string
}

func newFeed(window int, next func(n int) string) *feed {
	f := &feed{next: next, end: -1, window: window}
	f.changed.L = &f.mu
	return f
}

// Read gives one line at most.
func (f *feed) Read(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.rest == "" {
		switch {
		case f.end >= 0 && f.given >= f.end:
			return 0, io.EOF
		case f.given-f.acked < f.window:
			f.given++
			f.rest = f.next(f.given) + "\n"
		default:
			f.changed.Wait()
		}
	}
	n := copy(p, f.rest)
	f.rest = f.rest[n:]
	return n, nil
}

func (f *feed) acknowledged(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.acked += n
	f.changed.Broadcast()
}

// finish ends the input now, or after n lines if that is later.
func (f *feed) finish(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.end = max(n, 0)
	f.changed.Broadcast()
}

// pipeTo copies the feed to a process's input until either ends.
func (f *feed) pipeTo(w *os.File) {
	_, _ = io.Copy(w, f) // a process that ended takes no more
	_ = w.Close()        // and what was written has been read, or never will be
}
