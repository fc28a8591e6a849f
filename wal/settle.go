package wal

import (
	"time"

	"github.com/walq/walq/segment"
)

const (
	// settleEvery is how often a queue that is not synced learns how far its
	// frames are final, so that nobody walks far to find dead claims.
	settleEvery = time.Second
	// settlePiece is how many bytes behind the tail it is left to lie meanwhile, and
	// maxSettleBytes how far it moves at a tick: more than is appended in one.
	settlePiece    = 1 << 20
	maxSettleBytes = 8 << 20
)

// keepSettled raises the settled position of a queue that is seldom synced: where much
// is appended a piece at each tick, so that it does not keep the keeper from preparing.
func (l *Log) keepSettled(w *watch, now time.Time) error {
	switch past := now.Sub(w.lastSettle); {
	case w.stuck != (observer{}):
		if past < watchEvery {
			return nil
		}
	case past < settleEvery && !l.unsettled(w.end):
		return nil
	}
	w.lastSettle = now
	return l.settle(&w.stuck, maxSettleBytes)
}

// unsettled reports whether more than a piece lies between the settled position and end.
func (l *Log) unsettled(end Position) bool {
	at := l.ctl.settled()
	return end.ordinal() > at.ordinal() || end.ordinal() == at.ordinal() && end.off()-at.off() >= settlePiece
}

// settle raises the settled position as far as frames are final, and by room bytes at
// most, or a little more. o is of the claim that was in the way the last time, and of
// the one that is this time.
func (l *Log) settle(o *observer, room int64) error {
	s, from, err := l.settledSegment()
	if err != nil {
		return err
	}
	defer func() { l.table.release(s) }() // also if a look at it faults
	c := segment.Cursor{Off: from.off()}
	for room > 0 {
		var word segment.Word
		before := c.Off
		c, word, err = s.WalkUntil(c, before+min(room, s.Size))
		if err != nil {
			break
		}
		room -= c.Off - before
		l.ctl.raiseSettled(s, c.Off)
		if word.State() == segment.Claimed {
			// A dead claim would keep everything behind it from being settled,
			// and trimmed, for ever where nobody reads or syncs.
			var over bool
			if over, err = l.judge(o, s, c, word); over {
				continue
			}
			break
		}
		*o = observer{}
		if !word.Sealed() || err != nil {
			break
		}
		n, _, serr := l.successorAt(s, word)
		if err = serr; n == nil {
			break
		}
		l.table.release(s)
		s, c = n, n.Start()
	}
	return err
}
