package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"
)

// lastMark in the first byte of a body is the end of what a producer sends.
const lastMark = 1

// patience is what a measurement with several processes may take at most.
func (e *Env) patience() time.Duration { return e.Time + 5*time.Minute }

// producerWorks have several processes that append to one queue.
func producerWorks() (all []Work) {
	for _, producers := range []int{2, 4} {
		for _, batch := range []int{1, 16} {
			all = append(all, producerWork(producers, batch))
		}
	}
	return all
}

func producerWork(producers, batch int) Work {
	m := Mode{Bytes: 100, Appenders: 1}
	return Work{
		Name:  fmt.Sprintf("producers/100B/%d/batch%d", producers, batch),
		About: fmt.Sprintf("%d processes append 100 B to one queue at once, not synced, in batches of %d; time per message of all", producers, batch),
		Brief: producers == 2 && batch == 1,
		Mode:  m,
		Run: func(ctx context.Context, e *Env, p Peer) (ms []Metric, err error) {
			err = e.shared(ctx, p, m, func(at Place) error {
				j := Job{Role: "produce", Peer: p.Name, At: at, Mode: m, Batch: batch, Time: e.Time, Room: e.Room / int64(producers)}
				jobs := make([]Job, producers)
				for i := range jobs {
					jobs[i] = j
				}
				reports, err := together(ctx, e.patience(), jobs...)
				if err != nil {
					return err
				}
				count, began, ended := 0, int64(math.MaxInt64), int64(0)
				for _, r := range reports {
					count += r.Messages
					began, ended = min(began, r.Began), max(ended, r.Ended)
				}
				ms = []Metric{{Unit: "ns", Value: perMessage(time.Duration(ended-began), count)}}
				return nil
			})
			return ms, err
		},
	}
}

// streamWorks send from one process to another.
func streamWorks() (all []Work) {
	for _, batch := range []int{1, 16} {
		m := Mode{Bytes: 100, Appenders: 1}
		all = append(all, Work{
			Name:  fmt.Sprintf("stream/100B/batch%d", batch),
			About: fmt.Sprintf("one process appends 100 B, not synced, in batches of %d, another reads at the same time; from the first append to the last read", batch),
			Brief: batch == 1,
			Mode:  m,
			Run: func(ctx context.Context, e *Env, p Peer) (ms []Metric, err error) {
				err = e.shared(ctx, p, m, func(at Place) error {
					j := Job{Peer: p.Name, At: at, Mode: m, Batch: batch, Time: e.Time, Room: e.Room, Producers: 1}
					consumer, producer := j, j
					consumer.Role, producer.Role = "consume", "produce"
					reports, err := together(ctx, e.patience(), consumer, producer)
					if err != nil {
						return err
					}
					read, sent := reports[0], reports[1]
					if read.Messages != sent.Messages {
						return fmt.Errorf("got %d messages, want the %d that were sent", read.Messages, sent.Messages)
					}
					ms = []Metric{{Unit: "ns", Value: perMessage(time.Duration(read.Ended-sent.Began), read.Messages)}}
					return nil
				})
				return ms, err
			},
			LimitName: "one writer's: copy into a mapped file and CRC32C",
			Limit:     appendWork(m.Bytes, 1, 1).Limit,
		})
	}
	return all
}

// shared gives f a place that several processes can use, with an empty queue.
func (e *Env) shared(ctx context.Context, p Peer, m Mode, f func(at Place) error) error {
	if p.OneProcess != "" {
		return notAvailable(p.OneProcess)
	}
	return e.within(false, func(dir string) (err error) {
		at, stop, err := p.serve(ctx, Place{Dir: dir}, m)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, stop()) }()
		for _, name := range []string{"q", "ping", "pong"} {
			at.Queue = name
			q, err := p.Open(ctx, at, m)
			if err != nil {
				return err
			}
			if err := q.Close(); err != nil {
				return err
			}
		}
		at.Queue = "q"
		return f(at)
	})
}

// produce appends for a while and ends with a mark.
func produce(ctx context.Context, j Job, ready func() error) (r Outcome, err error) {
	q, err := j.open(ctx)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	all := bodies(body(j.Mode.Bytes), j.Batch)
	if err := ready(); err != nil {
		return r, err
	}
	r.Began = monotonic()
	room := int(j.Room / int64(j.Mode.Bytes+frameOverhead))
	for until := r.Began + j.Time.Nanoseconds(); r.Messages < room; {
		for range 64 { // the clock costs more than an append
			if err := q.Append(all); err != nil {
				return r, err
			}
			r.Messages += j.Batch
		}
		if monotonic() > until {
			break
		}
	}
	last := body(j.Mode.Bytes)
	last[0] = lastMark
	if err := q.Append([][]byte{last}); err != nil {
		return r, err
	}
	r.Messages++
	r.Ended = monotonic()
	return r, nil
}

// consume reads until every producer has ended.
func consume(ctx context.Context, j Job, ready func() error) (r Outcome, err error) {
	q, err := j.open(ctx)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	t, err := tailOf(q)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	if err := ready(); err != nil {
		return r, err
	}
	ended := 0
	take := func(b []byte) error {
		if len(b) != j.Mode.Bytes {
			return fmt.Errorf("got a message of %d B, want %d", len(b), j.Mode.Bytes)
		}
		if b[0] == lastMark {
			ended++
		}
		r.Messages++
		return nil
	}
	for ended < j.Producers {
		if err := takeFrom(t, take); err != nil {
			return r, err
		}
	}
	r.Ended = monotonic()
	return r, nil
}

// takeFrom hands what comes next to f, as many messages at once as t can show.
func takeFrom(t Tail, f func([]byte) error) error {
	if flow, ok := t.(Flow); ok {
		return flow.Flow(f)
	}
	b, err := t.Next()
	if err != nil {
		return err
	}
	return f(b)
}

// open opens the queue of the job.
func (j Job) open(ctx context.Context) (Queue, error) {
	p, err := peerNamed(j.Peer)
	if err != nil {
		return nil, err
	}
	return p.Open(ctx, j.At, j.Mode)
}

func tailOf(q Queue) (Tail, error) {
	t, ok := as[Tailer](q)
	if !ok {
		return nil, notAvailable("nobody can wait for its next message")
	}
	return t.Tail()
}
