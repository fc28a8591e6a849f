package main

import (
	"context"
	"errors"
	"time"

	"github.com/walq/walq/internal/limits"
)

// maxSamples is how many round trips are kept.
const maxSamples = 1 << 20

// roundTripWorks send a message to another process and wait for its answer, each
// through a queue of its own.
func roundTripWorks() (all []Work) {
	for _, waiting := range []string{spinning, sleeping} {
		m := Mode{Bytes: 100, Appenders: 1, Waiting: waiting}
		w := Work{
			Name:  "roundtrip/" + waiting,
			About: "a message of 100 B to another process and one back, through two queues, not synced, both " + waiting,
			Brief: true,
			Mode:  m,
			Run: func(ctx context.Context, e *Env, p Peer) (ms []Metric, err error) {
				err = e.shared(ctx, p, m, func(at Place) error {
					j := Job{Peer: p.Name, At: at, Mode: m, Time: e.Time}
					far, near := j, j
					far.Role, near.Role = "echo", "ping"
					reports, err := together(ctx, e.patience(), far, near)
					if err != nil {
						return err
					}
					ms = quantiles(reports[1].Samples, "ns", 1)
					return nil
				})
				return ms, err
			},
		}
		switch waiting {
		case spinning:
			w.LimitName = "one cache line between two processes"
			w.Limit = pairLimit("bounce", limits.Bounce)
		case sleeping:
			w.LimitName = "one datagram between two processes that block in the system call"
			w.Limit = pairLimit("datagram", limits.Datagram)
		}
		all = append(all, w)
	}
	return all
}

// pairLimit measures with a second process.
func pairLimit(role string, measure func(context.Context, string, time.Duration, []int64, func() error) ([]int64, error)) func(context.Context, *Env) ([]Metric, error) {
	return func(ctx context.Context, e *Env) (ms []Metric, err error) {
		ctx, cancel := context.WithTimeout(ctx, e.patience())
		defer cancel()
		var c *child
		err = e.within(false, func(dir string) error {
			samples, err := measure(ctx, dir, e.Time, make([]int64, maxSamples), func() (err error) {
				if c, err = spawn(ctx, Job{Role: role, At: Place{Dir: dir}}); err != nil {
					return err
				}
				return errors.Join(c.awaitReady(), c.begin())
			})
			if c != nil {
				defer c.kill()
			}
			if err != nil {
				return err
			}
			ms = quantiles(samples, "ns", 1)
			_, err = c.report()
			return err
		})
		return ms, err
	}
}

func bounceEcho(_ context.Context, j Job, ready func() error) (Outcome, error) {
	return Outcome{}, errors.Join(ready(), limits.BounceEcho(j.At.Dir))
}

func datagramEcho(_ context.Context, j Job, ready func() error) (Outcome, error) {
	return Outcome{}, errors.Join(ready(), limits.DatagramEcho(j.At.Dir))
}

// ends opens the two queues of a round trip: one to append to, one to wait at.
func ends(ctx context.Context, j Job, to, from string) (send Queue, receive Tail, closed func() error, err error) {
	j.At.Queue = to
	if send, err = j.open(ctx); err != nil {
		return nil, nil, nil, err
	}
	j.At.Queue = from
	other, err := j.open(ctx)
	if err != nil {
		return nil, nil, nil, errors.Join(err, send.Close())
	}
	if receive, err = tailOf(other); err != nil {
		return nil, nil, nil, errors.Join(err, send.Close(), other.Close())
	}
	return send, receive, func() error { return errors.Join(receive.Close(), send.Close(), other.Close()) }, nil
}

// ping measures round trips.
func ping(ctx context.Context, j Job, ready func() error) (r Outcome, err error) {
	send, receive, closed, err := ends(ctx, j, "ping", "pong")
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, closed()) }()
	if err := ready(); err != nil {
		return r, err
	}
	one := bodies(body(j.Mode.Bytes), 1)
	last := append([]byte(nil), one[0]...)
	last[0] = lastMark
	r.Samples = make([]int64, 0, maxSamples)
	began := time.Now()
	for before := began; len(r.Samples) < maxSamples; {
		if err := send.Append(one); err != nil {
			return r, err
		}
		if _, err := receive.Next(); err != nil {
			return r, err
		}
		now := time.Now()
		r.Samples = append(r.Samples, now.Sub(before).Nanoseconds())
		if before = now; now.Sub(began) > j.Time {
			break
		}
	}
	return r, send.Append([][]byte{last})
}

// echo answers until the last message.
func echo(ctx context.Context, j Job, ready func() error) (r Outcome, err error) {
	send, receive, closed, err := ends(ctx, j, "pong", "ping")
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, closed()) }()
	if err := ready(); err != nil {
		return r, err
	}
	for {
		b, err := receive.Next()
		if err != nil || len(b) > 0 && b[0] == lastMark {
			return r, err
		}
		if err := send.Append([][]byte{b}); err != nil {
			return r, err
		}
	}
}
