//go:build !race && !walqsteps

package group

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// The model of docs/adr/0023-the-delay-file.md: two consumers, a ring of one entry, and a
// delay file of one block with two cells. As in the model of the ring, a transition is one
// access to shared memory; processes may be overtaken, and die, between any two. Of the
// ring only what moving needs is here: joining and counting are explored there. Time does
// not exist: what waits may be due, a bound that is not "never" may be over, and a lease
// of a living process may end at any moment.

const (
	delayMessages = 2
	delayCells    = 2
	delayProcs    = 2
	delayGens     = 2
	noMessage     = 0xff
)

type dmWord struct {
	state      State
	lap, owner uint8
	n          uint8 // deliveries
}

// dmTime is w2: whose it is, and the place of a cell if it says one.
type dmTime struct {
	lap, n       uint8
	place        bool
	cell, cellAt uint8
}

// dmCell is a cell; truth is not in memory: the message that its owner has for it.
type dmCell struct {
	w     dmWord
	msg   uint8
	truth uint8
}

type dmProc struct {
	at, life, gen uint8
	walk          uint8 // the message that it would claim next
	word          dmWord
	time          dmTime
	msg           uint8
	cell          uint8 // of the lease, or that is filled
	inCell        bool  // the lease is a cell's
	pending       dmWord
	// A look at the block.
	seen        uint8
	busy, found bool
	pick        uint8
	lost        [delayCells]dmWord // pending cells of the dead
	helped      bool
}

type dmRebaser struct {
	at, cell, lap, from uint8
}

type dmState struct {
	ring    dmWord
	time    dmTime
	cells   [delayCells]dmCell
	covered bool // the bound is not "never"
	version uint8
	floor   uint8 // messages below are done with, as far as the ring knows
	procs   [delayProcs]dmProc
	gen     uint8
	base    [delayGens]struct{ lap, msg uint8 }
	rebaser dmRebaser
	done    [delayMessages]bool
	again   [delayMessages]bool // finished since the base counts
	deaths, expiries, moves, naks,
	rebases uint8
}

type dmFault uint32

const (
	dmDropBlind     dmFault = 1 << iota // pending cells of the dead are dropped without a look at the ring
	dmDropLiving                        // those of the living are settled as well
	dmWaitFirst                         // the cell waits before the entry is moving
	dmMovedAtOnce                       // the entry goes from leased to moved
	dmNoVersion                         // covering a block does not change the version
	dmCoverFirst                        // the block is covered before the cell is pending
	dmFlushMoving                       // what is moving is finished by a flush, as if it were moved
	dmHelpReady                         // who finds the cell of a move not pending makes the entry ready
	dmPlainPlace                        // the place is stored, not swapped
	dmPurgePending                      // a base frees pending cells of the living
	dmNoPurge                           // a base leaves cells that the ring brings again
	dmMoveLostLease                     // a move goes on without its lease
)

type delayModel struct {
	messages                               uint8
	deaths, expiries, moves, naks, rebases uint8
	fault                                  dmFault
	draft                                  dmState
	steps                                  []dmStep
	wrong                                  string
}

type dmStep struct {
	next        dmState
	what, wrong string
}

func (m *delayModel) has(f dmFault) bool { return m.fault&f != 0 }

func (m *delayModel) start() (s dmState) {
	s.base[0] = struct{ lap, msg uint8 }{1, 0}
	for i := range s.cells {
		s.cells[i].msg, s.cells[i].truth = noMessage, noMessage
	}
	for i := range s.procs {
		s.procs[i] = dmProc{at: dmIdle}
	}
	return s
}

func (m *delayModel) emit(format string, args ...any) {
	m.steps = append(m.steps, dmStep{m.draft, fmt.Sprintf(format, args...), m.wrong})
}

func (m *delayModel) breaks(format string, args ...any) {
	if m.wrong == "" {
		m.wrong = fmt.Sprintf(format, args...)
	}
}

// lapOf is the lap of a message in a generation, and back.
func (s *dmState) lapOf(gen, msg uint8) uint8 { return s.base[gen].lap + msg - s.base[gen].msg }

func (s *dmState) msgOf(gen, lap uint8) uint8 { return s.base[gen].msg + lap - s.base[gen].lap }

func dmOwner(i int, p *dmProc) uint8 { return uint8(i) + 1 | p.life<<2 }

func (s *dmState) lives(owner uint8) bool {
	if owner == 0 {
		return false
	}
	p := &s.procs[owner&3-1]
	return p.at != dmDead && p.life == owner>>2
}

func (m *delayModel) settled(s *dmState) bool {
	for _, ok := range s.done[:m.messages] {
		if !ok {
			return false
		}
	}
	for i := range s.procs {
		if s.procs[i].at != dmIdle || s.procs[i].gen != s.gen {
			return false
		}
	}
	return s.floor == m.messages && s.rebaser.at == 0
}

// rebase is who makes another base, from the floor on.
func (m *delayModel) rebase(s *dmState) {
	t, _ := m.fork(s, 0)
	r := &t.rebaser
	switch r.at {
	case 0:
		if s.rebases == m.rebases {
			return
		}
		t.rebases++
		r.at, r.from = 1, t.floor
		m.emit("the rebaser loads the floor")
	case 1:
		if w := t.ring; w.state == Finished && w.lap >= t.base[t.gen].lap && t.msgOf(t.gen, w.lap) >= r.from {
			r.from = t.msgOf(t.gen, w.lap) + 1 // the mark
		}
		t.ring = dmWord{Finished, t.ring.lap + 2, 0, 0}
		r.at, r.lap = 2, t.ring.lap
		m.emit("the rebaser resets the entry")
	case 2:
		c := &t.cells[r.cell]
		switch w := c.w; {
		case m.has(dmNoPurge):
		case w.state == Pending && m.has(dmPurgePending):
			c.w = dmWord{Finished, w.lap, 0, 0}
		case w.state == Pending:
			c.w.state = Dropped
		case w.state != Finished && w.state != Dropped && c.msg >= r.from:
			c.w = dmWord{Finished, w.lap, 0, 0}
		}
		t.covered = true
		t.version++
		if r.cell++; r.cell == delayCells {
			r.at = 3
		}
		m.emit("the rebaser purges a cell")
	case 3:
		t.gen++
		t.base[t.gen] = struct{ lap, msg uint8 }{r.lap + 1, r.from}
		t.floor, t.again = r.from, [delayMessages]bool{}
		*r = dmRebaser{}
		m.emit("the base counts")
	}
}

// explore goes through all states, as of the model of the ring.
func (m *delayModel) explore(t *testing.T, limit int) (states int, wrong string) {
	t.Helper()
	ids := map[dmState]int32{}
	var all []dmState
	var parent []int32
	var edges [][]int32
	add := func(s dmState, from int32) int32 {
		id, ok := ids[s]
		if !ok {
			id = int32(len(all))
			ids[s] = id
			all, parent, edges = append(all, s), append(parent, from), append(edges, nil)
		}
		return id
	}
	trace := func(id int32, last string) string {
		var way []string
		for ; parent[id] >= 0; id = parent[id] {
			for _, st := range m.expand(&all[parent[id]]) {
				if st.next == all[id] {
					way = append(way, st.what)
					break
				}
			}
		}
		var b strings.Builder
		for i := len(way) - 1; i >= 0; i-- {
			b.WriteString("\n  " + way[i])
		}
		return b.String() + "\n  " + last
	}
	add(m.start(), -1)
	for id := int32(0); int(id) < len(all); id++ {
		if len(all) > limit {
			t.Fatalf("more than %d states: the bounds are too wide", limit)
		}
		s := all[id]
		for _, st := range m.expand(&s) {
			if st.wrong != "" {
				return len(all), st.wrong + trace(id, st.what)
			}
			edges[id] = append(edges[id], add(st.next, id))
		}
	}
	good := make([]bool, len(all))
	for changed := true; changed; {
		changed = false
		for id := len(all) - 1; id >= 0; id-- {
			if good[id] {
				continue
			}
			good[id] = m.settled(&all[id])
			for _, to := range edges[id] {
				good[id] = good[id] || good[to]
			}
			changed = changed || good[id]
		}
	}
	for id, ok := range good {
		if !ok {
			return len(all), fmt.Sprintf("not all can be finished any more%s", trace(int32(id), fmt.Sprintf("%+v", all[id])))
		}
	}
	return len(all), ""
}

const delayModelLimit = 2_000_000

// TestModelOfTheDelayFile explores the protocol. With WALQ_MODEL=big it takes half a
// minute more, and 2 GiB.
func TestModelOfTheDelayFile(t *testing.T) {
	big := os.Getenv("WALQ_MODEL") == "big"
	for _, c := range []struct {
		name string
		m    delayModel
	}{
		{"a death", delayModel{messages: 2, deaths: 1, moves: 1}},
		{"two moves and a death", delayModel{messages: 2, deaths: 1, moves: 2}},
		{"a lease that ends, and a death", delayModel{messages: 2, deaths: 1, expiries: 1, moves: 1}},
		{"two moves, and a lease that ends", delayModel{messages: 2, expiries: 1, moves: 2}},
		{"sent back from the cell", delayModel{messages: 2, deaths: 1, moves: 1, naks: 1}},
		{"a base", delayModel{messages: 2, moves: 1, rebases: 1}},
		{"a base and a death", delayModel{messages: 1, deaths: 1, moves: 1, rebases: 1}},
	} {
		if c.m.rebases+c.m.deaths > 1 && !big {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			states, wrong := c.m.explore(t, delayModelLimit)
			t.Logf("%d states", states)
			if wrong != "" {
				t.Error(wrong)
			}
		})
	}
}

// TestModelOfTheDelayFileFindsPlantedFaults plants one mistake at a time. Without it, the
// same bounds would be explored without a complaint; one of them are too wide for that.
func TestModelOfTheDelayFileFindsPlantedFaults(t *testing.T) {
	for _, c := range []struct {
		name string
		m    delayModel
	}{
		{"pending cells dropped blindly", delayModel{messages: 2, deaths: 1, moves: 1, fault: dmDropBlind}},
		{"cells of the living settled", delayModel{messages: 2, moves: 1, fault: dmDropLiving}},
		{"waiting before the entry is moving", delayModel{messages: 2, deaths: 1, moves: 1, fault: dmWaitFirst}},
		{"moved at once", delayModel{messages: 2, deaths: 1, moves: 1, fault: dmMovedAtOnce}},
		{"no version", delayModel{messages: 2, moves: 2, fault: dmNoVersion}},
		{"covered before it is pending", delayModel{messages: 2, moves: 1, fault: dmCoverFirst}},
		{"a flush finishes what is moving", delayModel{messages: 2, deaths: 1, moves: 1, fault: dmFlushMoving}},
		{"help that makes ready", delayModel{messages: 2, moves: 1, fault: dmHelpReady}},
		{"the place stored", delayModel{messages: 2, expiries: 1, moves: 2, fault: dmPlainPlace}},
		{"pending cells freed by a base", delayModel{messages: 2, moves: 2, rebases: 1, fault: dmPurgePending}},
		{"cells left by a base", delayModel{messages: 2, moves: 1, rebases: 1, fault: dmNoPurge}},
		{"a move without its lease", delayModel{messages: 2, expiries: 1, moves: 1, fault: dmMoveLostLease}},
	} {
		t.Run(c.name, func(t *testing.T) {
			states, wrong := c.m.explore(t, delayModelLimit)
			if wrong == "" {
				t.Fatalf("not found in %d states", states)
			}
			t.Logf("%d states: %s", states, wrong)
			sound := c.m
			if sound.fault = 0; c.m.fault == dmPurgePending {
				return
			}
			if _, wrong := sound.explore(t, delayModelLimit); wrong != "" {
				t.Errorf("found without the fault: %s", wrong)
			}
		})
	}
}
