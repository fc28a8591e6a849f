package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/walq/walq"
)

type catFlags struct {
	from                  position
	topic, key            string
	count                 uint64
	limited               bool // to count
	follow, durable, null bool
	output                *choice
}

func newCat() *cobra.Command {
	var o catFlags
	cmd := manual{arguments: dirArgument, exits: corrupt + ": what lies before was printed", see: "walq put, walq stat, walq verify"}.on(&cobra.Command{
		Use:   "cat DIR",
		Short: "Print the messages of a queue",
		Long: `Print the messages of the queue in DIR, from the oldest on, up to the end as it
is then, or with --follow for ever. Nothing is taken out of the queue.

--from takes oldest, newest (behind the last message), a sequence number, -N (the
last N messages of the queue), or a time such as 2026-03-01T10:00:00Z.

-o raw prints the body and a newline, -o json an object per message: seq, time,
topic, key, id, headers, and the body, as body_base64 (and key_base64) where it
is not UTF-8.

Messages show up as soon as they are appended. With --durable they show up once
no power loss can take them back. Messages that were trimmed before they could be
read are named on standard error.

Who may not write to the queue can read it all the same; at its end it is then
looked at 50 times a second, else cat sleeps until it is woken. On a terminal
cat shows how far it is, if it prints to a file.`,
		Example: `  walq cat /tmp/orders --from -10
  walq cat /tmp/orders --follow --topic 'eu.*'
  walq cat /tmp/orders -o json --from 2026-03-01T10:00:00Z --count 100`,
		Args: arguments("DIR"),
	})
	f := cmd.Flags()
	f.Var(&o.from, "from", "where to begin: oldest, newest, SEQ, -N or a time (RFC 3339)")
	completeFlag(cmd, "from", positions)
	f.Uint64Var(&o.count, "count", 0, "end after so many messages (default no limit)")
	f.BoolVarP(&o.follow, "follow", "f", false, "wait for more at the end")
	f.BoolVar(&o.durable, "durable", false, "only what is on stable storage")
	f.StringVar(&o.topic, "topic", "", "only this topic, or with a star at the end all that begin so (default all)")
	f.StringVar(&o.key, "key", "", "only messages with this key (default all)")
	f.BoolVar(&o.null, "null", false, "raw: a NUL behind each body instead of a newline")
	o.output = outputFlag(cmd, "raw", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if o.null && o.output.value == "json" {
			return usagef("--null is for -o raw")
		}
		o.limited = cmd.Flags().Changed("count")
		return cat(cmd, args[0], o)
	}
	return cmd
}

// A position is a flag that says where in a queue to begin.
type position struct{ walq.Position }

func (p *position) Type() string { return "position" }

func (p *position) Set(text string) error {
	if err := p.UnmarshalText([]byte(text)); err != nil {
		return errors.New("want oldest, newest, a sequence number, -N, or a time such as 2026-03-01T10:00:00Z")
	}
	return nil
}

func cat(cmd *cobra.Command, dir string, o catFlags) (err error) {
	ctx, cancel := context.WithCancelCause(cmd.Context())
	defer cancel(nil)
	if o.follow {
		// Nobody may ever append again, so a write alone would not tell
		// that `head` has what it wanted.
		watchStdout(cancel)
	}
	q, err := openToRead(ctx, dir)
	if err != nil {
		return noQueue(dir, err)
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	r, err := q.Reader(o.from.Position, walq.ReaderOptions{Durable: o.durable, Topic: o.topic})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	out := bufio.NewWriterSize(cmd.OutOrStdout(), 64<<10)
	p := printer{r: r, out: out, o: o, warn: cmd.PrintErrf}
	// Behind a pipe is often somebody who writes to the same terminal, and a
	// follower has no end to come nearer to.
	if isRegular(cmd.OutOrStdout()) && !o.follow {
		p.progress = progressOf(cmd)
		defer p.progress.end()
	}
	return besides(p.run(ctx), out.Flush())
}

// openToRead joins the queue, so that a claim of somebody dead does not hold the
// reader up, or where that is not permitted only looks.
func openToRead(ctx context.Context, dir string) (*walq.Queue, error) {
	q, err := walq.Open(ctx, dir, walq.Options{Role: "cat"})
	for _, no := range []error{fs.ErrPermission, syscall.EROFS, walq.ErrOwner} {
		if errors.Is(err, no) {
			return walq.Open(ctx, dir, walq.Options{ReadOnly: true})
		}
	}
	return q, err
}

// A printer prints what a reader gives.
type printer struct {
	r    *walq.Reader
	out  *bufio.Writer
	o    catFlags
	warn func(format string, args ...any)

	progress *progress
	bytes    uint64 // of the bodies that were printed
}

func (p *printer) run(ctx context.Context) error {
	for printed := uint64(0); ctx.Err() == nil; {
		if p.o.limited && printed == p.o.count {
			return nil
		}
		m, ok, err := p.r.TryNext()
		if !ok && err == nil {
			// Whoever reads what we print shall have all of it before we wait.
			if err := p.out.Flush(); err != nil {
				return err
			}
			m, ok, err = p.wait(ctx)
			if !ok && err == nil {
				return nil
			}
		}
		var gap *walq.GapError
		switch {
		case errors.As(err, &gap):
			p.warn("walq: messages %d to %d were trimmed before they could be read\n", gap.From, gap.To-1)
			continue
		case ctx.Err() != nil:
			continue
		case err != nil:
			return err
		}
		if p.o.key != "" && string(m.Key()) != p.o.key {
			continue
		}
		if err := p.print(m); err != nil {
			return err
		}
		printed++
		p.bytes += uint64(len(m.Body))
		if p.progress.due() {
			p.progress.count("printed", printed, p.bytes)
		}
	}
	return stopped(ctx)
}

// wait waits for the next message, or without --follow only for claims in the
// way; then ok is false at the end of the queue.
func (p *printer) wait(ctx context.Context) (m walq.Message, ok bool, err error) {
	if p.o.follow {
		m, err = p.r.Next(ctx)
		return m, err == nil, err
	}
	for m, err := range p.r.All(ctx) {
		return m, err == nil, err
	}
	return m, false, nil
}

func (p *printer) print(m walq.Message) error {
	if p.o.output.value == "json" {
		shown, err := show(m)
		if err != nil {
			p.warn("walq: message %d: %v\n", m.Seq, err)
		}
		if err := printJSON(p.out, shown); err != nil {
			return fmt.Errorf("message %d: %w", m.Seq, err)
		}
		return nil
	}
	if _, err := p.out.Write(m.Body); err != nil {
		return err
	}
	if p.o.null {
		return p.out.WriteByte(0)
	}
	return p.out.WriteByte('\n')
}
