package walq

import (
	"context"
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
		if d, err := g.nextAhead(); d != nil || err != nil {
			return d, err
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

// Drain is Consume, but ends, with nil, when there is nothing to hand out and none of its
// own calls of fn is under way. What waits for its back-off, or is with other consumers,
// does not count.
func (g *Group) Drain(ctx context.Context, fn func(context.Context, *Delivery) error) error {
	c := &crew{busy: g.handlers()}
	c.change.L = &c.mu
	return g.handleAll(ctx, fn, func(ctx context.Context) (*Delivery, error) { return c.next(ctx, g) })
}

// A crew is the goroutines of one Drain. Who finds nothing waits as long as another one is
// at work: what that one frees, its key or the window, may be for both.
type crew struct {
	mu     sync.Mutex
	change sync.Cond
	busy   int // so many look for a message, or work on one
	turns  int // how often one of them came for the next
}

// next gives the next message; nil: there is none, and nobody is at work.
func (c *crew) next(ctx context.Context, g *Group) (*Delivery, error) {
	c.mu.Lock()
	c.turns++ // what it had before is done with
	c.change.Broadcast()
	turns := c.turns
	c.mu.Unlock()
	for {
		d, err := g.TryReceive(ctx)
		if d != nil || err != nil || !c.wait(ctx, &turns) {
			return d, err
		}
	}
}

// wait waits until one of the others has ended its message since turns. false: none of them
// is at work, or ctx ended.
func (c *crew) wait(ctx context.Context, turns *int) bool {
	stop := context.AfterFunc(ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.change.Broadcast()
	})
	defer stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy--
	for c.busy > 0 && c.turns == *turns && ctx.Err() == nil {
		c.change.Wait()
	}
	if c.turns == *turns || ctx.Err() != nil {
		c.change.Broadcast()
		return false
	}
	c.busy++
	*turns = c.turns
	return true
}
