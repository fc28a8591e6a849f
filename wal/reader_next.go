package wal

import (
	"slices"

	"github.com/walq/walq/internal/cacheline"
	"github.com/walq/walq/internal/spin"
	"github.com/walq/walq/mmap"
	"github.com/walq/walq/segment"
)

// The ways in which a reader hands out messages.

// Next returns the next message, verified and copied: Meta and Body are valid
// until the next call. false without an error: there is none yet. A corrupt
// frame is reported again at each call, until a seek; a GapError once.
func (r *Reader) Next() (Message, bool, error) {
	m, err := r.NextSoon(false)
	if m == nil {
		return Message{}, false, err
	}
	return *m, true, nil
}

// NextSoon is Next, but with spin it waits for a message if there is none yet, for
// some microseconds, spinning. It lends the message, until the next call, because each
// copy of so many words costs as much as a checksum of some; nil: there is none yet.
func (r *Reader) NextSoon(spin bool) (*Message, error) {
	if r.handed == len(r.run) || r.l.gate.closed.Load() {
		if err := r.fetch(spin); err != nil || len(r.run) == 0 {
			return nil, err
		}
	}
	m := &r.run[r.handed]
	r.handed++
	return m, nil
}

// View calls fn with the next message in place: Meta and Body are the log's own
// memory, or a copy, valid only until fn returns, and must not be written. fn must
// not close the log. ok is false if there is no message yet.
func (r *Reader) View(fn func(Message) error) (ok bool, err error) {
	return r.ViewSoon(false, func(m *Message) error { return fn(*m) })
}

// ViewSoon is View, as NextSoon is Next.
func (r *Reader) ViewSoon(spin bool, fn func(*Message) error) (ok bool, err error) {
	if r.handed < len(r.run) || r.late != nil { // Next took more than it handed out
		m, err := r.NextSoon(false)
		if m != nil {
			defer r.takeBack(r.lend())
			err = fn(m)
		}
		return m != nil, err
	}
	ticket, ok := r.l.gate.enter()
	if !ok {
		return false, ErrClosed
	}
	guard, finished := mmap.Protect(), false
	m, lent := r.room(), r.lent
	defer func() {
		if !finished {
			r.takeBack(lent)
			r.l.breakOff(ticket, nil, guard, recover(), &err)
		}
	}()
	if ok = r.plain(m); !ok {
		if spin {
			r.poll()
		}
		ok, err = r.wanted(m)
	}
	if ok {
		r.lent = true
		err = fn(m)
		r.takeBack(lent)
	}
	finished = true
	mmap.Unprotect(guard)
	r.l.gate.exit(ticket)
	return ok, err
}

// A reader that has more to read than one message copies several at once, and hands
// them out one by one: what it costs to go into the log and out again is shared.
const (
	maxRun   = 64       // messages
	runBytes = 16 << 10 // what is copied at once, but for one message that is longer
)

// fetch copies what comes next: one message first, then, as long as there is more,
// twice as many as the last time.
func (r *Reader) fetch(poll bool) (err error) {
	if r.lent {
		r.used++
		r.run, r.buf = nil, nil
	}
	r.run, r.handed = r.run[:0], 0
	if r.late != nil {
		err, r.late = r.late, nil
		return err
	}
	ticket, ok := r.l.gate.enter()
	if !ok {
		return ErrClosed
	}
	guard, finished := mmap.Protect(), false
	defer func() {
		if !finished {
			r.l.breakOff(ticket, nil, guard, recover(), &err)
			r.err = err // it may have stepped over the message that it could not copy
		}
		if err != nil && len(r.run) > 0 { // first what was before it
			err, r.late = nil, err
		}
	}()
	r.buf = r.buf[:0]
	for len(r.run) < r.most {
		n := len(r.run)
		if n == cap(r.run) {
			r.run = slices.Grow(r.run, r.most)
		}
		m := &r.run[:n+1][n]
		ok, awaited := r.plain(m), false
		if !ok && poll && n == 0 && r.poll() {
			ok, awaited = r.plain(m), true
		}
		if !ok {
			if ok, err = r.wanted(m); !ok {
				r.most = max(n, 1)
				break
			}
		}
		// What was waited for is handed out at once: nothing is behind it yet, and to
		// look would fetch a cold line, and take it from who writes the next message.
		full := r.copy(m) >= runBytes || awaited // copy may fault: only then it is one to hand out
		r.run = r.run[:n+1]
		if full {
			break
		}
	}
	if len(r.run) == r.most {
		r.most = min(2*r.most, maxRun)
	}
	finished = true
	mmap.Unprotect(guard)
	r.l.gate.exit(ticket)
	return err
}

// copy moves the content of m into the reader's buffer, and returns how much that
// holds.
func (r *Reader) copy(m *Message) int {
	at := len(r.buf)
	if len(m.Meta) > 0 {
		r.buf = append(r.buf, m.Meta...)
	}
	meta := len(r.buf)
	r.buf = append(r.buf, m.Body...)
	end := len(r.buf)
	m.Meta, m.Body = r.buf[at:meta:meta], r.buf[meta:end:end]
	return end
}

// plain is the short way of wanted: the next message if it is one of its own or inside a
// batch that was verified, and nothing has to be thought about first. The message is
// written in place, here and in wanted: handing it up by value costs more than all the rest.
func (r *Reader) plain(m *Message) bool {
	if r.err != nil || r.gap != nil || r.skip > 0 || r.since > 0 {
		return false
	}
	if r.batch {
		seq := r.inner.Seq()
		if seq < r.from {
			return false
		}
		time, meta, body, ok := r.inner.ReadMessage()
		if !ok {
			return false
		}
		m.Seq, m.Time, m.Meta, m.Body = seq, time, meta, body
		return true
	}
	if r.c.Seq < r.from || r.c.Off >= r.ahead || r.durable {
		return false
	}
	time, meta, body, next, ok := r.s.ReadMessage(r.c)
	if !ok {
		return false
	}
	m.Seq, m.Time, m.Meta, m.Body = r.c.Seq, time, meta, body
	r.c = segment.Cursor{Off: next, Seq: r.c.Seq + 1}
	return true
}

const (
	// copyPauses is how often a reader pauses before it looks at a claim again: its
	// owner is writing into that cache line, and each look takes it away.
	copyPauses = 2
	// poll looks so many times, with one pause between two looks at first and up to
	// maxPauses later.
	maxPolls  = 96
	maxPauses = 8
)

// poll waits for something at the cursor, for some microseconds at most and without
// giving up the processor, and reports whether it came. The caller is inside the gate,
// and guarded. The second line of what is to come is asked for with each look: it is on
// its way together with the first then, not after it.
func (r *Reader) poll() (came bool) {
	if r.batch || r.gap != nil || r.err != nil || r.c.Off+segment.SealBytes > r.s.Allocated() {
		return false
	}
	word := r.s.Region().Word(r.c.Off)
	second := word
	if at := r.c.Off + cacheline.Bytes; at+8 <= r.s.Allocated() {
		second = r.s.Region().Word(at)
	}
	for look := range uint32(maxPolls) {
		w := segment.Word(word.Load())
		cacheline.Fetch(second)
		switch {
		case w == 0:
			spin.Pause(min(1+look/8, maxPauses))
		case w.State() == segment.Claimed:
			spin.Pause(copyPauses)
		case !r.durable || w.Sealed() || r.s.position(r.c.Off+w.Size()) <= r.l.ctl.durable():
			return true
		default:
			spin.Pause(maxPauses)
		}
	}
	return false
}
