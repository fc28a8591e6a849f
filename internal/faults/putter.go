package faults

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"testing"
)

// A Putter is a `walq put --ack` that is fed lines for ever.
type Putter struct {
	*Process
	Always bool // what it acknowledges is on stable storage

	feed *feed
	mu   sync.Mutex
	acks []uint64
	part []byte // of an acknowledgement that has not come whole
	odd  string // what it printed that is no acknowledgement
}

// ahead is how many lines a putter may be ahead of its acknowledgements: more
// than one batch, and little memory.
const ahead = 200

// Safe is how many of its acknowledgements so far a power cut cannot take.
func (p *Putter) Safe() int {
	if !p.Always {
		return 0
	}
	return len(p.Acks())
}

// Put starts a putter on the queue in dir. wrap, if any, is a command that runs
// it, such as strace.
func Put(t testing.TB, wrap []string, bin, dir, name string, flags ...string) *Putter {
	t.Helper()
	args := slices.Concat(wrap, []string{bin, "put", dir, "--ack"}, flags)
	return PutBy(t, exec.Command(args[0], args[1:]...), name, !slices.Contains(flags, "interval") && !slices.Contains(flags, "never"))
}

// PutBy starts the command as a putter.
func PutBy(t testing.TB, cmd *exec.Cmd, name string, always bool) *Putter {
	t.Helper()
	p := &Putter{Always: always, feed: newFeed(ahead, func(n int) string { return Line(name, n) })}
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdin = in
	p.Process = Start(t, name, cmd, p)
	_ = in.Close() // the process has its own
	go p.feed.pipeTo(out)
	t.Cleanup(func() { p.feed.finish(0) })
	return p
}

// Write takes what the process prints.
func (p *Putter) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.part = append(p.part, b...)
	n := 0
	for {
		line, rest, whole := bytes.Cut(p.part, []byte("\n"))
		if !whole {
			break
		}
		seq, err := strconv.ParseUint(string(line), 10, 64)
		if last := len(p.acks) - 1; err != nil || last >= 0 && p.acks[last] >= seq {
			p.odd = fmt.Sprintf("ack %q behind %d acks", line, len(p.acks))
		}
		p.acks = append(p.acks, seq)
		p.part = rest
		n++
	}
	p.feed.acknowledged(n)
	return len(b), nil
}

// Acks are the acknowledgements so far: the i-th is the number of line i+1.
func (p *Putter) Acks() []uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.acks)
}

// Finish ends its input once it was given n lines, now if it was given more.
func (p *Putter) Finish(n int) { p.feed.finish(n) }
