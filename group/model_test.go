//go:build !race && !walqsteps

package group

import "fmt"

// The model of docs/adr/0021-groups.md: consumers in processes of their own that share a
// ring of leases. Every transition is one access to shared memory with what its process
// concludes from it, so that every process may be overtaken, and may die, between any two
// accesses. Two loads are one step where what they load cannot change in between or is
// looked at again. Places in the log are small numbers, laps do not wrap, time does not
// exist: a lease of a living process may be found over at any moment, a waiting message is
// due at once. Extend, which only moves a time, is left out.

// The states of w0.
const (
	modelFinished = iota
	modelLeased
	modelReady
	modelWaiting
)

// modelWord is w0. A finished or ready entry has no owner.
type modelWord struct{ state, lap, owner, delivered, deaths uint8 }

// modelDistance is w1.
type modelDistance struct{ lap, distance uint8 }

// modelTag is w2: of the time there, only whose it is matters, and whether it is when a
// waiting message is due.
type modelTag struct {
	lap, delivered uint8
	due            bool
}

// modelPassed is the word passed; gen is in its high bits.
type modelPassed struct{ gen, place uint8 }

// modelBase is the record of a generation: ordinal is the one of the first of the group's
// messages at or behind place. The two records that alternate are a list here, because a
// record bears its generation and a reader of one that was overwritten begins again.
type modelBase struct{ ordinal, place uint8 }

// modelEntry is one entry of the ring. gen is not in memory: it is the generation whose
// ordinals the entry holds.
type modelEntry struct {
	w0  modelWord
	w1  modelDistance
	w2  modelTag
	gen uint8
}

// Where a consumer is: before the access that the name tells.
const (
	modelDead = iota
	modelJoinBase
	modelJoinPassed
	modelJoinFloor
	modelJoinW1
	modelJoinAgain
	modelIdle
	modelBelow
	modelClaimW0
	modelClaimW1
	modelClaimW2
	modelClaimSwap
	modelTakeW2
	modelTakeW1
	modelTakeSwap
	modelLateW1
	modelPutW1
	modelReloadW1
	modelHeldW1
	modelPutW2
	modelReloadW2
	modelHeldW2
	modelHolds
	modelNakWait
	modelReleaseSwap
	modelAdvanceW0
	modelRaiseFloor
	modelReloadFloor
	modelPassLoad
	modelPassSwap
)

// modelConsumer is a consumer process. gen, n and place are its walk: the ordinal that the
// next of the group's messages at or behind place will get. What follows is what it has
// loaded, and is cleared when it comes to rest, so that equal situations are equal states.
type modelConsumer struct {
	at, life       uint8
	gen, n, place  uint8
	k              uint8 // the ordinal that is worked at
	word           modelWord
	w1             modelDistance
	w2             modelTag
	floor, raiseTo uint8
	passed         modelPassed
	due            bool // what is to be put into w2 is when the message is due
	valid          bool // not in memory: its lease has not been taken from it
}

// modelRebaser is who holds the exclusive lock.
type modelRebaser struct {
	at, gen, entry, lap uint8
	word                modelWord
	finished            uint8 // places that were found finished, in bits
}

const (
	modelMaxWindow    = 3
	modelMaxConsumers = 3
	modelMaxGens      = 3
)

// modelState is everything. What is spent bounds the exploration; done, in bits by place,
// and floorGen, the generation that the floor counts in, are the observer's knowledge.
type modelState struct {
	ring      [modelMaxWindow]modelEntry
	consumers [modelMaxConsumers]modelConsumer
	rebaser   modelRebaser
	bases     [modelMaxGens]modelBase
	gen       uint8
	floor     uint8
	passed    modelPassed
	floorGen  uint8
	done      [modelMaxGens]uint8

	deathsSpent, expiriesSpent, naksSpent, rebasesSpent uint8
}

// modelConfig bounds an exploration. In the log, an x is a message of the group, a dot one
// of another topic.
type modelConfig struct {
	window, consumers               uint8
	log                             string
	deaths, expiries, naks, rebases uint8
	rebaseTo                        uint8
	pass, delay                     bool
	behind                          bool // a walk may step over what is below the floor
	marks                           bool // a base takes over what was finished
}

// A modelFault is a mistake to be found. Those of the second group look right.
type modelFault uint32

const (
	faultStoreW1     modelFault = 1 << iota // w1 is stored, not swapped
	faultNoLap                              // w1 bears no lap
	faultNoWindow                           // Claim does not look at the floor
	faultStoreFinish                        // Finish stores w0
	faultFloorFirst                         // Join loads the floor before passed
	faultAnyLap                             // Join does not compare the lap in w1
	faultNoGen                              // passed bears no generation
	faultNearBase                           // Rebase goes on one lap behind the floor's
	faultEarlyGen                           // Rebase stores the generation before it resets
	faultTakeW1                             // Take delivers what w1 tells

	faultFullWindow // Claim up to F + W - 1: in the entry that Join needs
	faultLateW1     // Take loads w1 after its swap of w0
	faultOnceW1     // w1 is swapped once, and left if that fails
	faultOnceW2     // w2 is swapped once, and left if that fails
	faultFloorOnly  // Rebase trusts that the floor stays within two laps until the reset
	faultNextLap    // Rebase resets to the lap that comes next, which Claim may be at
	faultJoinOnce   // Join does not look at the generation again

	faultLedOn        // a walk steps over what is below any base's floor
	faultMarksByForce // marks of a maker that died are read by the base in force
	faultMarksStay    // marks of a maker that died stay when its record is overwritten
)

// modelStep is a transition of consumer who, or of the rebaser if that is negative. wrong
// says what it broke.
type modelStep struct {
	next        modelState
	who         int
	what, wrong string
}

// ringModel makes the transitions of a configuration. A step is drafted in a copy of the
// state, then emitted.
type ringModel struct {
	modelConfig
	fault modelFault
	draft modelState
	steps []modelStep
	wrong string
}

func (m *ringModel) has(f modelFault) bool { return m.fault&f != 0 }

// start is a new group, with every consumer about to join.
func (m *ringModel) start() modelState {
	var s modelState
	s.bases[0] = modelBase{ordinal: m.window}
	s.floor = m.window
	for i := range m.consumers {
		s.consumers[i].at = modelJoinBase
	}
	return s
}

func (m *ringModel) fork(s *modelState, i int) (*modelState, *modelConsumer) {
	m.draft, m.wrong = *s, ""
	return &m.draft, &m.draft.consumers[i]
}

func (m *ringModel) emit(who int, what string) {
	m.steps = append(m.steps, modelStep{m.draft, who, what, m.wrong})
}

func (m *ringModel) breaks(format string, args ...any) {
	if m.wrong == "" {
		m.wrong = fmt.Sprintf(format, args...)
	}
}

// room is how many ordinals may be at work: one less than the ring has entries, because
// Join needs that of the ordinal before the floor.
func (m *ringModel) room() uint8 {
	if m.has(faultFullWindow) {
		return m.window
	}
	return m.window - 1
}

func (m *ringModel) lap(k uint8) uint8 { return k / m.window }

func (m *ringModel) entry(s *modelState, k uint8) *modelEntry { return &s.ring[k%m.window] }

func (m *ringModel) mine(place uint8) bool { return m.log[place] == 'x' }

// counted is the number of the group's messages in [from, to).
func (m *ringModel) counted(from, to uint8) (n uint8) {
	for ; from < to; from++ {
		if m.mine(from) {
			n++
		}
	}
	return n
}

// truth is the place of the message for which ordinal k stands in a generation, by
// definition: from the base and the log alone.
func (m *ringModel) truth(s *modelState, gen, k uint8) (place uint8, ok bool) {
	b := s.bases[gen]
	if k < b.ordinal {
		return 0, false
	}
	left := k - b.ordinal
	for place = b.place; int(place) < len(m.log); place++ {
		if m.mine(place) {
			if left == 0 {
				return place, true
			}
			left--
		}
	}
	return 0, false
}

// walked is the place of ordinal k by c's own walk, which has passed it.
func (m *ringModel) walked(c *modelConsumer, k uint8) (place uint8, ok bool) {
	back := c.n - k
	for place = c.place; place > 0; {
		place--
		if m.mine(place) {
			if back--; back == 0 {
				return place, true
			}
		}
	}
	return 0, false
}

func modelOwner(i int, c *modelConsumer) uint8 { return uint8(i) + 1 | c.life<<2 }

// holder is the living process to which a lease belongs, if there is one.
func (s *modelState) holder(owner uint8) *modelConsumer {
	if owner == 0 {
		return nil
	}
	c := &s.consumers[owner&3-1]
	if c.at == modelDead || c.life != owner>>2 {
		return nil
	}
	return c
}

// revoke notes that a lease is taken from its owner.
func (s *modelState) revoke(w modelWord) {
	if c := s.holder(w.owner); c != nil && w.state == modelLeased {
		c.valid = false
	}
}

// rest is c with nothing loaded.
func (c *modelConsumer) rest(at uint8) {
	*c = modelConsumer{at: at, life: c.life, gen: c.gen, n: c.n, place: c.place}
}

// joinAgain forgets the walk too.
func (c *modelConsumer) joinAgain() { *c = modelConsumer{at: modelJoinBase, life: c.life} }

func (m *ringModel) expand(s *modelState) []modelStep {
	m.steps = m.steps[:0]
	for i := range int(m.consumers) {
		c := &s.consumers[i]
		if c.at == modelDead {
			_, d := m.fork(s, i)
			*d = modelConsumer{at: modelJoinBase, life: c.life + 1}
			m.emit(i, "a newcomer in the dead one's slot")
			continue
		}
		m.consumer(s, i)
		if s.deathsSpent < m.deaths {
			t, d := m.fork(s, i)
			*d = modelConsumer{at: modelDead, life: c.life}
			t.deathsSpent++
			m.emit(i, "dies")
		}
	}
	m.rebase(s)
	return m.steps
}

func (m *ringModel) consumer(s *modelState, i int) {
	switch s.consumers[i].at {
	case modelIdle:
		m.idle(s, i)
	case modelBelow:
		m.stepOver(s, i)
	case modelClaimW0, modelClaimW1, modelClaimW2, modelClaimSwap:
		m.claim(s, i)
	case modelTakeW2, modelTakeW1, modelTakeSwap, modelLateW1:
		m.take(s, i)
	case modelPutW1, modelReloadW1, modelHeldW1:
		m.putW1(s, i)
	case modelPutW2, modelReloadW2, modelHeldW2:
		m.putW2(s, i)
	case modelHolds:
		m.finish(s, i)
		m.nak(s, i)
	case modelNakWait:
		m.nakWait(s, i)
	case modelReleaseSwap:
		m.release(s, i)
	case modelAdvanceW0, modelRaiseFloor, modelReloadFloor:
		m.advance(s, i)
	case modelPassLoad, modelPassSwap:
		m.raisePassed(s, i)
	default:
		m.join(s, i)
	}
}

// idle is the first access of whatever a consumer without a lease may do.
func (m *ringModel) idle(s *modelState, i int) {
	c := &s.consumers[i]
	if int(c.place) < len(m.log) && !m.mine(c.place) {
		_, d := m.fork(s, i)
		d.place++
		m.emit(i, "walks over a message of another topic")
	} else if int(c.place) < len(m.log) {
		if c.n < s.floor+m.room() || m.has(faultNoWindow) {
			_, d := m.fork(s, i)
			d.at, d.k = modelClaimW0, c.n
			m.emit(i, "claim: the window has room")
		}
	}
	if m.behind && c.n < s.floor && int(c.place) < len(m.log) && m.mine(c.place) {
		_, d := m.fork(s, i)
		d.at = modelBelow
		m.emit(i, "walk: it is below the floor")
	}
	for k := c.n - min(m.window, c.n); k < c.n; k++ {
		if _, ok := m.walked(c, k); ok {
			m.look(s, i, k)
		}
	}
	_, d := m.fork(s, i)
	d.at, d.floor, d.raiseTo = modelAdvanceW0, s.floor, s.floor
	m.emit(i, "advance: loads the floor")
	if m.pass && s.floor == c.n {
		_, d := m.fork(s, i)
		d.at = modelPassLoad
		m.emit(i, "pass: the floor is where the walk is")
	}
	if s.gen != c.gen {
		_, d := m.fork(s, i)
		d.joinAgain()
		m.emit(i, "sees another generation")
	}
}

// look loads the w0 of an ordinal that was walked past, for Take and for Release.
func (m *ringModel) look(s *modelState, i int, k uint8) {
	w := m.entry(s, k).w0
	if w.lap != m.lap(k) || w.state == modelFinished {
		return
	}
	t, d := m.fork(s, i)
	d.k, d.word = k, w
	if w.state != modelLeased {
		d.at = modelTakeW2
		m.emit(i, "take: finds an ordinal ready or waiting")
		return
	}
	d.at = modelReleaseSwap
	if s.holder(w.owner) == nil {
		m.emit(i, "release: finds a lease whose owner is dead")
	} else if s.expiriesSpent < m.expiries {
		t.expiriesSpent++
		m.emit(i, "release: finds a lease whose time is over")
	}
}
