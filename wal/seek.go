package wal

import (
	"fmt"

	"github.com/walq/walq/mmap"
	"github.com/walq/walq/segment"
)

// stand puts the reader at a place; it takes over the reference to s.
func (r *Reader) stand(s *seg, c segment.Cursor, from uint64) {
	r.leave()
	r.s, r.c, r.from = s, c, from
	r.ahead = c.Off + seekBytes
	r.since, r.skip = 0, 0
	r.batch, r.err, r.gap, r.left = false, nil, nil, false
}

// inside runs a seek with the log held open and faults guarded.
func (r *Reader) inside(seek func() error) (err error) {
	ticket, ok := r.l.gate.enter()
	if !ok {
		return ErrClosed
	}
	defer r.l.gate.exit(ticket)
	defer mmap.Recover(mmap.Protect(), &err)
	r.used++
	if err = seek(); err == nil { // else the reader stands where it stood
		r.run, r.handed, r.most, r.late = r.run[:0], 0, 1, nil
	}
	return err
}

// SeekOldest puts the reader before the oldest message.
func (r *Reader) SeekOldest() error {
	return r.inside(func() error { return r.seekOldest() })
}

func (r *Reader) seekOldest() error {
	for {
		oldest := r.l.ctl.oldest()
		s, err := r.l.acquire(&r.l.table, oldest)
		if err == nil {
			r.stand(s, s.Start(), 0)
			return nil
		}
		if !isNotExist(err) {
			return err
		}
		if r.l.ctl.oldest() == oldest {
			return &CorruptError{Path: r.l.log.Join(segment.Name(oldest)), Reason: "the segment with the oldest messages is missing"}
		}
	}
}

// SeekSeq puts the reader before the message with this sequence number, or the
// first behind it. If that was trimmed the next read gives a GapError.
func (r *Reader) SeekSeq(seq uint64) error {
	return r.inside(func() error { return r.seekSeq(seq) })
}

func (r *Reader) seekSeq(seq uint64) error {
	s, err := r.l.segmentFor(func(e *listedSegment) (bool, error) { return e.first <= seq, nil })
	if err != nil {
		return err
	}
	if s != nil {
		c := s.Near(seq)
		if r.s == s && !r.batch && r.err == nil && c.Seq < r.c.Seq && r.c.Seq <= seq {
			c = r.c // it stands nearer
		}
		r.stand(s, c, seq)
		return nil
	}
	if err := r.seekOldest(); err != nil {
		return err
	}
	if seq > 0 && seq < r.s.First {
		r.gap = &GapError{From: seq, To: r.s.First}
	}
	return nil
}

// SeekTime puts the reader before the first message that is not older than t,
// nanoseconds since the Unix epoch. Time is wall clock: where it was set back,
// messages in between are found by their place in the log.
func (r *Reader) SeekTime(t int64) error {
	return r.inside(func() error { return r.seekTime(t) })
}

func (r *Reader) seekTime(t int64) error {
	s, err := r.l.segmentFor(func(e *listedSegment) (bool, error) { return r.l.createdBefore(e, t) })
	if err != nil {
		return err
	}
	if s == nil {
		if err := r.seekOldest(); err != nil {
			return err
		}
	} else {
		r.stand(s, s.NearTime(t), 0)
	}
	r.since = t
	return nil
}

// SeekNewest puts the reader behind everything that is final now.
func (r *Reader) SeekNewest() error {
	return r.inside(func() error { return r.seekNewest() })
}

func (r *Reader) seekNewest() error {
	s, c, err := r.l.lastFinal()
	if err != nil {
		return err
	}
	r.stand(s, c, 0)
	return nil
}

// lastFinal is the place behind the last frame before which all are final.
func (l *Log) lastFinal() (*seg, segment.Cursor, error) {
	s, settled, err := l.settledSegment()
	if err != nil {
		return nil, segment.Cursor{}, err
	}
	c := s.Start()
	if hint := s.Tail(); s.position(hint.Off) <= settled {
		c = hint
	} else if s.Ordinal == settled.ordinal() {
		c = s.NearOff(settled.off())
	}
	for {
		var w segment.Word
		var n *seg
		if c, w, err = s.Walk(c); err == nil && w.Sealed() {
			n, err = l.successor(&l.table, s, c, w)
		}
		if err != nil {
			l.table.release(s)
			return nil, c, err
		}
		if n == nil && l.trimmedAway(s, c, w) {
			l.table.release(s)
			return l.lastFinal()
		}
		if n == nil {
			return s, c, nil
		}
		l.table.release(s)
		s, c = n, n.Start()
	}
}

// SeekLast puts the reader before the last n messages. Sequence numbers have
// gaps, so they are counted, from the last segment backwards.
func (r *Reader) SeekLast(n uint64) error {
	return r.inside(func() error { return r.seekLast(n) })
}

func (r *Reader) seekLast(n uint64) error {
	s, end, err := r.l.lastFinal()
	if err != nil {
		return err
	}
	for {
		from, have, err := countBack(s, end, n)
		if err != nil {
			r.l.table.release(s)
			return err
		}
		if have >= n || s.First <= r.l.ctl.oldest() {
			r.stand(s, from, 0)
			r.skip = have - min(n, have)
			return nil
		}
		n -= have
		p, err := r.l.acquire(&r.l.table, s.PrevFirst)
		if isNotExist(err) { // trimmed meanwhile
			r.stand(s, s.Start(), 0)
			return nil
		}
		if err == nil && !follows(p, segment.Cursor{Seq: s.PrevEnd}, s) {
			err = &CorruptError{Path: s.Path(), Reason: fmt.Sprintf("it names %s as its predecessor, which it does not follow", p.Path())}
			r.l.table.release(p)
		}
		r.l.table.release(s)
		if err != nil {
			return err
		}
		s = p
		if end, _, err = s.WalkToFree(s.Tail()); err != nil {
			r.l.table.release(s)
			return err
		}
	}
}

// countBack gives a place at or before the last n messages before end, and how many there
// are from there on; the segment's start, if it has no more. Some sequence numbers have no
// message, so it may have to look farther back.
func countBack(s *seg, end segment.Cursor, n uint64) (from segment.Cursor, have uint64, err error) {
	for back := n; ; back *= 2 {
		from = s.Start()
		if all := end.Seq - s.First; back < all {
			from = s.Near(end.Seq - back)
			back = end.Seq - from.Seq
		}
		have, err = countMessages(s, from, end)
		if err != nil || have >= n || from == s.Start() {
			return from, have, err
		}
	}
}

// countMessages counts the messages in committed frames from one place to another, by
// their words alone.
func countMessages(s *seg, from, end segment.Cursor) (n uint64, err error) {
	for c := from; c.Off < end.Off; {
		w, err := s.Word(c.Off)
		if err != nil {
			return n, err
		}
		if w == 0 || w.Sealed() {
			break
		}
		if w.State() == segment.Committed {
			n += uint64(w.Count())
		}
		c = c.After(w)
	}
	return n, nil
}
