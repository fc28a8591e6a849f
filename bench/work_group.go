package main

import (
	"context"
	"fmt"
	"time"
)

// A Worker can hand messages to a group of consumers that acknowledge them.
type Worker interface {
	// Work receives and acknowledges n messages, one by one, as a consumer of a new
	// group that begins with the oldest.
	Work(n int, f func(body []byte)) error
}

// groupMessages are as many as the slowest peer handles in a second or two.
const groupMessages = 100_000

func groupWorks() []Work {
	m := Mode{Bytes: 100, Appenders: 1}
	return []Work{{
		Name:  "group/100B",
		About: "one consumer of a group receives and acknowledges messages of 100 B one by one, files in the page cache",
		Disk:  true,
		Mode:  m,
		Run: func(ctx context.Context, e *Env, p Peer) (ms []Metric, err error) {
			n := min(groupMessages, e.Messages)
			err = e.reading(ctx, p, m, n, false, func(q Queue, l *log) error {
				w, ok := as[Worker](q)
				if !ok {
					return notAvailable("it has no consumers that acknowledge, or none is written here")
				}
				count, began := 0, time.Now()
				if err := w.Work(l.n, func([]byte) { count++ }); err != nil {
					return err
				}
				took := time.Since(began)
				if count != l.n {
					return fmt.Errorf("got %d messages, want %d", count, l.n)
				}
				ms = []Metric{{Unit: "ns", Value: perMessage(took, count)}}
				return nil
			})
			return ms, err
		},
	}}
}
