package walq

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/walq/walq/group"
	"github.com/walq/walq/wal"
)

// A Delivery is a message that was handed to a consumer, to be finished, sent back or
// given up. It owns its memory, but up to 1 KiB of body and metadata it shares allocations
// with others that were handed out about then: keep it for long by a Clone of the Message,
// or some tens of KiB are kept with it, 140 at most; with its body alone 8. It is for one
// goroutine at a time.
type Delivery struct {
	Message
	*lessor
	owned []byte // metadata
	lease group.Lease
	place int32 // 1 + where it is in Group.held; 0: it is not there
	done  bool
}

// A lessor is who granted a lease: one for all deliveries of a walk, so that each has one
// pointer to it, and the collector has less to follow.
type lessor struct {
	g     *Group
	ring  *group.Ring
	cells *group.Delays // not nil: the lease is of a cell of the delay file
}

// hold notes a delivery among those that were handed out. g.mu is held.
func (g *Group) hold(d *Delivery) *Delivery {
	g.held = append(g.held, d)
	d.place = int32(len(g.held))
	return d
}

// Attempt is how often the message was handed out, this time included.
func (d *Delivery) Attempt() int { return d.lease.Word.Deliveries() }

// Deaths is how often the process of its consumer died.
func (d *Delivery) Deaths() int { return d.lease.Word.Deaths() }

// Ack finishes the message: the group hands it out no more. That survives the death of
// processes at once, and a power loss after about a second; AckSync waits for it.
//
// Errors: ErrLeaseLost if the lease ended meanwhile, or the message was finished or sent
// back already: then another consumer may have it. ErrClosed.
func (d *Delivery) Ack() error {
	if d.cells != nil || d.g.file.ByKey {
		return d.end(d.finish)
	}
	g := d.g
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := d.usable(); err != nil {
		return err
	}
	d.over()
	ok, wanted, err := d.ring.FinishNext(&d.lease)
	if err != nil {
		return err
	}
	if !ok {
		return ErrLeaseLost
	}
	if wanted || d.lease.Ordinal%floorEvery == floorEvery-1 {
		err = group.Guarded(func() error { g.advance(d.ring); return nil })
	}
	g.checkpointSoon()
	return err
}

// AckSync is Ack, and returns when that is on stable storage.
func (d *Delivery) AckSync(ctx context.Context) error {
	if err := d.Ack(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("walq: the message is finished, but %w", errors.Join(ErrNotDurable, err))
	}
	g := d.g
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return nil // Close has put it on disk
	}
	g.syncing.Add(1)
	g.mu.Unlock()
	defer g.syncing.Done()
	if err := group.Guarded(func() error { return g.checkpoint(d.ring, syncPatience) }); err != nil {
		return fmt.Errorf("walq: the message is finished, but %w: %w", ErrNotDurable, err)
	}
	return nil
}

// Nak sends the message back: it is handed out again, to any consumer, not before delay
// is over.
//
// Errors are as of Ack.
func (d *Delivery) Nak(delay time.Duration) error {
	err := d.end(func() bool {
		if delay > 0 {
			return d.g.putOff(d, d.g.clock.now().unixMilli()+delay.Milliseconds()+1, true)
		}
		return d.sendBack(0)
	})
	if err == nil && delay <= 0 {
		d.g.q.log.Wake(wal.WaitGroup)
	}
	return err
}

// Term gives the message up: it goes to the group's dead-letter queue, with the reason,
// if it has one, and is handed out no more.
//
// Errors are as of Ack, and what keeps it from being appended there; then it is sent
// back.
func (d *Delivery) Term(reason string) error {
	g := d.g
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := d.usable(); err != nil {
		return err
	}
	return group.Guarded(func() error {
		if !d.leased() {
			d.over()
			return ErrLeaseLost
		}
		d.over()
		return g.giveUp(d, reason)
	})
}

// Extend gives the consumer so long from now to finish the message; 0 means the group's
// lease.
//
// Errors are as of Ack.
func (d *Delivery) Extend(lease time.Duration) error {
	g := d.g
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := d.usable(); err != nil {
		return err
	}
	if lease <= 0 {
		lease = g.settings.Lease
	}
	return group.Guarded(func() error {
		if !d.extend(g.deadline(g.clock.now(), lease)) {
			d.over()
			return ErrLeaseLost
		}
		return nil
	})
}

// usable tells whether the delivery is still somebody's. g.mu is held.
func (d *Delivery) usable() error {
	switch {
	case d.g.closed:
		return ErrClosed
	case d.done:
		return ErrLeaseLost
	}
	return nil
}

// over notes that the delivery is nobody's business any more. g.mu is held.
func (d *Delivery) over() {
	d.done = true
	if d.place == 0 {
		return
	}
	held, last := d.g.held, len(d.g.held)-1
	if i := int(d.place - 1); i != last {
		held[i] = held[last]
		held[i].place = d.place
	}
	held[last], d.g.held = nil, held[:last]
	d.place = 0
}

// end ends the lease by f, which returns false if it was lost.
func (d *Delivery) end(f func() bool) error {
	g := d.g
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := d.usable(); err != nil {
		return err
	}
	d.over()
	return group.Guarded(func() error {
		if !f() {
			return ErrLeaseLost
		}
		g.finished(d)
		return nil
	})
}

// floorEvery is after how many messages the floor is raised at the latest, and others
// may have to wait for it.
const floorEvery = 64

// finished raises the floor if that is due, or if somebody waits for it: they said so
// before they looked at what is finished for the last time.
func (g *Group) finished(d *Delivery) {
	if g.file.ByKey {
		g.freeKey(d)
	}
	if n := d.lease.Ordinal; d.cells == nil && n%floorEvery == floorEvery-1 || d.ring.RoomMayBeWanted() {
		g.advance(d.ring)
	}
	g.checkpointSoon()
}

// giveUp appends the message to the dead-letter queue and finishes it. If it cannot be
// appended it is sent back, to be tried again. g.mu is held, but not while the message is
// appended: then the Group may do anything, even be closed.
func (g *Group) giveUp(d *Delivery, reason string) error {
	if g.dead.path == "" {
		if err := d.finishDead(); err != nil {
			return err
		}
	} else {
		if !d.extend(g.deadline(g.clock.now(), max(g.settings.Lease, 2*deadPatience))) {
			return ErrLeaseLost
		}
		g.checkpointSoon() // if Close comes in between it knows that there is something
		if err := g.bury(d, reason); err != nil || g.closed {
			return err
		}
	}
	g.finished(d)
	return nil
}

// bury puts the message into the dead-letter queue and ends its lease. g.mu is held, and
// given back meanwhile. Nobody else has the Delivery: it is not in the list of those that
// were handed out, and its user was told, or will be, that it is over.
func (g *Group) bury(d *Delivery, reason string) error {
	g.syncing.Add(1) // Close waits, at most for deadPatience, so that the file stays
	g.mu.Unlock()
	defer g.mu.Lock()
	defer g.syncing.Done()
	if err := g.dead.put(d, reason); err != nil {
		now, _ := g.q.times.now()
		d.sendBack(now.Add(deadPatience).UnixMilli())
		g.q.log.Wake(wal.WaitGroup)
		return fmt.Errorf("message %d: %w: %w", d.Seq, ErrDeadLetter, err)
	}
	return d.finishDead()
}

// finishDead finishes a message that was given up, also without g.mu.
func (d *Delivery) finishDead() error {
	if !d.finish() {
		return ErrLeaseLost
	}
	d.ring.CountDeadLettered()
	d.g.tellKey(d)
	return nil
}
