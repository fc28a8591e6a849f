package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"sync"

	"github.com/walq/walq"
)

// A putter appends what it reads.
//
// Reading may block for ever, so it has a goroutine of its own, the pump, which
// is left behind where put must end: mu keeps it from appending then.
type putter struct {
	ctx   context.Context // of the appends: what was begun is finished
	q     *walq.Queue
	in    *records
	draft walq.Draft
	plain bool // draft has no metadata
	batch int
	acks  *ackPrinter // nil: none are wanted
	syncs *syncWaiter // nil: acknowledged means appended

	mu      sync.Mutex
	stopped bool
	pending int          // bodies[:pending] were read but not appended yet
	bodies  [][]byte     // of the batch to come
	drafts  []walq.Draft // room for the drafts of a batch
	done    appended
	bytes   uint64 // of all that was appended

	progress *progress
}

// inputBuffer is large enough that a fast input costs few system calls.
const inputBuffer = 256 << 10

func newPutter(ctx context.Context, q *walq.Queue, in io.Reader, draft walq.Draft, o putFlags, acks *ackPrinter) *putter {
	p := &putter{
		ctx: context.WithoutCancel(ctx), q: q, draft: draft, plain: o.plain(), batch: o.batch, acks: acks,
		bodies: make([][]byte, o.batch), drafts: make([]walq.Draft, o.batch),
	}
	p.in = &records{
		r:     bufio.NewReaderSize(eager{in, p.showAcks}, inputBuffer),
		split: o.splitting(),
		limit: q.MaxMessage(),
	}
	return p
}

func (p *putter) run(ctx context.Context) (appended, error) {
	ended := make(chan error, 1)
	go func() { ended <- p.pump() }()
	var failed chan struct{}
	if p.syncs != nil {
		failed = p.syncs.failed
	}
	var err error
	select {
	case err = <-ended:
	case <-failed: // finish tells why
	case <-ctx.Done():
		err = stopped(ctx)
	}
	p.mu.Lock()
	p.stopped = true
	p.mu.Unlock()
	if p.syncs != nil {
		err = errors.Join(err, p.syncs.finish())
	} else {
		err = errors.Join(err, p.acks.flush())
	}
	return p.done, err
}

// errEnough ends the pump where somebody else knows the reason.
var errEnough = errors.New("enough")

func (p *putter) pump() error {
	for {
		record, err := p.in.next()
		err = p.take(record, err)
		if err == io.EOF || err == errEnough {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// take appends a record, or what was held back for a batch if that is full or
// nothing more comes.
func (p *putter) take(record []byte, err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return errEnough
	}
	switch {
	case err != nil:
		if failed := p.appendPending(); failed != nil {
			return failed
		}
		return err
	case p.batch > 1:
		p.bodies[p.pending] = append(p.bodies[p.pending][:0], record...)
		if p.pending++; p.pending < p.batch {
			return nil
		}
		return p.appendPending()
	}
	p.bodies[0], p.pending = record, 1
	return p.appendPending()
}

func (p *putter) appendPending() error {
	n := p.pending
	if n == 0 {
		return nil
	}
	p.pending = 0
	first, err := p.append(p.bodies[:n])
	if err != nil {
		return p.in.wrong(uint64(n), err)
	}
	if p.done.Appended == 0 {
		p.done.First = first
	}
	p.done.Appended += uint64(n)
	p.done.Last = first + walq.Seq(n-1)
	for _, body := range p.bodies[:n] {
		p.bytes += uint64(len(body))
	}
	if p.progress.due() {
		p.progress.count("appended", p.done.Appended, p.bytes)
	}
	if p.syncs != nil {
		return p.syncs.add(seqs{first, n})
	}
	return p.acks.print(seqs{first, n})
}

// append uses the shorter ways for messages without metadata, which return at
// once unless a sync is asked for.
func (p *putter) append(bodies [][]byte) (walq.Seq, error) {
	if p.syncs == nil && p.plain {
		if len(bodies) == 1 {
			return p.q.Append(p.ctx, bodies[0])
		}
		return p.q.AppendBatch(p.ctx, bodies...)
	}
	drafts := p.drafts[:len(bodies)]
	for i, body := range bodies {
		drafts[i] = p.draft
		drafts[i].Body = body
	}
	return p.q.Submit(p.ctx, drafts...)
}

// showAcks is called before the input is waited for.
func (p *putter) showAcks() error {
	if p.syncs != nil {
		return nil // it shows them itself
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return errEnough
	}
	return p.acks.flush()
}
