package walq

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"runtime"
	"strings"
	"time"

	"github.com/walq/walq/codec"
	"github.com/walq/walq/wal"
)

// ReaderOptions say how to read. The zero value reads everything.
type ReaderOptions struct {
	// Durable gives only messages that are on stable storage already: for
	// those who act on them in a way that a power loss does not undo. On a
	// queue that nobody syncs they come late.
	Durable bool
	// Topic gives only messages of this topic, or, if it ends in *, of every
	// topic that begins with what stands before the star. Empty: all.
	Topic string
	// Spin is how long to look for the next message without sleeping before
	// the reader sleeps; 0 means 50 µs, negative not at all. Longer answers
	// faster and costs a processor.
	Spin time.Duration
}

const (
	// defaultSpin is about what a process needs to be woken: spinning longer
	// gains little on average.
	defaultSpin = 50 * time.Microsecond
	// Where nobody can wake a reader, its sleeps at the end of the queue double
	// from shortestNap to longestNap.
	shortestNap = 50 * time.Microsecond
	longestNap  = 20 * time.Millisecond
)

// A Reader reads a queue in order. It is for one goroutine at a time. Readers
// do not disturb each other, and what one has read is not gone.
type Reader struct {
	q      *Queue
	r      *wal.Reader
	o      ReaderOptions
	topics topicFilter
	closed bool
}

// Reader makes a reader that begins at from. Close it when you are done.
func (q *Queue) Reader(from Position, o ReaderOptions) (*Reader, error) {
	r, err := q.log.NewReader(o.Durable)
	if err != nil {
		return nil, fmt.Errorf("walq: reader: %w", err)
	}
	if o.Spin == 0 {
		o.Spin = defaultSpin
	}
	n := &Reader{q: q, r: r, o: o, topics: filterFor(o.Topic)}
	if err := n.Seek(from); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

// Seek goes to another position.
func (r *Reader) Seek(p Position) (err error) {
	if r.closed {
		return ErrClosed
	}
	switch p.kind {
	case atOldest:
		err = r.r.SeekOldest()
	case atNewest:
		err = r.r.SeekNewest()
	case atSeq:
		err = r.r.SeekSeq(p.n)
	case atLast:
		err = r.r.SeekLast(p.n)
	case atTime:
		err = r.r.SeekTime(unixNanos(p.t))
	}
	if err != nil {
		return fmt.Errorf("walq: seek: %w", err)
	}
	return nil
}

// unixNanos is t in nanoseconds since the Unix epoch, or the nearest that there
// is: an int64 of them ends in the year 2262.
func unixNanos(t time.Time) int64 {
	switch {
	case t.Before(time.Unix(0, math.MinInt64)):
		return math.MinInt64
	case t.After(time.Unix(0, math.MaxInt64)):
		return math.MaxInt64
	}
	return t.UnixNano()
}

// Close gives back what the reader holds. Calls after it return ErrClosed.
func (r *Reader) Close() error {
	if r.closed {
		return ErrClosed
	}
	r.closed = true
	r.r.Close()
	return nil
}

// Next returns the next message, waiting for it as long as ctx allows. The
// message is verified and copied; its memory is valid until the next call, Clone
// it to keep it.
//
// Errors: ctx.Err(), ErrClosed, a CorruptError, which comes again at each call
// until Seek, and a GapError, which comes once.
func (r *Reader) Next(ctx context.Context) (m Message, err error) {
	for w := (waiter{r: r}); ; {
		ok, err := r.try(ctx, w.spins(), &m)
		if ok || err != nil {
			w.getUp()
			return m, err
		}
		if err := w.wait(ctx); err != nil {
			return m, err
		}
	}
}

// TryNext returns the next message if there is one. It does not wait. Memory and
// errors are as of Next.
func (r *Reader) TryNext() (m Message, ok bool, err error) {
	ok, err = r.try(context.Background(), false, &m)
	return m, ok, err
}

// passEvery is after how many messages of other topics the context is looked at.
const passEvery = 256

// try is TryNext, ended by ctx before it takes a message. soon: it may spin a little.
func (r *Reader) try(ctx context.Context, soon bool, m *Message) (ok bool, err error) {
	if r.closed {
		return false, ErrClosed
	}
	for passed := 0; ; passed++ {
		if passed%passEvery == 0 {
			if err := ctx.Err(); err != nil {
				return false, err
			}
		}
		w, err := r.r.NextSoon(soon)
		if err != nil {
			return false, r.wrap(err)
		}
		if w == nil {
			return false, nil
		}
		if r.topics.want(w.Meta) {
			m.set(w)
			return true, nil
		}
	}
}

func message(w *wal.Message) (m Message) {
	m.set(w)
	return m
}

// A topicFilter says which messages are wanted.
type topicFilter struct {
	topic  string
	prefix bool // topic is one
}

func filterFor(topic string) (f topicFilter) {
	f.topic, f.prefix = strings.CutSuffix(topic, "*")
	return f
}

func (f topicFilter) want(meta []byte) bool {
	if f.topic == "" {
		return true // of every topic, or none
	}
	topic, _ := codec.Lookup(meta, codec.FieldTopic)
	if f.prefix {
		return len(topic) >= len(f.topic) && string(topic[:len(f.topic)]) == f.topic
	}
	return string(topic) == f.topic
}

func (r *Reader) wrap(err error) error {
	if errors.Is(err, ErrClosed) {
		return ErrClosed
	}
	return fmt.Errorf("walq: read: %w", err)
}

// View waits for the next message like Next and calls fn with it in place: its
// memory is the queue's own, without a copy, valid only until fn returns, and
// must not be written. It returns fn's error. fn may use the reader, which does not change
// what it was shown; it must not close the queue, which waits for it. To read many,
// ViewBatch is faster.
func (r *Reader) View(ctx context.Context, fn func(Message) error) error {
	if r.closed {
		return ErrClosed
	}
	w := waiter{r: r}
	defer w.getUp()
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		seen := false
		ok, err := r.r.ViewSoon(w.spins(), func(m *wal.Message) error {
			if !r.topics.want(m.Meta) {
				return nil
			}
			seen = true
			return fn(message(m))
		})
		switch {
		case seen:
			return err
		case err != nil:
			return r.wrap(err)
		case ok: // of another topic
			w.getUp()
			w = waiter{r: r}
		default:
			if err := w.wait(ctx); err != nil {
				return err
			}
		}
	}
}

// All goes over the messages up to the end of the queue as it is when it gets
// there. Memory is as of Next. An error is the last thing it yields.
func (r *Reader) All(ctx context.Context) iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) {
		w := waiter{r: r}
		for {
			var m Message
			ok, err := r.try(ctx, false, &m)
			if ok && yield(m, nil) {
				continue
			}
			blocked := false
			if !ok && err == nil {
				blocked, err = w.blocked(ctx)
			}
			if err != nil {
				yield(Message{}, err)
			}
			if err != nil || !blocked {
				return
			}
		}
	}
}

// Follow goes over the messages and waits for more: it ends only when the loop
// is left, or with an error, which it yields last; if ctx ends that is
// ctx.Err(). Memory is as of Next.
func (r *Reader) Follow(ctx context.Context) iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) {
		for {
			m, err := r.Next(ctx)
			if !yield(m, err) || err != nil {
				return
			}
		}
	}
}

// A waiter is one wait for the next message.
type waiter struct {
	r     *Reader
	start time.Time
	bed   *sleeper // announced: the next wait sleeps
	nap   time.Duration
}

// getUp takes an announced sleep back.
func (w *waiter) getUp() {
	if w.bed != nil {
		w.bed.getUp()
		w.bed = nil
	}
}

// spins reports whether the next look may spin.
func (w *waiter) spins() bool { return w.bed == nil && w.nap == 0 && w.r.o.Spin > 0 }

// blocked looks whether a claim of somebody holds the reader up, and if so waits
// a moment and frees the queue of it if its owner is dead or stopped.
func (w *waiter) blocked(ctx context.Context) (bool, error) {
	blocked, err := w.r.r.Blocked()
	if err != nil {
		return false, w.r.wrap(err)
	}
	if blocked {
		err = ctx.Err()
	}
	return blocked, err
}

// wait spins; then it announces a sleep, so that the reader looks once more; then
// it sleeps. Where nobody can wake it, it naps, longer each time. After an error
// no sleep is announced.
func (w *waiter) wait(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			w.getUp()
		}
	}()
	if err := ctx.Err(); err != nil {
		return err
	}
	if blocked, err := w.blocked(ctx); blocked || err != nil {
		return err
	}
	if bed := w.bed; bed != nil {
		w.bed = nil
		return bed.sleep(ctx)
	}
	if w.start.IsZero() {
		w.start = time.Now()
	}
	if w.nap == 0 && time.Since(w.start) < w.r.o.Spin {
		runtime.Gosched()
		return nil
	}
	reason := wal.WaitMessage
	if w.r.o.Durable {
		reason = wal.WaitDurable
	}
	if w.bed = w.r.q.bed.lieDown(reason); w.bed != nil {
		return nil
	}
	w.nap = min(max(2*w.nap, shortestNap), longestNap)
	timer := time.NewTimer(w.nap)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
