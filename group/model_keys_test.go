//go:build !race && !walqsteps

package group

import (
	"fmt"
	"testing"
)

// The model of docs/adr/0022-ordered-by-key.md: consumers, each in a process of its own,
// and messages of one key, with some between them that have none. Every transition is one
// access to shared memory with what its process concludes from it. What the model of the
// ring shows is taken for granted: that an ordinal is claimed by one swap and finished by
// another, and how the floor rises. Shown is that of the key one ordinal at a time is at
// work, in order, and that nobody sleeps for good while there is something that they could
// claim, unless a process died that may have had to wake them: for that every sleep is
// bounded.

const (
	keyConsumers  = 3
	keyMaxEntries = 8
)

// Where a consumer is: before the access that the name tells.
const (
	keyIdle     = iota
	keyLook     // loads w0 of first
	keyMark     // raises the mark of first
	keyClaim    // swaps w0 of n
	keyFinish   // swaps w0 of n
	keyMarked   // loads the mark of n
	keyFree     // adds to freed
	keyWake     // takes the sleepers' bits
	keyLieDown  // sets its bit
	keyLastLook // loads freed
	keySleep
	keyDead
)

// keyConsumer is a consumer: at is the next ordinal of its walk, first the first of the key
// that it does not know to be finished.
type keyConsumer struct {
	do, at, first uint8
	n             uint8 // what it is about to claim, or works at; 0: nothing
	marked        bool  // it has marked first
	news          bool  // not in its memory: freed is not what it was at its last look
	bit           bool  // it is in the word of those who sleep
	last          bool  // its bit was set before its look
	woke          bool  // of a fault: what the mark said
}

type keyState struct {
	w0        [keyMaxEntries]uint8 // 2*ordinal, and 1 more if it is finished; 0: free
	mark      [keyMaxEntries]uint8
	floor     uint8
	consumers [keyConsumers]keyConsumer
	deaths    uint8
}

type keyFault uint8

const (
	faultNoSecondLook keyFault = 1 << iota // a mark is not followed by a look
	faultMarkFirst                         // who finishes loads the mark before
	faultNoCheck                           // claim whatever the key
	faultNoLastLook                        // sleep without a last look
	faultNoFloor                           // an entry of a later lap counts as not finished
)

// keyModel makes the transitions. The first ordinal is that of the first lap; in the log a
// k is a message with the key, a dot one without.
type keyModel struct {
	log                string
	entries, consumers uint8
	deaths             uint8
	fault              keyFault
	steps              []keyStep
}

type keyStep struct {
	next        keyState
	at, n       uint8
	what, wrong string
}

func (s keyStep) String() string {
	return fmt.Sprintf("\n  the one before %d %s %d", s.at, s.what, s.n)
}

func (m *keyModel) has(f keyFault) bool { return m.fault&f != 0 }

func (m *keyModel) end() uint8 { return m.entries + uint8(len(m.log)) }

func (m *keyModel) keyed(n uint8) bool { return m.log[n-m.entries] == 'k' }

func (m *keyModel) start() (s keyState) {
	s.floor = m.entries
	for i := range s.consumers {
		s.consumers[i].at = m.entries
		if uint8(i) >= m.consumers {
			s.consumers[i] = keyConsumer{do: keyDead}
		}
	}
	return s
}

func (m *keyModel) finished(s *keyState, n uint8) bool {
	return s.w0[n%m.entries] == 2*n+1 || n < s.floor && !m.has(faultNoFloor)
}

// inLine is the first of the key, from n on, that c has walked past; 0: there is none.
func (m *keyModel) inLine(c *keyConsumer, n uint8) uint8 {
	for n = max(n, m.entries); n < c.at; n++ {
		if m.keyed(n) {
			return n
		}
	}
	return 0
}

func (m *keyModel) emit(s *keyState, i int, what string, n uint8, change func(*keyState, *keyConsumer)) {
	m.steps = append(m.steps, keyStep{next: *s, at: s.consumers[i].at, n: n, what: what})
	t := &m.steps[len(m.steps)-1].next
	change(t, &t.consumers[i])
}

func (m *keyModel) expand(s *keyState) []keyStep {
	m.steps = m.steps[:0]
	for i := range s.consumers {
		c := &s.consumers[i]
		if c.do == keyDead {
			continue
		}
		m.consumer(s, i, c)
		if c.do == keyIdle && c.n == 0 && !c.last {
			m.emit(s, i, "wants no more", 0, func(_ *keyState, d *keyConsumer) { *d = keyConsumer{do: keyDead} })
		}
		if s.deaths < m.deaths {
			m.emit(s, i, "dies", 0, func(t *keyState, d *keyConsumer) {
				t.deaths++
				if w := &t.w0[d.n%m.entries]; d.n != 0 && *w == 2*d.n {
					*w = 0 // another sees it, and takes it
				}
				*d = keyConsumer{do: keyDead}
			})
		}
	}
	return m.steps
}

func (m *keyModel) consumer(s *keyState, i int, c *keyConsumer) {
	switch c.do {
	case keyIdle:
		m.idle(s, i, c)
	case keyLook:
		m.look(s, i, c)
	case keyMark:
		m.mark(s, i)
	case keyClaim:
		m.claim(s, i, c.n)
	case keyFinish, keyMarked, keyFree, keyWake:
		m.finish(s, i, c.n)
	case keyLieDown:
		m.emit(s, i, "sets its bit", 0, func(_ *keyState, d *keyConsumer) {
			d.do, d.bit, d.last = keyLastLook, true, true
			if m.has(faultNoLastLook) {
				d.do, d.last = keySleep, false
			}
		})
	case keyLastLook:
		m.emit(s, i, "looks for the last time", 0, func(_ *keyState, d *keyConsumer) { d.do, d.news = keyLook, false })
	case keySleep:
		if !c.bit {
			m.emit(s, i, "is woken", 0, func(_ *keyState, d *keyConsumer) { d.do = keyIdle })
		}
	}
}

// idle is what a consumer begins: to end its work, to look since something was freed, to
// walk on, or to sleep.
func (m *keyModel) idle(s *keyState, i int, c *keyConsumer) {
	switch {
	case c.n != 0:
		m.emit(s, i, "has done its work", c.n, func(_ *keyState, d *keyConsumer) {
			d.do = keyFinish
			if m.has(faultMarkFirst) {
				d.do = keyMarked
			}
		})
	case c.news:
		m.emit(s, i, "sees that something was freed", 0, func(_ *keyState, d *keyConsumer) { d.do, d.news = keyLook, false })
	case c.at < m.end() && c.at < s.floor+m.entries-1:
		m.emit(s, i, "walks over", c.at, func(t *keyState, d *keyConsumer) {
			n := d.at
			d.at++
			if n >= t.floor {
				d.do = keyLook
				if !m.keyed(n) || m.has(faultNoCheck) {
					d.do, d.n = keyClaim, n
				}
			}
		})
	case c.last:
		m.emit(s, i, "sleeps", 0, func(_ *keyState, d *keyConsumer) { d.do, d.last = keySleep, false })
	default:
		m.emit(s, i, "has nothing to do", 0, func(_ *keyState, d *keyConsumer) { d.do = keyLieDown })
	}
}

// look goes over what is finished of the key to what is not, and there waits or claims it.
func (m *keyModel) look(s *keyState, i int, c *keyConsumer) {
	n := m.inLine(c, c.first)
	what, change := "finds it finished:", func(_ *keyState, d *keyConsumer) { d.first, d.marked = n+1, false }
	switch w := s.w0[n%m.entries]; {
	case n == 0:
		what, change = "finds none of the key", func(_ *keyState, d *keyConsumer) { d.do = keyIdle }
	case m.finished(s, n):
	case w < 2*n:
		what, change = "finds nobody at", func(_ *keyState, d *keyConsumer) {
			d.do = keyClaim
			if d.n != 0 { // it has work already, and comes back
				d.do, d.news = keyIdle, true
			} else {
				d.n = n
			}
		}
	case c.marked || m.inLine(c, n+1) == 0:
		what, change = "leaves to another", func(_ *keyState, d *keyConsumer) { d.do = keyIdle }
	default:
		what, change = "has to wait for", func(_ *keyState, d *keyConsumer) { d.first, d.do = n, keyMark }
	}
	m.emit(s, i, what, n, change)
}

func (m *keyModel) mark(s *keyState, i int) {
	n := s.consumers[i].first
	m.emit(s, i, "marks", n, func(t *keyState, d *keyConsumer) {
		mark := &t.mark[n%m.entries]
		*mark = max(*mark, n)
		d.marked, d.do = true, keyLook
		if m.has(faultNoSecondLook) {
			d.do = keyIdle
		}
	})
}

func (m *keyModel) claim(s *keyState, i int, n uint8) {
	back := func(d *keyConsumer) {
		d.do = keyIdle
		if m.keyed(n) && !m.has(faultNoCheck) {
			d.do = keyLook // it may have to mark what another claimed, or what it did itself
		}
	}
	if w := s.w0[n%m.entries]; w >= 2*n || n < s.floor {
		m.emit(s, i, "finds another has", n, func(_ *keyState, d *keyConsumer) {
			d.n = 0
			back(d)
		})
		return
	}
	m.emit(s, i, "claims", n, func(t *keyState, d *keyConsumer) {
		t.w0[n%m.entries] = 2 * n
		d.bit, d.last = false, false // it gets up
		back(d)
	})
	for k := m.entries; k < n; k++ {
		if done := s.w0[k%m.entries] == 2*k+1 || k < s.floor; m.keyed(n) && m.keyed(k) && !done {
			m.steps[len(m.steps)-1].wrong = fmt.Sprintf("%d is claimed, but %d, of the same key, is not finished", n, k)
		}
	}
}

func (m *keyModel) finish(s *keyState, i int, n uint8) {
	switch s.consumers[i].do {
	case keyFinish:
		m.emit(s, i, "finishes", n, func(t *keyState, d *keyConsumer) {
			t.w0[n%m.entries] = 2*n + 1
			m.raise(t)
			d.do = keyMarked
			if m.has(faultMarkFirst) {
				d.n, d.do = 0, keyIdle
				if d.woke {
					d.woke, d.do = false, keyFree
				}
			}
		})
	case keyMarked:
		m.emit(s, i, "loads the mark of", n, func(t *keyState, d *keyConsumer) {
			marked := t.mark[n%m.entries] >= n
			switch {
			case m.has(faultMarkFirst):
				d.woke, d.do = marked, keyFinish
			case marked:
				d.n, d.do = 0, keyFree
			default:
				d.n, d.do = 0, keyIdle
			}
			if m.keyed(n) && d.do == keyIdle {
				d.do = keyLook // what it knows by itself it need not be told
			}
		})
	case keyFree:
		m.emit(s, i, "adds to freed", 0, func(t *keyState, d *keyConsumer) {
			for j := range m.consumers {
				t.consumers[j].news = t.consumers[j].do != keyDead
			}
			d.do = keyWake
		})
	case keyWake:
		m.emit(s, i, "wakes all", 0, func(t *keyState, d *keyConsumer) {
			for j := range t.consumers {
				t.consumers[j].bit = false
			}
			d.do = keyIdle
		})
	}
}

// raise raises the floor, and wakes who has to wait for that.
func (m *keyModel) raise(t *keyState) {
	was := t.floor
	for t.floor < m.end() && t.w0[t.floor%m.entries] == 2*t.floor+1 {
		t.floor++
	}
	for i := range t.consumers {
		c := &t.consumers[i]
		if t.floor > was && c.at < m.end() && c.at >= was+m.entries-1 {
			c.bit = false
		}
	}
}

// lost tells that somebody sleeps although there is something to claim for them, and that
// nobody is about to do anything: the others sleep, work for long, or came to an end.
func (m *keyModel) lost(s *keyState) (lost bool) {
	first := m.entries
	for first < m.end() && (!m.keyed(first) || s.w0[first%m.entries] == 2*first+1 || first < s.floor) {
		first++
	}
	for i := range s.consumers {
		switch c := &s.consumers[i]; {
		case c.do == keyDead, c.do == keyIdle && c.n != 0:
		case c.do == keySleep && c.bit:
			lost = lost || first < c.at && s.w0[first%m.entries] < 2*first
		default:
			return false
		}
	}
	return lost && s.deaths == 0
}

// sort puts the consumers in an order: which of the equal processes does what makes no
// difference.
func (s *keyState) sort() {
	c := &s.consumers
	for _, j := range [...]int{0, 1, 0} {
		if c[j].key() > c[j+1].key() {
			c[j], c[j+1] = c[j+1], c[j]
		}
	}
}

func (c *keyConsumer) key() (k uint64) {
	for _, b := range [...]bool{c.marked, c.news, c.bit, c.last, c.woke} {
		if k <<= 1; b {
			k++
		}
	}
	return k<<32 | uint64(c.do)<<24 | uint64(c.at)<<16 | uint64(c.first)<<8 | uint64(c.n)
}

// explore returns the number of states, and what is wrong with the shortest way to it.
func (m *keyModel) explore(t *testing.T) (states int, wrong string) {
	t.Helper()
	type from struct {
		id   int
		step keyStep
	}
	all, way := []keyState{m.start()}, []from{{}}
	seen := map[keyState]bool{all[0]: true}
	tell := func(wrong string, id int, rest string) string {
		for ; id > 0; id = way[id].id {
			step := way[id].step
			rest = step.String() + rest
		}
		return wrong + rest
	}
	finished := false
	for id := 0; id < len(all); id++ {
		s := all[id]
		if len(all) > modelLimit {
			t.Fatalf("more than %d states: the bounds are too wide", modelLimit)
		}
		if m.lost(&s) {
			return len(all), tell("somebody sleeps who could claim something", id, "")
		}
		finished = finished || s.floor == m.end()
		for _, step := range m.expand(&s) {
			if step.wrong != "" {
				return len(all), tell(step.wrong, id, step.String())
			}
			if step.next.sort(); seen[step.next] {
				continue
			}
			seen[step.next] = true
			all = append(all, step.next)
			step.next = keyState{}
			way = append(way, from{id, step})
		}
	}
	if !finished {
		return len(all), "nothing is ever finished"
	}
	return len(all), ""
}

func TestModelOfTheOrderByKey(t *testing.T) {
	for _, m := range []keyModel{
		{log: "kkkk", entries: 8, consumers: 2},
		{log: "kkkkk", entries: 3, consumers: 2},
		{log: "k.kk", entries: 4, consumers: 2, deaths: 1},
		{log: "kk", entries: 8, consumers: 3},
		{log: "kkk", entries: 3, consumers: 3},
	} {
		t.Run(fmt.Sprintf("%s, %d consumers, %d entries", m.log, m.consumers, m.entries), func(t *testing.T) {
			states, wrong := m.explore(t)
			t.Logf("%d states", states)
			if wrong != "" {
				t.Error(wrong)
			}
		})
	}
}

// Without the fault the same bounds are explored without a complaint.
func TestModelOfTheOrderByKeyFindsPlantedFaults(t *testing.T) {
	for name, m := range map[string]keyModel{
		"no look behind the mark":        {log: "kkk", entries: 8, consumers: 2, fault: faultNoSecondLook},
		"the mark loaded before the end": {log: "kk", entries: 8, consumers: 2, fault: faultMarkFirst},
		"no look at the key":             {log: "kk", entries: 8, consumers: 2, fault: faultNoCheck},
		"no last look":                   {log: "kk", entries: 8, consumers: 2, fault: faultNoLastLook},
		"no look at the floor":           {log: "kkkkk", entries: 3, consumers: 2, fault: faultNoFloor},
	} {
		t.Run(name, func(t *testing.T) {
			states, wrong := m.explore(t)
			if wrong == "" {
				t.Fatalf("not found in %d states", states)
			}
			m.fault = 0
			if _, wrong := m.explore(t); wrong != "" {
				t.Errorf("found without the fault: %s", wrong)
			}
			t.Logf("%d states: %s", states, wrong)
		})
	}
}
