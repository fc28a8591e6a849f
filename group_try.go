package walq

import (
	"context"
	"errors"
	"sync"
)

// TryReceive gives the next message to work on if there is one now, else nil. It waits
// for nothing but appends that are under way before it.
//
// Errors are as of Receive.
func (g *Group) TryReceive(ctx context.Context) (*Delivery, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		// Once to walk to the end, once to look over all that was walked past.
		for _, last := range []bool{false, true} {
			if d, err := g.try(ctx, last); d != nil || err != nil {
				return d, err
			}
		}
		if blocked, err := g.blocked(); !blocked || err != nil {
			return nil, err
		}
	}
}

// Drain is Consume, but ends, with nil, when there is nothing to hand out. What waits
// for its back-off, or is with other consumers, does not count.
func (g *Group) Drain(ctx context.Context, fn func(context.Context, *Delivery) error) error {
	inner, stop := context.WithCancel(ctx)
	defer stop()
	var all sync.WaitGroup
	errs := make([]error, max(g.o.Handlers, 1))
	for i := range errs {
		all.Go(func() {
			if errs[i] = g.drain(inner, context.WithoutCancel(ctx), fn); errs[i] != nil {
				stop()
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// drain is one of the goroutines of Drain.
func (g *Group) drain(ctx, work context.Context, fn func(context.Context, *Delivery) error) error {
	for {
		d, err := g.TryReceive(ctx)
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
