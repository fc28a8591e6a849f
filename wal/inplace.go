package wal

import (
	"errors"
	"fmt"
	"runtime"
	"sync"

	"github.com/walq/walq/mmap"
	"github.com/walq/walq/segment"
)

// An InPlace is room in the log that a caller fills itself.
type InPlace struct {
	p *pendingClaim
}

// A pendingClaim is the part that the log knows of. It does not hold the
// InPlace, so that a forgotten one can be found by the garbage collector.
type pendingClaim struct {
	l    *Log
	mu   sync.Mutex
	own  claim // own.s nil once it is over
	meta int
	room []byte
	at   int64 // time of the claim
}

// pendingClaims lists those of a handle that are not over, for Close.
type pendingClaims struct {
	mu   sync.Mutex
	open map[*pendingClaim]struct{}
}

// ErrClaimOver: the claim was committed or aborted already.
var ErrClaimOver = errors.New("the claim was committed or aborted already")

// ClaimInPlace claims room for a message of n bytes. Until it is committed or
// aborted nobody reads past it, and no append behind it becomes durable; a
// claim that takes longer than the stall time-out is revoked by whoever is held
// up. A forgotten claim is aborted when the garbage collector finds it, and by
// Close.
func (l *Log) ClaimInPlace(meta []byte, n int) (_ *InPlace, err error) {
	length := int64(len(meta)) + int64(n)
	if !l.takes(len(meta), length) {
		return nil, l.refuse(len(meta), length)
	}
	defer mmap.Recover(mmap.Protect(), &err)
	ticket, ok := l.gate.enter()
	if !ok {
		return nil, ErrClosed
	}
	defer l.gate.exit(ticket)
	at := l.keeper.clock.now()
	var own claim
	if err := l.claim(&own, length, 1); err != nil {
		return nil, err
	}
	l.stir()
	own.s = l.table.again(own.s)
	p := &pendingClaim{l: l, own: own, meta: len(meta), at: at}
	content := own.s.Content(own.c.Off, own.w)
	p.room = content[copy(content, meta):]
	l.pending.mu.Lock()
	if l.pending.open == nil {
		l.pending.open = map[*pendingClaim]struct{}{}
	}
	l.pending.open[p] = struct{}{}
	l.pending.mu.Unlock()
	c := &InPlace{p}
	runtime.AddCleanup(c, func(p *pendingClaim) { p.end() }, p)
	return c, nil
}

// Bytes is the room, not zero at first. It is mapped memory: valid until Commit
// or Abort, and a file truncated by somebody else makes access to it end the
// process.
func (c *InPlace) Bytes() []byte { return c.p.room }

// Commit publishes the message. If the claim was revoked meanwhile, its bytes
// are copied into a new one; if there is no room for that, ErrFull, the claim stays,
// so that Commit can be called again.
func (c *InPlace) Commit() (a Appended, err error) {
	p := c.p
	defer runtime.KeepAlive(c)
	defer mmap.Recover(mmap.Protect(), &err)
	ticket, ok := p.l.gate.enter()
	if !ok {
		return a, ErrClosed
	}
	defer p.l.gate.exit(ticket)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.own.s == nil {
		return a, ErrClaimOver
	}
	defer func() {
		if !errors.Is(err, ErrFull) {
			p.endLocked()
		}
	}()
	own := p.own
	own.s.Finish(own.c, own.w, segment.KindMessage, p.at, p.meta)
	a, done, err := p.l.commit(&own)
	if done || err != nil {
		return a, err
	}
	content := p.own.s.Content(p.own.c.Off, p.own.w)
	return p.l.Append(content[:p.meta], content[p.meta:])
}

// Abort gives the room back, as a PAD. After Commit it does nothing.
func (c *InPlace) Abort() {
	c.p.end()
	runtime.KeepAlive(c)
}

func (p *pendingClaim) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.endLocked()
}

// endLocked pads the claim, unless it was committed, and forgets it.
func (p *pendingClaim) endLocked() {
	if p.own.s == nil {
		return
	}
	var err error
	func() {
		defer mmap.Recover(mmap.Protect(), &err)
		p.own.s.TryPad(p.own.c.Off, p.own.w)
	}()
	if err != nil {
		p.l.warn("cannot abort a claim", "err", fmt.Errorf("%s: %w", p.own.s.Path(), err))
	}
	p.l.table.release(p.own.s)
	p.own.s, p.room = nil, nil
	p.l.pending.mu.Lock()
	defer p.l.pending.mu.Unlock()
	delete(p.l.pending.open, p)
}

func (pc *pendingClaims) abortAll() {
	pc.mu.Lock()
	var all []*pendingClaim
	for p := range pc.open {
		all = append(all, p)
	}
	pc.mu.Unlock()
	for _, p := range all {
		p.end()
	}
}
