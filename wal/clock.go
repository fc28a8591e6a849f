package wal

import (
	"sync"
	"sync/atomic"
	"time"
)

// A clock keeps the time for frames while a handle appends: looking at it costs a
// load, asking the system some 50 ns. It has a goroutine of its own, which does
// nothing else, so that it lags no further than the scheduler does.
type clock struct {
	time atomic.Int64 // nanoseconds since the Unix epoch, 0 while it stands
	quit chan struct{}
	gone sync.WaitGroup
}

// now is the time for a frame: at most about two ticks old while the clock goes, and
// a processor is free, else exact.
func (c *clock) now() int64 {
	if t := c.time.Load(); t != 0 {
		return t
	}
	return wallClock()
}

// advance sets the clock, if it goes: whoever had to ask the system for the time
// anyway shares it, so that a fast writer's frames are told apart by less than a tick.
func (c *clock) advance(t int64) {
	if old := c.time.Load(); old != 0 && old < t {
		c.time.CompareAndSwap(old, t)
	}
}

func wallClock() int64 { return time.Now().UnixNano() }

func (c *clock) start() {
	c.quit = make(chan struct{})
	c.time.Store(wallClock())
	c.gone.Go(func() {
		defer c.time.Store(0)
		ticker := time.NewTicker(keeperTick)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				c.time.Store(wallClock())
			case <-c.quit:
				return
			}
		}
	})
}

// stop returns when it stands.
func (c *clock) stop() {
	close(c.quit)
	c.gone.Wait()
}
