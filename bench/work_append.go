package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/walq/walq/internal/limits"
)

// frameOverhead is about what a message takes in a log beside its body; it only
// says when a measurement has filled the room that it may.
const frameOverhead = 64

// appended is what appending for a while came to.
type appended struct {
	messages int
	took     time.Duration
	calls    []int64 // nanoseconds each, if they were taken
}

// appendFor appends in batches from several goroutines until the time is over or
// the room is full.
func appendFor(ctx context.Context, e *Env, q Queue, m Mode, batch int, timed bool) (appended, error) {
	all := bodies(body(m.Bytes), batch)
	for range warmUp(m, batch) {
		if err := q.Append(all); err != nil {
			return appended{}, err
		}
	}
	var (
		stop    atomic.Bool
		wg      sync.WaitGroup
		mu      sync.Mutex
		sum     appended
		failure error
	)
	calls := e.Room / int64(batch*(m.Bytes+frameOverhead)*m.Appenders)
	timer := time.AfterFunc(e.Time, func() { stop.Store(true) })
	defer timer.Stop()
	began := time.Now()
	for range m.Appenders {
		wg.Go(func() {
			mine, err := appendUntil(ctx, q, all, max(calls, 1), &stop, timed)
			mu.Lock()
			defer mu.Unlock()
			sum.messages += mine.messages
			sum.calls = append(sum.calls, mine.calls...)
			if err != nil {
				failure = err
				stop.Store(true)
			}
		})
	}
	wg.Wait()
	sum.took = time.Since(began)
	return sum, failure
}

// warmUp is how many calls come before the first that counts.
func warmUp(m Mode, batch int) int {
	if m.Sync {
		return 2
	}
	return max(64/batch, 2)
}

func appendUntil(ctx context.Context, q Queue, all [][]byte, calls int64, stop *atomic.Bool, timed bool) (mine appended, err error) {
	last := time.Now()
	for range calls {
		if err := q.Append(all); err != nil {
			return mine, err
		}
		mine.messages += len(all)
		if timed {
			now := time.Now()
			mine.calls = append(mine.calls, now.Sub(last).Nanoseconds())
			last = now
		}
		if stop.Load() {
			break
		}
	}
	return mine, ctx.Err()
}

// appendWorks append without syncing.
func appendWorks() (all []Work) {
	for _, size := range []int{100, 1 << 10} {
		for _, batch := range []int{1, 16, 1000} {
			all = append(all, appendWork(size, 1, batch))
		}
		for _, appenders := range []int{8, 64, 512} {
			all = append(all, appendWork(size, appenders, 1))
		}
	}
	return all
}

func appendWork(size, appenders, batch int) Work {
	return Work{
		Name:  fmt.Sprintf("append/%dB/%d/batch%d", size, appenders, batch),
		About: fmt.Sprintf("append of %d B, not synced, %s, in batches of %d", size, counted(appenders, "appender"), batch),
		Brief: size == 100 && (appenders == 1 || appenders == 8) && batch < 1000,
		Mode:  Mode{Bytes: size, Appenders: appenders},
		Run: func(ctx context.Context, e *Env, p Peer) (ms []Metric, err error) {
			m := Mode{Bytes: size, Appenders: appenders}
			err = e.open(ctx, p, false, m, func(q Queue) error {
				a, err := appendFor(ctx, e, q, m, batch, false)
				ms = []Metric{{Unit: "ns", Value: perMessage(a.took, a.messages)}}
				return err
			})
			return ms, err
		},
		LimitName: "copy into a mapped file and CRC32C",
		Limit: func(ctx context.Context, e *Env) ([]Metric, error) {
			ns, err := limits.Copy(ctx, e.root[false], size, e.limitRoom(), e.Time)
			fresh, err2 := limits.CopyFresh(ctx, e.root[false], size, e.freshRoom())
			return []Metric{{Unit: "ns", Value: ns}, {"into fresh pages", "ns", fresh}}, errors.Join(err, err2)
		},
	}
}

// limitRoom is how much memory a limit goes through: more than caches hold, and
// little enough to be prepared in no time.
func (e *Env) limitRoom() int64 { return min(e.Room, 256<<20) }

// freshRoom is how much memory is used for the first time: the kernel clears all of it.
func (e *Env) freshRoom() int64 { return min(e.Room, 64<<20) }

// latencyWorks look at each call.
func latencyWorks() []Work {
	m := Mode{Bytes: 100, Appenders: 1}
	return []Work{{
		Name:  "latency/100B",
		About: "one append of 100 B, not synced, each timed: one reading of the clock included",
		Brief: true,
		Mode:  m,
		Run: func(ctx context.Context, e *Env, p Peer) (ms []Metric, err error) {
			err = e.open(ctx, p, false, m, func(q Queue) error {
				a, err := appendFor(ctx, e, q, m, 1, true)
				ms = quantiles(a.calls, "ns", 1)
				return err
			})
			return ms, err
		},
		LimitName: "reading the clock",
		Limit: func(ctx context.Context, e *Env) ([]Metric, error) {
			ns, err := limits.Clock(ctx, e.Time)
			return []Metric{{Name: "p50", Unit: "ns", Value: ns}}, err
		},
	}}
}

// quantiles of nanoseconds, in a unit of so many of them.
func quantiles(samples []int64, unit string, nanos float64) []Metric {
	q := limits.QuantilesOf(samples)
	return []Metric{
		{"p50", unit, q.P50 / nanos},
		{"p99", unit, q.P99 / nanos},
		{"p99.9", unit, q.P999 / nanos},
	}
}

func counted(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
