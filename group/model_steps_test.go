//go:build !race && !walqsteps

package group

// The steps of a consumer, access by access.

// claim takes a new ordinal, k, which is the walk's next.
func (m *ringModel) claim(s *modelState, i int) {
	t, d := m.fork(s, i)
	e, lap := m.entry(t, d.k), m.lap(d.k)
	before := modelWord{state: modelFinished, lap: lap - 1}
	switch d.at {
	case modelClaimW0:
		switch {
		case e.w0.lap == lap:
			d.n, d.place = d.n+1, d.place+1
			d.rest(modelIdle)
			m.emit(i, "claim: somebody has it")
		case e.w0 == before:
			d.at = modelClaimW1
			m.emit(i, "claim: loads w0")
		default:
			d.joinAgain()
			m.emit(i, "claim: the ring is not what it was")
		}
	case modelClaimW1:
		d.w1, d.at = e.w1, modelClaimW2
		m.emit(i, "claim: loads w1")
	case modelClaimW2:
		d.w2, d.at = e.w2, modelClaimSwap
		m.emit(i, "claim: loads w2")
	case modelClaimSwap:
		if e.w0 != before {
			d.rest(modelIdle)
			m.emit(i, "claim: another was faster")
			return
		}
		d.n, d.place = d.n+1, d.place+1
		m.lease(t, i, modelWord{state: modelLeased, lap: lap, delivered: 1})
		d.at = modelPutW1
		m.emit(i, "claim: swaps w0")
	}
}

// stepOver goes past an ordinal that was found below the floor.
func (m *ringModel) stepOver(s *modelState, i int) {
	t, d := m.fork(s, i)
	if t.passed.gen != d.gen && !m.has(faultLedOn) {
		d.joinAgain()
		m.emit(i, "walk: passed is of another generation")
		return
	}
	d.n, d.place = d.n+1, d.place+1
	d.rest(modelIdle)
	m.emit(i, "walk: steps over what is below the floor")
}

// lease stores w0 as a lease of consumer i.
func (m *ringModel) lease(t *modelState, i int, w modelWord) {
	d := &t.consumers[i]
	e := m.entry(t, d.k)
	if e.gen != d.gen {
		m.breaks("ordinal %d of generation %d is leased by one who walks in generation %d", d.k, e.gen, d.gen)
	}
	w.owner = modelOwner(i, d)
	e.w0, d.word, d.valid = w, w, true
}

// take takes a ready or waiting ordinal, k, that was walked past.
func (m *ringModel) take(s *modelState, i int) {
	t, d := m.fork(s, i)
	e, lap := m.entry(t, d.k), m.lap(d.k)
	switch d.at {
	case modelTakeW2:
		if d.word.state == modelWaiting && e.w2 != (modelTag{lap, d.word.delivered, true}) {
			d.rest(modelIdle)
			m.emit(i, "take: it is not known when it is due")
			return
		}
		d.w2, d.at = e.w2, modelTakeW1
		if m.has(faultLateW1) {
			d.at = modelTakeSwap
		}
		m.emit(i, "take: loads w2")
	case modelTakeW1:
		d.w1, d.at = e.w1, modelTakeSwap
		m.emit(i, "take: loads w1")
	case modelTakeSwap:
		if e.w0 != d.word {
			d.rest(modelIdle)
			m.emit(i, "take: another was faster")
			return
		}
		w := d.word
		m.lease(t, i, modelWord{state: modelLeased, lap: lap, delivered: w.delivered + 1, deaths: w.deaths})
		m.afterTake(d)
		if m.has(faultLateW1) {
			d.at = modelLateW1
		}
		m.emit(i, "take: swaps w0")
	case modelLateW1:
		d.w1 = e.w1
		m.afterTake(d)
		m.emit(i, "take: loads w1 after the swap")
	}
}

// afterTake goes on to write w1 if it is not of this lap.
func (m *ringModel) afterTake(d *modelConsumer) {
	d.at = modelPutW1
	if d.w1.lap == m.lap(d.k) || m.has(faultNoLap) {
		d.at = modelPutW2
	}
}

// putW1 writes w1 of a lease. If that fails, a former owner was late, or a later one is
// there: the lease tells which.
func (m *ringModel) putW1(s *modelState, i int) {
	t, d := m.fork(s, i)
	e, lap := m.entry(t, d.k), m.lap(d.k)
	switch d.at {
	case modelPutW1:
		if e.w1 != d.w1 && !m.has(faultStoreW1) {
			d.at = modelReloadW1
			if m.has(faultOnceW1) {
				d.at = modelPutW2
			}
			m.emit(i, "w1 has changed")
			return
		}
		place, _ := m.walked(d, d.k)
		e.w1 = modelDistance{lap, place - t.bases[d.gen].place}
		if m.has(faultNoLap) {
			e.w1.lap = 0
		}
		d.at = modelPutW2
		m.emit(i, "swaps w1")
	case modelReloadW1:
		d.w1, d.at = e.w1, modelHeldW1
		if d.w1.lap == lap {
			d.at = modelPutW2
		}
		m.emit(i, "loads w1 again")
	case modelHeldW1:
		d.at = modelPutW2
		if e.w0 == d.word {
			d.at = modelPutW1
		}
		m.emit(i, "looks whether it holds the lease still")
	}
}

// putW2 writes w2 of a lease, with the deadline before the delivery, or with when the
// message is due before it waits.
func (m *ringModel) putW2(s *modelState, i int) {
	t, d := m.fork(s, i)
	e := m.entry(t, d.k)
	switch d.at {
	case modelPutW2:
		if e.w2 != d.w2 && !m.has(faultOnceW2) {
			d.at = modelReloadW2
			m.emit(i, "w2 has changed")
			return
		}
		own := modelTag{m.lap(d.k), d.word.delivered, d.due}
		if e.w2 == d.w2 {
			e.w2 = own
		}
		d.w2 = own
		if d.due {
			d.at = modelNakWait
			m.emit(i, "nak: swaps w2")
			return
		}
		m.deliver(t, d)
		m.emit(i, "swaps w2, delivers")
	case modelReloadW2:
		d.w2, d.at = e.w2, modelHeldW2
		m.emit(i, "loads w2 again")
	case modelHeldW2:
		if d.at = modelPutW2; e.w0 != d.word {
			d.rest(modelIdle)
		}
		m.emit(i, "looks whether it holds the lease still")
	}
}

func (m *ringModel) deliver(t *modelState, d *modelConsumer) {
	place, _ := m.walked(d, d.k)
	if m.has(faultTakeW1) && d.word.delivered > 1 {
		place = t.bases[d.gen].place + d.w1.distance
	}
	m.checkDelivery(t, d, place)
	word, k, w2, valid := d.word, d.k, d.w2, d.valid
	d.rest(modelHolds)
	d.word, d.k, d.valid = word, k, valid
	if m.delay {
		d.w2 = w2
	}
}

func (m *ringModel) finish(s *modelState, i int) {
	t, d := m.fork(s, i)
	e := m.entry(t, d.k)
	if e.w0 != d.word && !m.has(faultStoreFinish) {
		d.rest(modelIdle)
		m.emit(i, "finish: the lease is lost")
		return
	}
	m.checkFinish(t, d)
	e.w0 = modelWord{state: modelFinished, lap: m.lap(d.k)}
	d.rest(modelIdle)
	m.emit(i, "finishes")
}

func (m *ringModel) nak(s *modelState, i int) {
	if s.naksSpent == m.naks {
		return
	}
	t, d := m.fork(s, i)
	t.naksSpent++
	if !m.delay {
		m.giveBack(t, d, modelReady)
		m.emit(i, "nak: swaps w0")
		return
	}
	d.at, d.due = modelPutW2, true
	m.emit(i, "nak: with a delay")
}

func (m *ringModel) nakWait(s *modelState, i int) {
	t, d := m.fork(s, i)
	m.giveBack(t, d, modelWaiting)
	m.emit(i, "nak: swaps w0 to waiting")
}

func (m *ringModel) giveBack(t *modelState, d *modelConsumer, state uint8) {
	if e := m.entry(t, d.k); e.w0 == d.word {
		e.w0.state, e.w0.owner = state, 0
	}
	d.rest(modelIdle)
}

// release makes another's lease ready.
func (m *ringModel) release(s *modelState, i int) {
	t, d := m.fork(s, i)
	if e := m.entry(t, d.k); e.w0 == d.word {
		t.revoke(e.w0)
		if t.holder(e.w0.owner) == nil {
			e.w0.deaths++
		}
		e.w0.state, e.w0.owner = modelReady, 0
	}
	d.rest(modelIdle)
	m.emit(i, "release: swaps w0")
}

// advance raises the floor over what is finished.
func (m *ringModel) advance(s *modelState, i int) {
	t, d := m.fork(s, i)
	switch d.at {
	case modelAdvanceW0:
		if m.entry(t, d.raiseTo).w0 == (modelWord{state: modelFinished, lap: m.lap(d.raiseTo)}) {
			d.raiseTo++
			m.emit(i, "advance: finds it finished")
			return
		}
		if d.raiseTo > d.floor {
			d.at = modelRaiseFloor
		} else {
			d.rest(modelIdle)
		}
		m.emit(i, "advance: finds it unfinished")
	case modelRaiseFloor:
		if t.floor != d.floor {
			d.at = modelReloadFloor
			m.emit(i, "advance: another raised the floor")
			return
		}
		m.checkFloor(t, d.raiseTo)
		t.floor = d.raiseTo
		d.rest(modelIdle)
		m.emit(i, "advance: raises the floor")
	case modelReloadFloor:
		d.at, d.floor = modelRaiseFloor, t.floor
		if d.floor >= d.raiseTo {
			d.rest(modelIdle)
		}
		m.emit(i, "advance: loads the floor again")
	}
}

// raisePassed is Pass after it found the floor where the walk is.
func (m *ringModel) raisePassed(s *modelState, i int) {
	t, d := m.fork(s, i)
	if d.at == modelPassLoad {
		d.at, d.passed = modelPassSwap, t.passed
		if !d.passed.below(modelPassed{d.gen, d.place}, m.has(faultNoGen)) {
			d.rest(modelIdle)
		}
		m.emit(i, "pass: loads passed")
		return
	}
	if t.passed != d.passed {
		d.at, d.passed = modelPassLoad, modelPassed{}
		m.emit(i, "pass: another raised it")
		return
	}
	t.passed = modelPassed{d.gen, d.place}
	m.checkPassed(t)
	d.rest(modelIdle)
	m.emit(i, "pass: raises passed")
}

func (p modelPassed) below(q modelPassed, placeOnly bool) bool {
	return !placeOnly && p.gen < q.gen || (placeOnly || p.gen == q.gen) && p.place < q.place
}

// join finds out where to begin to count.
func (m *ringModel) join(s *modelState, i int) {
	t, d := m.fork(s, i)
	at := d.at
	if m.has(faultFloorFirst) && (at == modelJoinPassed || at == modelJoinFloor) {
		// The same two accesses the other way round.
		at = modelJoinPassed + modelJoinFloor - at
	}
	switch at {
	case modelJoinBase:
		d.gen, d.place = t.gen, t.bases[t.gen].place
		d.at = modelJoinPassed
		m.emit(i, "join: loads the base")
		return
	case modelJoinPassed:
		if t.passed.gen != d.gen && !m.has(faultNoGen) {
			d.joinAgain()
			m.emit(i, "join: passed is of another generation")
			return
		}
		d.place = max(d.place, t.passed.place)
		d.at++
	case modelJoinFloor:
		d.n = t.floor
		d.at++
	case modelJoinW1:
		w1 := m.entry(t, d.n-1).w1
		if w1.lap != m.lap(d.n-1) && !m.has(faultAnyLap) && !m.has(faultNoLap) {
			d.joinAgain()
			m.emit(i, "join: w1 is of another ordinal")
			return
		}
		d.place = max(d.place, t.bases[d.gen].place+w1.distance+1)
		d.at++
	case modelJoinAgain:
		if t.gen != d.gen {
			d.joinAgain()
			m.emit(i, "join: the generation is another now")
			return
		}
		d.at++
	}
	m.joined(t, i, at)
}

// joined lets a consumer that knows where to begin begin.
func (m *ringModel) joined(t *modelState, i int, at uint8) {
	d := &t.consumers[i]
	if d.at == modelJoinW1 && d.n == t.bases[d.gen].ordinal {
		d.at = modelIdle
	}
	if d.at == modelJoinAgain && (m.rebases == 0 || m.has(faultJoinOnce)) {
		d.at = modelIdle
	}
	if d.at == modelIdle {
		m.checkStart(t, d)
		d.rest(modelIdle)
	}
	what := [...]string{modelJoinPassed: "join: loads passed", modelJoinFloor: "join: loads the floor",
		modelJoinW1: "join: loads w1", modelJoinAgain: "join: the generation is the same"}
	m.emit(i, what[at])
}
