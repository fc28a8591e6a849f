package wal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/walq/walq/internal/step"
	"github.com/walq/walq/segment"
)

const maxSlots = segment.MaxSlots

// Membership. A participant is alive as long as it holds the lock on its
// slot's byte; the kernel frees that when the process dies, whatever way. No
// process id is ever trusted.

// join recovers the queue if that is needed and takes a slot. The recovery lock
// is held, shared, while the slot is taken, so that nobody who recovers alone
// can overlook a newcomer.
func (l *Log) join(ctx context.Context) error {
	joined, err := l.recoverIfNeeded(ctx)
	if err != nil {
		return err
	}
	err = l.takeSlot()
	if others, perr := l.locks.HeldByOther(lockSlots, maxSlots); joined && perr == nil && !others {
		// Those whom we joined died before we had their segments open: the
		// next sync must not believe that the kernel told it of every error.
		l.ctl.word(ctlIntentOwner).Store(standingIntent)
	}
	l.setTail(nil) // see findTail
	return errors.Join(err, l.locks.Unlock(lockRecovery))
}

func (l *Log) takeSlot() error {
	for slot := range maxSlots {
		ok, err := l.locks.TryLock(lockSlots+int64(slot), true)
		if err != nil {
			return err
		}
		if ok {
			l.slot = slot
			return l.enterSlot()
		}
	}
	return fmt.Errorf("%s: %w (%d)", l.dir.Path(), ErrTooManyOpen, maxSlots)
}

// enterSlot makes the locked slot ours: first every claim that a former owner
// left becomes a PAD, only then the incarnation grows and this handle may
// claim. The other order would let us pad our own claims.
func (l *Log) enterSlot() error {
	step.At(step.SlotLocked)
	inUse := l.ctl.participant(l.slot, parState)
	if inUse.Load() != 0 {
		// Its owner died, perhaps in the middle of a sync that failed without
		// anyone being told.
		l.ctl.word(ctlIntentOwner).Store(standingIntent)
		if err := removeTemporaries(l.log, l.slot); err != nil {
			return err
		}
	}
	if err := l.padClaims(func(w segment.Word) bool { return w.Slot() == l.slot }); err != nil {
		return err
	}
	step.At(step.SlotPadded)
	l.clearWaiter()
	inUse.Store(1)
	l.ctl.participant(l.slot, parPID).Store(uint64(os.Getpid()))
	l.ctl.participant(l.slot, parSince).Store(uint64(time.Now().UnixNano()))
	l.ctl.participant(l.slot, parRole).Store(packRole(l.o.Role))
	l.ctl.participant(l.slot, parVersion).Store(controlVersion)
	l.incarnation = l.ctl.participant(l.slot, parIncarnation).Add(1)
	step.At(step.SlotIncarnationRaised)
	return nil
}

// clearWaiter takes back the bits of a former owner of the slot that died asleep.
func (l *Log) clearWaiter() {
	for r := WaitMessage; r <= WaitGroup; r++ {
		l.ctl.word(waiterLeaf(r, l.slot/64)).And(^uint64(1 << (l.slot % 64)))
	}
}

func (l *Log) releaseSlot() error {
	l.ctl.participant(l.slot, parState).Store(0)
	step.At(step.SlotReleased)
	return l.locks.Unlock(lockSlots + int64(l.slot))
}

// padClaims pads every claim that is known to be dead, from the settled
// position to the tail, and leaves l.tail there.
func (l *Log) padClaims(dead func(segment.Word) bool) error {
	s, settled, err := l.settledSegment()
	if err != nil {
		return err
	}
	// Also if the file is cut off, and a look at it faults.
	defer func() { l.table.release(s) }()
	c := segment.Cursor{Off: settled.off(), Seq: 0} // only offsets matter until the segment's end
	final := true                                   // everything so far is final
	for {
		var w segment.Word
		if c, w, err = s.Walk(c); err != nil {
			return err
		}
		if final {
			l.ctl.raiseSettled(s, c.Off)
		}
		switch w.State() {
		case segment.Claimed:
			if dead(w) {
				s.TryPad(c.Off, w)
				continue
			}
			final = false
			c = c.After(w)
		case segment.Seal, segment.SealJump:
			n, trimmed, err := l.successorAt(s, w)
			if trimmed {
				return l.padClaims(dead) // what is kept now was not walked
			}
			if err != nil || n == nil {
				l.setTail(l.table.again(s))
				return err
			}
			l.table.release(s)
			s, c = n, n.Start()
		default:
			l.setTail(l.table.again(s))
			return nil
		}
	}
}

// settledSegment opens the segment of the settled position. That word is only a
// bound that saves walking: if it names no segment, the durable position does.
func (l *Log) settledSegment() (*seg, Position, error) {
	s, p, err := l.locateMoving(l.ctl.settled)
	if errors.Is(err, ErrCorrupt) {
		s, p, err = l.locateMoving(l.ctl.durable)
	}
	return s, p, err
}

func (l *Log) setTail(s *seg) { l.table.release(l.tail.Swap(s)) }

// successorAt finds the successor of a sealed segment whose end sequence number
// is not at hand. trimmed: there is none because it was trimmed.
func (l *Log) successorAt(s *seg, w segment.Word) (n *seg, trimmed bool, err error) {
	end, _, err := s.WalkToFree(s.Tail()) // nothing is free below a SEAL
	if err != nil {
		return nil, false, err
	}
	n, err = l.successor(&l.table, s, end, w)
	return n, n == nil && err == nil && l.trimmedAway(s, end, w), err
}

// packRole keeps up to eight bytes of a name in a word.
func packRole(role string) (v uint64) {
	for i := range min(len(role), 8) {
		v |= uint64(role[i]) << (8 * i)
	}
	return v
}

func unpackRole(v uint64) string {
	var b []byte
	for ; v != 0; v >>= 8 {
		b = append(b, byte(v))
	}
	return string(b)
}

// alive reports whether the owner of a slot lives. Our own slot is never
// probed: own locks do not show.
func (l *Log) alive(slot int) (bool, error) {
	if slot == l.slot {
		return true, nil
	}
	return l.locks.HeldByOther(lockSlots+int64(slot), 1)
}
