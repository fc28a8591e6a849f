package group

import "github.com/walq/walq/internal/step"

// A Looker is what one who looks at delayed messages knows. Times are in milliseconds.
type Looker struct {
	Ring *Ring
	Now  int64 // since the Unix epoch
	Boot int64 // since the boot
	// Dead reports whether the process is dead that holds what the word says.
	Dead func(Word) (bool, error)
	// Left is how long to bear with the holder of a lease that has not said when it ends.
	Left func(cell uint64, w Word) int64
}

// Found is a message that may be handed out.
type Found struct {
	Cell uint64
	Word Word

	due  int64
	seen uint64 // bound of the block, before it was looked at
	then int64  // when something else in the block is to be looked at
}

// Next finds the message that is due first. ok is false if none is; then at is when to
// look again at the latest. It frees what the dead held. It looks at the summaries of
// all blocks, and at the cells of those that may have it.
//
// Errors: those of Dead.
func (d *Delays) Next(k *Looker) (f Found, ok bool, at int64, err error) {
	// Others may raise and lower the bounds meanwhile: who found something does not look
	// for ever for something that is due before it.
	for range d.blocks() + 1 {
		block, at, then := d.soonest()
		if at > k.Now {
			return f, false, at, nil
		}
		seen := d.summary(block, sumBound).Load()
		g, found, err := d.look(k, block)
		switch {
		case err != nil:
			return f, false, 0, err
		case !found:
			d.raise(block, seen, g.then)
			continue
		}
		if g.seen = seen; !ok || g.due < f.due {
			f, ok = g, true
		}
		if f.due <= then || then > k.Now {
			break
		}
		d.raise(block, seen, g.due) // and see whether another block has an earlier one
	}
	if !ok {
		at = k.Now + 1 // others move so much that there is no end
	}
	return f, ok, at, nil
}

// look looks at the cells of a block.
func (d *Delays) look(k *Looker, block int) (f Found, found bool, err error) {
	var dead []Found // pending cells of the dead
	free := -1
	f.then = Never
	first := uint64(block) * cellsPerBlock
	for i := range uint64(cellsPerBlock) {
		w := Word(d.cell(first+i, cellWord).Load())
		if w.State() == Finished {
			if free < 0 {
				free = int(i)
			}
			continue
		}
		at, now, ours, err := d.when(k, first+i, w)
		switch {
		case err != nil:
			return f, false, err
		case ours:
			dead = append(dead, Found{Cell: first + i, Word: w})
		case now == 0 || at > k.Now:
			f.then = min(f.then, at)
		case !found || at < f.due:
			if found {
				f.then = min(f.then, f.due)
			}
			f.Cell, f.Word, f.due, found = first+i, now, at, true
		default:
			f.then = min(f.then, at)
		}
	}
	if free >= 0 && free < roomFrom(d.summary(block, sumRoom).Load()) {
		d.freed(first + uint64(free)) // who freed it died before it could say so
	}
	if len(dead) > 0 {
		d.settle(k.Ring, dead)
		f.then = k.Now
	}
	if found {
		f.then = min(f.then, k.Now+Watch) // who takes it may die
	}
	return f, found, nil
}

// when tells of a cell that is not free since when, or until when, it need not be looked
// at, and the word by which it can be taken, 0 if it can not. settles: it is pending or
// dropped, and its owner dead.
func (d *Delays) when(k *Looker, c uint64, w Word) (at int64, take Word, settles bool, err error) {
	tag, ms := timeOf(d.cell(c, cellTime).Load())
	switch w.State() {
	case Ready:
		return 0, w, false, nil
	case Waiting:
		if tag != w.tag()|dueBit {
			ms = 0
		}
		return ms, w, false, nil
	case Moving, Moved: // of the ring only
		d.drop(c, w)
		return k.Now, 0, false, nil
	}
	died, err := k.Dead(w)
	if err != nil {
		return 0, 0, false, err
	}
	if w.State() != Leased {
		return k.Now + Watch, 0, died, nil
	}
	left := ms - k.Boot
	if tag != w.tag() {
		left = k.Left(c, w)
	}
	if !died && left > 0 {
		return k.Now + min(left, Watch), 0, false, nil
	}
	ready := w.sentBack(Ready, died)
	if !d.cell(c, cellWord).CompareAndSwap(uint64(w), uint64(ready)) {
		return k.Now, 0, false, nil
	}
	return 0, ready, false, nil
}

// settle decides what becomes of cells that the dead left pending: an entry of the ring
// names them as the place where its message is, or nobody ever will.
func (d *Delays) settle(ring *Ring, dead []Found) {
	ring.help(d)
	for _, f := range dead {
		d.drop(f.Cell, f.Word)
	}
}

// help ends the moves of all that are moving.
func (g *Ring) help(d *Delays) {
	for i := range g.entries {
		if w := Word(g.at(i, entryWord).Load()); w.State() == Moving {
			d.Help(g, i, w)
		}
	}
}

// Help ends the move of an ordinal whose word is w, Moving: who began it is stopped or
// dead, and the floor stands still meanwhile. If there is no such cell, which no death
// brings about, the message can be taken from the ring.
func (d *Delays) Help(ring *Ring, n uint64, w Word) {
	entry := n & (ring.entries - 1)
	v, t := ring.at(entry, entrySeq).Load(), ring.at(entry, entryTime).Load()
	tag, place := timeOf(t)
	c, lap := placeOf(place)
	known := d != nil && w.State() == Moving && tag == w.tag()|dueBit && v>>distBits == w.lap() && d.has(c)
	if known {
		old := Word(d.cell(c, cellWord).Load())
		// A later lap: it was ended, and the message finished since.
		known = (old.lap()-lap)&(1<<lapBits-1) < 1<<(lapBits-1)
		if known && old.lap() == lap && old.State() == Pending {
			seq, whole := d.message(c, lap)
			if known = whole && seq == ring.Base.Seq+v&maxDistance; known {
				d.cell(c, cellWord).CompareAndSwap(uint64(old), uint64(waitingCell(old)))
			}
		}
	}
	if known {
		ring.moved(entry, w)
		return
	}
	if ring.at(entry, entryWord).CompareAndSwap(uint64(w), uint64(w.sentBack(Ready, false))) {
		ring.word(grpRetry).Add(1)
	}
}

// CheckClock has everything looked at if the wall clock was set back: bounds are times of
// it. Both are in milliseconds; boot is the time since the boot.
func (d *Delays) CheckClock(wall, boot int64) {
	word := d.r.Word(dlyOffset)
	const slack = 500
	switch now, was := wall-boot, int64(word.Load()); {
	case now > was && was != 0 && now-was < slack || was == now:
	case now > was || was == 0:
		word.CompareAndSwap(uint64(was), uint64(now))
	case was-now > slack && word.CompareAndSwap(uint64(was), uint64(now)):
		d.lookAtAll()
	}
}

func (d *Delays) lookAtAll() {
	for b := range d.blocks() {
		d.cover(b, 0)
	}
}

// purge makes the cells fit a base that begins at from, before it counts: the ring brings
// messages from there on again, but for those kept, so their cells go. all: every cell
// goes. fresh: those who held anything are gone.
func (d *Delays) purge(from uint64, kept map[uint64]bool, all, fresh bool) {
	for c := range uint64(d.blocks()) * cellsPerBlock {
		for word := d.cell(c, cellWord); ; {
			w := Word(word.Load())
			next := d.purged(c, w, from, kept, all, fresh)
			if next == w || word.CompareAndSwap(uint64(w), uint64(next)) {
				break
			}
		}
	}
	d.roomEverywhere()
	if fresh {
		d.r.Word(dlyOffset).Store(0)
	}
	d.lookAtAll()
	step.At(step.DelayPurged)
}

// purged is what becomes of a cell.
func (d *Delays) purged(c uint64, w Word, from uint64, kept map[uint64]bool, all, fresh bool) Word {
	free := finishedWord(w.lap())
	switch w.State() {
	case Finished:
		return w
	case Pending, Dropped:
		if fresh {
			return free
		}
		return w.in(Dropped) // its owner may still store into it
	}
	seq, whole := d.message(c, w.lap())
	switch {
	case all || !whole || seq >= from && !kept[seq]:
		return free
	case fresh && w.State() == Leased:
		return w.sentBack(Ready, false)
	}
	return w
}

// DelayedFrom is the least sequence number of a delayed message, and how many there are;
// 0 if there is none. What is below the floor that was loaded before, and not finished,
// is among them.
func (d *Delays) DelayedFrom() (seq uint64, n int) {
	d.Each(func(s uint64) {
		if n++; n == 1 || s < seq {
			seq = s
		}
	})
	return seq, n
}

// Each calls f with the sequence number of each delayed message.
func (d *Delays) Each(f func(seq uint64)) {
	for c := range uint64(d.blocks()) * cellsPerBlock {
		w := Word(d.cell(c, cellWord).Load())
		if s := w.State(); s != Ready && s != Waiting && s != Leased {
			continue
		}
		if seq, whole := d.message(c, w.lap()); whole && Word(d.cell(c, cellWord).Load()).lap() == w.lap() {
			f(seq)
		}
	}
}

// Leases calls f for each lease, until it returns an error.
func (d *Delays) Leases(f func(Word) error) error {
	for c := range uint64(d.blocks()) * cellsPerBlock {
		if w := Word(d.cell(c, cellWord).Load()); w.State() == Leased {
			if err := f(w); err != nil {
				return err
			}
		}
	}
	return nil
}
