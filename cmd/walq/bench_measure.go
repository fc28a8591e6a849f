package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/walq/walq"
	machine "github.com/walq/walq/internal/limits"
)

// benchRoom is what one measurement fills at most, and benchSamples how many
// single events it keeps.
const (
	benchRoom    = 256 << 20
	benchSamples = 1 << 18
	benchBatch   = 16
)

// benching is a bench that is under way.
type benching struct {
	ctx  context.Context
	dir  string
	self string // the program, which plays the other process
	talk io.Writer
	o    benchOptions
}

func (b *benching) say(format string, args ...any) {
	fmt.Fprintf(b.talk, format+"\n", args...)
}

// messages is how many fit the room.
func (b *benching) messages() int { return benchRoom / (b.o.bytes + 64) }

// with makes a queue for f.
func (b *benching) with(name string, d walq.Durability, f func(q *walq.Queue) error) (err error) {
	q, err := walq.Open(b.ctx, filepath.Join(b.dir, name), walq.Options{
		Create: &walq.QueueOptions{Durability: d}, Durability: d, Role: "bench",
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	return f(q)
}

// lasting calls f, which appends or reads n messages, until the time is over or
// the room is full, and returns nanoseconds per message.
func (b *benching) lasting(n int, f func() error) (float64, error) {
	began, done := time.Now(), 0
	for done+n <= b.messages() {
		for range 64 { // the clock costs more than an append
			if err := f(); err != nil {
				return 0, err
			}
			done += n
		}
		if time.Since(began) > b.o.time || b.ctx.Err() != nil {
			break
		}
	}
	return float64(time.Since(began).Nanoseconds()) / float64(max(done, 1)), b.ctx.Err()
}

// appends measures one writer.
func (b *benching) appends() (rows []benchRow, err error) {
	b.say("appending")
	limit, err := machine.Copy(b.ctx, b.dir, b.o.bytes, benchRoom/4, b.o.time)
	if err != nil {
		return nil, err
	}
	body := make([]byte, b.o.bytes)
	batch := slices.Repeat([][]byte{body}, benchBatch)
	for _, w := range []struct {
		name string
		n    int
		f    func(q *walq.Queue) error
	}{
		{"append", 1, func(q *walq.Queue) error { _, err := q.Append(b.ctx, body); return err }},
		{"append in batches of 16", benchBatch, func(q *walq.Queue) error { _, err := q.AppendBatch(b.ctx, batch...); return err }},
	} {
		err := b.with(fmt.Sprintf("append%d", w.n), walq.SyncNever, func(q *walq.Queue) error {
			each, err := b.lasting(w.n, func() error { return w.f(q) })
			rows = append(rows, row(w.name, "ns", each, 0, "copy into a mapped file, and checksum", limit))
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return rows, nil
}

// reads reads what appends has left.
func (b *benching) reads() (rows []benchRow, err error) {
	b.say("reading")
	limit, err := machine.Checksum(b.ctx, b.o.bytes, benchRoom/4, b.o.time)
	if err != nil {
		return nil, err
	}
	err = b.with("append1", walq.SyncNever, func(q *walq.Queue) (err error) {
		r, err := q.Reader(walq.Oldest, walq.ReaderOptions{})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, r.Close()) }()
		s, err := q.Stats()
		if err != nil {
			return err
		}
		left := int(s.Messages)
		began, nothing := time.Now(), func(walq.Message) error { return nil }
		for left > 0 {
			n, err := r.ViewBatch(b.ctx, left, nothing)
			if left -= n; err != nil {
				return err
			}
		}
		each := float64(time.Since(began).Nanoseconds()) / float64(max(s.Messages, 1))
		rows = []benchRow{row("read", "ns", each, 0, "checksum alone", limit)}
		return b.ctx.Err()
	})
	return rows, err
}

// commits measures durable appends, alone and in company.
func (b *benching) commits() (rows []benchRow, err error) {
	b.say("appending durably")
	syncs, err := machine.Sync(b.ctx, b.dir, b.o.bytes, b.o.time, make([]int64, benchSamples))
	if err != nil || len(syncs) == 0 {
		return nil, errors.Join(errors.New("no sync ended"), err)
	}
	total := int64(0)
	for _, s := range syncs {
		total += s
	}
	limit := float64(len(syncs)) / (float64(total) / 1e9)
	for _, appenders := range []int{1, 8, 64} {
		name := fmt.Sprintf("durable, %s", plural(appenders, "appender"))
		err := b.with(fmt.Sprintf("durable%d", appenders), walq.SyncAlways, func(q *walq.Queue) error {
			count, took, err := b.together(q, appenders)
			rows = append(rows, row(name, perSecond, float64(count)/took.Seconds(), 0, "one bare fdatasync after another", limit))
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return rows, nil
}

// together appends from several goroutines at once.
func (b *benching) together(q *walq.Queue, appenders int) (count int, took time.Duration, err error) {
	var (
		stop  atomic.Bool
		wg    sync.WaitGroup
		mu    sync.Mutex
		body  = make([]byte, b.o.bytes)
		began = time.Now()
		each  = max(b.messages()/appenders, 1)
	)
	timer := time.AfterFunc(b.o.time, func() { stop.Store(true) })
	defer timer.Stop()
	for range appenders {
		wg.Go(func() {
			mine, failure := 0, error(nil)
			for failure == nil && mine < each && !stop.Load() {
				if _, failure = q.Append(b.ctx, body); failure == nil {
					mine++
				}
			}
			mu.Lock()
			defer mu.Unlock()
			count += mine
			err = errors.Join(err, failure)
		})
	}
	wg.Wait()
	return count, time.Since(began), err
}
