package walq

import (
	"context"
	"time"

	"github.com/walq/walq/wal"
)

// lookEvery is after how many messages ViewBatch looks at its context.
const lookEvery = 16

// ViewBatch waits for the next message like View, and calls fn with it and with those
// behind it, up to most of them, as long as they are there without waiting. Each is shown
// in place: its memory is the queue's own, valid only until fn returns, and must not be
// written. It is the fastest way to read: going into the queue and out again, which costs
// View more than the checksum of a short message does, is shared.
//
// It returns how many times fn was called, and is done early at the end of the queue, with
// fn's first error, which it returns, and with an error of its own, as of Next, which may
// come with messages before it. What fn was called with is behind the reader, also if fn
// failed or panicked: Seek(At(m.Seq)) goes back to it. With most below 1 it does nothing.
//
// fn may use the reader, which does not change what it was shown: the batch goes on from
// where the reader is then. It must not close the queue, which waits for it. When the queue
// is closed meanwhile, fn is not called again; ctx is looked at before the first message and
// after every 16th.
func (r *Reader) ViewBatch(ctx context.Context, most int, fn func(Message) error) (n int, err error) {
	var failed error // of fn or ctx
	var v Message    // shown; of the last one its time is right as long as it is the same
	stamp, looked := int64(0), 0
	v.Time = time.Unix(0, stamp)
	show := func(m *wal.Message) (wal.Verdict, error) {
		if r.topics.topic == "" || r.topics.want(m.Meta) {
			if m.Time != stamp {
				stamp, v.Time = m.Time, time.Unix(0, m.Time)
			}
			v.Seq, v.Body, v.at = Seq(m.Seq), m.Body, nil
			if len(m.Meta) > 0 {
				v.at = &m.Meta
			}
			n++
			if err := fn(v); err != nil {
				failed = err
				return wal.More, err
			}
		}
		if looked++; looked%lookEvery == 0 {
			failed = ctx.Err()
		}
		return wal.More, failed
	}
	w := waiter{r: r}
	defer w.getUp()
	for n < most {
		if r.closed {
			return n, ErrClosed
		}
		if err := ctx.Err(); err != nil {
			return n, err
		}
		run := min(most-n, passEvery)
		passed, err := r.r.ViewRun(run, n == 0 && w.spins(), show)
		switch {
		case failed != nil:
			return n, failed
		case err != nil:
			return n, r.wrap(err)
		case n > 0 && passed < run:
			return n, nil
		case passed > 0: // more, or of other topics
			w.getUp()
			w = waiter{r: r}
		default:
			if err := w.wait(ctx); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}
