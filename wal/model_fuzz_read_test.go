package wal

import (
	"errors"
	"slices"
)

// What the readers of a model program must get.

// wanted is what a reader must get next, nil if nothing; a claim of a live handle
// holds all of them up.
func (p *program) wanted(w *party) *entry {
	for _, e := range p.log {
		switch {
		case e.seq < w.at || e.state == entryGone:
		case e.state == entryClaimed:
			return nil
		default:
			return e
		}
	}
	return nil
}

func (p *program) read(w *party, n int) {
	for ; n > 0 && !p.Failed(); n-- {
		m, ok, err := w.r.Next()
		if gap := (*GapError)(nil); errors.As(err, &gap) {
			p.gap(w, gap)
			continue
		}
		if err != nil {
			p.Fatal(err)
		}
		want := p.wanted(w)
		if !ok {
			blocked, err := w.r.Blocked()
			if err != nil {
				p.Fatal(err)
			}
			switch {
			case blocked && p.held():
				return // and rightly so
			case blocked:
				n++ // a dead one's
				continue
			case want != nil:
				p.Fatalf("got nothing, want %v", want)
			}
			return
		}
		if want == nil || m.Seq != want.seq || string(m.Body) != want.body {
			p.Fatalf("got message %d (%d bytes), want %v", m.Seq, len(m.Body), want)
		}
		w.at = m.Seq + 1
	}
}

// held reports whether a live handle has a claim.
func (p *program) held() bool {
	return slices.ContainsFunc(p.log, func(e *entry) bool { return e.state == entryClaimed })
}

// gap checks that exactly what was trimmed is told as gone.
func (p *program) gap(w *party, gap *GapError) {
	if gap.From > gap.To || gap.From < w.at {
		p.Fatalf("a gap from %d to %d, the reader stood at %d", gap.From, gap.To, w.at)
	}
	for _, e := range p.log {
		if e.state == entryCommitted && e.seq >= w.at && e.seq < gap.To && e.ordinal >= p.oldest {
			p.Fatalf("message %d is told as trimmed, but was not", e.seq)
		}
	}
	w.at = gap.To
}

// firstKept is the first message that was not trimmed, from a number on.
func (p *program) firstKept(from uint64) uint64 {
	for _, e := range p.log {
		if e.seq >= from && e.state == entryCommitted && e.ordinal < p.oldest {
			from = e.seq + 1
		}
	}
	return from
}

func (p *program) seek(w *party, seq uint64) {
	if err := w.r.SeekSeq(seq); err != nil {
		p.Fatal(err)
	}
	w.at = seq
	if seq == 0 { // no message has it: from the beginning, and no gap before that
		w.at = p.firstKept(0)
	}
}

func (p *program) seekOldest(w *party) {
	if err := w.r.SeekOldest(); err != nil {
		p.Fatal(err)
	}
	w.at = p.firstKept(0)
}

func (p *program) seekLast(w *party, n int) {
	if p.held() {
		return // what lies behind a claim is not there yet
	}
	if err := w.r.SeekLast(uint64(n)); err != nil {
		p.Fatal(err)
	}
	w.at = p.next
	for _, e := range slices.Backward(p.log) {
		if n > 0 && e.state == entryCommitted && e.ordinal >= p.oldest {
			w.at, n = e.seq, n-1
		}
	}
}
