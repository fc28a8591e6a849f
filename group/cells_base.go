package group

// What becomes of the cells when a group gets another base, beside purge.

// A movedCell is the cell that an entry of the ring names, which was moving or moved.
type movedCell struct{ cell, lap, seq uint64 }

// movedCell is that of an entry whose word was w. ok is false if it names none.
func (s bases) movedCell(i uint64, w Word) (m movedCell, ok bool) {
	v, t := s.newest.at(i, entrySeq).Load(), s.newest.at(i, entryTime).Load()
	tag, place := timeOf(t)
	ring := s.of(w.lap())
	if w.State() != Moved && w.State() != Moving || ring == nil || v>>distBits != w.lap() ||
		tag&dueBit == 0 || (tag^w.tag())>>11&15 != 0 {
		return m, false
	}
	m.cell, m.lap = placeOf(place)
	m.seq = ring.Base.Seq + v&maxDistance
	return m, true
}

// seize takes the message of an entry that was emptied from its cell, since the ring
// brings it again: whoever has it there loses the lease. It reports whether it was
// finished before that.
func (d *Delays) seize(m movedCell) (finished bool) {
	if !d.has(m.cell) {
		return false
	}
	for {
		w := Word(d.cell(m.cell, cellWord).Load())
		seq, whole := d.message(m.cell, m.lap)
		switch {
		case w.lap() != m.lap: // the cell is another message's: this one's was freed, or never was
			return (w.lap()-m.lap)&(1<<lapBits-1) < 1<<(lapBits-1)
		case !whole || seq != m.seq:
			return false
		case w.State() == Finished:
			return true
		case w.State() == Pending || w.State() == Dropped:
			if w.State() == Dropped || d.cell(m.cell, cellWord).CompareAndSwap(uint64(w), uint64(w.in(Dropped))) {
				return false
			}
		case d.cell(m.cell, cellWord).CompareAndSwap(uint64(w), uint64(finishedWord(w.lap()))):
			d.freed(m.cell)
			return false
		}
	}
}

// roomEverywhere notes that any cell may be free.
func (d *Delays) roomEverywhere() {
	for b := range d.blocks() {
		d.freed(uint64(b) * cellsPerBlock)
	}
}
