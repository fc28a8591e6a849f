package walq

import (
	"math/bits"

	"github.com/walq/walq/group"
)

// The ways of most messages. A Group that read ahead, and has nothing to look after, claims
// the next message at once; a message of the ring of a group that is not ordered by key is
// finished at once. Anything else is for the longer ways, which decide alone: these do what
// they would do, or nothing.

// nextAhead claims the next message of those that were read ahead, if there is nothing else to
// think of. nil without an error: there is.
func (g *Group) nextAhead() (*Delivery, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	w := &g.walk
	a := &w.ahead
	if a.open == 0 || g.closed || w.ring == nil || g.gap != nil || g.scan.from != 0 || g.delayed.turn || w.keys != nil {
		return nil, nil
	}
	now := g.clock.now()
	if now.boot >= g.scan.next {
		return nil, nil
	}
	i := bits.TrailingZeros64(a.open)
	c := &a.all[i]
	lease, ok, err := w.ring.ClaimNext(a.first+uint64(i), c.seq, g.scan.seen, g.owner, g.deadline(now, g.settings.Lease))
	if err != nil {
		return nil, groupError(g.name, err)
	}
	if !ok {
		return nil, nil
	}
	a.open &= a.open - 1
	d := g.delivery(lease, c.seq, c.time, a.bytes[c.body:c.end:c.end], int(c.meta-c.body))
	if d.at != nil {
		useless := false
		if err := group.Guarded(func() error { useless = g.useless(d, now); return nil }); err != nil {
			return nil, groupError(g.name, err)
		}
		if useless {
			return nil, nil
		}
	}
	return g.hold(d), nil
}
