package walq

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/walq/walq/internal/step"
	"github.com/walq/walq/sock"
	"github.com/walq/walq/wal"
)

// A bedroom is where the goroutines of one handle sleep until something happens
// in the queue. They share one socket: one of them blocks in the receive itself,
// the others wait for it. Whenever the one gets up, for whatever reason, it wakes
// all; each looks, and who finds nothing lies down again, one of them at the
// socket. So a hand-over loses nothing.
type bedroom struct {
	dir   *sock.Dir
	waker atomic.Pointer[sock.Waker] // appends must not wait for mu to wake others
	name  string                     // of this handle's socket
	log   *wal.Log
	limit time.Duration // of one sleep

	mu       sync.Mutex
	empty    sync.Cond // the receiver is up
	socket   *sock.Socket
	again    time.Time // not before then is it tried again to make the socket
	sleepers map[*sleeper]struct{}
	busy     bool // somebody is the receiver
	shut     bool // nobody sleeps here (any more): poll
}

// longestSleep bounds every sleep: what would have woken the sleeper may have
// died before it did.
const longestSleep = time.Second

func socketName(slot int) string { return fmt.Sprintf("%04d.sock", slot) }

// openBedroom never fails: where there can be no sockets, readers poll.
func openBedroom() *bedroom {
	b := &bedroom{sleepers: map[*sleeper]struct{}{}, shut: true, limit: longestSleep}
	b.empty.L = &b.mu
	return b
}

// furnish makes the bedroom ready once the log is open. A socket that a former
// owner of the slot left goes.
func (b *bedroom) furnish(log *wal.Log) error {
	if log.Slot() < 0 {
		return nil
	}
	dir, err := sock.OpenDir(filepath.Join(log.Path(), "wake"))
	if err != nil {
		return err
	}
	name := socketName(log.Slot())
	waker, err := dir.NewWaker()
	if err != nil {
		return errors.Join(err, dir.Close())
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.dir, b.name, b.log, b.shut = dir, name, log, false
	b.waker.Store(waker)
	log.SetWaker(b.wake)
	return dir.Remove(name) // if it cannot be removed, others can be woken all the same
}

// wake wakes the participant in a slot, of this handle or of any other. The dead
// need no waking, and who is missed looks by itself.
func (b *bedroom) wake(slot int) {
	if waker := b.waker.Load(); waker != nil {
		_ = waker.Wake(socketName(slot))
	}
}

// close wakes everybody, lets nobody lie down again, and removes the socket. The
// slot is still ours, so that its name is nobody else's yet.
func (b *bedroom) close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.shut = true
	b.wakeAll()
	for b.busy {
		_ = b.socket.Wake() // where its name is gone, the sleep ends by itself
		b.empty.Wait()
	}
	if b.socket == nil {
		return nil
	}
	err := b.socket.Close()
	b.socket = nil
	return err
}

// leave gives back what waking others needs; nothing is appended any more.
func (b *bedroom) leave() error {
	waker := b.waker.Swap(nil)
	if waker == nil {
		return nil
	}
	return errors.Join(waker.Close(), b.dir.Close())
}

// wakeAll wakes the sleepers of this handle. b.mu is held.
func (b *bedroom) wakeAll() {
	for s := range b.sleepers {
		close(s.woken)
		delete(b.sleepers, s)
	}
}

// rouse wakes everybody who sleeps here, so that they look.
func (b *bedroom) rouse() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.wakeAll()
	if b.busy && b.socket != nil {
		_ = b.socket.Wake() // else the sleep ends by itself
	}
}

// A sleeper is one goroutine that is about to sleep.
type sleeper struct {
	b     *bedroom
	woken chan struct{}
}

// lieDown announces a sleep; the caller looks once more before it calls sleep,
// and calls getUp if it found something. nil: there is no sleeping here, poll.
func (b *bedroom) lieDown(reasons ...wal.Reason) *sleeper {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.shut || b.socket == nil && !b.makeSocket() {
		return nil
	}
	// In this order: once the mark is seen, whoever receives for us must find us.
	s := &sleeper{b, make(chan struct{})}
	b.sleepers[s] = struct{}{}
	for _, r := range reasons {
		if !b.log.MarkSleeper(r) {
			delete(b.sleepers, s)
			return nil
		}
	}
	return s
}

// makeSocket makes the handle's socket, if that is possible. What is in the way, no
// free descriptor perhaps, may pass: it is tried again, no oftener than one would
// wake up. b.mu is held.
func (b *bedroom) makeSocket() bool {
	now := time.Now()
	if now.Before(b.again) {
		return false
	}
	perm := fs.FileMode(0o600)
	if b.log.Settings().GroupAccess {
		perm = 0o660
	}
	socket, err := b.dir.Bind(b.name, perm)
	if err != nil {
		b.again = now.Add(longestSleep)
		return false
	}
	b.socket = socket
	return true
}

// getUp ends a sleep that was announced.
func (s *sleeper) getUp() {
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	delete(s.b.sleepers, s)
}

// sleep sleeps until something may have happened, ctx ends, or the time is over.
func (s *sleeper) sleep(ctx context.Context) error { return s.sleepAtMost(ctx, s.b.limit) }

// sleepAtMost is sleep for so long at most.
func (s *sleeper) sleepAtMost(ctx context.Context, limit time.Duration) error {
	b, limit := s.b, min(limit, s.b.limit)
	b.mu.Lock()
	receive := !b.busy && !b.shut
	socket := b.socket
	b.busy = b.busy || receive
	b.mu.Unlock()
	if !receive {
		defer s.getUp()
		timer := time.NewTimer(limit)
		defer timer.Stop()
		select {
		case <-s.woken:
			return nil
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	select {
	case <-s.woken: // by the receiver before us
		limit = 0
	default:
	}
	cancelled := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(cancelled)
		_ = socket.Wake() // else the sleep ends by itself
	})
	step.At(step.SleepLooked)
	_, err := socket.Wait(limit)
	if !stop() {
		<-cancelled // it has the socket in hand
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.busy = false
	b.shut = b.shut || err != nil
	delete(b.sleepers, s)
	b.wakeAll()
	b.empty.Broadcast()
	return ctx.Err()
}
