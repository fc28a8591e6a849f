//go:build walqsteps

package walq

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/walq/walq/internal/step"
)

// stopAtClaim has the group take a message and stop before it has said when its lease
// ends. goOn lets it go on, and returns what it got.
func stopAtClaim(t *testing.T, g *Group) (goOn func() *Delivery) {
	t.Helper()
	var once atomic.Bool
	reached, on, out := make(chan struct{}), make(chan struct{}), make(chan *Delivery, 1)
	off := step.Set(step.GroupSeqStored, func() error {
		if once.CompareAndSwap(false, true) {
			close(reached)
			<-on
		}
		return nil
	})
	go func() {
		d, err := g.TryReceive(t.Context())
		if err != nil {
			t.Error(err)
		}
		out <- d
	}()
	<-reached
	done := false
	goOn = func() *Delivery {
		if done {
			return nil
		}
		done = true
		close(on)
		off()
		return <-out
	}
	t.Cleanup(func() { goOn() }) // before the queue is closed, which waits for it
	return goOn
}

func TestALeaseWhoseEndIsNotKnownIsBorneWithForAWhile(t *testing.T) {
	f, q, q2 := timed(t)
	a, other := timedGroup(t, q, GroupOptions{Lease: 30 * time.Second}), timedGroup(t, q2, GroupOptions{})
	publish(t, q, Draft{})
	goOn := stopAtClaim(t, a)
	f.pass(time.Hour)
	gotNothing(t, other, deathWatch) // it begins to watch only now
	f.pass(shyLease - 5*tick)
	gotNothing(t, other, 5*tick)
	f.suspend(time.Hour) // the holder could do nothing either, but for a tick
	gotNothing(t, other, 4*tick)
	f.pass(3 * tick)
	gotNothing(t, other, tick)
	f.pass(tick)
	second := got(t, other, 2)
	late := goOn()
	wantLost(t, late)
	finish(t, second)
	f.pass(time.Hour)
	gotNothing(t, other, time.Second)
}

func TestAHolderWhoSaysInTimeWhenItsLeaseEndsKeepsIt(t *testing.T) {
	f, q, q2 := timed(t)
	a, other := timedGroup(t, q, GroupOptions{Lease: 30 * time.Second}), timedGroup(t, q2, GroupOptions{})
	publish(t, q, Draft{})
	goOn := stopAtClaim(t, a)
	gotNothing(t, other, deathWatch)
	f.pass(shyLease - tick)
	gotNothing(t, other, tick)
	d := goOn()
	f.pass(29 * time.Second) // 30 s since it looked at the clock, before it stopped
	gotNothing(t, other, 2*tick)
	f.pass(tick)
	gotNothing(t, other, tick)
	finish(t, d)
	gotNothing(t, other, 0)
}

// What was watched of one lease says nothing about the next.
func TestAnotherLeaseWhoseEndIsNotKnownIsBorneWithAnew(t *testing.T) {
	f, q, q2 := timed(t)
	a, other := timedGroup(t, q, GroupOptions{}), timedGroup(t, q2, GroupOptions{})
	publish(t, q, Draft{})
	first := stopAtClaim(t, a)
	gotNothing(t, other, deathWatch)
	f.pass(shyLease - tick)
	if err := first().Nak(0); err != nil {
		t.Fatal(err)
	}
	f.timers = nil // a checkpoint would wait for who is stopped
	var once atomic.Bool
	reached, on, out := make(chan struct{}), make(chan struct{}), make(chan *Delivery, 1)
	defer step.Set(step.GroupTaken, func() error {
		if once.CompareAndSwap(false, true) {
			close(reached)
			<-on
		}
		return nil
	})()
	goOn := sync.OnceFunc(func() { close(on) })
	defer goOn() // before the queue is closed, which waits for it
	go func() { d, _ := a.TryReceive(t.Context()); out <- d }()
	<-reached
	f.pass(tick)
	gotNothing(t, other, deathWatch)
	f.pass(shyLease - tick)
	gotNothing(t, other, tick)
	goOn()
	finish(t, <-out)
}
