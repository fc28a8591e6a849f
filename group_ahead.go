package walq

import (
	"errors"
	"math/bits"

	"github.com/walq/walq/group"
	"github.com/walq/walq/wal"
)

// A consumer that has more to do than one message reads ahead: it verifies and copies the
// messages of some ordinals at once, so that going into the log and out again is shared. It
// claims each only when that is handed out, so it keeps none from others meanwhile.

// ahead are the messages that a walk has gone past, and not tried to claim yet.
type ahead struct {
	first uint64   // the ordinal of the first of all
	open  uint64   // bit i: first + i was not tried yet
	all   []copied // by bit
	bytes []byte   // what they are in
	most  int      // so many may be read the next time
	late  error    // met behind them
}

// copied says where in ahead.bytes a message is. It has no pointer, for one is written for
// each message.
type copied struct {
	seq             uint64
	time            int64 // nanoseconds since the Unix epoch
	body, meta, end int32 // where they begin; meta is behind body
}

const (
	// mostAhead are as many as bits of a word; aheadShare is which part of the window they
	// are at most.
	mostAhead  = 64
	aheadShare = 16
)

// readAhead goes on in the log, from the ordinal n on, which is above the floor, or not far
// below it.
func (g *Group) readAhead(n, floor uint64, now moment) (d *Delivery, done bool, err error) {
	w := &g.walk
	a := &w.ahead
	most, finished := w.reach(n, floor)
	a.first, a.open, a.all = n, 0, a.all[:0]
	out, counted, tooFar := group.Stale, 0, uint64(0)
	shown, err := w.r.ViewRun(most, false, func(m *wal.Message) (wal.Verdict, error) {
		n := n + uint64(counted)
		switch {
		case !g.topics.want(m.Meta):
			return wal.More, nil
		case !w.ring.Fits(m.Seq):
			if counted > 0 {
				return wal.Leave, nil
			}
			tooFar = m.Seq
			return wal.More, errTooFar
		case finished, most > 1 && (g.claimedBefore(n, now) || g.copyAhead(m, counted)):
			*w.seq(n) = m.Seq
			counted++
			return wal.More, nil
		case counted > 0:
			return wal.Leave, nil
		}
		counted = 1
		var lease group.Lease
		if w.keys != nil && !w.keys.mayClaim(n, m.Meta) {
			out = group.Taken // it waits for its key
		} else if lease, out = w.ring.Claim(n, m.Seq, g.owner, g.deadline(now, g.settings.Lease)); out == group.Claimed {
			d = g.delivery(lease, m.Seq, m.Time, g.room.copy(m), len(m.Body))
		}
		*w.seq(n) = m.Seq
		return wal.Enough, nil
	})
	switch {
	case finished:
	case shown == most:
		a.most = min(2*most, mostAhead)
	default:
		a.most = max(shown, 1)
	}
	switch {
	case counted > 0 && (finished || len(a.all) > 0):
		a.late = err
		w.at += uint64(counted)
		d, err = g.claimAhead(now)
		return d, d != nil || err != nil, err
	case err != nil:
		done, err := g.cannotRead(n, tooFar, err)
		return nil, done, err
	case shown == 0:
		if w.ring.Floor() == w.at || g.advance(w.ring) == w.at {
			w.ring.Pass(w.r.Seq())
		}
		return nil, true, nil
	case counted == 0:
		return nil, false, nil
	case out == group.Stale || out == group.Full:
		err := g.rejoin(n)
		return nil, err != nil, err
	}
	w.at++
	if out == group.Taken {
		g.passBy(n, now)
	}
	if d == nil || g.useless(d, now) {
		return nil, false, nil
	}
	return g.hold(d), true, nil
}

// reach is how many messages may be read from the ordinal n on. finished: those are below
// the floor, which is this base's.
func (w *walk) reach(n, floor uint64) (most int, finished bool) {
	switch {
	case n < floor:
		return int(min(floor-n, mostAhead)), true
	case w.keys != nil:
		return 1, false
	}
	return int(min(uint64(max(w.ahead.most, 1)), max(1, w.ring.Window()/aheadShare), floor+w.ring.Window()-n)), false
}

// cannotRead deals with an error of the walk, before the ordinal n.
func (g *Group) cannotRead(n, tooFar uint64, err error) (done bool, _ error) {
	w := &g.walk
	switch {
	case errors.Is(err, ErrTrimmed):
		w.ring = nil // join sees what is gone
		return false, nil
	case errors.Is(err, errTooFar):
		return g.advance(w.ring) != n, g.strideTo(n, tooFar)
	}
	w.ring = nil // the reader may have gone past a message that was not counted
	return true, err
}

// claimedBefore reports whether somebody has claimed the ordinal n already, which is the
// next of those that are read ahead: then there is nothing to copy.
func (g *Group) claimedBefore(n uint64, now moment) bool {
	w := &g.walk
	if !w.ring.Claimed(n) {
		return false
	}
	g.passBy(n, now)
	w.ahead.all = append(w.ahead.all, copied{})
	return true
}

// copyAhead copies the i-th message that is read ahead. false: there is no room for it.
func (g *Group) copyAhead(m *wal.Message, i int) bool {
	a, r := &g.walk.ahead, &g.room
	n := len(m.Body) + len(m.Meta)
	if n > small {
		return false
	}
	if a.open == 0 {
		r.grow(n)
		a.bytes = r.bytes
	} else if n > len(r.bytes)-r.used {
		return false
	}
	at := int32(r.used)
	meta := at + int32(copy(r.bytes[r.used:], m.Body))
	end := meta + int32(copy(r.bytes[meta:], m.Meta))
	r.used = int(end)
	a.all = append(a.all, copied{m.Seq, m.Time, at, meta, end})
	a.open |= 1 << i
	return true
}

// claimAhead claims one of the messages that were read ahead. nil: none of those that it
// tried was to be had.
func (g *Group) claimAhead(now moment) (*Delivery, error) {
	w := &g.walk
	a := &w.ahead
	floor := w.ring.Floor()
	for a.open != 0 {
		i := bits.TrailingZeros64(a.open)
		n, c := a.first+uint64(i), &a.all[i]
		if n < floor && w.ring.Overtaken() {
			w.ring = nil
			return nil, nil
		}
		lease, out := group.Lease{}, group.Taken // and finished, if below the floor
		if n >= floor {
			lease, out = w.ring.Claim(n, c.seq, g.owner, g.deadline(now, g.settings.Lease))
		}
		if out == group.Stale || out == group.Full {
			return nil, g.rejoin(n)
		}
		a.open &= a.open - 1
		if out == group.Taken {
			g.passBy(n, now)
			continue
		}
		d := g.delivery(lease, c.seq, c.time, a.bytes[c.body:c.end:c.end], int(c.meta-c.body))
		if !g.useless(d, now) {
			return g.hold(d), nil
		}
	}
	return nil, nil
}
