package walq_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/walq/walq"
	"github.com/walq/walq/internal/history"
)

// A part is what one process, or in a test of goroutines one of them, plays in a
// history: it uses a queue in all the ways there are and records what it did.
type part struct {
	dir    string
	name   string // no other part of the history has it
	log    *history.Recorder
	random *rand.Rand
	most   int64           // calls after which it leaves
	end    <-chan struct{} // closed when it shall leave
	place  *os.File        // of a reader: where it writes how far it came
	began  bool            // and has written where it began

	calls  atomic.Int64
	bodies atomic.Int64
}

// stall is short, so that who is stopped for a moment is taken for dead by others.
const stall = 100 * time.Millisecond

// over reports whether the part shall leave.
func (p *part) over() bool {
	select {
	case <-p.end:
		return true
	default:
		return p.calls.Load() >= p.most
	}
}

// body is one that nobody else appends, of a length that differs.
func (p *part) body(random *rand.Rand) []byte {
	head := fmt.Sprintf("%s.%d ", p.name, p.bodies.Add(1))
	n := random.IntN(400)
	if random.IntN(40) == 0 {
		n = random.IntN(12 << 10) // pages, and a segment that ends early
	}
	b := make([]byte, len(head)+n)
	for i := copy(b, head); i < len(b); i++ {
		b[i] = byte('a' + (i+n)%26)
	}
	return b
}

// write opens the queue, appends, closes it, again and again.
func (p *part) write(ctx context.Context) error {
	for !p.over() {
		if err := p.visit(ctx); err != nil {
			return err
		}
	}
	return nil
}

// visit is one stay of a writer: a few goroutines with one handle.
func (p *part) visit(ctx context.Context) (err error) {
	q, err := walq.Open(ctx, p.dir, walq.Options{
		Durability: []walq.Durability{walq.SyncAlways, walq.SyncInterval, walq.SyncNever}[p.random.IntN(3)],
		SyncEvery:  5 * time.Millisecond, StallTimeout: stall, Role: "writer",
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	hands := 1 + p.random.IntN(3)
	errs := make([]error, hands)
	var all sync.WaitGroup
	for i := range hands {
		random, calls := rand.New(rand.NewPCG(p.random.Uint64(), 0)), 1+p.random.IntN(40)
		all.Go(func() {
			for ; calls > 0 && !p.over() && errs[i] == nil; calls-- {
				p.calls.Add(1)
				errs[i] = p.call(ctx, q, random)
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// call does one of the things that a writer does.
func (p *part) call(ctx context.Context, q *walq.Queue, random *rand.Rand) error {
	switch random.IntN(12) {
	case 0, 1, 2:
		return p.single(ctx, q, random)
	case 3, 4:
		return p.batch(ctx, q, random)
	case 5, 6:
		return p.inPlace(ctx, q, random)
	case 7:
		return p.encoded(ctx, q, random)
	case 8:
		return p.submitted(ctx, q, random)
	case 9:
		return p.hurried(ctx, q, random)
	case 10:
		return q.Sync(ctx)
	}
	_, err := q.Trim(ctx)
	return err
}

// answered records how an append came back, and gives errors that must not be.
func answered(a history.Appending, first walq.Seq, err error) error {
	at := history.Now()
	switch {
	case err == nil || errors.Is(err, walq.ErrNotDurable):
		a.Acked(uint64(first), at)
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		return nil
	case errors.Is(err, walq.ErrStalled), errors.Is(err, context.DeadlineExceeded), errors.Is(err, errWhim):
		a.Refused(err.Error())
		return nil
	}
	return err
}

var errWhim = errors.New("a fill that fails")

func (p *part) single(ctx context.Context, q *walq.Queue, random *rand.Rand) error {
	b := p.body(random)
	a := p.log.Append(b)
	seq, err := q.Append(ctx, b)
	return answered(a, seq, err)
}

func (p *part) batch(ctx context.Context, q *walq.Queue, random *rand.Rand) error {
	bodies := make([][]byte, 1+random.IntN(6))
	drafts := make([]walq.Draft, len(bodies))
	for i := range bodies {
		bodies[i] = p.body(random)
		drafts[i] = walq.Draft{Topic: "storm", Body: bodies[i]}
	}
	a := p.log.Append(bodies...)
	if random.IntN(2) == 0 {
		first, err := q.AppendBatch(ctx, bodies...)
		return answered(a, first, err)
	}
	first, err := q.Publish(ctx, drafts...)
	return answered(a, first, err)
}

// inPlace claims room and commits it, or gives it back, or forgets it.
func (p *part) inPlace(ctx context.Context, q *walq.Queue, random *rand.Rand) error {
	b := p.body(random)
	a := p.log.Append(b)
	c, err := q.Claim(ctx, len(b))
	if err != nil {
		return answered(a, 0, err)
	}
	half := copy(c.Bytes(), b[:len(b)/2])
	linger(random)
	copy(c.Bytes()[half:], b[half:])
	switch random.IntN(16) {
	case 0, 1, 2:
		c.Abort()
		a.Refused("aborted")
		return nil
	case 3:
		a.Refused("forgotten")
		return nil
	}
	seq, err := c.Commit(ctx)
	return answered(a, seq, err)
}

// linger makes it likely that a signal meets a writer in the middle of an append; and
// now and then it is so slow that others revoke its claim.
func linger(random *rand.Rand) {
	switch n := random.IntN(48); {
	case n == 0:
		time.Sleep(2 * stall) // the slowness itself is what others must bear
	case n < 8:
		time.Sleep(time.Duration(random.IntN(2000)) * time.Microsecond)
	}
}

// encoded encodes in place; one time in three that fails.
func (p *part) encoded(ctx context.Context, q *walq.Queue, random *rand.Rand) error {
	b := p.body(random)
	fails := random.IntN(3) == 0
	a := p.log.Append(b)
	seq, err := q.AppendFunc(ctx, len(b), func(room []byte) error {
		half := copy(room, b[:len(b)/2])
		linger(random)
		copy(room[half:], b[half:])
		if fails {
			return errWhim
		}
		return nil
	})
	return answered(a, seq, err)
}

// submitted has several appends under way before it waits for the last.
func (p *part) submitted(ctx context.Context, q *walq.Queue, random *rand.Rand) error {
	var last walq.Seq
	for range 1 + random.IntN(5) {
		b := p.body(random)
		a := p.log.Append(b)
		seq, err := q.Submit(ctx, walq.Draft{Body: b})
		if err := answered(a, seq, err); err != nil {
			return err
		}
		last = max(last, seq)
	}
	if last == 0 {
		return nil
	}
	return q.WaitDurable(ctx, last)
}

// hurried cannot wait for long.
func (p *part) hurried(ctx context.Context, q *walq.Queue, random *rand.Rand) error {
	short, cancel := context.WithTimeout(ctx, time.Duration(random.IntN(1000))*time.Microsecond)
	defer cancel()
	return p.single(short, q, random)
}
