package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/walq/walq/internal/limits"
)

// A Worker can hand messages to consumers that acknowledge them.
type Worker interface {
	// Consumer joins a group, or makes it, beginning with the oldest message. Where
	// there are no groups the name says nothing.
	Consumer(group string) (Consumer, error)
}

// A Consumer receives messages and acknowledges them.
type Consumer interface {
	// Work receives and acknowledges messages one by one, until there were n or ctx
	// ends, which is no error. f may be called once more than was acknowledged.
	Work(ctx context.Context, n int, f func(body []byte)) error
	Close() error
}

func groupWorks() []Work {
	m := Mode{Bytes: 100, Appenders: 1}
	return []Work{{
		Name:  "group/100B/1",
		About: "one consumer of a group receives and acknowledges messages of 100 B one by one, files in the page cache",
		Disk:  true,
		Brief: true,
		Mode:  m,
		Run: func(ctx context.Context, e *Env, p Peer) (ms []Metric, err error) {
			err = e.reading(ctx, p, m, e.messagesFor(p), false, func(q Queue, l *log) error {
				r, err := consumeFrom(ctx, q, Job{Mode: m, Messages: l.n, Time: e.Time, Group: e.group()}, func() error { return nil })
				if err != nil {
					return err
				}
				ms, err = consumed(l, r)
				return err
			})
			return ms, err
		},
		LimitName: "CRC32C and a copy of 100 B, two CAS, one clock",
		Limit: func(ctx context.Context, e *Env) ([]Metric, error) {
			ns, err := limits.Take(ctx, e.root[true], m.Bytes, e.limitRoom(), e.Time)
			return []Metric{{Unit: "ns", Value: ns}}, err
		},
	}, {
		Name:  "group/100B/2",
		About: "two consumer processes of one group receive and acknowledge messages of 100 B one by one; time per message of both",
		Disk:  true,
		Mode:  m,
		Run:   twoConsumers(m),
	}}
}

// group is a name that no group of this run had.
func (e *Env) group() string {
	e.counter++
	return fmt.Sprintf("bench-%d", e.counter)
}

func twoConsumers(m Mode) func(ctx context.Context, e *Env, p Peer) ([]Metric, error) {
	return func(ctx context.Context, e *Env, p Peer) (ms []Metric, err error) {
		if p.OneProcess != "" {
			return nil, notAvailable(p.OneProcess)
		}
		l, err := e.filled(ctx, p, m, e.messagesFor(p))
		if err != nil {
			return nil, err
		}
		err = e.usable(p, l, func(dir string) (err error) {
			at, stop, err := p.serve(ctx, Place{Dir: dir}, m)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, stop()) }()
			j := Job{Role: "work", Peer: p.Name, At: at, Mode: m, Messages: l.n, Time: e.Time, Group: e.group()}
			reports, err := together(ctx, e.patience(), j, j)
			if err != nil {
				return err
			}
			ms, err = consumed(l, reports...)
			return err
		})
		return ms, err
	}
}

// consumed is the time for each message of all consumers together.
func consumed(l *log, reports ...Outcome) ([]Metric, error) {
	count, began, ended := 0, int64(math.MaxInt64), int64(0)
	for _, r := range reports {
		count += r.Messages
		began, ended = min(began, r.Began), max(ended, r.Ended)
	}
	if count == 0 || count > l.n {
		return nil, fmt.Errorf("got %d messages of %d, want some, and none twice", count, l.n)
	}
	return []Metric{{Unit: "ns", Value: perMessage(time.Duration(ended-began), count)}}, nil
}

// work is one of several consumers.
func work(ctx context.Context, j Job, ready func() error) (r Outcome, err error) {
	q, err := j.open(ctx)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	return consumeFrom(ctx, q, j, ready)
}

// consumeFrom takes messages for the time of the job, or until all are taken. The
// outcome ends with the last message, not with the wait for one that does not come.
func consumeFrom(ctx context.Context, q Queue, j Job, ready func() error) (r Outcome, err error) {
	w, ok := as[Worker](q)
	if !ok {
		return r, notAvailable(noAcks)
	}
	c, err := w.Consumer(j.Group)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if err := ready(); err != nil {
		return r, err
	}
	short, cancel := context.WithTimeout(ctx, max(j.Time, leastWork))
	defer cancel()
	wrong := 0
	r.Began = monotonic()
	r.Ended = r.Began + 1
	err = c.Work(short, j.Messages, func(b []byte) {
		if len(b) != j.Mode.Bytes {
			wrong++
		}
		if r.Messages++; r.Messages%clockEvery == 0 {
			r.Ended = monotonic()
		}
	})
	if over := r.Messages % clockEvery; over != 0 {
		if r.Messages < 10*clockEvery {
			r.Ended = monotonic()
		} else {
			r.Messages -= over // those since the last look at the clock
		}
	}
	if err == nil && wrong > 0 {
		err = fmt.Errorf("%d messages of %d are of another size than %d B", wrong, r.Messages, j.Mode.Bytes)
	}
	return r, err
}

// leastWork is less than no client needs to get its first messages.
const leastWork = 100 * time.Millisecond

// clockEvery is how many messages share one reading of the clock.
const clockEvery = 64
