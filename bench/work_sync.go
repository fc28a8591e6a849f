package main

import (
	"context"
	"fmt"
	"time"

	"github.com/walq/walq/internal/limits"
)

// syncWorks append durably.
func syncWorks() (all []Work) {
	for _, size := range []int{100, 1 << 10} {
		for _, appenders := range []int{1, 8, 64, 512} {
			all = append(all, syncWork(size, appenders, 1))
		}
		for _, batch := range []int{16, 1000} {
			all = append(all, syncWork(size, 1, batch))
		}
	}
	return all
}

func syncWork(size, appenders, batch int) Work {
	m := Mode{Sync: true, Bytes: size, Appenders: appenders}
	return Work{
		Name:  fmt.Sprintf("sync/%dB/%d/batch%d", size, appenders, batch),
		About: fmt.Sprintf("append of %d B, each on stable storage when it returns, %s, in batches of %d", size, counted(appenders, "appender"), batch),
		Disk:  true,
		Brief: size == 100 && batch == 1 && appenders < 512,
		Mode:  m,
		Run: func(ctx context.Context, e *Env, p Peer) (ms []Metric, err error) {
			err = e.open(ctx, p, true, m, func(q Queue) error {
				a, err := appendFor(ctx, e, q, m, batch, true)
				ms = append([]Metric{{Unit: "msgs/s", Value: float64(a.messages) / a.took.Seconds()}}, quantiles(a.calls, "µs", 1e3)...)
				return err
			})
			return ms, err
		},
		LimitName: "one bare fdatasync after another",
		Limit: func(ctx context.Context, e *Env) ([]Metric, error) {
			return syncLimit(ctx, e, size*batch, batch)
		},
	}
}

// syncLimit is one sync after another, each of so many bytes, which are so many
// messages.
func syncLimit(ctx context.Context, e *Env, size, messages int) ([]Metric, error) {
	began := time.Now()
	samples, err := limits.Sync(ctx, e.root[true], size, e.Time, make([]int64, 1<<18))
	if err != nil || len(samples) == 0 {
		return nil, fmt.Errorf("no sync within %v: %w", time.Since(began), err)
	}
	total := int64(0)
	for _, s := range samples {
		total += s
	}
	rate := float64(len(samples)*messages) / (float64(total) / 1e9)
	return append([]Metric{{Unit: "msgs/s", Value: rate}}, quantiles(samples, "µs", 1e3)...), nil
}

// pipelineWorks have many durable appends of one goroutine under way.
func pipelineWorks() []Work {
	m := Mode{Sync: true, Bytes: 100, Appenders: 1}
	return []Work{{
		Name:  "pipeline/100B",
		About: "one goroutine, many durable appends of 100 B under way (walq: Submit and WaitDurable, 16,384 not yet acknowledged at most)",
		Disk:  true,
		Brief: true,
		Mode:  m,
		Run: func(ctx context.Context, e *Env, p Peer) (ms []Metric, err error) {
			err = e.open(ctx, p, true, m, func(q Queue) error {
				pipe, ok := as[Pipeliner](q)
				if !ok {
					return notAvailable("an append waits for its own sync")
				}
				n, began, b := 0, time.Now(), body(m.Bytes)
				each := leastPipeline
				for room := e.Room / int64(m.Bytes+frameOverhead); time.Since(began) < e.Time && int64(n) < room; {
					before := time.Now()
					if err := pipe.Pipeline(b, each); err != nil {
						return err
					}
					n += each
					if time.Since(before) < e.Time/8 { // a slow one is not to take minutes
						each = min(2*each, pipeline)
					}
				}
				ms = []Metric{{Unit: "msgs/s", Value: float64(n) / time.Since(began).Seconds()}}
				return ctx.Err()
			})
			return ms, err
		},
		LimitName: "the disk's write rate: 128 B each",
		Limit: func(ctx context.Context, e *Env) ([]Metric, error) {
			write, _, err := limits.Disk(ctx, e.root[true], e.limitRoom())
			return []Metric{{Unit: "msgs/s", Value: write / 128}}, err
		},
	}}
}

// pipeline is how many appends are handed over at once, leastPipeline how many at
// first, and pipelineWindow how far the acknowledgements may lag behind.
const (
	pipeline       = 20_000
	leastPipeline  = 250
	pipelineWindow = 16_384
)
