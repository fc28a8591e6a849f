package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/spf13/cobra"
)

// A talk is standard error. On a terminal it has a line at its end that shows how
// far long work is; whatever is said takes the place of that line.
type talk struct {
	w        io.Writer
	terminal bool

	mu   sync.Mutex
	line bool // it is there
}

func newTalk(w io.Writer) *talk { return &talk{w: w, terminal: isTerminal(w)} }

func (t *talk) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.clear()
	return t.w.Write(p)
}

// clear takes the line away. t.mu is held.
func (t *talk) clear() {
	if t.line {
		t.line = false
		io.WriteString(t.w, "\r\x1b[K")
	}
}

// progressEvery is often enough to see that something happens. What takes less
// shows nothing.
var progressEvery = 200 * time.Millisecond

// A progress shows how far one piece of work is. It has no goroutine and no clock
// of its own: work that waits costs nothing. nil shows nothing. It is for one
// goroutine at a time.
type progress struct {
	t     *talk
	since time.Time
	next  time.Time
}

// progressOf returns what shows the progress of a command, nil if its standard
// error is no terminal.
func progressOf(cmd *cobra.Command) *progress {
	t, ok := cmd.ErrOrStderr().(*talk)
	if !ok || !t.terminal {
		return nil
	}
	now := time.Now()
	return &progress{t: t, since: now, next: now.Add(progressEvery)}
}

// due reports whether it is time to show something again. It costs about as much
// as reading the clock.
func (p *progress) due() bool {
	if p == nil {
		return false
	}
	now := time.Now()
	if now.Before(p.next) {
		return false
	}
	p.next = now.Add(progressEvery)
	return true
}

// show replaces the line.
func (p *progress) show(format string, args ...any) {
	if p == nil {
		return
	}
	p.t.mu.Lock()
	defer p.t.mu.Unlock()
	p.t.line = true
	fmt.Fprintf(p.t.w, "\r%s\x1b[K", fmt.Sprintf(format, args...))
}

// count shows how many messages were done and how fast.
func (p *progress) count(done string, messages, bytes uint64) {
	if p == nil {
		return
	}
	seconds := max(time.Since(p.since).Seconds(), 1e-3)
	p.show("%s %s, %s, %s/s", done, plural(messages, "message"), formatSize(int64(bytes)), formatSize(int64(float64(bytes)/seconds)))
}

// end takes the line away.
func (p *progress) end() {
	if p == nil {
		return
	}
	p.t.mu.Lock()
	defer p.t.mu.Unlock()
	p.t.clear()
}

// file is the file behind an input or output of the program, nil if it is none.
func file(stream any) *os.File {
	switch s := stream.(type) {
	case *os.File:
		return s
	case stdout:
		return s.f
	case *talk:
		return file(s.w)
	}
	return nil
}

// isTerminal reports whether somebody sits at the stream.
func isTerminal(stream any) bool {
	f := file(stream)
	return f != nil && terminal(f)
}

// isRegular reports whether the stream is a file on a disk.
func isRegular(stream any) bool {
	f := file(stream)
	if f == nil {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode().IsRegular()
}
