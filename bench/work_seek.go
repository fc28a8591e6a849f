package main

import (
	"context"
	"math/rand/v2"
	"time"
)

// seeks is how many places of a log are looked up in one measurement.
const seeks = 1000

// seekWorks look a message up in a large log, warm.
func seekWorks() []Work {
	m := Mode{Bytes: 1 << 10, Appenders: 1}
	work := func(name, about string, seek func(q Queue, l *log) (func(i int) error, error)) Work {
		return Work{
			Name: name, About: about, Disk: true, Mode: m, Brief: name == "seek/number",
			Run: func(ctx context.Context, e *Env, p Peer) (ms []Metric, err error) {
				err = e.reading(ctx, p, m, e.Large, false, func(q Queue, l *log) error {
					look, err := seek(q, l)
					if err != nil {
						return err
					}
					samples, random := make([]int64, 0, seeks), rand.New(rand.NewPCG(1, 2))
					for range seeks {
						i := random.IntN(l.n)
						began := time.Now()
						if err := look(i); err != nil {
							return err
						}
						samples = append(samples, time.Since(began).Nanoseconds())
					}
					ms = quantiles(samples, "µs", 1e3)
					return ctx.Err()
				})
				return ms, err
			},
		}
	}
	return []Work{
		work("seek/number", "reading one message of a large log by its number", func(q Queue, _ *log) (func(int) error, error) {
			s, ok := as[Seeker](q)
			if !ok {
				return nil, notAvailable("it has no way to read by number")
			}
			return s.At, nil
		}),
		work("seek/time", "reading the first message of a large log that was appended at a given time or later", func(q Queue, l *log) (func(int) error, error) {
			s, ok := as[TimeSeeker](q)
			if !ok {
				return nil, notAvailable("it has no way to read by time")
			}
			return func(i int) error {
				return s.Since(l.began + int64(float64(l.ended-l.began)*float64(i)/float64(l.n)))
			}, nil
		}),
	}
}
