package walq

import (
	"errors"
	"fmt"
	"time"

	"github.com/walq/walq/group"
	"github.com/walq/walq/wal"
)

// Messages that are not due for long leave the ring, so that they neither hold up the
// floor nor fill the window. See docs/adr/0023-the-delay-file.md.

const (
	// farAhead is how far a message has to be from being due to be moved; nearer ones
	// are when half of the window is used up.
	farAhead = time.Second
	// sleptAtMost is how long one who sleeps does not look at the delay file.
	sleptAtMost = time.Second
	// cellsAtOnce is how many delayed messages a consumer tries before it lets others of
	// its Group go on.
	cellsAtOnce = 64
)

// A delayedScan is what a consumer knows of the delay file.
type delayedScan struct {
	changes uint64        // when it was looked at last
	next    time.Duration // not earlier is anything due; since the boot
	turn    bool          // the last message came from there: it is the turn of new ones
	without time.Duration // until then it is not tried to make the file; by how long the machine ran
	told    bool          // that it cannot be made
	busy    time.Duration // since then another one puts the file on disk, by how long the machine ran; 0: none does
	asked   time.Duration // when who holds cells was last asked for life, since the boot
	heldUp  time.Duration // when the window was full for a message that waits
}

// The lease of a delivery is of the ring, or of a cell of the delay file.

func (d *Delivery) finish() bool {
	if d.cells != nil {
		return d.cells.Finish(d.ring, &d.lease)
	}
	return d.ring.Finish(&d.lease)
}

func (d *Delivery) sendBack(due int64) bool {
	if d.cells != nil {
		return d.cells.SendBack(&d.lease, due)
	}
	return d.ring.SendBack(&d.lease, due)
}

func (d *Delivery) delay(due int64) bool {
	if d.cells != nil {
		return d.cells.Delay(&d.lease, due)
	}
	return d.ring.Delay(&d.lease, due)
}

func (d *Delivery) extend(deadline int64) bool {
	if d.cells != nil {
		return d.cells.Extend(&d.lease, deadline)
	}
	return d.ring.Extend(&d.lease, deadline)
}

func (d *Delivery) leased() bool {
	if d.cells != nil {
		return d.cells.Held(&d.lease)
	}
	return d.ring.Held(&d.lease)
}

// putOff ends the lease of a message that is to be handed out not before due, in
// milliseconds since the Unix epoch, and wakes whom that concerns. If it was not handed
// out, again is false. It returns false if the lease was lost. g.mu is held.
func (g *Group) putOff(d *Delivery, due int64, again bool) bool {
	if g.movesAway(d, due) {
		switch out, tell := g.move(d, due, again); {
		case out == group.Lost:
			return false
		case out == group.Arrived:
			if tell {
				g.q.log.Wake(wal.WaitGroup)
			}
			return true
		}
	}
	ok := false
	if again {
		ok = d.sendBack(due)
	} else {
		ok = d.delay(due)
	}
	g.q.log.Wake(wal.WaitGroup) // so that others know when to look
	return ok
}

// movesAway reports whether a message is to leave the ring. In groups that are ordered it
// is meant to hold up what is behind it.
func (g *Group) movesAway(d *Delivery, due int64) bool {
	if d.cells != nil || g.ordered() {
		return false
	}
	return due-g.clock.now().unixMilli() >= farAhead.Milliseconds() || g.crowded(d)
}

func (g *Group) ordered() bool { return g.file.Entries == group.MinEntries || g.file.ByKey }

// crowded reports whether a message is so far from the floor that half of the window is
// used up.
func (g *Group) crowded(d *Delivery) bool {
	return d.lease.Ordinal-d.ring.Floor() >= d.ring.Window()/2
}

// move has the delay file take a message over. tell: it is due before all who sleep look.
func (g *Group) move(d *Delivery, due int64, again bool) (out group.Arrival, tell bool) {
	s, now := &g.delayed, g.clock.now()
	if now.ran < s.without {
		return group.NoRoom, false
	}
	cells, err := g.file.MakeDelays(g.q.log.TempName(), g.q.log.FilePerm())
	if err == nil {
		wall := now.unixMilli()
		out, err = cells.Move(d.ring, &d.lease, uint64(d.Seq), g.owner, again, due, wall)
		tell = due-wall <= sleptAtMost.Milliseconds() // else who sleeps looks in time
	}
	if err != nil {
		s.without = now.ran + time.Second
		if errors.Is(err, group.ErrBusy) {
			s.without = now.ran + moveEvery
		} else if g.q.logger != nil && !s.told {
			s.told = true
			g.q.logger.Warn("walq: delayed messages stay in the window of their group", "group", g.name, "err", err)
		}
		return group.NoRoom, false
	}
	if out == group.Arrived {
		g.checkpointSoon()
		if g.crowded(d) {
			g.full(d.ring)
		}
	}
	return out, tell
}

// settleMoved lets the floor pass what was moved: that has to be on disk first. If
// another one is at it, that one tells; but it may have been stopped in it.
func (g *Group) settleMoved(ring *group.Ring) {
	s, ran := &g.delayed, g.clock.now().ran
	err := g.file.SettleMoved()
	if !errors.Is(err, group.ErrBusy) {
		s.busy = 0
	} else if s.busy == 0 {
		s.busy = max(ran, 1)
	} else if ran-s.busy >= shyLease {
		err, s.busy = g.file.SettleMovedAnyway(), ran
	}
	if err != nil && !errors.Is(err, group.ErrBusy) && g.q.logger != nil {
		g.q.logger.Warn("walq: the delayed messages of a group cannot be put on disk", "group", g.name, "err", err)
	}
	g.advance(ring)
}

// full is called when the window is full, or half of it: it may be so of what was moved. If
// something else holds the floor a flush would help nobody.
func (g *Group) full(ring *group.Ring) {
	if look, ok := ring.Look(g.advance(ring)); ok && look.Word.State() == group.Moved {
		g.settleMoved(ring)
	}
}

// helpMove ends a move that another began, who may be stopped or dead.
func (g *Group) helpMove(n uint64, word group.Word) error {
	cells, err := g.file.Delays()
	if err == nil {
		cells.Help(g.walk.ring, n, word)
	}
	return err
}

// lookAgain has the delay file looked at by the next fromCells.
func (g *Group) lookAgain(now moment) error {
	cells, err := g.file.Delays()
	if cells == nil || err != nil {
		return err
	}
	cells.CheckClock(now.unixMilli(), now.boot.Milliseconds())
	g.delayed.next = 0
	return nil
}

// fromCells gives the delayed message that is due first, if one is. more: it gave
// something up instead, and has to be called again.
func (g *Group) fromCells(now moment) (d *Delivery, more bool, err error) {
	s := &g.delayed
	cells, err := g.file.Delays()
	if cells == nil || err != nil {
		s.next = now.boot + sleptAtMost
		return nil, false, err
	}
	if cells.Void(g.walk.ring) {
		if err := g.file.EndForget(cells); err != nil && !errors.Is(err, group.ErrBusy) {
			return nil, false, err
		}
		if cells.Void(g.walk.ring) {
			s.next = now.boot + group.Watch*time.Millisecond
			return nil, false, nil
		}
	}
	changes := cells.Changes()
	if changes == s.changes && now.boot < s.next {
		return nil, false, nil
	}
	if now.boot-s.asked >= deathWatch {
		s.asked = now.boot
		clear(g.scan.alive)
	}
	wall := now.unixMilli()
	k := &group.Looker{Ring: g.walk.ring, Now: wall, Boot: now.boot.Milliseconds(), Dead: g.died, Left: func(c uint64, w group.Word) int64 {
		return g.bearWith(^c, w, now).Milliseconds()
	}}
	for range cellsAtOnce {
		found, ok, at, err := cells.Next(k)
		if err != nil {
			return nil, false, err
		}
		if !ok {
			s.changes, s.next = changes, now.boot+millis(min(at, wall+sleptAtMost.Milliseconds())-wall)
			return nil, false, nil
		}
		lease, seq, ok, err := cells.Take(&found, g.owner, g.deadline(now, g.settings.Lease))
		if err != nil {
			return nil, false, err
		}
		if ok {
			d, err := g.fromCell(cells, lease, seq, now)
			return d, d == nil && err == nil, err
		}
	}
	return nil, true, nil
}

// fromCell makes a delivery of a delayed message, or gives it up. nil: there is nothing
// to deliver.
func (g *Group) fromCell(cells *group.Delays, lease group.Lease, seq uint64, now moment) (*Delivery, error) {
	d, err := g.reread(cells, lease, seq, now)
	if d == nil || err != nil {
		return nil, err
	}
	if d.Attempt() > 1 {
		d.ring.CountRedelivered()
	}
	return g.handOut(d, now)
}

// bearWith is how long to bear with the holder of a lease that has not said when it ends.
// Cells are known by the complement of their numbers.
func (g *Group) bearWith(n uint64, word group.Word, now moment) time.Duration {
	s := &g.scan
	if d := s.shy[n]; d.word != word {
		if s.shy == nil {
			s.shy = map[uint64]doubt{}
		}
		s.shy[n] = doubt{word, g.clock.times.ran()} // now may be of before we were stopped
	}
	return shyLease - max(now.ran-s.shy[n].since, 0)
}

// delayedUnused tells whether nobody alive but ourselves holds a delayed message.
func (g *Group) delayedUnused() error {
	cells, err := g.file.Delays()
	if cells == nil || err != nil {
		return err
	}
	return cells.Leases(func(w group.Word) error {
		died, err := g.died(w)
		if err == nil && !died && !w.OwnedBy(g.owner) {
			err = fmt.Errorf("the participant in slot %d is at work on a message; end it first, or wait", w.Slot())
		}
		return err
	})
}
