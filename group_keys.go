package walq

import (
	"hash/maphash"

	"github.com/walq/walq/codec"
	"github.com/walq/walq/group"
	"github.com/walq/walq/wal"
)

// Order by key: a consumer knows from its own walk which messages in flight have the same
// key, and claims one only when all before it are finished. See
// docs/adr/0022-ordered-by-key.md.

// keyLines are the messages of a walk that have keys, in a line for each key. What is in
// a line is not known to be finished; so the first of it is the only one that may be
// worked on. It is bounded by the window: an ordinal leaves its line at the latest when
// the floor passes it.
type keyLines struct {
	ring    *group.Ring
	seed    maphash.Seed
	lines   map[uint64]*keyLine // by the hash of the key: two keys of one hash only wait needlessly
	of      []*keyLine          // by ordinal modulo the ring's entries, nil if it is in none
	next    []uint64            // by ordinal modulo the ring's entries: the one behind it in its line
	low     uint64              // no ordinal below is in a line
	waiting []*keyLine          // those of more than one
	free    []*keyLine          // those whose first is nobody's, as it seemed
	freed   uint64              // the ring's count when all that wait were looked at
}

type keyLine struct {
	hash        uint64
	first, last uint64 // ordinals; 0 if there is none: they begin at the ring's entries
	marked      uint64 // the first one that was marked
	waits       int    // where it is in waiting, -1 if it is not
	free        bool   // it is in free
}

func newKeyLines(ring *group.Ring, at uint64) *keyLines {
	n := ring.Entries()
	return &keyLines{
		ring: ring, seed: maphash.MakeSeed(), lines: map[uint64]*keyLine{},
		of: make([]*keyLine, n), next: make([]uint64, n), low: at, freed: ring.Freed(),
	}
}

func (k *keyLines) i(n uint64) uint64 { return n & (k.ring.Entries() - 1) }

// mayClaim puts the ordinal n, at which the walk stands, into the line of its key. It
// reports whether n may be claimed: else the walk steps over it, and comes back when
// what is before it in its line is finished.
func (k *keyLines) mayClaim(n uint64, meta []byte) bool {
	k.forget(n)
	k.of[k.i(n)] = nil
	key, _ := codec.Lookup(meta, codec.FieldKey)
	if len(key) == 0 {
		return true
	}
	hash := maphash.Bytes(k.seed, key)
	l := k.lines[hash]
	if l == nil {
		l = &keyLine{hash: hash, first: n, waits: -1}
		k.lines[hash] = l
	} else {
		k.next[k.i(l.last)] = n
		if l.waits < 0 {
			l.waits = len(k.waiting)
			k.waiting = append(k.waiting, l)
		}
	}
	l.last = n
	k.of[k.i(n)], k.next[k.i(n)] = l, 0
	if !k.settle(l) {
		return false
	}
	if l.first != n {
		k.offer(l)
	}
	return l.first == n
}

// forget has what is below the floor leave its line, before n needs the room.
func (k *keyLines) forget(n uint64) {
	for floor := min(k.ring.Floor(), n); k.low < floor; k.low++ {
		if l := k.of[k.i(k.low)]; l != nil && l.first == k.low {
			k.look(l)
		}
		k.of[k.i(k.low)] = nil
	}
}

// settle has those at the head of a line leave it that are finished, and reports whether
// nobody has claimed the one that is first then. If somebody has, and others wait behind
// it, it is marked, so that who finishes it tells.
func (k *keyLines) settle(l *keyLine) (unclaimed bool) {
	for {
		for l.first != 0 && k.ring.Done(l.first) {
			k.of[k.i(l.first)], l.first = nil, k.next[k.i(l.first)]
		}
		if l.first == 0 {
			k.noneWaits(l)
			if k.lines[l.hash] == l {
				delete(k.lines, l.hash)
			}
			return false
		}
		if l.first == l.last {
			k.noneWaits(l)
		}
		switch {
		case !k.ring.Claimed(l.first):
			if k.ring.Done(l.first) {
				continue // and its entry is another's by now
			}
			return true
		case l.first == l.last || l.marked == l.first:
			return false
		}
		// First the mark, then another look: who finishes it does the same the other
		// way round, so one of the two sees the other.
		k.ring.Mark(l.first)
		l.marked = l.first
	}
}

// noneWaits notes that no more than one is in the line.
func (k *keyLines) noneWaits(l *keyLine) {
	if l.waits < 0 {
		return
	}
	last := k.waiting[len(k.waiting)-1]
	k.waiting[l.waits], last.waits = last, l.waits
	k.waiting = k.waiting[:len(k.waiting)-1]
	l.waits = -1
}

// look settles a line, and notes if the first of it may be claimed.
func (k *keyLines) look(l *keyLine) {
	if k.settle(l) {
		k.offer(l)
	}
}

func (k *keyLines) offer(l *keyLine) {
	if !l.free {
		l.free = true
		k.free = append(k.free, l)
	}
}

// lookAll looks at all lines in which somebody waits.
func (k *keyLines) lookAll() {
	k.freed = k.ring.Freed() // before the looks: what ends after them counts anew
	for i := len(k.waiting) - 1; i >= 0; i-- {
		k.look(k.waiting[i]) // which may leave: what takes its place was looked at
	}
}

// any reports whether something that was stepped over may be claimed now, as it seems.
func (k *keyLines) any() bool {
	if k == nil {
		return false
	}
	if k.ring.Freed() != k.freed {
		k.lookAll()
	}
	return len(k.free) > 0
}

// ended tells the lines that this Group finished the ordinal n, or gave it back.
func (k *keyLines) ended(n uint64) {
	if l := k.of[k.i(n)]; l != nil && n >= k.low {
		k.look(l)
	}
}

// take gives a line whose first may be claimed, nil if there is none any more.
func (k *keyLines) take() *keyLine {
	for len(k.free) > 0 {
		l := k.free[0]
		k.free = k.free[1:]
		l.free = false
		if k.settle(l) {
			return l
		}
	}
	return nil
}

// steppedOver claims a message that was stepped over and is the first of its key now.
// nil: there is none, or it is another's, or of no use any more.
func (g *Group) steppedOver(now moment) (*Delivery, error) {
	w := &g.walk
	l := w.keys.take()
	if l == nil {
		return nil, nil
	}
	n := l.first
	lease, out := w.ring.Claim(n, *w.seq(n), g.owner, g.deadline(now, g.settings.Lease))
	switch out {
	case group.Stale, group.Full: // it was in the window: the walk is old
		return nil, g.rejoin(n)
	case group.Taken:
		w.keys.look(l)
		g.passBy(n, now)
		return nil, nil
	}
	w.keys.look(l) // others wait behind it
	d, err := g.reread(nil, lease, *w.seq(n), now)
	if d == nil || err != nil || g.useless(d, now) {
		return nil, err
	}
	return g.hold(d), nil
}

// freeKey has those look who wait for the end of this message, if it was finished. g.mu is
// held.
func (g *Group) freeKey(d *Delivery) {
	n, w := d.lease.Ordinal, &g.walk
	if !d.ring.Done(n) {
		return // it was given back
	}
	own := w.ring != nil && w.keys != nil && w.ring.Base == d.ring.Base
	if own {
		w.keys.ended(n)
	}
	if freed := g.tellKey(d); own && freed != 0 && w.keys.freed == freed-1 {
		w.keys.freed = freed // it was ours, and is known
	}
}

// tellKey tells who waits for the end of this message, which was finished, that it was.
// It returns what the ring's count is by that, 0 if nobody waits.
func (g *Group) tellKey(d *Delivery) (freed uint64) {
	if g.file.ByKey && d.ring.Marked(d.lease.Ordinal) {
		freed = d.ring.Free()
		g.q.log.Wake(wal.WaitGroup)
	}
	return freed
}
