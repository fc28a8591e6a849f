package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// jobVariable carries a Job to a process that this program starts of itself.
const jobVariable = "WALQ_BENCH_JOB"

// A Job is the part of one process in a measurement.
type Job struct {
	Role      string
	Peer      string
	At        Place
	Mode      Mode
	Batch     int
	Time      time.Duration
	Room      int64
	Messages  int
	Producers int // how many a consumer waits for the end of
	Group     string
	// Of a queue that is measured for what it costs that they exist.
	Segments, Readers, Groups int
}

// An Outcome is what a process found out.
type Outcome struct {
	Messages     int
	Began, Ended int64 // nanoseconds of the machine's monotonic clock
	Samples      []int64
	Metrics      []Metric
	Error        string
	NotAvailable bool
}

// A role is what a process does. ready says that it can begin and waits until it
// may.
type role func(ctx context.Context, j Job, ready func() error) (Outcome, error)

// roles are all of them; each stands beside the work that needs it.
func roles() map[string]role {
	return map[string]role{
		"produce":  produce,
		"consume":  consume,
		"ping":     ping,
		"echo":     echo,
		"work":     work,
		"bounce":   bounceEcho,
		"datagram": datagramEcho,
		"open":     openOnce,
		"memory":   holdMemory,
		"scale":    scale,
	}
}

// childMain does the job that this process was started for, if it was.
func childMain() (done bool, code int) {
	text := os.Getenv(jobVariable)
	if text == "" {
		return false, 0
	}
	var j Job
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return true, 2
	}
	in := bufio.NewReader(os.Stdin)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ready := func() error {
		fmt.Println("ready")
		_, err := in.ReadString('\n')
		go func() { // whoever started this process died
			if _, err := in.ReadString('\n'); err != nil {
				time.Sleep(time.Second) // this one may be about to end well
				os.Exit(3)
			}
		}()
		return err
	}
	r, err := Outcome{}, fmt.Errorf("there is no role %q", j.Role)
	if do := roles()[j.Role]; do != nil {
		r, err = do(ctx, j, ready)
	}
	if err != nil {
		r.Error, r.NotAvailable = err.Error(), errors.As(err, new(notAvailable))
	}
	if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
		return true, 1
	}
	return true, 0
}

// A child is a process with a job.
type child struct {
	job Job
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// spawn starts a process for the job.
func spawn(ctx context.Context, j Job) (*child, error) {
	text, err := json.Marshal(j)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &child{job: j, cmd: exec.CommandContext(ctx, self)}
	c.cmd.Env = append(os.Environ(), jobVariable+"="+string(text))
	c.cmd.Stderr = os.Stderr
	c.cmd.WaitDelay = time.Second
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.out = bufio.NewReader(out)
	return c, c.cmd.Start()
}

// awaitReady waits until the process can begin.
func (c *child) awaitReady() error {
	line, err := c.out.ReadString('\n')
	if strings.TrimSpace(line) == "ready" {
		return err
	}
	var r Outcome
	if json.Unmarshal([]byte(line), &r) == nil && r.Error != "" {
		return c.failed(r)
	}
	return fmt.Errorf("%s: got %q instead of being ready: %w", c.job.Role, line, err)
}

func (c *child) failed(r Outcome) error {
	if r.NotAvailable {
		return notAvailable(strings.TrimPrefix(r.Error, notAvailable("").Error()))
	}
	return fmt.Errorf("%s: %s", c.job.Role, r.Error)
}

// begin lets the process begin.
func (c *child) begin() error {
	_, err := c.in.Write([]byte("go\n"))
	return err
}

// report waits for the end of the process.
func (c *child) report() (r Outcome, err error) {
	text, err := io.ReadAll(c.out)
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", c.job.Role, err)
	} else if r.Error != "" {
		err = c.failed(r)
	}
	return r, errors.Join(err, c.in.Close(), c.cmd.Wait())
}

// kill ends the process if it has not ended.
func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}

// together starts a process for each job, in this order, lets all begin at once,
// and gives their reports in the same order. A process is started when the one
// before is ready.
func together(ctx context.Context, patience time.Duration, jobs ...Job) ([]Outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var all []*child
	defer func() {
		for _, c := range all {
			c.kill()
		}
	}()
	for _, j := range jobs {
		c, err := spawn(ctx, j)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
		if err := c.awaitReady(); err != nil {
			return nil, err
		}
	}
	for _, c := range all {
		if err := c.begin(); err != nil {
			return nil, err
		}
	}
	reports, errs := make([]Outcome, len(all)), make(chan error, len(all))
	for i, c := range all {
		go func() {
			var err error
			reports[i], err = c.report()
			errs <- err
		}()
	}
	var failure error
	for range all {
		if err := <-errs; err != nil && failure == nil {
			failure = errors.Join(err, context.Cause(ctx))
			cancel() // the others may wait for this one
		}
	}
	return reports, failure
}

// monotonic is a clock that all processes of the machine share.
func monotonic() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		panic(err)
	}
	return t.Nano()
}
