package group

import (
	"math"
	"sync/atomic"

	"github.com/walq/walq/internal/step"
)

// What a message goes through in the delay file. The order of the accesses in each
// function is the protocol; see docs/adr/0023-the-delay-file.md.

// An Arrival is what came of an attempt to move a message to the delay file.
type Arrival int

// The arrivals.
const (
	Arrived Arrival = iota
	NoRoom          // nothing was changed: the message can wait in the ring
	Lost            // the lease was lost
)

// Watch bounds, in milliseconds, how long a cell that somebody holds is not looked at:
// its owner may die.
const Watch = 20

func (d *Delays) cell(c uint64, field int64) *atomic.Uint64 {
	return d.r.Word(d.blocksAt() + int64(c)*cellBytes + field)
}

func (d *Delays) summary(block int, field int64) *atomic.Uint64 {
	return d.r.Word(dlySummaries + int64(block)*summaryBytes + field)
}

func (d *Delays) has(c uint64) bool { return c < uint64(d.blocks())*cellsPerBlock }

// Move takes the message seq, of which the caller has the lease l, out of the ring, to
// be handed out not before due. Both times are in milliseconds since the Unix epoch. If
// the message was not handed out, again is false: it does not count as a delivery.
func (d *Delays) Move(ring *Ring, l *Lease, seq uint64, o Owner, again bool, due, now int64) (Arrival, error) {
	if _, ok := ring.distance(seq); !ok || d.Void(ring) {
		return NoRoom, nil
	}
	w := l.Word.sentBack(Waiting, false)
	if !again {
		w = l.Word.notYet()
	}
	c, pending, err := d.claim(o, w)
	if pending == 0 || err != nil {
		return NoRoom, err
	}
	step.At(step.DelayPending)
	entry := l.Ordinal & (ring.entries - 1)
	// Nobody else stores into a pending cell, and nobody frees it while we live.
	d.cell(c, cellSeq).Store(seq)
	d.cell(c, cellTime).Store(makeTime(pending.tag()|dueBit, due))
	d.cell(c, cellCheck).Store(d.checkCell(c, pending.lap(), seq, entry))
	// From here on the block is looked at in time, whoever dies: a pending cell is never
	// forgotten by who looks.
	block := int(c / cellsPerBlock)
	before, covered := d.cover(block, min(due, now+Watch))
	step.At(step.DelayFilled)
	moving := l.Word.in(Moving)
	moves := ring.storeTime(l, makeTime(l.Word.tag()|dueBit, makePlace(c, pending.lap())))
	if moves {
		step.At(step.DelayPlaceStored)
		moves = ring.at(l.Ordinal, entryWord).CompareAndSwap(uint64(l.Word), uint64(moving))
	}
	if !moves {
		d.drop(c, pending)
		return Lost, nil
	}
	step.At(step.DelayMoving)
	if !d.cell(c, cellWord).CompareAndSwap(uint64(pending), uint64(waitingCell(pending))) {
		d.drop(c, pending.in(Dropped)) // by a new base, if another did not help
	} else { // if nothing else happened there, nobody needs to look before it is due
		d.raise(block, covered, min(due, max(d.boundTime(before), 0)))
	}
	step.At(step.DelayWaits)
	ring.moved(entry, moving)
	step.At(step.DelayMoved)
	return Arrived, nil
}

func waitingCell(pending Word) Word {
	return makeWord(Waiting, pending.lap(), Owner{}, pending.Deliveries(), pending.Deaths())
}

// moved ends a move: the message is in its cell.
func (g *Ring) moved(entry uint64, moving Word) {
	g.at(entry, entryWord).CompareAndSwap(uint64(moving), uint64(movedWord(moving.lap())))
}

// claim makes a free cell pending, for a word with so many deliveries and deaths. 0:
// there is none.
func (d *Delays) claim(o Owner, w Word) (c uint64, pending Word, err error) {
	for {
		n := d.blocks()
		for i, start := 0, d.start.Load(); i < n; i++ {
			b := int((start + uint64(i)) % uint64(n))
			if c, pending = d.claimIn(b, o, w); pending != 0 {
				if i > 0 {
					d.start.Store(uint64(b))
				}
				return c, pending, nil
			}
		}
		if ok, err := d.grow(); err != nil {
			return 0, 0, err
		} else if !ok && d.blocks() == n {
			return 0, 0, nil
		}
	}
}

func (d *Delays) claimIn(block int, o Owner, like Word) (c uint64, pending Word) {
	hint := d.summary(block, sumRoom)
	v := hint.Load()
	first := uint64(block) * cellsPerBlock
	for i := roomFrom(v); i < cellsPerBlock; i++ {
		w := d.cell(first+uint64(i), cellWord)
		old := Word(w.Load())
		if old.State() != Finished {
			continue
		}
		pending = makeWord(Pending, (old.lap()+1)&(1<<lapBits-1), o, like.Deliveries(), like.Deaths())
		if w.CompareAndSwap(uint64(old), uint64(pending)) {
			hint.CompareAndSwap(v, room(v, i+1))
			return first + uint64(i), pending
		}
	}
	hint.CompareAndSwap(v, room(v, cellsPerBlock)) // unless one was freed meanwhile
	return 0, 0
}

// drop frees a cell whose message is not needed there: pending, or dropped already.
func (d *Delays) drop(c uint64, w Word) bool {
	word := d.cell(c, cellWord)
	free := finishedWord(w.lap())
	if word.CompareAndSwap(uint64(w), uint64(free)) ||
		w.State() == Pending && word.CompareAndSwap(uint64(w.in(Dropped)), uint64(free)) {
		d.freed(c)
		return true
	}
	return false
}

// freed notes that there is room.
func (d *Delays) freed(c uint64) {
	hint, i := d.summary(int(c/cellsPerBlock), sumRoom), int(c%cellsPerBlock)
	for v := hint.Load(); !hint.CompareAndSwap(v, room(v, min(roomFrom(v), i))); v = hint.Load() {
	}
}

// cover sees to it that a block is looked at at that time. The version changes in any
// case: who has looked at the block before can not raise the bound over it.
func (d *Delays) cover(block int, ms int64) (before, after uint64) {
	bound := d.summary(block, sumBound)
	for {
		before = bound.Load()
		after = d.bound(before, min(ms, max(d.boundTime(before), 0)))
		if bound.CompareAndSwap(before, after) {
			d.r.Word(dlyChanges).Add(1)
			return before, after
		}
	}
}

// raise is for who has looked at every cell of a block since it loaded seen.
func (d *Delays) raise(block int, seen uint64, ms int64) {
	d.summary(block, sumBound).CompareAndSwap(seen, d.bound(seen, ms))
}

// Changes grows whenever something is to be looked at sooner.
func (d *Delays) Changes() uint64 { return d.r.Word(dlyChanges).Load() }

// soonest is the block to look at first, when, and when the next one is to be looked at.
func (d *Delays) soonest() (block int, at, then int64) {
	first, second := uint64(math.MaxUint64), uint64(math.MaxUint64)
	for b := range d.blocks() {
		switch v := d.summary(b, sumBound).Load() >> versionBits; {
		case v < first:
			block, first, second = b, v, first
		case v < second:
			second = v
		}
	}
	return block, d.boundTime(min(first, boundNever) << versionBits), d.boundTime(min(second, boundNever) << versionBits)
}

// Take leases a cell whose word w is Ready, or Waiting and due, until the deadline, in
// milliseconds since the boot, and tells its message. ok is false if another was faster.
//
// Errors: a CorruptError if nobody can tell which message it is: the cell is free then.
func (d *Delays) Take(f *Found, o Owner, deadline int64) (l Lease, seq uint64, ok bool, err error) {
	c := f.Cell
	word, when := d.cell(c, cellWord), d.cell(c, cellTime)
	old, leased := when.Load(), f.Word.leased(o)
	step.At(step.DelayTakeBefore)
	if !word.CompareAndSwap(uint64(f.Word), uint64(leased)) {
		return l, 0, false, nil
	}
	step.At(step.DelayTaken)
	d.raise(int(c/cellsPerBlock), f.seen, f.then)
	l = Lease{c, leased, old}
	seq, whole := d.message(c, leased.lap())
	if !whole {
		if word.CompareAndSwap(uint64(leased), uint64(finishedWord(leased.lap()))) {
			d.freed(c)
		}
		return l, 0, false, &CorruptError{d.Path(), d.blocksAt() + int64(c)*cellBytes, "the checksum of a delayed message is wrong"}
	}
	storeTime(word, when, &l, makeTime(leased.tag(), deadline))
	step.At(step.DelayLeaseStored)
	return l, seq, true, nil
}

// message is the sequence number of a cell's message. It does not change within a lap.
func (d *Delays) message(c, lap uint64) (seq uint64, whole bool) {
	seq = d.cell(c, cellSeq).Load()
	check := d.cell(c, cellCheck).Load()
	return seq, check>>(32+entryBits) == 0 && check == d.checkCell(c, lap, seq, check>>32)
}

// Finish ends the lease: its message is done with. If the ring has it still, that is
// noted there too, so that it is known after a power loss. false: the lease was lost.
func (d *Delays) Finish(ring *Ring, l *Lease) bool {
	c := l.Ordinal
	seq, entry := d.cell(c, cellSeq).Load(), d.cell(c, cellCheck).Load()>>32
	if !d.cell(c, cellWord).CompareAndSwap(uint64(l.Word), uint64(finishedWord(l.Word.lap()))) {
		return false
	}
	step.At(step.DelayFinished)
	d.freed(c)
	ring.finishMoved(entry, seq)
	ring.word(grpFinished).Add(1)
	return true
}

// finishMoved makes an entry finished that was moved, if it is still that of the message.
func (g *Ring) finishMoved(entry, seq uint64) {
	dist, ok := g.distance(seq)
	if !ok || entry >= g.entries {
		return
	}
	v := g.at(entry, entrySeq).Load()
	if v&maxDistance != dist || g.Generation() != g.Base.Generation {
		return
	}
	// It is moving still if who moved it was stopped before the last step: nobody can have
	// the message from a cell that does not wait.
	for lap := v >> distBits; ; {
		w := Word(g.at(entry, entryWord).Load())
		if s := w.State(); s != Moving && s != Moved || w.lap() != lap ||
			g.at(entry, entryWord).CompareAndSwap(uint64(w), uint64(finishedWord(lap))) {
			return
		}
	}
}

// SendBack is as of a Ring.
func (d *Delays) SendBack(l *Lease, due int64) bool {
	if due <= 0 {
		return d.giveBack(l, l.Word.sentBack(Ready, false), 0)
	}
	return d.giveBack(l, l.Word.sentBack(Waiting, false), due)
}

// Delay is as of a Ring.
func (d *Delays) Delay(l *Lease, due int64) bool { return d.giveBack(l, l.Word.notYet(), due) }

func (d *Delays) giveBack(l *Lease, w Word, due int64) bool {
	word := d.cell(l.Ordinal, cellWord)
	if w.State() == Waiting && !storeTime(word, d.cell(l.Ordinal, cellTime), l, makeTime(w.tag()|dueBit, due)) {
		return false
	}
	if !word.CompareAndSwap(uint64(l.Word), uint64(w)) {
		return false
	}
	step.At(step.DelaySentBack)
	// Who dies here has it come a little later: a leased cell is looked at often.
	d.cover(int(l.Ordinal/cellsPerBlock), due)
	return true
}

// Extend is as of a Ring.
func (d *Delays) Extend(l *Lease, deadline int64) bool {
	return storeTime(d.cell(l.Ordinal, cellWord), d.cell(l.Ordinal, cellTime), l, makeTime(l.Word.tag(), deadline))
}

// Held is as of a Ring.
func (d *Delays) Held(l *Lease) bool { return Word(d.cell(l.Ordinal, cellWord).Load()) == l.Word }
