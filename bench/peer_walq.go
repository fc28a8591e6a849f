package main

import (
	"context"
	"errors"
	"time"

	"github.com/walq/walq"
)

const (
	walqName = "walq"
	walqView = "walq, View"
	walqNext = "walq, Next"
)

func walqPeer() Peer {
	return Peer{
		Name:     walqName,
		About:    "this module, default settings; replay and streams by ViewBatch, which verifies every message",
		Synced:   "SyncAlways: msync",
		Unsynced: "SyncNever: the kernel writes when it likes",
		Open: func(ctx context.Context, at Place, m Mode) (Queue, error) {
			return openWalq(ctx, at, m, (*walqQueue).batches)
		},
	}
}

// walqViewPeer reads one message at a time, in place.
func walqViewPeer() Peer { return walqReplay(walqView, "View", (*walqQueue).views) }

// walqNextPeer reads with a copy of each message.
func walqNextPeer() Peer { return walqReplay(walqNext, "Next", (*walqQueue).nexts) }

// walqReplay is another way to read.
func walqReplay(name, method string, way replayer) Peer {
	p := walqPeer()
	p.Name, p.About, p.Only = name, "the same; replay by "+method, []string{"replay"}
	p.Open = func(ctx context.Context, at Place, m Mode) (Queue, error) {
		return openWalq(ctx, at, m, way)
	}
	return p
}

// A replayer shows n messages of r to f.
type replayer func(w *walqQueue, r *walq.Reader, n int, f func([]byte)) error

type walqQueue struct {
	ctx     context.Context
	q       *walq.Queue
	replay  replayer
	waiting string
	seek    *walq.Reader
}

func openWalq(ctx context.Context, at Place, m Mode, replay replayer) (Queue, error) {
	o := walq.Options{Create: &walq.QueueOptions{}, Durability: walq.SyncNever, Role: "bench"}
	if m.Sync {
		o.Durability = walq.SyncAlways
	}
	// The default is kept where it fits: what a queue syncs decides how it maps.
	o.Create.Durability = o.Durability
	q, err := walq.Open(ctx, at.Dir+"/"+at.Queue, o)
	if err != nil {
		return nil, err
	}
	return &walqQueue{ctx: ctx, q: q, replay: replay, waiting: m.Waiting}, nil
}

func (w *walqQueue) Append(bodies [][]byte) (err error) {
	if len(bodies) == 1 {
		_, err = w.q.Append(w.ctx, bodies[0])
	} else {
		_, err = w.q.AppendBatch(w.ctx, bodies...)
	}
	return err
}

func (w *walqQueue) Replay(n int, f func([]byte)) (err error) {
	r, err := w.q.Reader(walq.Oldest, walq.ReaderOptions{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	return w.replay(w, r, n, f)
}

func (w *walqQueue) batches(r *walq.Reader, n int, f func([]byte)) error {
	each := func(m walq.Message) error { f(m.Body); return nil }
	for n > 0 {
		shown, err := r.ViewBatch(w.ctx, n, each)
		if err != nil {
			return err
		}
		n -= shown
	}
	return nil
}

func (w *walqQueue) views(r *walq.Reader, n int, f func([]byte)) error {
	each := func(m walq.Message) error { f(m.Body); return nil }
	for range n {
		if err := r.View(w.ctx, each); err != nil {
			return err
		}
	}
	return nil
}

func (w *walqQueue) nexts(r *walq.Reader, n int, f func([]byte)) error {
	for range n {
		m, err := r.Next(w.ctx)
		if err != nil {
			return err
		}
		f(m.Body)
	}
	return nil
}

func (w *walqQueue) Consumer(group string) (Consumer, error) {
	g, err := w.q.Group(group, walq.GroupOptions{})
	return walqConsumer{g}, err
}

type walqConsumer struct{ *walq.Group }

func (c walqConsumer) Work(ctx context.Context, n int, f func([]byte)) error {
	for range n {
		d, err := c.Receive(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		f(d.Body)
		if err := d.Ack(); err != nil {
			return err
		}
	}
	return nil
}

func (w *walqQueue) Pipeline(body []byte, n int) error {
	var pending [pipelineWindow]walq.Seq
	d := []walq.Draft{{Body: body}}
	last := walq.Seq(0)
	for i := range n {
		seq, err := w.q.Submit(w.ctx, d...)
		if err != nil {
			return err
		}
		slot := &pending[i%len(pending)]
		if i >= len(pending) && i%(len(pending)/4) == 0 {
			if err := w.q.WaitDurable(w.ctx, *slot); err != nil {
				return err
			}
		}
		*slot, last = seq, seq
	}
	return w.q.WaitDurable(w.ctx, last)
}

func (w *walqQueue) At(i int) error { return w.look(walq.At(walq.Seq(i + 1))) }

func (w *walqQueue) Since(unixNano int64) error {
	return w.look(walq.Since(time.Unix(0, unixNano)))
}

// look reads the message at a position with a reader that is kept.
func (w *walqQueue) look(p walq.Position) (err error) {
	if w.seek == nil {
		if w.seek, err = w.q.Reader(walq.Oldest, walq.ReaderOptions{}); err != nil {
			return err
		}
	}
	if err := w.seek.Seek(p); err != nil {
		return err
	}
	_, ok, err := w.seek.TryNext()
	if err == nil && !ok {
		err = errors.New("there is no message at " + p.String())
	}
	return err
}

func (w *walqQueue) Tail() (Tail, error) {
	o := walq.ReaderOptions{}
	switch w.waiting {
	case spinning:
		o.Spin = time.Minute
	case sleeping:
		o.Spin = -1
	}
	r, err := w.q.Reader(walq.Oldest, o)
	return walqTail{w.ctx, r}, err
}

func (w *walqQueue) Close() (err error) {
	if w.seek != nil {
		err = w.seek.Close()
	}
	return errors.Join(err, w.q.Close())
}

type walqTail struct {
	ctx context.Context
	r   *walq.Reader
}

func (t walqTail) Next() ([]byte, error) {
	m, err := t.r.Next(t.ctx)
	return m.Body, err
}

// flowAtMost is how many messages are shown at most before the caller is asked.
const flowAtMost = 256

func (t walqTail) Flow(f func([]byte) error) error {
	_, err := t.r.ViewBatch(t.ctx, flowAtMost, func(m walq.Message) error { return f(m.Body) })
	return err
}

func (t walqTail) Close() error { return t.r.Close() }
