//go:build !race && !walqsteps

package group

// The rebaser's steps, and what must always hold.

// Where the holder of the exclusive lock is.
const (
	modelUnlocked = iota
	modelRecord
	modelResetLoad
	modelResetSwap
	modelMark
	modelStorePassed
	modelStoreFloor
	modelStoreGen
)

// rebase is the next step of who holds the exclusive lock, which the kernel gives up for
// one that dies.
func (m *ringModel) rebase(s *modelState) {
	if m.rebases == 0 {
		return
	}
	if s.rebaser.at != modelUnlocked && s.deathsSpent < m.deaths {
		t, _ := m.fork(s, 0)
		t.rebaser = modelRebaser{}
		t.deathsSpent++
		m.emit(-1, "dies")
	}
	t, _ := m.fork(s, 0)
	r := &t.rebaser
	switch r.at {
	case modelUnlocked:
		m.beginRebase(t)
	case modelRecord:
		if t.floorGen == r.gen {
			t.floorGen = modelMaxGens // it counts by a base that is given up
		}
		t.bases[r.gen], t.done[r.gen] = modelBase{(r.lap + 1) * m.window, m.rebaseTo}, 0
		r.at = modelResetLoad
		if m.has(faultEarlyGen) {
			r.at = modelStoreGen
		}
		m.emit(-1, "writes the record")
	case modelResetLoad, modelResetSwap:
		m.reset(t)
	case modelMark:
		m.mark(t)
		r.at, r.finished = modelStorePassed, 0
		m.emit(-1, "marks what was finished")
	case modelStorePassed:
		t.passed = modelPassed{r.gen, t.bases[r.gen].place}
		r.at = modelStoreFloor
		m.emit(-1, "stores passed")
	case modelStoreFloor:
		t.floor, t.floorGen = t.bases[r.gen].ordinal, r.gen
		r.at = modelStoreGen
		if m.has(faultEarlyGen) {
			t.rebaser = modelRebaser{}
		}
		m.emit(-1, "stores the floor")
	case modelStoreGen:
		t.gen = r.gen
		if m.has(faultEarlyGen) {
			r.at = modelResetLoad
		} else {
			t.rebaser = modelRebaser{}
		}
		m.emit(-1, "stores the generation")
	}
}

// beginRebase takes the lock. A record newer than the generation is of one who died.
func (m *ringModel) beginRebase(t *modelState) {
	r := &t.rebaser
	pending := int(t.gen)+1 < modelMaxGens && t.bases[t.gen+1].ordinal != 0
	if !pending && t.rebasesSpent == m.rebases {
		return
	}
	r.gen = t.gen + 1
	if !pending {
		t.rebasesSpent++
	}
	if m.marks {
		for i := range m.window {
			m.note(t, i)
		}
		if pending && !m.has(faultMarksStay) {
			m.forget(t)
		}
	}
	if !m.floorDecides() {
		m.chooseLap(t)
		m.emit(-1, "takes the lock, loads all w0")
		return
	}
	r.at, r.lap = modelRecord, m.lap(t.floor)+2
	if m.has(faultNearBase) {
		r.lap = m.lap(t.floor)
	}
	if pending {
		r.at, r.lap = modelResetLoad, m.lap(t.bases[r.gen].ordinal)-1
	}
	m.emit(-1, "takes the lock, loads the floor")
}

func (m *ringModel) floorDecides() bool { return m.has(faultFloorOnly | faultNearBase) }

// leap is how many laps a reset is ahead of what an entry had, at least. With one, those
// of the old base would take the reset for the end of their own next lap.
func (m *ringModel) leap() uint8 {
	if m.has(faultNextLap) {
		return 1
	}
	return 2
}

// chooseLap chooses the lap of the reset, ahead of all that is in the ring. It loads all
// entries at once: that the ring goes on meanwhile, and later, is what reset looks for.
func (m *ringModel) chooseLap(t *modelState) {
	r := &t.rebaser
	r.at, r.entry, r.lap, r.word = modelRecord, 0, 0, modelWord{}
	for i := range m.window {
		r.lap = max(r.lap, t.ring[i].w0.lap+m.leap())
	}
}

// reset makes an entry finished of the lap before the new base.
func (m *ringModel) reset(t *modelState) {
	r := &t.rebaser
	e := &t.ring[r.entry]
	if r.at == modelResetLoad {
		if e.w0.lap+m.leap() > r.lap && !m.floorDecides() {
			m.chooseLap(t)
			m.emit(-1, "the ring went on, loads all w0 again")
			return
		}
		r.word, r.at = e.w0, modelResetSwap
		m.emit(-1, "loads w0")
		return
	}
	if e.w0 != r.word {
		r.at, r.word = modelResetLoad, modelWord{}
		m.emit(-1, "w0 has changed")
		return
	}
	if m.marks {
		m.note(t, r.entry)
	}
	t.revoke(e.w0)
	e.w0, e.gen = modelWord{state: modelFinished, lap: r.lap}, r.gen
	r.word, r.entry, r.at = modelWord{}, r.entry+1, modelResetLoad
	if r.entry == m.window {
		r.entry, r.at, r.lap = 0, modelStorePassed, 0
		if m.marks {
			r.at = modelMark
		}
	}
	m.emit(-1, "resets w0")
}

// note notes the message of an entry if it is finished, by the base that its lap is of.
func (m *ringModel) note(t *modelState, i uint8) {
	e, gen := &t.ring[i], t.gen
	if e.w0.state != modelFinished || e.w1.lap != e.w0.lap || e.w0.lap == 0 {
		return
	}
	if next := t.bases[t.rebaser.gen].ordinal; next != 0 && e.w0.lap >= m.lap(next) && !m.has(faultMarksByForce) {
		gen = t.rebaser.gen
	}
	place := t.bases[gen].place + e.w1.distance
	if done := t.done[t.gen] | t.done[t.rebaser.gen]; done&(1<<place) == 0 {
		m.breaks("the message at %d counts as finished, and is not", place)
	}
	t.rebaser.finished |= 1 << place
}

// forget makes the marks of a maker that died count for nothing.
func (m *ringModel) forget(t *modelState) {
	for i := range m.window {
		if e := &t.ring[i]; e.w0.lap >= m.lap(t.bases[t.rebaser.gen].ordinal) && e.w1.lap == e.w0.lap {
			e.w1 = modelDistance{lap: 1 << 7}
		}
	}
}

// mark makes messages count as finished in the next base that are so.
func (m *ringModel) mark(t *modelState) {
	r := &t.rebaser
	b := t.bases[r.gen]
	for place := b.place; int(place) < len(m.log); place++ {
		behind := m.counted(b.place, place)
		if r.finished&(1<<place) == 0 || behind >= m.room() {
			continue
		}
		k := b.ordinal + behind
		e := m.entry(t, k)
		e.w1 = modelDistance{m.lap(k), place - b.place}
		e.w0 = modelWord{state: modelFinished, lap: m.lap(k)}
		t.done[r.gen] |= 1 << place
	}
}

func (m *ringModel) checkDelivery(t *modelState, d *modelConsumer, place uint8) {
	if want, ok := m.truth(t, d.gen, d.k); !ok || place != want {
		m.breaks("ordinal %d is delivered as the message at %d, want %d", d.k, place, want)
	}
}

func (m *ringModel) checkFinish(t *modelState, d *modelConsumer) {
	e := m.entry(t, d.k)
	place, ok := m.truth(t, d.gen, d.k)
	switch {
	case !d.valid:
		m.breaks("ordinal %d is finished by one whose lease was taken from it", d.k)
	case e.gen != d.gen || !ok:
		m.breaks("ordinal %d of generation %d is finished in generation %d", d.k, d.gen, e.gen)
	case t.done[d.gen]&(1<<place) != 0:
		m.breaks("ordinal %d is finished twice", d.k)
	}
	t.done[d.gen] |= 1 << place
}

func (m *ringModel) checkFloor(t *modelState, raiseTo uint8) {
	for k := t.floor; k < raiseTo && t.floorGen < modelMaxGens; k++ {
		place, ok := m.truth(t, t.floorGen, k)
		if !ok || t.done[t.floorGen]&(1<<place) == 0 {
			m.breaks("the floor passes ordinal %d, which is not finished", k)
		}
	}
}

func (m *ringModel) checkPassed(t *modelState) {
	for place := t.bases[t.passed.gen].place; place < t.passed.place; place++ {
		if m.mine(place) && t.done[t.passed.gen]&(1<<place) == 0 {
			m.breaks("passed is raised over the message at %d, which is not finished", place)
		}
	}
}

func (m *ringModel) checkStart(t *modelState, d *modelConsumer) {
	b := t.bases[d.gen]
	if got, want := d.n, b.ordinal+m.counted(b.place, d.place); got != want {
		m.breaks("join begins at place %d with ordinal %d, want %d", d.place, got, want)
	}
}

// settled tells that all is finished, the floor is at the end and every consumer alive,
// idle and at the end of the log: also that nobody is caught in Join.
func (m *ringModel) settled(s *modelState) bool {
	end := uint8(len(m.log))
	b := s.bases[s.gen]
	if s.rebaser.at != modelUnlocked || s.floor != b.ordinal+m.counted(b.place, end) {
		return false
	}
	if int(s.gen)+1 < modelMaxGens && s.bases[s.gen+1].ordinal != 0 {
		return false
	}
	for place := b.place; place < end; place++ {
		if m.mine(place) && s.done[s.gen]&(1<<place) == 0 {
			return false
		}
	}
	for i := range m.consumers {
		c := &s.consumers[i]
		if c.at != modelIdle || c.gen != s.gen || c.n != s.floor || c.place != end {
			return false
		}
	}
	return !m.pass || s.passed.place == end
}
