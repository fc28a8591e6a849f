package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/walq/walq"
)

// sentHeader holds when a message was given to the queue, in nanoseconds: its
// own time comes from a clock that is looked at every other millisecond.
const sentHeader = "sent"

// window is how many lines a producer has on the way to the disk at most: enough
// that syncs are shared, and so few that the latency is the queue's, not that of
// many processes that wait for few processors.
const window = 32

func newProducer() *cobra.Command {
	var number, hold int
	cmd := &cobra.Command{
		Use: "producer DIR", Short: "The part of a producer in a demo", Hidden: true, Args: arguments("DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			endWithParent()
			s, err := readScript(args[0])
			if err != nil {
				return err
			}
			return produce(cmd, s, number, hold)
		},
	}
	cmd.Flags().IntVar(&number, "number", 1, "which producer")
	cmd.Flags().IntVar(&hold, "hold", 0, "wait after so many lines, to be killed")
	return cmd
}

// endWithParent ends the process when its standard input does, of which the
// parent holds the other end: nobody is left behind, however the parent dies.
//
// Ctrl-C in a terminal reaches the parent too, which ends what it began.
func endWithParent() {
	signal.Ignore(os.Interrupt)
	go func() {
		for buf := make([]byte, 1); ; {
			if _, err := os.Stdin.Read(buf); err != nil {
				os.Exit(exitError)
			}
		}
	}()
}

// sent is a line that is in the queue.
type sent struct {
	seq walq.Seq
	n   int
}

func produce(cmd *cobra.Command, s *script, number, hold int) (err error) {
	ctx := cmd.Context()
	q, err := walq.Open(ctx, s.queue(), walq.Options{Role: "producer"})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	list, last, _, err := openList(s.ackedFile(number))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, list.Close()) }()
	a := &acknowledger{q: q, list: list, number: number}
	next, err := a.takeOver(ctx, last)
	if err != nil {
		return err
	}
	if next > 1 {
		cmd.PrintErrf("  producer %d: my predecessor got %d lines acknowledged; the queue holds %d more of its; I go on with line %d\n",
			number, last.n, next-1-last.n, next)
	}
	lines := make(chan sent, window)
	ended := make(chan error, 1)
	go func() { ended <- a.run(ctx, lines) }()
	for n := next; n <= s.share(number) && err == nil; n++ {
		if hold > 0 && n > hold {
			break
		}
		var seq walq.Seq
		seq, err = q.Submit(ctx, walq.Draft{
			Headers: map[string]string{sentHeader: strconv.FormatInt(time.Now().UnixNano(), 10)},
			Body:    s.body(number, n),
		})
		if err != nil {
			break
		}
		select {
		case lines <- sent{seq, n}:
		case err = <-ended:
			return err
		}
	}
	close(lines)
	if err = errors.Join(err, <-ended); err == nil && hold > 0 {
		<-ctx.Done() // faster than whoever is to kill us
	}
	return err
}

// An acknowledger writes down which lines are acknowledged.
type acknowledger struct {
	q      *walq.Queue
	list   *os.File
	number int
	buf    []byte
}

// takeOver finds out what a predecessor got in: what is in its list was
// acknowledged; what it had under way when it died may be in the queue, behind
// that, or not. Nobody but the queue knows, so it is read. The predecessor is
// dead, so nothing is added to its lines meanwhile.
func (a *acknowledger) takeOver(ctx context.Context, last listed) (next int, err error) {
	r, err := a.q.Reader(walq.After(last.seq), walq.ReaderOptions{})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	next = last.n + 1
	var found []sent
	for m, err := range r.All(ctx) {
		if err != nil {
			return 0, err
		}
		if p, n, ok := parseBody(m.Body); ok && p == a.number {
			found = append(found, sent{m.Seq, n})
			next = max(next, n+1)
		}
	}
	return next, a.acknowledge(ctx, found)
}

// run acknowledges lines as they come, as many at once as are there.
func (a *acknowledger) run(ctx context.Context, lines <-chan sent) error {
	var some []sent
	for line := range lines {
		some = append(some[:0], line)
		for more := true; more && len(some) < window; {
			select {
			case line, more = <-lines:
				if more {
					some = append(some, line)
				}
			default:
				more = false
			}
		}
		if err := a.acknowledge(ctx, some); err != nil {
			return err
		}
	}
	return nil
}

func (a *acknowledger) acknowledge(ctx context.Context, some []sent) error {
	if len(some) == 0 {
		return nil
	}
	if err := a.q.WaitDurable(ctx, some[len(some)-1].seq); err != nil {
		return err
	}
	a.buf = a.buf[:0]
	for _, line := range some {
		a.buf = fmt.Appendf(a.buf, "%d %d %d\n", line.seq, a.number, line.n)
	}
	_, err := a.list.Write(a.buf)
	return err
}
