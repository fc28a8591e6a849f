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
	aboard      atomic.Int64 // members of the round to come, leader included
	before      int64        // members of the last round; the leader's
}

// A rider is somebody who waits for a round.
type rider struct {
	t    target
	next *rider
	wake chan struct{} // has one token for each time the rider is taken off the list
	lead bool          // it was taken off to lead
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
		if r.last == nil {
			r.first = w
		} else {
			r.last.next = w
		}
		r.last = w
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

// leave takes w off the list, unless somebody did.
func (r *rounds) leave(w *rider) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	var before *rider
	for at := r.first; at != nil; before, at = at, at.next {
		if at != w {
			continue
		}
		if before == nil {
			r.first = w.next
		} else {
			before.next = w.next
		}
		if r.last == w {
			r.last = before
		}
		w.next = nil
		r.aboard.Add(-1)
		return true
	}
	return false
}

// end is the end of a round after which the log is durable as far as that: it wakes who
// need no more, and calls the first of the others to lead. synced is false if there was
// no round because its leader went.
func (r *rounds) end(durable Position, seq uint64, synced bool) {
	var next, served *rider
	r.mu.Lock()
	if synced {
		r.before = r.aboard.Load()
	}
	left, end := int64(0), &served
	all := r.first
	r.first, r.last = nil, nil
	for w := all; w != nil; {
		after := w.next
		w.next = nil
		switch {
		case w.t.end != 0 && durable >= w.t.end || w.t.end == 0 && seq > w.t.seq:
			*end, end = w, &w.next
		case next == nil:
			next, left = w, left+1
		default:
			if r.last == nil {
				r.first = w
			} else {
				r.last.next = w
			}
			r.last, left = w, left+1
		}
		w = after
	}
	r.running = next != nil
	r.aboard.Store(left)
	if next != nil {
		next.lead = true
		next.wake <- struct{}{}
	}
	r.mu.Unlock()
	wakeAll(served)
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
	r.first, r.last = nil, nil
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
