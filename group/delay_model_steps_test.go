//go:build !race && !walqsteps

package group

// The steps of the model of the delay file.

const (
	dmDead = iota
	dmIdle
	dmClaimSwap
	dmPutTime // the time word of a lease of the ring, before the delivery
	dmPutHeld
	dmHolds
	dmPending // a move: before the cell is pending
	dmFill
	dmCover
	dmPlace
	dmPlaceHeld
	dmMoving
	dmWaits
	dmMoved
	dmDropIt
	dmDropAgain
	dmLook0 // a look at the block: before the first cell
	dmLook1
	dmLooked
	dmTake
	dmSettleRing
	dmSettleDrop
	dmHelpCell
	dmHelpRing
	dmMark // the cell is free, before the entry is finished
)

func (m *delayModel) fork(s *dmState, i int) (*dmState, *dmProc) {
	m.draft, m.wrong = *s, ""
	return &m.draft, &m.draft.procs[i]
}

func (p *dmProc) rest() { *p = dmProc{at: dmIdle, life: p.life, gen: p.gen, walk: p.walk} }

func (m *delayModel) expand(s *dmState) []dmStep {
	m.steps = m.steps[:0]
	for i := range s.procs {
		if s.procs[i].at == dmDead {
			t, p := m.fork(s, i)
			*p = dmProc{at: dmIdle, life: p.life + 1, gen: t.gen, walk: t.floor}
			m.emit("%d: a newcomer in the dead one's slot", i)
			continue
		}
		m.proc(s, i)
		if s.deaths < m.deaths {
			t, p := m.fork(s, i)
			*p = dmProc{at: dmDead, life: p.life}
			t.deaths++
			m.emit("%d: dies", i)
		}
	}
	m.rebase(s)
	return m.steps
}

func (m *delayModel) proc(s *dmState, i int) {
	switch s.procs[i].at {
	case dmIdle:
		m.idle(s, i)
	case dmClaimSwap:
		m.claim(s, i)
	case dmPutTime, dmPutHeld, dmPlace, dmPlaceHeld:
		m.putTime(s, i)
	case dmHolds:
		m.holds(s, i)
	case dmPending, dmFill, dmCover:
		m.fill(s, i)
	case dmMoving, dmWaits, dmMoved, dmDropIt, dmDropAgain:
		m.move(s, i)
	case dmLook0, dmLook1, dmLooked, dmTake:
		m.look(s, i)
	default:
		m.settle(s, i)
	}
}

// idle is what who holds nothing may do.
func (m *delayModel) idle(s *dmState, i int) {
	p := &s.procs[i]
	if p.gen != s.gen {
		t, p := m.fork(s, i)
		p.gen, p.walk = t.gen, t.floor
		m.emit("%d: joins again", i)
		return
	}
	if p.walk < m.messages && s.ring.lap == s.lapOf(p.gen, p.walk) {
		_, p := m.fork(s, i)
		p.walk++
		m.emit("%d: somebody has message %d", i, p.walk-1)
	} else if p.walk < m.messages && s.floor == p.walk && s.ring.state == Finished && s.ring.lap+1 == s.lapOf(p.gen, p.walk) {
		t, p := m.fork(s, i)
		p.at, p.word, p.time = dmClaimSwap, t.ring, t.time
		m.emit("%d: claim: loads the entry", i)
	}
	if s.ring.lap < s.lapOf(p.gen, p.walk) {
		m.ofRing(s, i)
	}
	if s.ring.state == Moved || s.ring.state == Moving && m.has(dmFlushMoving) {
		t, _ := m.fork(s, i)
		t.ring = dmWord{Finished, s.ring.lap, 0, 0}
		m.emit("%d: puts the delay file on disk", i)
	}
	if s.ring.state == Finished &&
		s.ring.lap >= s.base[s.gen].lap && s.floor == s.msgOf(s.gen, s.ring.lap) {
		t, _ := m.fork(s, i)
		kept := t.done[t.floor]
		for _, c := range t.cells {
			kept = kept || c.truth == t.floor && (c.w.state == Waiting || c.w.state == Ready || c.w.state == Leased)
		}
		if !kept {
			m.breaks("the floor passes message %d, which nobody has", t.floor)
		}
		t.floor++
		m.emit("%d: raises the floor", i)
	}
	if s.covered {
		t, p := m.fork(s, i)
		p.at, p.seen = dmLook0, t.version
		m.emit("%d: look: loads the bound", i)
	}
}

// ofRing is what can be done with an entry that was walked past.
func (m *delayModel) ofRing(s *dmState, i int) {
	t, p := m.fork(s, i)
	switch w := s.ring; w.state {
	case Ready:
		p.time, p.msg = t.time, t.msgOf(p.gen, w.lap)
		t.ring = dmWord{Leased, w.lap, dmOwner(i, p), w.n + 1}
		p.word, p.at = t.ring, dmPutTime
		m.emit("%d: takes the entry", i)
	case Leased:
		if s.lives(w.owner) {
			if s.expiries == m.expiries {
				return
			}
			t.expiries++
		}
		t.ring = dmWord{Ready, w.lap, 0, w.n}
		m.emit("%d: releases the entry", i)
	case Moving:
		p.word, p.time, p.at = t.ring, t.time, dmHelpCell
		m.emit("%d: help: loads the entry", i)
	}
}

func (m *delayModel) claim(s *dmState, i int) {
	t, p := m.fork(s, i)
	if t.ring != p.word {
		p.rest()
		m.emit("%d: claim: overtaken", i)
		return
	}
	t.ring = dmWord{Leased, p.word.lap + 1, dmOwner(i, p), 1}
	p.word, p.msg, p.at = t.ring, p.walk, dmPutTime
	p.walk++
	m.emit("%d: claims message %d", i, p.msg)
}

// putTime swaps the time word of a lease: with its end, or with the place of the cell.
func (m *delayModel) putTime(s *dmState, i int) {
	t, p := m.fork(s, i)
	lost, next, again := uint8(dmIdle), uint8(dmHolds), uint8(dmPutTime)
	mine := dmTime{lap: p.word.lap, n: p.word.n}
	if p.at == dmPlace || p.at == dmPlaceHeld {
		lost, next, again = dmDropIt, dmMoving, dmPlace
		mine.place, mine.cell, mine.cellAt = true, p.cell, p.pending.lap
	}
	if p.at == dmPutTime || p.at == dmPlace {
		p.at++
		if t.ring != p.word && !m.has(dmMoveLostLease) {
			if p.at = lost; lost == dmIdle {
				p.rest()
			}
		}
		m.emit("%d: looks whether it holds the entry", i)
		return
	}
	switch {
	case t.time == p.time || m.has(dmPlainPlace):
		t.time, p.time, p.at = mine, mine, next
		if next == dmMoving && m.has(dmWaitFirst) {
			p.at = dmWaits
		}
		m.emit("%d: stores the time, place %v", i, mine.place)
	default:
		p.time, p.at = t.time, again
		m.emit("%d: the time is another's", i)
	}
}

func (m *delayModel) finish(t *dmState, msg uint8) {
	// Once more only if a base is made meanwhile, which may miss it.
	if t.again[msg] {
		m.breaks("message %d is finished twice", msg)
	}
	t.done[msg], t.again[msg] = true, true
}

// holds is what a consumer may do with its message.
func (m *delayModel) holds(s *dmState, i int) {
	t, p := m.fork(s, i)
	if p.inCell {
		c := &t.cells[p.cell]
		ok := c.w == p.word
		if ok {
			m.finish(t, p.msg)
			c.w = dmWord{Finished, c.w.lap, 0, 0}
			p.at, p.word = dmMark, dmWord{}
		} else {
			p.rest()
		}
		m.emit("%d: finishes message %d in its cell, %v", i, s.procs[i].msg, ok)
		if t, p = m.fork(s, i); s.naks < m.naks {
			t.naks++
			if c = &t.cells[p.cell]; c.w == p.word {
				c.w = dmWord{Waiting, c.w.lap, 0, c.w.n}
			}
			p.rest()
			m.emit("%d: sends it back to its cell", i)
		}
		return
	}
	ok := t.ring == p.word
	if ok {
		m.finish(t, p.msg)
		t.ring = dmWord{Finished, p.word.lap, 0, 0}
	}
	p.rest()
	m.emit("%d: finishes message %d, %v", i, s.procs[i].msg, ok)
	if t, p = m.fork(s, i); s.moves < m.moves {
		t.moves++
		if p.at = dmPending; m.has(dmCoverFirst) {
			p.at = dmCover
		}
		m.emit("%d: moves message %d", i, p.msg)
	}
}

// fill makes a free cell pending, fills it and covers its block.
func (m *delayModel) fill(s *dmState, i int) {
	t, p := m.fork(s, i)
	switch p.at {
	case dmPending:
		for c := range t.cells {
			if w := t.cells[c].w; w.state == Finished {
				p.pending, p.cell, p.at = dmWord{Pending, w.lap + 1, dmOwner(i, p), p.word.n}, uint8(c), dmFill
				t.cells[c].w, t.cells[c].truth = p.pending, p.msg
				m.emit("%d: cell %d is pending", i, c)
				return
			}
		}
		p.rest() // there is no room: it would wait in the ring, here its lease ends
		t.moves--
		p.at, p.word, p.msg = dmHolds, s.procs[i].word, s.procs[i].msg
		p.time = s.procs[i].time
		t.moves = m.moves
		m.emit("%d: there is no room", i)
	case dmFill:
		t.cells[p.cell].msg = p.msg
		if p.at = dmCover; m.has(dmCoverFirst) {
			p.at = dmPlace
		}
		m.emit("%d: fills it", i)
	case dmCover:
		if t.covered = true; !m.has(dmNoVersion) {
			t.version++
		}
		if p.at = dmPlace; m.has(dmCoverFirst) {
			p.at = dmPending
		}
		m.emit("%d: covers the block", i)
	}
}

// move has the entry move, and the cell wait.
func (m *delayModel) move(s *dmState, i int) {
	t, p := m.fork(s, i)
	c := &t.cells[p.cell]
	moving := p.word
	moving.state = Moving
	free := dmWord{Finished, p.pending.lap, 0, 0}
	switch p.at {
	case dmMoving:
		ok := t.ring == p.word || m.has(dmMoveLostLease)
		p.at = dmDropIt
		if ok {
			t.ring, p.at = moving, dmWaits
			if m.has(dmMovedAtOnce) {
				t.ring = dmWord{Moved, p.word.lap, 0, 0}
			}
		}
		if m.has(dmWaitFirst) {
			p.rest()
			if ok {
				t.ring = dmWord{Moved, moving.lap, 0, 0}
			}
		}
		m.emit("%d: the entry moves, %v", i, ok)
	case dmWaits:
		p.at = dmMoved
		if c.w == p.pending {
			c.w = dmWord{Waiting, p.pending.lap, 0, p.pending.n}
		} else {
			p.at = dmDropAgain
		}
		if m.has(dmWaitFirst) {
			p.at = dmMoving
		}
		m.emit("%d: the cell waits", i)
	case dmMoved:
		if t.ring == moving {
			t.ring = dmWord{Moved, moving.lap, 0, 0}
		}
		p.rest()
		m.emit("%d: the entry is moved", i)
	case dmDropIt:
		if p.at = dmDropAgain; c.w == p.pending {
			c.w = free
			p.rest()
		}
		m.emit("%d: drops the cell", i)
	case dmDropAgain:
		dropped := p.pending
		if dropped.state = Dropped; c.w == dropped {
			c.w = free
		}
		if p.at = dmMoved; t.ring != moving {
			p.rest()
		}
		m.emit("%d: frees it if a base dropped it", i)
	}
}

// look goes over the cells of the block, and takes what waits.
func (m *delayModel) look(s *dmState, i int) {
	t, p := m.fork(s, i)
	switch p.at {
	case dmLook0, dmLook1:
		n := p.at - dmLook0
		m.lookAt(t, p, n)
		p.at++
		m.emit("%d: look: cell %d", i, n)
		if w := s.cells[n].w; w.state == Leased && s.lives(w.owner) && s.expiries < m.expiries {
			t, p := m.fork(s, i)
			t.expiries++
			t.cells[n].w = dmWord{Ready, w.lap, 0, w.n}
			p.busy = true
			p.at++
			m.emit("%d: look: the lease of cell %d is over", i, n)
		}
	case dmLooked:
		switch {
		case p.lost != [delayCells]dmWord{}:
			p.at = dmSettleRing
			m.emit("%d: look: the dead left something", i)
		case p.found:
			p.at = dmTake
			m.emit("%d: look: finds something", i)
		default:
			if !p.busy && t.version == p.seen {
				t.covered = false
				t.version++
				if m.has(dmNoVersion) {
					t.version--
				}
			}
			p.rest()
			m.emit("%d: look: raises the bound, covered %v", i, t.covered)
		}
	case dmTake:
		c := &t.cells[p.pick]
		if c.w != p.word {
			p.rest()
			m.emit("%d: another was faster", i)
			return
		}
		if c.msg != c.truth {
			m.breaks("cell %d holds message %d, want %d", p.pick, c.msg, c.truth)
		}
		c.w = dmWord{Leased, c.w.lap, dmOwner(i, p), c.w.n + 1}
		word, pick, msg := c.w, p.pick, c.msg
		p.rest()
		p.at, p.word, p.cell, p.msg, p.inCell = dmHolds, word, pick, msg, true
		m.emit("%d: takes message %d from cell %d", i, msg, pick)
	}
}

func (m *delayModel) lookAt(t *dmState, p *dmProc, n uint8) {
	c := &t.cells[n]
	switch w := c.w; w.state {
	case Waiting, Ready:
		p.found, p.pick, p.word = true, n, w
	case Leased:
		if p.busy = true; !t.lives(w.owner) {
			c.w = dmWord{Ready, w.lap, 0, w.n}
		}
	case Pending, Dropped:
		if p.busy = true; !t.lives(w.owner) || m.has(dmDropLiving) {
			p.lost[n] = w
		}
	}
}

// settle decides about pending cells of the dead, and helps moves to their end.
func (m *delayModel) settle(s *dmState, i int) {
	t, p := m.fork(s, i)
	switch p.at {
	case dmSettleRing:
		if p.at = dmSettleDrop; t.ring.state == Moving && !m.has(dmDropBlind) && !p.helped {
			p.word, p.time, p.at, p.helped = t.ring, t.time, dmHelpCell, true
		}
		m.emit("%d: settle: loads the entry", i)
	case dmSettleDrop:
		for n, w := range p.lost {
			if w != (dmWord{}) && t.cells[n].w == w {
				t.cells[n].w = dmWord{Finished, w.lap, 0, 0}
			}
		}
		p.rest()
		m.emit("%d: settle: drops", i)
	case dmHelpCell:
		c := &t.cells[p.time.cell]
		p.at = dmHelpRing
		switch {
		case c.w.lap == p.time.cellAt && c.w.state == Pending:
			c.w = dmWord{Waiting, c.w.lap, 0, c.w.n}
		case m.has(dmHelpReady):
			if t.ring == p.word {
				t.ring = dmWord{Ready, p.word.lap, 0, p.word.n}
			}
		}
		if !p.time.place || p.time.lap != p.word.lap || p.time.n != p.word.n {
			m.breaks("the time word of a moving entry is not its own: %+v", p.time)
		}
		m.emit("%d: help: the cell waits", i)
	case dmHelpRing:
		if t.ring == p.word {
			t.ring = dmWord{Moved, p.word.lap, 0, 0}
		}
		if lost := p.lost; p.helped {
			p.at, p.lost = dmSettleDrop, lost
		} else {
			p.rest()
		}
		m.emit("%d: help: the entry is moved", i)
	case dmMark:
		lap := t.lapOf(p.gen, p.msg)
		if t.gen == p.gen && p.msg >= t.base[t.gen].msg && t.ring == (dmWord{Moved, lap, 0, 0}) {
			t.ring.state = Finished
		}
		p.rest()
		m.emit("%d: the entry is finished", i)
	}
}
