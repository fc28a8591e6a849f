package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/walq/walq"
)

type demoFlags struct {
	input, keep                    string
	messages, producers, consumers int
	seed                           uint64
	output                         *choice
}

const (
	// demoSegment is small, so that the demo rolls often.
	demoSegment = 256 << 10
	// Two producers and one consumer are killed.
	producersKilled, consumersKilled = 2, 1
	// demoPatience is what a demo may take at most, and messagePatience what
	// each message adds. Both are far beyond what any machine needs.
	demoPatience    = 2 * time.Minute
	messagePatience = time.Millisecond
)

func newDemo() *cobra.Command {
	var o demoFlags
	cmd := manual{exits: "1    error, or anything is lost, torn, or there twice", see: "walq put, walq cat, walq verify"}.on(&cobra.Command{
		Use:   "demo",
		Short: "See processes die and a queue that loses nothing",
		Long: `Several processes append the lines of a text to a queue and several others read
it, all at once. On the way two producers and one consumer are killed with
SIGKILL and replaced. In the end a separate process reads the queue and accounts
for everything: each line that was acknowledged to a producer must be there under
its number, whole, once, and in order, and every consumer must have seen it.

-o json prints appended, delivered, lost, duplicates, torn, disordered,
unacknowledged, faults, killed, msgs_per_s, latency_p50_ns, latency_p99_ns, and
what it was run with.`,
		Example: `  walq demo
  walq demo --messages 100000 --producers 4 --keep /tmp/demo
  walq demo --input words.txt -o json | jq .lost`,
		Args: arguments(),
	})
	f := cmd.Flags()
	f.StringVar(&o.input, "input", "", "a text `file` (default one that the program carries)")
	f.StringVar(&o.keep, "keep", "", "leave the queue and the lists of the processes in this empty `directory` (default none is left)")
	f.IntVar(&o.messages, "messages", 20000, "how many messages in all")
	f.IntVar(&o.producers, "producers", 3, "how many producers, 1 to 100")
	f.IntVar(&o.consumers, "consumers", 3, "how many consumers, 1 to 100")
	f.Uint64Var(&o.seed, "seed", 0, "kill at the moments that this number gives (default: a new one each time)")
	o.output = outputFlag(cmd, "text", "json")
	completeFlag(cmd, "input", files)
	completeFlag(cmd, "keep", directories)
	cmd.AddCommand(newProducer(), newConsumer(), newAccount())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if o.messages < 1 || o.producers < 1 || o.consumers < 1 || o.producers > 100 || o.consumers > 100 {
			return usagef("want at least 1 message and 1 to 100 producers and consumers")
		}
		if !cmd.Flags().Changed("seed") {
			o.seed = rand.Uint64()
		}
		return runDemo(cmd, o)
	}
	return cmd
}

func runDemo(cmd *cobra.Command, o demoFlags) (err error) {
	dir, remove, err := demoPlace(cmd.Context(), o.keep)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	s := &script{Seed: o.seed, Messages: o.messages, Producers: o.producers, Consumers: o.consumers, dir: dir}
	if err := s.write(o.input); err != nil {
		return err
	}
	result, err := perform(cmd, s)
	if err != nil {
		return err
	}
	result.Keep = o.keep
	if err := printDemo(cmd, o.output.value, result); err != nil {
		return err
	}
	if !result.balances() {
		return errAccount
	}
	return nil
}

// demoPlace makes the directory of the demo and a queue in it. Temporary
// directories often lie on a file system that is not fit for a queue, above all
// in containers, so there is more than one place to try.
func demoPlace(ctx context.Context, keep string) (dir string, remove func() error, err error) {
	if keep != "" {
		if err := os.MkdirAll(keep, 0o700); err != nil {
			return "", nil, err
		}
		if files, err := os.ReadDir(keep); err != nil || len(files) > 0 {
			return "", nil, errors.Join(err, fmt.Errorf("%s is not empty", keep))
		}
		return keep, func() error { return nil }, makeDemoQueue(ctx, keep)
	}
	for _, place := range []string{os.TempDir(), "/dev/shm", "."} {
		dir, merr := os.MkdirTemp(place, "walq-demo-")
		if merr != nil {
			err = errors.Join(err, merr)
			continue
		}
		remove := func() error { return os.RemoveAll(dir) }
		qerr := makeDemoQueue(ctx, dir)
		if qerr == nil {
			return dir, remove, nil
		}
		err = errors.Join(err, qerr, remove())
		if !errors.Is(qerr, walq.ErrFileSystem) {
			return "", nil, err
		}
	}
	return "", nil, fmt.Errorf("no place for a queue, name one with --keep: %w", err)
}

func makeDemoQueue(ctx context.Context, dir string) error {
	s := script{dir: dir}
	q, err := walq.Open(ctx, s.queue(), walq.Options{Create: &walq.QueueOptions{SegmentSize: demoSegment}, Role: "demo"})
	if err != nil {
		return err
	}
	return q.Close()
}

// A performance is what came of a demo.
type performance struct {
	account
	Killed    int     `json:"killed"`
	PerSecond float64 `json:"msgs_per_s"`
	Seconds   float64 `json:"seconds"`
	Producers int     `json:"producers"`
	Consumers int     `json:"consumers"`
	Seed      uint64  `json:"seed"`
	Keep      string  `json:"keep,omitempty"`
}

func perform(cmd *cobra.Command, s *script) (p *performance, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	limit := demoPatience + time.Duration(s.Messages)*messagePatience
	ctx, cancel := context.WithTimeoutCause(cmd.Context(), limit, fmt.Errorf("not done after %v", limit))
	defer cancel()
	ctx, fail := context.WithCancelCause(ctx)
	g := &stage{ctx: ctx, fail: fail, s: s, self: self, talk: cmd.ErrOrStderr(), start: time.Now()}
	defer g.actors.Wait()
	defer fail(nil)
	g.say("queue at %s; seed %d", s.queue(), s.Seed)
	producers, consumers := g.cast()
	var consuming, producing sync.WaitGroup
	for _, part := range consumers {
		g.play(part, &consuming)
	}
	for _, part := range producers {
		g.play(part, &producing)
	}
	stopWatching := g.watch(progressOf(cmd))
	producing.Wait()
	stopWatching()
	took := time.Since(g.start)
	if ctx.Err() == nil {
		g.say("all %d lines are acknowledged", s.Messages)
		if err := tellEnd(ctx, s); err != nil {
			return nil, err
		}
	}
	consuming.Wait()
	if ctx.Err() != nil {
		return nil, stopped(ctx)
	}
	g.say("all consumers are done; a process of its own accounts")
	p = &performance{
		Killed: g.killed, Seconds: took.Seconds(), PerSecond: float64(s.Messages) / took.Seconds(),
		Producers: s.Producers, Consumers: s.Consumers, Seed: s.Seed,
	}
	return p, g.account(&p.account)
}

// cast decides who is killed, and when.
func (g *stage) cast() (producers, consumers []part) {
	random := rand.New(rand.NewPCG(g.s.Seed, 0))
	for p := 1; p <= g.s.Producers; p++ {
		producers = append(producers, part{role: "producer", number: p, list: g.s.ackedFile(p), due: g.s.share(p)})
	}
	for c := 1; c <= g.s.Consumers; c++ {
		consumers = append(consumers, part{role: "consumer", number: c, list: g.s.seenFile(c), due: g.s.Messages})
	}
	doom := func(parts []part, victims int) {
		for _, i := range random.Perm(len(parts))[:min(victims, len(parts))] {
			p := &parts[i]
			p.killAt = min(1+p.due/10+random.IntN(1+p.due/2), p.due)
			p.delay = time.Duration(random.Int64N(int64(2 * time.Millisecond)))
		}
	}
	doom(producers, producersKilled)
	doom(consumers, consumersKilled)
	return producers, consumers
}

// tellEnd appends the message at which consumers leave.
func tellEnd(ctx context.Context, s *script) error {
	q, err := walq.Open(ctx, s.queue(), walq.Options{Role: "demo"})
	if err != nil {
		return err
	}
	_, err = q.Publish(ctx, walq.Draft{Topic: endTopic})
	return errors.Join(err, q.Close())
}

// account lets a process of its own read everything.
func (g *stage) account(a *account) error {
	cmd := exec.CommandContext(g.ctx, g.self, "demo", "account", g.s.dir)
	var out, talk bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &talk
	err := cmd.Run()
	if g.ctx.Err() != nil {
		return stopped(g.ctx)
	}
	if jsonErr := json.Unmarshal(out.Bytes(), a); jsonErr != nil {
		return fmt.Errorf("the account failed: %w: %s", errors.Join(err, jsonErr), bytes.TrimSpace(talk.Bytes()))
	}
	return nil // what is wrong is in the account
}

func printDemo(cmd *cobra.Command, format string, p *performance) error {
	if format == "json" {
		return printJSON(cmd.OutOrStdout(), p)
	}
	for _, finding := range p.Findings {
		cmd.PrintErrf("walq: %s\n", finding)
	}
	out := cmd.OutOrStdout()
	_, err := fmt.Fprintf(out, `
%d messages by %d producers, %.0f messages/s with the deaths included
%d processes were killed
%d lost, %d twice, %d torn, %d out of order, %d faults in the files
each of %d consumers saw %d messages, all in the same order
from append to delivery: p50 %v, p99 %v
`, p.Appended, p.Producers, p.PerSecond, p.Killed,
		p.Lost, p.Duplicates, p.Torn, p.Disordered, p.Faults,
		p.Consumers, p.Delivered, time.Duration(p.P50), time.Duration(p.P99))
	if err == nil && p.Keep != "" {
		_, err = fmt.Fprintf(out, "queue and lists are in %s\n", p.Keep)
	}
	return err
}
