package wal

import (
	"sync/atomic"
	"time"
)

// A gate counts the calls that are inside the log, so that Close can wait for
// them and a mapping is given back only when nobody can hold a pointer into it.
//
// It is the counting half of sleepable RCU (Paul McKenney's SRCU): entrants
// count in one of two counters, and a grace period flips which one twice, and
// each has to drain. Whoever enters loads shared pointers only after it
// has counted, so an entrant that was late for a flip holds nothing that is
// being given back.
//
// An append in a lane is not counted: see lane.
type gate struct {
	phase  atomic.Uint32
	closed atomic.Bool
	_      [48]byte // the counters change with every call, the flags never
	inside [2]struct {
		n atomic.Int64
		_ [56]byte
	}
}

// enter counts the caller in; false means that the gate is closed.
func (g *gate) enter() (ticket uint32, ok bool) {
	ticket = g.phase.Load() & 1
	g.inside[ticket].n.Add(1)
	if g.closed.Load() {
		g.exit(ticket)
		return 0, false
	}
	return ticket, true
}

func (g *gate) exit(ticket uint32) { g.inside[ticket].n.Add(-1) }

// close lets nobody in any more. It reports whether it was this call that
// closed the gate.
func (g *gate) close() bool { return g.closed.CompareAndSwap(false, true) }

// drainAll waits until everyone is out of a closed gate.
func (g *gate) drainAll() {
	g.drain(0)
	g.drain(1)
}

// A grace is a grace period under way: it is over when everyone who was inside
// when it began has left once. One at a time.
type grace struct {
	flips  int
	ticket uint32 // of the counter that has to drain
}

// begin starts a grace period.
func (g *gate) begin() grace { return g.flip(1) }

func (g *gate) flip(n int) grace {
	old := g.phase.Load() & 1
	g.phase.Store(old ^ 1)
	return grace{n, old}
}

// over reports whether the grace period is over, and moves it on. It never
// waits: somebody may stay inside for long.
func (g *gate) over(p *grace) bool {
	for g.inside[p.ticket].n.Load() == 0 {
		if p.flips == 2 {
			return true
		}
		*p = g.flip(2)
	}
	return false
}

func (g *gate) drain(ticket uint32) {
	for pause := time.Microsecond; g.inside[ticket].n.Load() != 0; pause = min(2*pause, time.Millisecond) {
		time.Sleep(pause)
	}
}
