package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/walq/walq"
	machine "github.com/walq/walq/internal/limits"
)

// What the other process of a bench does.
const (
	answerSpinning = "spinning" // a message for a message
	answerSleeping = "sleeping" // the same, asleep in between
	answerLine     = "line"     // a cache line
	answerDatagram = "datagram"
)

// benchOver in the first byte of a message ends the other process.
const benchOver = 1

func newBenchAnswer() *cobra.Command {
	var what string
	cmd := &cobra.Command{
		Use: "answer DIR", Short: "The part of the other process in a bench", Hidden: true, Args: arguments("DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			endWithParent()
			switch what {
			case answerLine:
				return machine.BounceEcho(args[0])
			case answerDatagram:
				return machine.DatagramEcho(args[0])
			}
			return answer(cmd.Context(), args[0], what)
		},
	}
	cmd.Flags().StringVar(&what, "what", "", "what to do")
	return cmd
}

// other starts the other process, and gives a function that waits for its end. It
// ends by itself when this process dies, because then its standard input ends.
func (b *benching) other(ctx context.Context, dir, what string) (wait func() error, err error) {
	cmd := exec.CommandContext(ctx, b.self, "bench", "answer", dir, "--what", what)
	cmd.Stderr = b.talk
	if _, err := cmd.StdinPipe(); err != nil { // Wait closes it
		return nil, err
	}
	return cmd.Wait, cmd.Start()
}

// roundTrips measures the way to another process and back while both look without
// sleeping.
func (b *benching) roundTrips() ([]benchRow, error) {
	b.say("between two processes")
	return b.pair("round trip", answerSpinning, "one cache line to and fro", answerLine, machine.Bounce)
}

// wakeUps measures the same while both sleep.
func (b *benching) wakeUps() ([]benchRow, error) {
	b.say("waking each other up")
	return b.pair("round trip asleep", answerSleeping, "one datagram to and fro", answerDatagram, machine.Datagram)
}

// bare is a measurement of limits that needs a second process.
type bare func(ctx context.Context, dir string, d time.Duration, samples []int64, start func() error) ([]int64, error)

func (b *benching) pair(name, what, limitName, limitWhat string, limit bare) (rows []benchRow, err error) {
	ctx, cancel := context.WithCancel(b.ctx)
	defer cancel() // kills what is still there
	var waits []func() error
	start := func(dir, what string) func() error {
		return func() error {
			wait, err := b.other(ctx, dir, what)
			if err == nil {
				waits = append(waits, wait)
			}
			return err
		}
	}
	defer func() {
		if err != nil {
			cancel()
		}
		for _, wait := range waits {
			err = errors.Join(err, wait())
		}
	}()
	bareSamples, err := limit(ctx, b.dir, b.o.time, make([]int64, benchSamples), start(b.dir, limitWhat))
	if err != nil {
		return nil, err
	}
	samples, err := b.ask(ctx, what, start(filepath.Join(b.dir, what), what))
	if err != nil {
		return nil, err
	}
	ours, least := machine.QuantilesOf(samples), machine.QuantilesOf(bareSamples)
	return []benchRow{row(name, "ns", ours.P50, ours.P99, limitName, least.P50)}, nil
}

// A talkPair is the two queues between two processes, seen from one of them.
type talkPair struct {
	send, receive *walq.Queue
	reader        *walq.Reader
}

func openPair(ctx context.Context, dir, send, receive, what string) (p talkPair, err error) {
	o := walq.Options{Create: &walq.QueueOptions{Durability: walq.SyncNever}, Durability: walq.SyncNever, Role: "bench"}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
		}
	}()
	if p.send, err = walq.Open(ctx, filepath.Join(dir, send), o); err != nil {
		return p, err
	}
	if p.receive, err = walq.Open(ctx, filepath.Join(dir, receive), o); err != nil {
		return p, err
	}
	spin := time.Minute
	if what == answerSleeping {
		spin = -1
	}
	p.reader, err = p.receive.Reader(walq.Oldest, walq.ReaderOptions{Spin: spin})
	return p, err
}

func (p talkPair) close() (err error) {
	if p.reader != nil {
		err = p.reader.Close()
	}
	for _, q := range []*walq.Queue{p.send, p.receive} {
		if q != nil {
			err = errors.Join(err, q.Close())
		}
	}
	return err
}

// ask measures round trips.
func (b *benching) ask(ctx context.Context, what string, start func() error) (_ []int64, err error) {
	dir := filepath.Join(b.dir, what)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	p, err := openPair(ctx, dir, "there", "back", what)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	if err := start(); err != nil {
		return nil, err
	}
	if _, err := p.reader.Next(ctx); err != nil { // it is there
		return nil, err
	}
	body := make([]byte, b.o.bytes)
	samples, began := make([]int64, 0, benchSamples), time.Now()
	for last, n := began, min(benchSamples, b.messages()); len(samples) < n; {
		if _, err := p.send.Append(ctx, body); err != nil {
			return nil, err
		}
		if _, err := p.reader.Next(ctx); err != nil {
			return nil, err
		}
		now := time.Now()
		samples = append(samples, now.Sub(last).Nanoseconds())
		if last = now; now.Sub(began) > b.o.time {
			break
		}
	}
	body[0] = benchOver
	_, err = p.send.Append(ctx, body)
	return samples, err
}

// answer is the other side of ask.
func answer(ctx context.Context, dir, what string) (err error) {
	p, err := openPair(ctx, dir, "back", "there", what)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	if _, err := p.send.Append(ctx, nil); err != nil {
		return err
	}
	for {
		m, err := p.reader.Next(ctx)
		if err != nil || m.Body[0] == benchOver {
			return err
		}
		if _, err := p.send.Append(ctx, m.Body); err != nil {
			return err
		}
	}
}
