package walq

import (
	"time"

	"github.com/walq/walq/group"
	"github.com/walq/walq/wal"
)

// A message may wait in the ring though it is not due for long: the delay file was being
// made or made longer by another, or could not be. And some that are due soon hold up the
// floor while the window fills. What looks over the ring moves them then.

const (
	// dueSoon is how near a message is to being due to be left in the ring, whatever else.
	dueSoon = 50 * time.Millisecond
	// moveEvery is how often what could not be moved is tried again, and how often one who
	// finds the window full looks for something to move.
	moveEvery = 20 * time.Millisecond
)

// waitsTooLong reports whether a message that waits in the ring is to leave it.
func (g *Group) waitsTooLong(look group.Look, now moment) bool {
	if look.Word.State() != group.Waiting || !look.Known || g.ordered() {
		return false
	}
	w, wait := &g.walk, look.Ends-now.unixMilli()
	used := w.at - min(w.ring.Floor(), w.at)
	if wait < dueSoon.Milliseconds() || wait < farAhead.Milliseconds() && used < w.ring.Window()/2 {
		return false
	}
	if without := g.delayed.without - now.ran; without > 0 {
		g.scan.soon(now.boot + without)
		return false
	}
	return true
}

// moveWaiting moves the message of the ordinal n, which waits in the ring. For that it is
// leased for a moment. Whoever dies in it has the message come at once, if it was sent
// back with a delay, and with a death more.
func (g *Group) moveWaiting(n uint64, look group.Look, now moment) {
	w := &g.walk
	lease, ok := w.ring.Take(n, look.Word, *w.seq(n), g.owner, g.deadline(now, g.settings.Lease))
	if !ok {
		return
	}
	d := &Delivery{Message: Message{Seq: Seq(*w.seq(n))}, lessor: w.from, lease: lease}
	switch out, tell := g.move(d, look.Ends, false); {
	case out == group.NoRoom:
		d.delay(look.Ends)
		g.delayed.without = max(g.delayed.without, now.ran+moveEvery)
		g.scan.soon(now.boot + moveEvery)
	case tell:
		g.q.log.Wake(wal.WaitGroup)
	}
}

// heldUp is called when the window is full: what waits at the floor is moved soon.
func (g *Group) heldUp(ring *group.Ring, now moment) {
	s := &g.delayed
	if look, ok := ring.Look(ring.Floor()); ok && look.Word.State() == group.Waiting && now.ran-s.heldUp >= moveEvery {
		s.heldUp = now.ran
		g.scan.next = now.boot
	}
}
