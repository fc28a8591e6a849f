package wal

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/walq/walq/internal/step"
	"github.com/walq/walq/segment"
)

// Recovery is done by whoever opens a queue in which nobody else is. After an
// orderly end there is nothing to do. After the death of processes every byte
// that was stored is still there: dead claims become PADs and the log goes on.
// After a power loss the log is what reached the disk: it ends at the first
// frame that is not whole, and nothing behind it is ever believed again.

// recoverIfNeeded returns with the recovery lock held, shared, and the queue
// fit for use; joined tells that others are in it, or were a moment ago.
func (l *Log) recoverIfNeeded(ctx context.Context) (joined bool, err error) {
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		if err := lockWait(ctx, l.locks, lockRecovery, false); err != nil {
			return false, err
		}
		others, err := l.locks.HeldByOther(lockSlots, maxSlots)
		if err != nil {
			return false, err
		}
		if others {
			return true, nil // they recovered, and hold their slots since
		}
		// Alone so far. The lock is converted: whoever else came as far keeps
		// us from it until one of us steps back.
		exclusive, err := l.locks.TryLock(lockRecovery, true)
		if err != nil {
			return false, err
		}
		if exclusive {
			if others, err = l.locks.HeldByOther(lockSlots, maxSlots); err != nil {
				return false, err
			}
			if !others { // else they came and recovered in between
				step.At(step.RecoverLocked)
				if err := l.recover(); err != nil {
					return false, err
				}
			}
			// From here on others may come along, also if we are stopped.
			_, err := l.locks.TryLock(lockRecovery, false)
			return others, err
		}
		if err := l.locks.Unlock(lockRecovery); err != nil {
			return false, err
		}
		select {
		case <-ctx.Done():
			return false, fmt.Errorf("waiting to recover %s: %w", l.dir.Path(), ctx.Err())
		case <-time.After(pause/2 + rand.N(pause)):
		}
	}
}

// recover makes the queue fit for use; nobody else is in it.
func (l *Log) recover() error {
	b, err := l.ctl.boot()
	if err != nil {
		return err
	}
	now, err := l.inodes()
	if err != nil {
		return err
	}
	if b.locksElsewhere(l.bootID, now) {
		return &CorruptError{Path: l.locks.Path(), Reason: reasonLockReplaced}
	}
	copied := b.copied(now)
	b.inodes = now
	l.ctl.word(ctlGather).Store(0)
	l.clearWaiters()
	l.removeSockets()
	if err := l.finishTrim(); err != nil {
		return err
	}
	s, err := l.keptSegment()
	if err != nil {
		return err
	}
	if b.clean && b.id == l.bootID && !l.o.Snapshot {
		l.setTail(s) // it is mapped once, until the slot is taken
	} else {
		l.table.release(s) // recovery opens it anew: it may end where the file does, or go
		// Whoever made the queue may have died before its names were on disk,
		// and whoever trimmed it before the files were gone.
		if err := errors.Join(l.log.Sync(), l.dir.Sync(), syncParent(l.dir), l.removeTrimmed()); err != nil {
			return err
		}
	}
	switch {
	case b.clean && !l.o.Snapshot:
		l.ctl.word(ctlIntentOwner).Store(0)
		if b.id != l.bootID {
			// A sync of data need not make durable how far a file was allocated.
			if err := l.adoptTail(); err != nil {
				return err
			}
		}
	case b.id == l.bootID && !l.o.Snapshot:
		if err := l.recoverSameBoot(); err != nil {
			if copied && errors.Is(err, ErrCorrupt) {
				err = fmt.Errorf("%w (the files were copied since the queue was last opened: if it was in use then, open it as a snapshot)", err)
			}
			return err
		}
	default:
		return l.recoverPowerLoss(b)
	}
	if err := l.forgetTheDead(); err != nil {
		return err
	}
	// The removal of the clean mark and the id of this boot are on disk before
	// anyone claims: else a power loss would find the mark of an earlier end.
	b.id, b.clean = l.bootID, false
	if err := l.ctl.writeBoot(b); err != nil {
		return err
	}
	step.At(step.CleanMarkRemoved)
	return l.syncControl()
}

func (l *Log) syncControl() error {
	if err := l.ctl.sync(); err != nil {
		return l.poison(err)
	}
	return nil
}

// A scan walks the log from the segment of the durable position on and checks
// every frame. It holds the segments it passed.
type scan struct {
	l        *Log
	durable  Position
	powerCut bool // stop at what is not whole, instead of padding or failing

	s      *seg
	c      segment.Cursor
	w      segment.Word
	chain  []uint64 // first sequence numbers of the segments passed
	reason error    // why it stopped, nil at a free word
}

// run goes to the end of the log. It fails if the durable part is not whole, or
// if a file cannot be read; what is wrong behind the durable position only ends
// the walk.
func (sc *scan) run() (err error) {
	sc.durable = sc.l.ctl.durable()
	if sc.s, err = sc.l.locate(sc.durable); err != nil {
		return err
	}
	if err := sc.enter(sc.s); err != nil {
		return err
	}
	for {
		more, err := sc.next()
		if err == nil && !more {
			err = sc.checkDurable()
		}
		if err != nil {
			return err
		}
		if !more {
			return nil
		}
	}
}

func (sc *scan) enter(s *seg) error {
	sc.s, sc.c = s, s.Start()
	sc.chain = append(sc.chain, s.First)
	if sc.powerCut {
		return s.UseFileSize()
	}
	return nil
}

// checkDurable tells whether the place where the log ends lies at or behind
// what was acknowledged.
func (sc *scan) checkDurable() error {
	here := sc.s.position(sc.c.Off)
	if here >= sc.durable {
		return nil
	}
	if sc.reason != nil {
		return sc.reason
	}
	return &CorruptError{Path: sc.s.Path(), Offset: sc.c.Off, Reason: fmt.Sprintf("the log ends here, below the durable position (%v): acknowledged messages are missing", sc.durable)}
}

// next checks one frame and steps over it; false: the log ends here.
func (sc *scan) next() (more bool, err error) {
	s := sc.s
	sc.reason = nil
	sc.w, err = s.Word(sc.c.Off)
	if err == nil && sc.w.State() == segment.Committed {
		_, err = s.Frame(sc.c, sc.w)
	}
	if err != nil {
		sc.reason = err
		if sc.powerCut && errors.Is(err, ErrCorrupt) {
			return false, nil
		}
		return false, err
	}
	switch {
	case sc.w == 0:
		return false, nil
	case sc.w.State() == segment.Claimed:
		if sc.powerCut {
			return false, nil
		}
		s.TryPad(sc.c.Off, sc.w) // its owner is dead: nobody else is here
		return true, nil
	case sc.w.Sealed():
		return sc.cross()
	}
	if here := s.position(sc.c.Off); here < sc.durable && s.position(sc.c.Off+sc.w.Size()) > sc.durable {
		return false, &CorruptError{Path: sc.l.ctl.r.Path(), Offset: ctlDurable, Reason: fmt.Sprintf("the durable position (%v) lies within a frame", sc.durable)}
	}
	sc.c = sc.c.After(sc.w)
	return true, nil
}

func (sc *scan) cross() (more bool, err error) {
	n, err := sc.l.successor(&sc.l.table, sc.s, sc.c, sc.w)
	if err != nil && sc.powerCut && errors.Is(err, ErrCorrupt) {
		sc.reason = err // a stale segment under that name
		return false, nil
	}
	if err != nil || n == nil {
		return false, err
	}
	sc.l.table.release(sc.s)
	return true, sc.enter(n)
}

// recoverSameBoot: every process died, the machine did not. What was stored is
// still in the kernel's memory, so a wrong checksum is corruption and never a
// reason to cut. A dead syncer may have been told of a failed write, so the
// whole range from the durable position on is handed to the kernel anew by
// whoever syncs next.
func (l *Log) recoverSameBoot() error {
	sc := scan{l: l}
	if err := sc.run(); err != nil {
		l.table.release(sc.s)
		return err
	}
	step.At(step.RecoverScanned)
	l.ctl.raiseSettled(sc.s, sc.c.Off)
	l.ctl.word(ctlIntentOwner).Store(standingIntent)
	l.table.release(sc.s)
	return nil
}

// recoverPowerLoss cuts the log where it stops being whole and starts a new
// segment behind a jump in the sequence numbers, so that none that was ever
// handed out is used again. Each step may be cut short by another power loss:
// the next recovery then finds either the old state or the new.
func (l *Log) recoverPowerLoss(b boot) error {
	sc := scan{l: l, powerCut: true}
	// A fault is made an error before what it lies in is unmapped: afterwards
	// nobody could tell whose it was.
	defer func() { l.table.release(sc.s) }()
	return l.guarded(func() error { return l.cutAndGoOn(&sc, b) })
}

// cutAndGoOn finds the cut, makes it, and starts the segment behind it.
func (l *Log) cutAndGoOn(sc *scan, b boot) error {
	if err := sc.run(); err != nil {
		return fmt.Errorf("recovery after a power loss changed nothing: %w", err)
	}
	step.At(step.RecoverScanned)
	if err := l.adoptSizes(sc.chain); err != nil {
		return err
	}
	if err := sc.cut(); err != nil {
		return err
	}
	if err := l.quarantineStale(sc.chain); err != nil {
		return err
	}
	step.At(step.RecoverQuarantined)
	n, err := l.linkNext(sc.s, sc.c, jumpFrom(sc.c.Seq), b.epoch+1, recoveryTemp)
	if err != nil {
		return err
	}
	defer l.table.release(n)
	return l.guarded(func() error { return l.goOnIn(n, sc, b) })
}

// goOnIn makes the new segment n, behind the cut, what the queue goes on in.
func (l *Log) goOnIn(n *seg, sc *scan, b boot) error {
	step.At(step.RecoverSegmentMade)
	l.resetControl(n)
	if err := l.ctl.writeBoot(boot{id: l.bootID, epoch: b.epoch + 1, inodes: b.inodes}); err != nil {
		return err
	}
	step.At(step.RecoverControlWritten)
	if err := l.syncControl(); err != nil {
		return err
	}
	step.At(step.RecoverControlSynced)
	l.warn("recovered after a power loss", "queue", l.dir.Path(), "end", sc.c.Seq, "next", n.First, "why", sc.reason)
	return nil
}

// adoptTail is adoptSizes for the segment where the log ends in order.
func (l *Log) adoptTail() error {
	s, err := l.locate(l.ctl.durable())
	if err != nil {
		return err
	}
	defer l.table.release(s)
	return l.guarded(func() error {
		err := s.UseFileSize()
		if err == nil {
			s.AdoptFileSize()
		}
		return err
	})
}

// adoptSizes makes the allocated word of each segment that the walk passed what
// the file really has: the word on disk may be older than the frames, and a
// reader would take its place for the end of the log. Of a copied queue nothing
// was ever synced, so all of it is.
func (l *Log) adoptSizes(chain []uint64) error {
	if l.o.Snapshot {
		all, err := segmentNames(l.log)
		if err != nil {
			return err
		}
		chain = all
	}
	for _, first := range chain {
		s, err := l.acquire(&l.table, first)
		if err != nil && l.o.Snapshot && errors.Is(err, ErrCorrupt) {
			continue // a stale one; the chain was checked
		}
		if err != nil {
			return err
		}
		if err = s.UseFileSize(); err == nil {
			s.AdoptFileSize()
			err = s.FlushShared()
		}
		if err == nil && l.o.Snapshot {
			err = s.File().Sync()
		}
		l.table.release(s)
		if err != nil {
			return err
		}
	}
	return nil
}

// recoveryTemp names the temporary file of a recovery; a dead one's is replaced.
const recoveryTemp = "tmp.recovery"

// cut ends the segment at the cursor with a SEAL_JUMP. First the hints that
// point behind it go, and are synced: a reader must never follow one into the
// dead bytes.
func (sc *scan) cut() error {
	s, off := sc.s, sc.c.Off
	if end := off + segment.SealBytes; end > s.Allocated() {
		if err := s.File().Allocate(0, min(pageUp(end), s.Size)); err != nil {
			return err
		}
		if err := s.UseFileSize(); err != nil {
			return err
		}
	}
	s.ClearHintsFrom(off)
	s.AdoptFileSize()
	if err := s.FlushShared(); err != nil {
		return err
	}
	step.At(step.RecoverCutCleared)
	s.ForceSealJump(off)
	step.At(step.RecoverJumpWritten)
	if err := s.Region().Flush(off, segment.SealBytes); err != nil {
		return err
	}
	step.At(step.RecoverJumpSynced)
	return nil
}

// resetControl makes the new segment n the whole of what is going on.
func (l *Log) resetControl(n *seg) {
	start := uint64(n.position(n.Start().Off))
	l.ctl.word(ctlDurable).Store(start)
	l.ctl.word(ctlDurableSeq).Store(n.First)
	l.ctl.word(ctlDurableFirst).Store(n.First)
	l.ctl.word(ctlSettled).Store(start)
	l.ctl.word(ctlSettledFirst).Store(n.First)
	l.ctl.word(ctlNewest).Store(n.First)
	l.ctl.word(ctlIntentOwner).Store(0)
	l.ctl.word(ctlIntentEnd).Store(0)
	for slot := range maxSlots {
		l.ctl.participant(slot, parState).Store(0)
	}
}

// quarantineStale moves aside every segment that the walk did not pass although
// its name lies behind the first it did: leftovers of a time that the power
// loss undid. Half-made files go for good.
func (l *Log) quarantineStale(chain []uint64) error {
	names, err := l.log.Names()
	if err != nil {
		return err
	}
	q, err := l.dir.OpenDir(quarantineName)
	if isNotExist(err) { // somebody tidied up
		if err = l.dir.Mkdir(quarantineName, l.perms.dir); err == nil {
			q, err = l.dir.OpenDir(quarantineName)
			err = joinFirst(err, l.dir.Sync())
		}
	}
	if err != nil {
		return err
	}
	for _, name := range names {
		first, ok := segment.ParseName(name)
		temporary := strings.HasPrefix(name, "tmp.")
		if temporary {
			uerr := l.log.Unlink(name)
			if !errors.Is(uerr, syscall.EISDIR) { // else none of ours, and maybe in our way
				err = errors.Join(err, uerr)
				continue
			}
		}
		if temporary || ok && first >= chain[0] && !slices.Contains(chain, first) {
			l.warn("moved a stale segment to quarantine", "segment", l.log.Join(name))
			aside := fmt.Sprintf("%s.%d", name, time.Now().UnixNano())
			err = errors.Join(err, l.log.Rename(name, q, aside))
		}
	}
	return errors.Join(err, l.log.Sync(), q.Sync(), q.Close())
}

// markClean leaves the log synced, without claims, and says so. The caller is
// alone and holds the recovery lock exclusively.
func (l *Log) markClean() error {
	if l.ctl.poisoned() != nil {
		return nil
	}
	if err := l.padClaims(func(segment.Word) bool { return true }); err != nil {
		return err // whatever is still claimed belongs to the dead
	}
	if err := l.syncAll(context.Background()); err != nil {
		return err
	}
	if err := l.tail.Load().FlushShared(); err != nil {
		return l.poison(err)
	}
	l.removeSockets()
	b, err := l.ctl.boot()
	if err != nil {
		return err
	}
	b.clean = true
	if err := l.ctl.writeBoot(b); err != nil {
		return err
	}
	step.At(step.CleanMarkWritten)
	return l.syncControl()
}
