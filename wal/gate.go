package wal

import (
	"sync/atomic"
	"time"
)

// A gate counts the calls that are inside the log, so that Close can wait for
// them and a mapping is given back only when nobody can hold a pointer into it.
//
// It is the counting half of sleepable RCU (Paul McKenney's SRCU): entrants
// count in one of two counters, and a grace period flips which one twice,
// waiting for each to drain. Whoever enters loads shared pointers only after it
// has counted, so an entrant that was late for a flip holds nothing that is
// being given back.
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

// quiesce waits until everyone who is inside now has left once. One caller at
// a time.
func (g *gate) quiesce() {
	for range 2 {
		old := g.phase.Load() & 1
		g.phase.Store(old ^ 1)
		g.drain(old)
	}
}

func (g *gate) drain(ticket uint32) {
	for pause := time.Microsecond; g.inside[ticket].n.Load() != 0; pause = min(2*pause, time.Millisecond) {
		time.Sleep(pause)
	}
}
