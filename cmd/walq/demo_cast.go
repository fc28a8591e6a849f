package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"time"
)

// A stage is where the processes of a demo live and die.
type stage struct {
	ctx    context.Context
	fail   context.CancelCauseFunc
	s      *script
	self   string // the program, which plays all parts
	talk   io.Writer
	start  time.Time
	actors sync.WaitGroup

	mu     sync.Mutex
	killed int
}

// say tells what happens, and when.
func (g *stage) say(format string, args ...any) {
	g.mu.Lock()
	defer g.mu.Unlock()
	fmt.Fprintf(g.talk, "%6.3fs %s\n", time.Since(g.start).Seconds(), fmt.Sprintf(format, args...))
}

// A part is what a process has to do, and its replacement if it is killed.
type part struct {
	role   string // the subcommand
	number int
	list   string // where its progress shows
	due    int    // lines that its list will have
	killAt int    // kill it when its list has so many lines; 0: do not
	delay  time.Duration
}

func (p part) String() string { return fmt.Sprintf("%s %d", p.role, p.number) }

// play runs the part in a goroutine. Its failure ends the demo.
func (g *stage) play(p part, done *sync.WaitGroup) {
	done.Add(1)
	g.actors.Add(1)
	go func() {
		defer g.actors.Done()
		defer done.Done()
		if err := g.perform(p); err != nil {
			g.fail(fmt.Errorf("%s: %w", p, err))
		}
	}()
}

func (g *stage) perform(p part) error {
	if p.killAt > 0 {
		if err := g.performVictim(p); err != nil {
			return err
		}
	}
	cmd, err := g.spawn(p, 0)
	if err != nil {
		return err
	}
	if p.killAt > 0 {
		g.say("%s (process %d) takes its place", p, cmd.Process.Pid)
	} else {
		g.say("%s (process %d) starts", p, cmd.Process.Pid)
	}
	return cmd.Wait()
}

// performVictim starts a process and kills it on the way.
func (g *stage) performVictim(p part) error {
	// Where it is too fast to be killed on the way it waits at three quarters.
	cmd, err := g.spawn(p, max(p.killAt, p.due*3/4))
	if err != nil {
		return err
	}
	g.say("%s (process %d) starts", p, cmd.Process.Pid)
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	progress := lineCounter{path: p.list}
	defer progress.close()
	for count := 0; count < p.killAt; {
		select {
		case err := <-ended:
			return errors.Join(errors.New("ended before it could be killed"), err)
		case <-time.After(time.Millisecond):
		}
		if count, err = progress.count(); err != nil {
			return errors.Join(err, cmd.Process.Kill(), <-ended)
		}
	}
	time.Sleep(p.delay)
	if err := cmd.Process.Kill(); err != nil {
		return errors.Join(err, <-ended)
	}
	<-ended
	g.mu.Lock()
	g.killed++
	g.mu.Unlock()
	g.say("%s (process %d) is killed with SIGKILL", p, cmd.Process.Pid)
	return nil
}

// spawn starts a process for the part. It is killed when the demo ends, and ends
// by itself when this process dies, because then its standard input ends.
func (g *stage) spawn(p part, hold int) (*exec.Cmd, error) {
	cmd := exec.CommandContext(g.ctx, g.self, "demo", p.role, g.s.dir, "--number", strconv.Itoa(p.number), "--hold", strconv.Itoa(hold))
	cmd.Stderr = g.talk
	if _, err := cmd.StdinPipe(); err != nil { // Wait closes it
		return nil, err
	}
	return cmd, cmd.Start()
}

// A lineCounter counts the lines of a growing file.
type lineCounter struct {
	path  string
	file  *os.File
	lines int
	buf   [32 << 10]byte
}

func (c *lineCounter) count() (int, error) {
	if c.file == nil {
		f, err := os.Open(c.path)
		if errors.Is(err, os.ErrNotExist) {
			return 0, nil
		}
		if err != nil {
			return 0, err
		}
		c.file = f
	}
	for {
		n, err := c.file.Read(c.buf[:])
		c.lines += bytes.Count(c.buf[:n], []byte{'\n'})
		if err == io.EOF {
			return c.lines, nil
		}
		if err != nil {
			return c.lines, err
		}
	}
}

func (c *lineCounter) close() {
	if c.file != nil {
		c.file.Close()
	}
}

// watch shows on a terminal how far the producers are, until stop is called.
func (g *stage) watch(p *progress) (stop func()) {
	if p == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(g.ctx)
	var watching sync.WaitGroup
	watching.Go(func() {
		defer p.end()
		lists := make([]lineCounter, g.s.Producers)
		for tick := time.NewTicker(progressEvery); ; {
			select {
			case <-ctx.Done():
				tick.Stop()
				for i := range lists {
					lists[i].close()
				}
				return
			case <-tick.C:
			}
			acknowledged := 0
			for i := range lists {
				lists[i].path = g.s.ackedFile(i + 1)
				n, _ := lists[i].count() // what cannot be read, the account tells
				acknowledged += n
			}
			p.show("%d of %d lines acknowledged", acknowledged, g.s.Messages)
		}
	})
	return func() {
		cancel()
		watching.Wait()
	}
}
