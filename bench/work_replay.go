package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/walq/walq/internal/limits"
)

// A log is one that was filled for several measurements.
type log struct {
	dir          string
	n            int
	began, ended int64 // Unix time in nanoseconds
}

type logKey struct {
	peer     string
	bytes, n int
}

// filled gives a directory with a queue of n messages, which is made once. It is
// closed.
func (e *Env) filled(ctx context.Context, p Peer, m Mode, n int) (*log, error) {
	key := logKey{p.logName(), m.Bytes, n}
	if l, ok := e.logs[key]; ok {
		return l, nil
	}
	e.talk("filling %s with %d messages of %d B", key.peer, n, m.Bytes)
	m.Sync = p.NotUnsynced != ""
	dir, remove, err := e.fresh(true)
	if err != nil {
		return nil, err
	}
	q, err := p.open(ctx, Place{Dir: dir}, m)
	if err != nil {
		return nil, errors.Join(err, remove())
	}
	l := &log{dir: dir, n: n, began: time.Now().UnixNano()}
	batch := bodies(body(m.Bytes), fillBatch)
	for done := 0; done < n-1 && err == nil; done += len(batch) {
		err = errors.Join(q.Append(batch[:min(len(batch), n-1-done)]), ctx.Err())
	}
	l.ended = time.Now().UnixNano()
	time.Sleep(lastApart) // so that there is a message behind each moment before
	err = errors.Join(err, q.Append(batch[:1]))
	if err = errors.Join(err, q.Close()); err != nil {
		return nil, errors.Join(fmt.Errorf("filling: %w", err), remove())
	}
	e.logs[key] = l
	return l, nil
}

// messagesFor is how many messages a log has that the peer reads. Where reading takes
// them away each round needs a copy of the log, so there are fewer; the cost of each is
// the same.
func (e *Env) messagesFor(p Peer) int {
	if p.Consumes {
		return min(consumable, e.Messages)
	}
	return e.Messages
}

// consumable is more than a peer that consumes handles in a second.
const consumable = 50_000

// lastApart is more than any peer's clock is coarse.
const lastApart = 20 * time.Millisecond

// fillBatch is how many messages a log that is read is filled with at once: where a batch
// is checked as a whole, large ones would be read at their own cost.
const fillBatch = 100

// logName is shared by peers that differ in how they read only.
func (p Peer) logName() string {
	if p.Name == walqNext || p.Name == walqView {
		return walqName
	}
	return p.Name
}

// reading opens a filled queue for f. A peer that consumes gets a copy.
func (e *Env) reading(ctx context.Context, p Peer, m Mode, n int, cold bool, f func(q Queue, l *log) error) error {
	l, err := e.filled(ctx, p, m, n)
	if err != nil {
		return err
	}
	return e.usable(p, l, func(dir string) error {
		return e.readingIn(ctx, dir, p, m, cold, func(q Queue) error { return f(q, l) })
	})
}

// usable gives f the directory of a filled queue, or of a copy if reading takes the
// messages away.
func (e *Env) usable(p Peer, l *log, f func(dir string) error) error {
	if !p.Consumes {
		return f(l.dir)
	}
	return e.within(true, func(fresh string) error {
		dir := filepath.Join(fresh, "copy")
		if err := os.CopyFS(dir, os.DirFS(l.dir)); err != nil {
			return err
		}
		return f(dir)
	})
}

func (e *Env) readingIn(ctx context.Context, dir string, p Peer, m Mode, cold bool, f func(q Queue) error) (err error) {
	if cold {
		if err := e.uncache(dir); err != nil {
			return err
		}
	}
	q, err := p.open(ctx, Place{Dir: dir}, m)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	return f(q)
}

// uncache drops the files from the page cache: asked politely, and as root by
// force, because pages that were written a moment ago may stay otherwise.
func (e *Env) uncache(dir string) error {
	err := limits.Uncache(dir)
	if e.DropCaches {
		err = errors.Join(err, os.WriteFile("/proc/sys/vm/drop_caches", []byte("1"), 0))
	}
	return err
}

func replayWorks() (all []Work) {
	for _, size := range []int{100, 1 << 10} {
		for _, cold := range []bool{false, true} {
			all = append(all, replayWork(size, cold))
		}
	}
	return all
}

func replayWork(size int, cold bool) Work {
	m := Mode{Bytes: size, Appenders: 1}
	w := Work{
		Name:  fmt.Sprintf("replay/%dB/warm", size),
		About: fmt.Sprintf("reading all messages of %d B in order, files in the page cache", size),
		Disk:  true,
		Brief: size == 100,
		Mode:  m,
		Run: func(ctx context.Context, e *Env, p Peer) (ms []Metric, err error) {
			err = e.reading(ctx, p, m, e.messagesFor(p), cold, func(q Queue, l *log) error {
				count, wrong, began := 0, 0, time.Now()
				if err := q.Replay(l.n, func(b []byte) {
					if count++; len(b) != size {
						wrong++
					}
				}); err != nil {
					return err
				}
				took := time.Since(began)
				if count != l.n || wrong > 0 {
					return fmt.Errorf("got %d messages, %d of them of another size; want %d", count, wrong, l.n)
				}
				ms = []Metric{{Unit: "ns", Value: perMessage(took, count)}}
				return nil
			})
			return ms, err
		},
		LimitName: "CRC32C of the same bytes in memory",
		Limit: func(ctx context.Context, e *Env) ([]Metric, error) {
			ns, err := limits.Checksum(ctx, size, e.limitRoom(), e.Time)
			return []Metric{{Unit: "ns", Value: ns}}, err
		},
	}
	if cold {
		w.Name = fmt.Sprintf("replay/%dB/cold", size)
		w.About = fmt.Sprintf("reading all messages of %d B in order, dropped from the page cache before the queue was opened", size)
		w.LimitName = "the disk's sequential read rate"
		w.Limit = func(ctx context.Context, e *Env) ([]Metric, error) {
			each := (24 + size + 7) &^ 7
			_, read, err := limits.Disk(ctx, e.root[true], int64(e.Messages)*int64(each))
			return []Metric{{Unit: "ns", Value: float64(each) / read * 1e9}}, err
		}
	}
	return w
}
