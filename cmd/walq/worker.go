package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/walq/walq"
)

// errCounted: as many messages are finished as were asked for.
var errCounted = errors.New("as many are finished as were asked for")

func consumeGroup(cmd *cobra.Command, dir string, o consumeFlags) (err error) {
	q, err := walq.Open(cmd.Context(), dir, walq.Options{Role: "consume", Logger: slog.New(groupLog{cmd.PrintErrf})})
	if err != nil {
		return noQueue(dir, err)
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	g, err := q.Group(o.group, o.options)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.Close()) }()
	if o.limited && o.count == 0 {
		return nil
	}
	ctx, cancel := context.WithCancelCause(cmd.Context())
	defer cancel(nil)
	watchStdout(cancel) // there may never be another message
	c := &worker{o: o, stop: cancel, warn: cmd.PrintErrf}
	work := g.Consume
	if o.noWait {
		work = g.Drain
	}
	handle := c.printing(cmd.OutOrStdout())
	if o.run != "" {
		handle = c.executing(cmd.OutOrStdout(), cmd.ErrOrStderr())
	}
	if err := work(ctx, handle); err != nil {
		return err
	}
	if err := stopped(ctx); !errors.Is(err, errCounted) {
		return err
	}
	return nil
}

// A worker works on the messages that it is handed.
type worker struct {
	o    consumeFlags
	stop context.CancelCauseFunc // no more messages, and why
	warn func(format string, args ...any)

	mu       sync.Mutex
	finished uint64
}

type handler = func(context.Context, *walq.Delivery) error

// printing prints each message, and finishes it when it is out.
func (c *worker) printing(w io.Writer) handler {
	out := bufio.NewWriterSize(w, 64<<10)
	return func(_ context.Context, d *walq.Delivery) error {
		err := c.print(out, d)
		if err == nil {
			err = out.Flush()
		}
		if err != nil {
			c.stop(err)
			return d.Nak(0)
		}
		c.finish(d)
		return nil
	}
}

// delivered is a message as JSON, and how it fared.
type delivered struct {
	shown
	Attempt int `json:"attempt"`
	Deaths  int `json:"deaths"`
}

func (c *worker) print(out *bufio.Writer, d *walq.Delivery) error {
	if c.o.output.value == "json" {
		m, err := show(d.Message)
		if err != nil {
			c.warn("walq: message %d: %v\n", d.Seq, err)
		}
		if err := printJSON(out, delivered{m, d.Attempt(), d.Deaths()}); err != nil {
			return fmt.Errorf("message %d: %w", d.Seq, err)
		}
		return nil
	}
	if _, err := out.Write(d.Body); err != nil {
		return err
	}
	return out.WriteByte('\n')
}

// executing runs the command for each message.
func (c *worker) executing(out, errs io.Writer) handler {
	// A signal that is ignored stays so in the command, which could not be ended by
	// a closed pipe then. One that is caught does not.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	return func(_ context.Context, d *walq.Delivery) error {
		cmd := exec.Command("sh", "-c", c.o.run)
		cmd.Stdin = bytes.NewReader(d.Body)
		cmd.Stdout, cmd.Stderr = passed(out), passed(errs)
		cmd.Env = append(os.Environ(), environment(d)...)
		apart(cmd)
		err := cmd.Run()
		var status *exec.ExitError
		switch {
		case err == nil:
			c.finish(d)
			return nil
		case errors.As(err, &status):
			c.warn("walq: message %d, attempt %d: %v\n", d.Seq, d.Attempt(), err)
			return err // sent back
		}
		c.stop(err)
		return d.Nak(0)
	}
}

// environment tells a command about its message. What cannot be in an environment is
// left out.
func environment(d *walq.Delivery) (all []string) {
	for _, v := range [][2]string{
		{"WALQ_SEQ", strconv.FormatUint(uint64(d.Seq), 10)},
		{"WALQ_ATTEMPT", strconv.Itoa(d.Attempt())},
		{"WALQ_TOPIC", d.Topic()}, {"WALQ_KEY", string(d.Key())}, {"WALQ_ID", d.ID()},
	} {
		if strings.Contains(v[1], "\x00") {
			v[1] = ""
		}
		all = append(all, v[0]+"="+v[1])
	}
	return all
}

// passed is what a command gets for an output of ours: the file itself, so that what
// it leaves running does not hold us up.
func passed(w io.Writer) io.Writer {
	if f := file(w); f != nil {
		return f
	}
	return w
}

// finish acknowledges a message that was worked on.
func (c *worker) finish(d *walq.Delivery) {
	switch err := d.Ack(); {
	case errors.Is(err, walq.ErrLeaseLost):
		c.warn("walq: message %d: %v\n", d.Seq, err)
		return
	case err != nil:
		c.stop(err)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.finished++; c.o.limited && c.finished >= c.o.count {
		c.stop(errCounted)
	}
}

// A groupLog says on standard error what the library has to say of groups.
type groupLog struct {
	warn func(format string, args ...any)
}

func (groupLog) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }

func (l groupLog) Handle(_ context.Context, r slog.Record) error {
	var err error
	ours := false
	r.Attrs(func(a slog.Attr) bool {
		ours = ours || a.Key == "group"
		if e, ok := a.Value.Any().(error); ok {
			err = e
		}
		return true
	})
	var gap *walq.GapError
	switch {
	case errors.As(err, &gap):
		l.warn("walq: messages %d to %d were trimmed before the group had finished them\n", gap.From, gap.To-1)
	case ours:
		l.warn("%s: %v\n", r.Message, err)
	}
	return nil
}

func (l groupLog) WithAttrs([]slog.Attr) slog.Handler { return l }
func (l groupLog) WithGroup(string) slog.Handler      { return l }
