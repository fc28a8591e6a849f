package walq

import (
	"context"
	"errors"
	"iter"
	"runtime"
	"sync"
	"time"

	"github.com/walq/walq/wal"
)

// Receive gives the next message to work on, waiting for it as long as ctx allows.
//
// Errors: ctx.Err(), ErrClosed, a CorruptError, and a GapError, which comes once in one
// of the processes, when messages were trimmed that the group had not finished;
// ErrDeadLetter, if a message is to be given up and cannot: it is tried again.
func (g *Group) Receive(ctx context.Context) (*Delivery, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if d, err := g.nextAhead(); d != nil || err != nil {
		return d, err
	}
	return g.await(ctx)
}

// await is Receive, but for what was read ahead.
func (g *Group) await(ctx context.Context) (*Delivery, error) {
	w := groupWaiter{g: g}
	defer w.getUp()
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		d, err := g.try(ctx, w.bed != nil)
		if d != nil || err != nil {
			return d, err
		}
		if err := w.wait(ctx); err != nil {
			return nil, err
		}
	}
}

// Fetch gives up to max messages: it waits for the first as Receive does, and takes
// what else is there at once.
func (g *Group) Fetch(ctx context.Context, max int) ([]*Delivery, error) {
	if max <= 0 {
		return nil, ctx.Err()
	}
	d, err := g.Receive(ctx)
	if err != nil {
		return nil, err
	}
	all := []*Delivery{d}
	for len(all) < max {
		d, err := g.try(ctx, false)
		if gap := new(GapError); errors.As(err, &gap) {
			g.tellLater(gap)
		}
		if d == nil || err != nil {
			break // any other error stays, and comes with the next call
		}
		all = append(all, d)
	}
	return all, nil
}

// All goes over the messages and waits for more: it ends only when the loop is left, or
// with an error, which it yields last; if ctx ends that is ctx.Err(). Each message is
// to be finished by its Ack.
func (g *Group) All(ctx context.Context) iter.Seq2[*Delivery, error] {
	return func(yield func(*Delivery, error) bool) {
		for {
			d, err := g.Receive(ctx)
			if !yield(d, err) || err != nil {
				return
			}
		}
	}
}

// Consume calls fn for each message, GroupOptions.Handlers calls at once. If fn returns
// nil the message is finished; if an error, it is sent back, after the group's back-off.
// fn may end the delivery itself. While fn runs the lease is extended.
//
// When ctx ends no more messages are taken; Consume waits for the calls that are under
// way, whose context goes on, and returns nil. Any other end is an error of Receive. A
// GapError and ErrDeadLetter do not end it: they go to Options.Logger.
func (g *Group) Consume(ctx context.Context, fn func(context.Context, *Delivery) error) error {
	return g.handleAll(ctx, fn, g.Receive)
}

// handleAll calls fn for each message that receive gives, in as many goroutines as the
// group has handlers. Each ends when receive gives nothing, or ctx ends; an error ends all.
func (g *Group) handleAll(ctx context.Context, fn func(context.Context, *Delivery) error, receive func(context.Context) (*Delivery, error)) error {
	inner, stop := context.WithCancel(ctx)
	defer stop()
	var all sync.WaitGroup
	errs := make([]error, g.handlers())
	for i := range errs {
		all.Go(func() {
			defer func() {
				if errs[i] != nil {
					stop()
				}
			}()
			errs[i] = errGoexit // until it returns
			errs[i] = g.handleEach(inner, context.WithoutCancel(ctx), fn, receive)
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// errGoexit: fn left by runtime.Goexit, as a test does that fails. Others must not wait for it.
var errGoexit = errors.New("walq: a handler ended its goroutine; its message comes again when the lease is over")

func (g *Group) handlers() int { return max(g.o.Handlers, 1) }

// handleEach is one of the goroutines of handleAll.
func (g *Group) handleEach(ctx, work context.Context, fn func(context.Context, *Delivery) error, receive func(context.Context) (*Delivery, error)) error {
	for {
		d, err := receive(ctx)
		switch {
		case d != nil:
			if err := g.handle(work, d, fn); err != nil {
				return err
			}
		case g.goesOn(err):
		case err == nil || ctx.Err() != nil:
			return nil
		default:
			return err
		}
	}
}

// goesOn reports whether an error of Receive is about one message, or some that are
// gone, so that there is no reason to stop.
func (g *Group) goesOn(err error) bool {
	if !errors.Is(err, ErrTrimmed) && !errors.Is(err, ErrDeadLetter) {
		return false
	}
	if g.q.logger != nil {
		g.q.logger.Warn("walq: a group goes on", "group", g.name, "err", err)
	}
	return true
}

// handle works on one message. Of the errors only those matter that stop the group.
func (g *Group) handle(work context.Context, d *Delivery, fn func(context.Context, *Delivery) error) error {
	end := g.keepLease(d)
	defer end() // if fn does not return
	err := fn(work, d)
	end()
	g.mu.Lock()
	done := d.done
	g.mu.Unlock()
	switch {
	case done:
		err = nil
	case err == nil:
		err = d.Ack()
	default:
		err = d.Nak(g.backOff(d.Attempt()))
	}
	if errors.Is(err, ErrLeaseLost) {
		return nil // it is another's now
	}
	return err
}

// backOff is how long a message waits after it failed for the n-th time.
func (g *Group) backOff(n int) time.Duration {
	steps := g.settings.BackOff
	if len(steps) == 0 {
		return 0
	}
	return steps[min(max(n-1, 0), len(steps)-1)]
}

// keepLease extends the lease until the function that it returns is called.
func (g *Group) keepLease(d *Delivery) (end func()) {
	var mu sync.Mutex // over timer and over
	var over bool
	var timer timer
	every := max(g.settings.Lease/3, time.Millisecond)
	mu.Lock()
	defer mu.Unlock()
	timer = g.q.times.afterFunc(every, func() {
		mu.Lock()
		defer mu.Unlock()
		if !over && d.Extend(0) == nil {
			timer.Reset(every)
		}
	})
	return func() {
		timer.Stop()
		mu.Lock()
		defer mu.Unlock()
		over = true
	}
}

// tellLater has the next call return the error that one could not.
func (g *Group) tellLater(gap *GapError) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.gap = gap
}

// A groupWaiter is one wait for a message of a group.
type groupWaiter struct {
	g     *Group
	start time.Time
	bed   *sleeper // announced: the next wait sleeps
	nap   time.Duration
}

// getUp takes an announced sleep back.
func (w *groupWaiter) getUp() {
	if w.bed != nil {
		w.bed.getUp()
		w.bed = nil
	}
}

// wait spins; then it announces a sleep, so that the caller looks once more; then it
// sleeps, no longer than until something in flight may have come back.
func (w *groupWaiter) wait(ctx context.Context) error {
	g := w.g
	if blocked, err := g.blocked(); blocked || err != nil {
		return err
	}
	if bed := w.bed; bed != nil {
		w.bed = nil
		return bed.sleepAtMost(ctx, g.untilScan())
	}
	if w.start.IsZero() {
		w.start = time.Now()
	}
	if w.nap == 0 && time.Since(w.start) < g.spin() {
		runtime.Gosched()
		return nil
	}
	if w.bed = g.q.bed.lieDown(wal.WaitMessage, wal.WaitGroup); w.bed != nil {
		return nil
	}
	w.nap = min(max(2*w.nap, shortestNap), longestNap)
	timer := time.NewTimer(w.nap)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// blocked looks whether a claim of somebody holds the walk up, and if so waits a moment
// and frees the queue of it if its owner is dead or stopped.
func (g *Group) blocked() (bool, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed || g.walk.r == nil {
		return false, nil
	}
	return g.walk.r.Blocked()
}

func (g *Group) spin() time.Duration {
	if g.o.Spin == 0 {
		return defaultSpin
	}
	return g.o.Spin
}

// untilScan is how long nobody needs to look over what is in flight.
func (g *Group) untilScan() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	return max(min(g.scan.next, g.delayed.next)-g.clock.now().boot, time.Millisecond)
}
