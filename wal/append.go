package wal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/walq/walq/internal/step"
	"github.com/walq/walq/mmap"
	"github.com/walq/walq/segment"
)

// Appended tells where an append lies.
type Appended struct {
	Seq uint64   // sequence number of its first message
	End Position // the position behind its frame
}

// A fill writes content, header and checksum of a frame into the room that was claimed
// for it. now is the frame's time. It may run again, for another claim. nil: the content
// is a body that is copied, the shortest way.
type fill func(own claim, now int64) error

// Append commits one message: it is visible to every process when Append
// returns, and durable when WaitDurable says so. meta is a metadata map or
// empty. The slices are copied. It neither waits nor allocates, but for growing
// the file, a roll, and a disk that is 2^32 messages behind.
func (l *Log) Append(meta, body []byte) (Appended, error) {
	if len(meta) == 0 {
		if s := l.tail.Load(); s != nil && len(body) <= maxLaneBody {
			if a, done, err := l.appendInLane(s, body); done || err != nil {
				return a, err
			}
		}
		return l.append(0, int64(len(body)), 1, body, nil)
	}
	length := int64(len(meta)) + int64(len(body))
	return l.append(len(meta), length, 1, nil, func(own claim, now int64) error {
		own.s.Fill(own.c, own.w, segment.KindMessage, now, meta, body)
		return nil
	})
}

// AppendFunc commits one message of n bytes that write puts straight into the
// log. If write fails or panics nothing is appended. It may be called again, for
// other memory, if the process was stopped meanwhile for longer than the stall
// time-out. The bytes are not zero at first, and must not be kept.
func (l *Log) AppendFunc(meta []byte, n int, write func([]byte) error) (Appended, error) {
	return l.append(len(meta), int64(len(meta))+int64(n), 1, nil, func(own claim, now int64) error {
		dst := own.s.Content(own.c.Off, own.w)
		n := copy(dst, meta)
		if err := write(dst[n:len(dst):len(dst)]); err != nil {
			return err
		}
		own.s.Finish(own.c, own.w, segment.KindMessage, now, len(meta))
		return nil
	})
}

// MaxContent is the size in bytes of the largest message, metadata included,
// that fits a segment of this queue.
func (l *Log) MaxContent() int64 { return l.maxContent }

// append commits a frame with a content of length bytes, meta of them metadata: what f
// writes, or body.
func (l *Log) append(meta int, length int64, count int, body []byte, f fill) (a Appended, err error) {
	if !l.takes(meta, length) {
		return a, l.refuse(meta, length)
	}
	for range maxRevocations {
		a, done, err := l.appendOnce(length, count, body, f)
		if done || err != nil {
			return a, err
		}
	}
	return a, ErrStalled
}

// maxRevocations is how often an append is tried again after others took this
// process for stopped: one that is so slow each time must not fill the disk with
// dead room.
const maxRevocations = 8

// takes reports whether a frame with so much content, meta bytes of it metadata, can
// be appended.
func (l *Log) takes(meta int, length int64) bool {
	return length >= int64(meta) && length <= l.maxContent && meta <= segment.MaxMeta && l.slot >= 0
}

// refuse says why it cannot.
func (l *Log) refuse(meta int, length int64) error {
	switch {
	case length < int64(meta):
		return fmt.Errorf("a message of %d bytes", length-int64(meta))
	case meta > segment.MaxMeta:
		return fmt.Errorf("%d bytes of metadata, at most %d fit: %w", meta, segment.MaxMeta, ErrTooLarge)
	case length > l.maxContent:
		return fmt.Errorf("%d bytes, at most %d fit a segment of %d bytes: %w", length, l.maxContent, l.settings.SegmentSize, ErrTooLarge)
	}
	return ErrReadOnly
}

// appendOnce claims room, fills it and commits. done is false if the claim was
// revoked meanwhile because this process was taken for stopped: nothing was
// published, and the caller tries again.
func (l *Log) appendOnce(length int64, count int, body []byte, f fill) (a Appended, done bool, err error) {
	ticket, ok := l.gate.enter()
	if !ok {
		return a, false, ErrClosed
	}
	var own claim
	guard, finished := mmap.Protect(), false
	defer func() {
		if !finished {
			l.breakOff(ticket, &own, guard, recover(), &err)
		}
	}()
	now := l.keeper.clock.now() // before the claim: see indexTime
	if err = l.claim(&own, length, count); err != nil {
		return a, false, err
	}
	l.stir()
	if f == nil {
		own.s.FillBody(own.c, own.w, now, body)
	} else if err = f(own, now); err != nil {
		return a, false, err
	}
	a, done, err = l.commit(&own)
	finished = true
	mmap.Unprotect(guard)
	l.gate.exit(ticket)
	return a, done, err
}

// A claim is room in the log that this handle owns.
type claim struct {
	s *seg // nil: nothing is claimed
	c segment.Cursor
	w segment.Word
}

// breakOff ends a call into the log that does not come to its end, by an error, the
// panic p, a fault or Goexit. A claim of an append, own, that was not committed becomes
// dead room at once, so that nobody waits for it. It is worth a function of its own
// because a call that does come to its end then pays for one plain defer, and no recover.
func (l *Log) breakOff(ticket uint32, own *claim, guard bool, p any, err *error) {
	defer l.gate.exit(ticket)      // even if the padding faults
	defer mmap.Recover(guard, err) // makes an error of p if that was a fault in a mapping
	if own != nil && own.s != nil {
		own.s.TryPad(own.c.Off, own.w)
	}
	if p != nil {
		panic(p)
	}
}

// commit publishes a claim that is filled.
func (l *Log) commit(own *claim) (a Appended, done bool, err error) {
	step.At(step.CommitBefore)
	s, next := own.s, own.c.After(own.w)
	if !s.Commit(own.c.Off, own.w) {
		own.s = nil // revoked
		return a, false, nil
	}
	step.At(step.CommitAfter)
	own.s = nil
	if s.Passes(own.c, next) {
		l.passed(s, own.c, next)
	}
	l.wake(WaitMessage)
	return Appended{own.c.Seq, s.position(next.Off)}, true, nil
}

// passed writes the hints that a committed frame from c to next is to leave.
func (l *Log) passed(s *seg, c, next segment.Cursor) {
	// A fault here must not make an error of an append that is done.
	var now int64
	if s.PassesStride(c, next) {
		now = indexTime()
		l.keeper.clock.advance(now)
	}
	if err := l.guarded(func() error { s.Passed(c, next, now); return nil }); err != nil {
		l.warn("cannot write hints", "segment", s.Path(), "err", err)
	}
}

// indexTime is what an entry of the sparse index says: no frame before it is later.
// A frame has the time at which its claim began, and all before it were claimed
// earlier; their clocks may lag, this one does not. If frames had the time at which
// they were committed, one whose writer was stopped in between could be later than
// frames behind it, and a search by time would pass over it.
func indexTime() int64 { return wallClock() }

// claim finds the tail and claims room there for a frame. The caller is inside
// the gate.
func (l *Log) claim(own *claim, length int64, count int) error {
	w := segment.ClaimWord(l.slot, count, length)
	if s := l.tail.Load(); s != nil && l.ctl.word(ctlPoison).Load() == 0 {
		c := s.ownTail()
		step.At(step.ClaimBefore)
		if s.ClaimFree(c.Off, w) {
			s.keepTail(c.After(w))
			step.At(step.ClaimAfter)
			*own = claim{s, c, w}
			return nil
		}
	}
	return l.claimAnywhere(own, w)
}

// claimAnywhere does what the short way of claim does not: it meets the frames of
// others, grows the file, seals the segment and rolls.
func (l *Log) claimAnywhere(own *claim, w segment.Word) error {
	if p := l.ctl.poisoned(); p != nil {
		return &PoisonError{*p}
	}
	size := w.Size()
	s := l.tail.Load()
	if s == nil {
		var err error
		if s, err = l.findTail(); err != nil {
			return err
		}
	}
	c := s.ownTail()
	for {
		there, err := s.Word(c.Off)
		if err != nil {
			return err
		}
		switch {
		case there == 0 && !s.Fits(c.Off, size):
			step.At(step.SealBefore)
			s.TrySeal(c.Off, l.slot)
			step.At(step.SealAfter)
		case there == 0 && c.Off+size+segment.SealBytes > s.Allocated():
			if err := step.Err(step.GrowBefore); err != nil {
				return err
			}
			err := s.Grow(c.Off + size + segment.SealBytes)
			if errors.Is(err, ErrDiskFull) && l.keeper.havePrepared() {
				// The last room is in the segment that we keep ready.
				if err = l.dropPrepared(); err == nil {
					continue
				}
			}
			if err != nil {
				return err
			}
			step.At(step.GrowAfter)
			l.keeper.kick() // it lags behind
		case there == 0:
			step.At(step.ClaimBefore)
			if s.TryClaim(c.Off, w) {
				s.keepTail(c.After(w))
				step.At(step.ClaimAfter)
				*own = claim{s, c, w}
				return nil
			}
		case there.Sealed():
			if s, err = l.roll(s, c, there); err != nil {
				return err
			}
			c = s.ownTail()
		default:
			c = c.After(there)
		}
	}
}

// findTail opens the segment where this handle's first append begins to look for
// room. Until then the handle holds none: whoever only reads must not keep the disk
// space of one that was trimmed long ago.
func (l *Log) findTail() (*seg, error) {
	l.rolling.Lock()
	defer l.rolling.Unlock()
	if s := l.tail.Load(); s != nil {
		return s, nil
	}
	s, _, err := l.settledSegment()
	if err == nil {
		l.tail.Store(s)
	}
	return s, err
}

// roll makes the segment after s, which is sealed by w at end, the one where
// this handle appends, and makes it at all if nobody did.
func (l *Log) roll(s *seg, end segment.Cursor, w segment.Word) (*seg, error) {
	l.rolling.Lock()
	defer l.rolling.Unlock()
	if now := l.tail.Load(); now != s {
		return now, nil // another goroutine of this handle was faster
	}
	if err := l.keepInReach(end.Seq); err != nil {
		return nil, err
	}
	n, err := l.successor(&l.table, s, end, w)
	for err == nil && n == nil && !l.trimmedAway(s, end, w) {
		if err = l.makeRoom(s, end); err == nil {
			n, err = l.makeSuccessor(s, end, w)
		} else if errors.Is(err, ErrFull) {
			// The last room may be the successor that another one made meanwhile.
			var nerr error
			if n, nerr = l.successor(&l.table, s, end, w); nerr != nil || n != nil || l.trimmedAway(s, end, w) {
				err = nerr
			}
		}
	}
	if err != nil {
		return nil, err
	}
	// Asked once more now that it is there: a file made too late is a relic.
	if l.trimmedAway(s, end, w) {
		l.table.release(n)
		return l.overtaken(s, successorName(s.First, end, w))
	}
	l.tail.Store(n)
	l.keeper.retire(s)
	return n, nil
}

// keepInReach syncs before the log runs 2^32 messages ahead of the durable
// position: recovery relies on it when it jumps beyond every sequence number
// that was ever handed out. A segment holds fewer than 2^27, and this is asked
// once for each.
func (l *Log) keepInReach(seq uint64) error {
	const reach = 1<<32 - 1<<28
	if seq < l.ctl.word(ctlDurableSeq).Load()+reach { // others may be ahead of us
		return nil
	}
	return l.awaitDurable(context.Background(), target{seq: seq - reach/2}, l.closing)
}

// trimmedAway reports whether the successor of s, which is sealed by w at end,
// was trimmed: then that it is not there means nothing.
func (l *Log) trimmedAway(s *seg, end segment.Cursor, w segment.Word) bool {
	return w.Sealed() && successorName(s.First, end, w) < l.ctl.oldest()
}

// overtaken: the log was trimmed beyond s while this handle slept, and a file
// with the name of its successor would be a relic. Begin again from what is kept.
func (l *Log) overtaken(s *seg, first uint64) (*seg, error) {
	kept, err := l.keptSegment()
	if err != nil {
		return nil, err
	}
	if err := l.log.Unlink(segment.Name(first)); err != nil && !isNotExist(err) {
		l.table.release(kept)
		return nil, err
	}
	l.tail.Store(kept)
	l.keeper.retire(s)
	return kept, nil
}

// makeSuccessor makes the segment after s. Any number of processes may do so at
// once: the name is linked by exactly one, and the others use that. nil without
// an error: it was linked, and trimmed already.
func (l *Log) makeSuccessor(s *seg, end segment.Cursor, w segment.Word) (*seg, error) {
	n, err := l.linkNext(s, end, successorName(s.First, end, w), s.Epoch, l.nextTempName())
	if isExist(err) {
		n, err = l.successor(&l.table, s, end, w)
		if err == nil && n == nil && !l.trimmedAway(s, end, w) {
			err = fmt.Errorf("%s appeared and vanished: is somebody removing files by hand?", l.log.Join(segment.Name(successorName(s.First, end, w))))
		}
	}
	return n, err
}

func (l *Log) nextTempName() string {
	return tempName(l.slot, l.incarnation, l.keeper.temporaries.Add(1))
}

// linkNext makes a segment whole under a temporary name, syncs it, and only
// then gives it its name: whoever finds the name finds a whole segment, also
// after a power loss.
func (l *Log) linkNext(s *seg, end segment.Cursor, first, epoch uint64, temp string) (*seg, error) {
	made, temp, prepared, err := l.newFile(temp, s.Size)
	if err != nil {
		return nil, err
	}
	step.At(step.RollTempMade)
	made.SetHeader(segment.Header{
		Size: s.Size, Ordinal: s.Ordinal + 1, First: first, Epoch: epoch,
		PrevFirst: s.First, PrevEnd: end.Seq, Durable: uint64(l.ctl.durable()),
		Salt: newSalt(), Created: time.Now().UnixNano(), Queue: l.ctl.queue,
	})
	err = made.FlushShared()
	if err == nil && !prepared { // of a prepared one the pages ahead are not worth writing
		err = made.File().Sync()
	}
	step.At(step.RollHeaderSynced)
	name := segment.Name(first)
	if err == nil {
		err = l.log.Link(temp, name)
	}
	step.At(step.RollLinked)
	err = errors.Join(err, l.log.Unlink(temp))
	step.At(step.RollTempUnlinked)
	if err != nil {
		return nil, joinFirst(err, made.Close())
	}
	if err := l.log.Sync(); err != nil {
		return nil, joinFirst(l.poison(err), made.Close())
	}
	// Not before the name is on disk, or a power loss could leave a control file that
	// misses a segment.
	if err := l.proclaim(made, first); err != nil {
		return nil, joinFirst(err, made.Close())
	}
	made.SetLinked()
	step.At(step.RollDirSynced)
	made.Rename(l.log.Join(name))
	return l.table.adopt(made)
}

// proclaim says that the segment was given its name: from here on it is missing if
// it is not there. If somebody removed it before it was said, another process may
// have made it anew; then only the one that has the name counts.
func (l *Log) proclaim(made *segment.Segment, first uint64) error {
	segment.RaiseMax(l.ctl.word(ctlNewest), first)
	ours, err := made.File().ID()
	if err != nil {
		return err
	}
	named, err := l.log.Open(segment.Name(first), true)
	if err == nil {
		var id mmap.FileID
		id, err = named.ID()
		err = errors.Join(err, named.Close())
		if err == nil && id == ours {
			return nil
		}
	}
	if err != nil && !isNotExist(err) {
		return err
	}
	if first < l.ctl.oldest() {
		return nil // trimmed, or a relic that was removed: see roll
	}
	return l.vanished(first)
}
