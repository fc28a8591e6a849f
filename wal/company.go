package wal

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/walq/walq/internal/spin"
)

// rounds are the turns in which those in one handle who wait to be durable sync. One
// leads a round, the others ride along asleep. At its end only those wake whom it served,
// and one more, who is called to lead the next: a goroutine that is woken for nothing
// costs as much as an append.
type rounds struct {
	mu          sync.Mutex
	running     bool // somebody leads, or was called to
	closed      bool // nobody may ride any more
	first, last *rider
	riding      int64        // riders on the list
	aboard      atomic.Int64 // members of the round to come, leader included
	before      int64        // members of the last round; the leader's
}

// A rider is somebody who waits for a round.
type rider struct {
	t          target
	prev, next *rider        // on the list, or, only next, on that of whom to wake
	listed     bool          // it is on the list of the rounds, under their lock
	wake       chan struct{} // has one token for each time the rider is taken off the list
	lead       bool          // it was taken off to lead
}

var riders = sync.Pool{New: func() any { return &rider{wake: make(chan struct{}, 1)} }}

// enrol makes the caller a member of the next round. Either it leads that, or it waits
// in ride. With neither the log is closed.
func (r *rounds) enrol(t target, unlessClosed bool) (lead bool, w *rider) {
	w = riders.Get().(*rider)
	r.mu.Lock()
	lead = !r.running
	switch {
	case r.closed && unlessClosed:
		r.mu.Unlock()
		riders.Put(w)
		return false, nil
	case lead:
		r.running = true
	default:
		w.t = t
		r.add(w)
	}
	r.aboard.Add(1)
	r.mu.Unlock()
	if lead {
		riders.Put(w)
		w = nil
	}
	return lead, w
}

// ride waits until the rider is woken or ctx ends. It reports whether the caller was
// called to lead.
func (r *rounds) ride(ctx context.Context, w *rider) (lead bool) {
	if w == nil {
		return false
	}
	if done := ctx.Done(); done == nil {
		<-w.wake
	} else {
		select {
		case <-w.wake:
		case <-done:
			if !r.leave(w) {
				<-w.wake // it was taken off the list before
			}
		}
	}
	lead, w.lead = w.lead, false
	riders.Put(w)
	return lead
}

// add puts w at the end of the list. The caller holds mu, as for remove and callNext.
func (r *rounds) add(w *rider) {
	w.prev, w.listed = r.last, true
	if r.last == nil {
		r.first = w
	} else {
		r.last.next = w
	}
	r.last = w
	r.riding++
}

// remove takes w off the list.
func (r *rounds) remove(w *rider) {
	if w.prev == nil {
		r.first = w.next
	} else {
		w.prev.next = w.next
	}
	if w.next == nil {
		r.last = w.prev
	} else {
		w.next.prev = w.prev
	}
	w.prev, w.next, w.listed = nil, nil, false
	r.riding--
}

// leave takes w off the list, unless somebody did.
func (r *rounds) leave(w *rider) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !w.listed {
		return false
	}
	r.remove(w)
	r.aboard.Add(-1)
	return true
}

// end is the end of a round after which the log is durable as far as that: it wakes who
// need no more, and calls the first of the others to lead.
func (r *rounds) end(durable Position, seq uint64) {
	var served *rider
	r.mu.Lock()
	r.before = r.aboard.Load()
	end := &served
	for w := r.first; w != nil; {
		after := w.next
		if w.t.end != 0 && durable >= w.t.end || w.t.end == 0 && seq > w.t.seq {
			r.remove(w)
			*end, end = w, &w.next
		}
		w = after
	}
	r.callNext()
	r.mu.Unlock()
	wakeAll(served)
}

// pass is for who was called to lead and goes instead: another one is called. It looks at
// no more than that one, for all may go at once.
func (r *rounds) pass() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.callNext()
}

// callNext calls the first on the list to lead.
func (r *rounds) callNext() {
	next := r.first
	r.running = next != nil
	r.aboard.Store(r.riding)
	if next != nil {
		r.remove(next)
		next.lead = true
		next.wake <- struct{}{}
	}
}

func wakeAll(w *rider) {
	for w != nil {
		next := w.next
		w.next = nil // it is its owner's again with the token
		w.wake <- struct{}{}
		w = next
	}
}

// close wakes everyone, and lets nobody ride any more.
func (r *rounds) close() {
	r.mu.Lock()
	r.closed = true
	all := r.first
	for w := all; w != nil; w = w.next {
		w.prev, w.listed = nil, false
	}
	r.first, r.last, r.riding = nil, nil, 0
	r.mu.Unlock()
	wakeAll(all)
}

// awaitCompany lets those who rode along last time come aboard again. Alone
// last time, alone now: a lone appender never waits.
func (r *rounds) awaitCompany() {
	if r.aboard.Load() >= r.before {
		return
	}
	for start := time.Now(); r.aboard.Load() < r.before && time.Since(start) < gatherTime; {
		spin.Wait()
	}
}
