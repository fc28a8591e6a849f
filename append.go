package walq

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/walq/walq/codec"
	"github.com/walq/walq/wal"
)

// A Draft is a message to be: a body with metadata. What is zero takes no room.
type Draft struct {
	Topic         string            // names a stream within the queue
	ID            string            // names the message, for its consumers
	Key           []byte            // what the message is about, for its consumers
	Headers       map[string]string // anything else
	ContentType   string            // media type of the body
	ReplyTo       string            // queue or topic where an answer is awaited
	CorrelationID string            // ties an answer to its question
	NotBefore     time.Time         // not to be worked on earlier
	Expire        time.Time         // of no use after
	Body          []byte
}

// Append appends one message and returns its sequence number when it is
// acknowledged under the durability. body is copied. The message is visible to
// every process before it is durable.
//
// If ctx ends, or the queue is poisoned, after the message is in but before it
// is known to be on stable storage, Append returns its sequence number and an
// error that Is ErrNotDurable: do not append it again.
//
// If the queue is full, Append returns ErrFull, or waits: see QueueOptions.WhenFull. If
// ctx ends meanwhile the error Is ErrFull and ctx.Err().
//
// Errors: ErrTooLarge, ErrFull, ErrDiskFull, ErrPoisoned, ErrCorrupt, ErrReadOnly,
// ErrClosed; without ErrNotDurable nothing was appended.
func (q *Queue) Append(ctx context.Context, body []byte) (Seq, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	a, err := q.log.Append(nil, body)
	if err != nil {
		a, err = q.awaitRoom(ctx, err, func() (wal.Appended, error) { return q.log.Append(nil, body) })
	}
	return q.acknowledge(ctx, a, err)
}

// AppendBatch appends the bodies as one message each, all of them or none, with
// sequence numbers that follow on one another, and returns the first. At most
// 8,191 fit one batch, and all must fit one segment.
func (q *Queue) AppendBatch(ctx context.Context, bodies ...[]byte) (first Seq, err error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if len(bodies) == 0 {
		return 0, fmt.Errorf("walq: append: %w", ErrNoMessage)
	}
	if len(bodies) == 1 {
		return q.Append(ctx, bodies[0]) // a frame less to write, and to read
	}
	a, err := q.log.AppendBodies(bodies)
	if err != nil {
		a, err = q.awaitRoom(ctx, err, func() (wal.Appended, error) { return q.log.AppendBodies(bodies) })
	}
	return q.acknowledge(ctx, a, err)
}

// Publish appends messages with metadata and returns when they are acknowledged
// under the durability. Several are one atomic batch. Errors as of Append.
func (q *Queue) Publish(ctx context.Context, d ...Draft) (first Seq, err error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	a, err := q.publish(ctx, d)
	return q.acknowledge(ctx, a, err)
}

// Submit is Publish, but returns as soon as the messages are in and visible. It
// starts the sync that the durability asks for and does not await it: use
// WaitDurable with the returned number, and one goroutine can have thousands of
// durable appends under way.
func (q *Queue) Submit(ctx context.Context, d ...Draft) (first Seq, err error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	a, err := q.publish(ctx, d)
	if err != nil {
		return 0, fmt.Errorf("walq: append: %w", err)
	}
	if q.log.Durability() == wal.SyncAlways {
		q.log.SyncSoon()
	}
	return Seq(a.Seq), nil
}

// AppendFunc appends a message of n bytes that fill writes straight into the
// queue, without a copy. The slice is not zero at first and must not be kept
// after fill returns. If fill fails or panics nothing is appended. fill may be
// called twice, with other memory, if the process was stopped in between for
// longer than the stall time-out; nobody reads past the message meanwhile, so
// fill must not wait for anything.
func (q *Queue) AppendFunc(ctx context.Context, n int, fill func([]byte) error) (Seq, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if n < 0 {
		return 0, fmt.Errorf("walq: append: a message of %d bytes", n)
	}
	a, err := q.log.AppendFunc(nil, n, fill)
	if err != nil {
		a, err = q.awaitRoom(ctx, err, func() (wal.Appended, error) { return q.log.AppendFunc(nil, n, fill) })
	}
	return q.acknowledge(ctx, a, err)
}

// acknowledge waits for what the durability promises.
func (q *Queue) acknowledge(ctx context.Context, a wal.Appended, err error) (Seq, error) {
	if err != nil {
		return 0, fmt.Errorf("walq: append: %w", err)
	}
	if q.log.Durability() != wal.SyncAlways {
		return Seq(a.Seq), nil
	}
	if err := q.log.WaitAppended(ctx, a); err != nil {
		return Seq(a.Seq), fmt.Errorf("walq: append: message %d: %w: %w", a.Seq, ErrNotDurable, err)
	}
	return Seq(a.Seq), nil
}

func (q *Queue) publish(ctx context.Context, drafts []Draft) (wal.Appended, error) {
	if len(drafts) == 0 {
		return wal.Appended{}, ErrNoMessage
	}
	e := encoders.Get().(*encoder)
	defer e.put()
	for i := range drafts {
		if err := e.add(&drafts[i]); err != nil {
			if errors.Is(err, codec.ErrMetaTooLarge) {
				err = fmt.Errorf("%w: %w", ErrTooLarge, err)
			}
			return wal.Appended{}, fmt.Errorf("message %d: %w", i, err)
		}
	}
	parts := e.finish(drafts)
	a, err := q.appendParts(parts)
	if err != nil {
		a, err = q.awaitRoom(ctx, err, func() (wal.Appended, error) { return q.appendParts(parts) })
	}
	return a, err
}

func (q *Queue) appendParts(parts []wal.Part) (wal.Appended, error) {
	if len(parts) == 1 {
		return q.log.Append(parts[0].Meta, parts[0].Body)
	}
	return q.log.AppendBatch(parts)
}

// An encoder collects the metadata of drafts in one buffer.
type encoder struct {
	buf   []byte
	ends  []int // of each draft's metadata in buf
	parts []wal.Part
}

var encoders = sync.Pool{New: func() any { return new(encoder) }}

// keepBytes bounds what an encoder keeps for its next use.
const keepBytes = 64 << 10

func (e *encoder) put() {
	clear(e.parts) // hold nobody's body
	e.buf, e.ends, e.parts = e.buf[:0], e.ends[:0], e.parts[:0]
	if cap(e.buf) <= keepBytes && cap(e.parts) <= keepBytes/64 {
		encoders.Put(e)
	}
}

func (e *encoder) add(d *Draft) (err error) {
	m := codec.Meta{
		ID: d.ID, Topic: d.Topic, Key: d.Key, Headers: d.Headers, ContentType: d.ContentType,
		ReplyTo: d.ReplyTo, CorrelationID: d.CorrelationID, NotBefore: d.NotBefore, Expire: d.Expire,
	}
	if !m.Empty() {
		e.buf, err = m.Append(e.buf)
	}
	e.ends = append(e.ends, len(e.buf))
	return err
}

func (e *encoder) finish(drafts []Draft) []wal.Part {
	from := 0
	for i, end := range e.ends {
		e.parts = append(e.parts, wal.Part{Meta: e.buf[from:end], Body: drafts[i].Body})
		from = end
	}
	return e.parts
}

// A Claim is room for one message in the queue itself, to be filled in place.
// While it is open readers that come to it wait, and no append behind it is
// acknowledged as durable: fill it, and commit or abort it, soon. A claim that takes longer than the
// stall time-out is revoked by whoever is held up; Commit then copies its bytes
// into a new one. A forgotten claim is aborted when the garbage collector finds
// it, and by Close.
type Claim struct {
	q *Queue
	c *wal.InPlace
}

// Claim claims room for a message of n bytes. Errors, and waiting, are as of Append.
func (q *Queue) Claim(ctx context.Context, n int) (*Claim, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if n < 0 {
		return nil, fmt.Errorf("walq: claim: a message of %d bytes", n)
	}
	c, err := q.log.ClaimInPlace(nil, n)
	if err != nil {
		_, err = q.awaitRoom(ctx, err, func() (_ wal.Appended, err error) {
			c, err = q.log.ClaimInPlace(nil, n)
			return
		})
	}
	if err != nil {
		return nil, fmt.Errorf("walq: claim: %w", err)
	}
	return &Claim{q, c}, nil
}

// Bytes is the room to fill, not zero at first. It is mapped memory: valid until
// Commit, Abort or Close of the queue and not to be touched after, and if
// somebody truncates the file meanwhile an access ends the process.
func (c *Claim) Bytes() []byte { return c.c.Bytes() }

// Commit appends the message, and returns as Append does. After ErrFull, which only a
// claim gets that was revoked, the claim is as it was, and can be committed later.
func (c *Claim) Commit(ctx context.Context) (Seq, error) {
	a, err := c.c.Commit()
	if err != nil {
		a, err = c.q.awaitRoom(ctx, err, c.c.Commit)
	}
	return c.q.acknowledge(ctx, a, err)
}

// Abort gives the room back. After Commit it does nothing, so it can be deferred.
func (c *Claim) Abort() { c.c.Abort() }
