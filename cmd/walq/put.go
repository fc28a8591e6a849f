package main

import (
	"errors"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/walq/walq"
)

type putFlags struct {
	file              string
	null, whole, ack  bool
	sync              *choice
	batch             int
	topic, key, id    string
	headers           []string
	segment, maxBytes size
	output            *choice
}

// maxBatch is what one batch may hold.
const maxBatch = 8191

func newPut() *cobra.Command {
	o := putFlags{sync: durabilityFlag()}
	cmd := manual{arguments: "DIR  the directory of the queue, which is made if it is missing", exits: corrupt, see: "walq create, walq cat"}.on(&cobra.Command{
		Use:   "put DIR",
		Short: "Append lines as messages",
		Long: `Append each line of standard input, or of a file, to the queue in DIR as a
message, without its newline. The queue is made if it is missing.

Lines are appended as they come: a slow input is not held back, and a fast one
does not wait for a sync of each line. Before put ends everything is as safe as
the durability says: on stable storage with --sync always.

--ack prints the sequence number of each message, once it is acknowledged under
the durability: who has read a number can rely on its message. On a line that is
too large put ends, with the lines before it appended.

Ctrl-C ends put when what it has appended is acknowledged. On a terminal it shows
how far it is, unless the lines are typed there.

-o json prints at the end appended, first_seq, last_seq and seconds, and with --ack
before that an object with seq for each message.`,
		Example: `  seq 1000000 | walq put /tmp/orders
  walq put /tmp/orders --file words.txt --sync never --batch 100
  find . -print0 | walq put /tmp/files --null --topic files --header host=$HOSTNAME
  walq put /tmp/photos --whole --file cat.jpg --ack`,
		Args: arguments("DIR"),
	})
	f := cmd.Flags()
	f.StringVar(&o.file, "file", "", "read this `file` (default standard input)")
	f.BoolVar(&o.null, "null", false, "messages end with a NUL instead of a newline")
	f.BoolVar(&o.whole, "whole", false, "all of the input is one message")
	o.sync.flag(cmd, "sync", "", "when an append is acknowledged (default as the queue was made)")
	f.IntVar(&o.batch, "batch", 1, "append so many lines at once, all or none: 1 to 8191")
	f.BoolVar(&o.ack, "ack", false, "print the sequence number of each message once it is acknowledged")
	f.StringVar(&o.topic, "topic", "", "topic of the messages (default none)")
	f.StringVar(&o.key, "key", "", "key of the messages (default none)")
	f.StringVar(&o.id, "id", "", "identifier of the messages (default none)")
	f.StringArrayVar(&o.headers, "header", nil, "header `k=v` of the messages, can be repeated (default none)")
	f.Var(&o.segment, "segment-size", "when the queue is made: size of one file of the log in bytes, 64K to 1G (default 64M)")
	f.Var(&o.maxBytes, "max-bytes", "when the queue is made: beyond so many bytes the oldest messages may be trimmed (default no limit)")
	completeFlag(cmd, "file", files)
	o.output = outputFlag(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		draft, err := o.draft()
		if err != nil {
			return err
		}
		return put(cmd, args[0], draft, o)
	}
	return cmd
}

// draft is the metadata that all messages have.
func (o *putFlags) draft() (d walq.Draft, err error) {
	switch {
	case o.null && o.whole:
		return d, usagef("--null and --whole exclude each other")
	case o.whole && o.batch != 1:
		return d, usagef("--batch and --whole exclude each other")
	case o.batch < 1 || o.batch > maxBatch:
		return d, usagef("--batch %d: want 1 to %d", o.batch, maxBatch)
	}
	d = walq.Draft{Topic: o.topic, ID: o.id, Key: []byte(o.key)}
	for _, h := range o.headers {
		name, value, ok := strings.Cut(h, "=")
		if !ok || name == "" {
			return d, usagef("--header %q: want name=value", h)
		}
		if d.Headers == nil {
			d.Headers = make(map[string]string)
		}
		d.Headers[name] = value
	}
	return d, nil
}

func (o *putFlags) plain() bool {
	return o.topic == "" && o.key == "" && o.id == "" && len(o.headers) == 0
}

func (o *putFlags) splitting() splitting {
	switch {
	case o.null:
		return byNull
	case o.whole:
		return whole
	}
	return byLine
}

func put(cmd *cobra.Command, dir string, draft walq.Draft, o putFlags) (err error) {
	ctx := cmd.Context()
	in := cmd.InOrStdin()
	if o.file != "" {
		f, err := os.Open(o.file)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	q, err := walq.Open(ctx, dir, walq.Options{
		Create:     &walq.QueueOptions{SegmentSize: int64(o.segment), MaxBytes: int64(o.maxBytes)},
		Durability: o.sync.durability(),
		Role:       "put",
	})
	if err != nil {
		return noDirectory(dir, err)
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	always, err := syncsAlways(q, o.sync.durability())
	if err != nil {
		return err
	}
	start := time.Now()
	var acks *ackPrinter
	if o.ack {
		acks = newAckPrinter(cmd.OutOrStdout(), o.output.value)
	}
	p := newPutter(ctx, q, in, draft, o, acks)
	if always {
		p.syncs = newSyncWaiter(q, acks)
	}
	// Typed lines show that something happens, and so do numbers.
	if !isTerminal(in) && !(o.ack && isTerminal(cmd.OutOrStdout())) {
		p.progress = progressOf(cmd)
	}
	done, err := p.run(ctx)
	p.progress.end()
	done.Seconds = time.Since(start).Seconds()
	return errors.Join(err, summary(cmd, o, done))
}

// syncsAlways reports whether appends are acknowledged when they are synced.
func syncsAlways(q *walq.Queue, d walq.Durability) (bool, error) {
	if d == walq.DurabilityDefault {
		s, err := q.Stats()
		if err != nil {
			return false, err
		}
		d = s.Settings.Durability
	}
	return d == walq.SyncAlways, nil
}

// appended is what was done.
type appended struct {
	Appended uint64   `json:"appended"`
	First    walq.Seq `json:"first_seq"`
	Last     walq.Seq `json:"last_seq"`
	Seconds  float64  `json:"seconds"`
}

func summary(cmd *cobra.Command, o putFlags, done appended) error {
	switch {
	case o.output.value == "json":
		return printJSON(cmd.OutOrStdout(), done)
	case o.ack:
		return nil
	case done.Appended == 0:
		cmd.PrintErrf("appended no messages\n")
	default:
		cmd.PrintErrf("appended %s, seq %d..%d, in %.1fs\n", plural(done.Appended, "message"), done.First, done.Last, done.Seconds)
	}
	return nil
}
