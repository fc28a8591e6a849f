package walq

import (
	"context"
	"runtime"
	"testing"
	"time"
)

// A handler that leaves its goroutine does not keep its message for ever, nor those who
// wait for it: a test that fails in one does so.
func TestAHandlerThatLeavesItsGoroutineHoldsNobodyUp(t *testing.T) {
	for name, work := range map[string]func(*Group, context.Context, func(context.Context, *Delivery) error) error{
		"Drain": (*Group).Drain, "Consume": (*Group).Consume,
	} {
		t.Run(name, func(t *testing.T) {
			f, q, other := timed(t)
			g := timedGroup(t, q, GroupOptions{Handlers: 3, Lease: time.Minute})
			publish(t, q, Draft{})
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			if err := work(g, ctx, func(context.Context, *Delivery) error { runtime.Goexit(); return nil }); err == nil || ctx.Err() != nil {
				t.Fatalf("got %v (%v), want an error at once", err, ctx.Err())
			}
			for range 10 {
				f.pass(20 * time.Second) // longer than leases are extended by
			}
			finish(t, got(t, timedGroup(t, other, GroupOptions{}), 2))
		})
	}
}

// What a consumer forgets comes again, and what it was does not stay in memory.
func TestDeliveriesThatWereForgottenAreNotKept(t *testing.T) {
	f, q, _ := timed(t)
	g := timedGroup(t, q, GroupOptions{Lease: time.Second})
	publish(t, q, Draft{})
	for i := range 20 {
		got(t, g, i+1)
		f.pass(2 * time.Second)
	}
	if n := len(g.held); n > 2 {
		t.Errorf("%d deliveries of one message are kept", n)
	}
}
