package wal

import (
	"sync/atomic"
	"time"

	"github.com/walq/walq/internal/step"
	"github.com/walq/walq/mmap"
	"github.com/walq/walq/segment"
)

// A lane is where the goroutines of a handle append short bodies one after another: in
// one line, with as little as the protocol asks for, and the frames that they write stay
// in the cache of one processor. It is a courtesy between them and protects nothing: the
// frame's word is the claim, here as elsewhere. Who finds the lane taken appends beside it,
// at once. So one whose holder lost its processor, or stopped at a debugger, keeps nobody.
//
// Its word is also the handle's own tail of the segment, so that taking the lane tells
// where to append, and leaving it moves the tail: the offset in units of 8 in the low 32
// bits, the sequence number less the segment's first above, laneTaken on top; 0: not
// known yet. What is further on in the segment is the greater word. The tail never goes
// back, for it not only spares walking, it also tells whether this handle has something to
// sync: see behind. Nobody else can write it, so it bears no check.
//
// Who is in a lane does not count in the gate. Only the lane of the handle's tail can be
// held for long: whoever takes another one, or comes after the gate was closed, sees that
// before it touches the mapping, and leaves. So a segment that was the tail may go when
// its lane was once seen free after that: see releaseRetired and drainLanes.
type lane struct {
	_    [64]byte // the word changes with every append, what is around it never
	word atomic.Uint64
	_    [56]byte
}

const (
	laneTaken = 1 << 63
	// maxLaneBody is the longest body, in bytes, that is copied in the lane. Of longer ones
	// several may well be copied at once.
	maxLaneBody = 2 << 10
)

func (n *lane) taken() bool { return n.word.Load()&laneTaken != 0 }

// leave leaves the lane, which was taken when its word was at, and moves the tail to next
// unless somebody beside the lane moved it further meanwhile.
func (n *lane) leave(at, next uint64) {
	if n.word.CompareAndSwap(at|laneTaken, next) {
		return
	}
	for {
		w := n.word.Load()
		if n.word.CompareAndSwap(w, max(w&^laneTaken, next)) {
			return
		}
	}
}

// appendInLane appends a body to s, where the handle appends, if nothing is in the way:
// done is false if there is, and nothing was appended.
func (l *Log) appendInLane(s *seg, body []byte) (a Appended, done bool, err error) {
	n := &s.lane
	at := n.word.Load()
	if at&laneTaken != 0 || at == 0 || !n.word.CompareAndSwap(at, at|laneTaken) {
		return a, false, nil
	}
	if l.tail.Load() != s || l.gate.closed.Load() { // no look at the mapping before this
		n.leave(at, at)
		return a, false, nil
	}
	c, claimed := s.laneCursor(at), false
	w := segment.ClaimWord(l.slot, 1, int64(len(body)))
	guard, finished := mmap.Protect(), false
	defer func() {
		if !finished {
			l.breakOffLane(claim{s, c, w}, at, claimed, guard, recover(), &err)
		}
	}()
	now := l.keeper.clock.now() // before the claim: see indexTime
	step.At(step.ClaimBefore)
	// ClaimFree, but no call.
	free := s.HasRoom(c.Off, w) && s.IsFree(c.Off)
	if l.ctl.word(ctlPoison).Load() == 0 && (free && s.TryClaim(c.Off, w) || s.claimBehind(&c, w)) {
		claimed = true
		step.At(step.ClaimAfter)
		s.FillBody(c, w, now, body)
		step.At(step.CommitBefore)
		done = s.Commit(c.Off, w) // if not, it was revoked
		claimed = false
	}
	next := at
	if done {
		step.At(step.CommitAfter)
		end := c.After(w)
		if s.Passes(c, end) {
			l.passed(s, c, end)
		}
		if l.waker != nil && l.ctl.word(waiterSummary(WaitMessage)).Load() != 0 {
			l.wakeSleepers(WaitMessage)
		}
		a = Appended{c.Seq, s.position(end.Off)}
		next = lanePlace(end, s.First)
	}
	n.leave(at, next)
	finished = true
	mmap.Unprotect(guard)
	if done && !l.keeper.awake.Load() { // after the tail was moved: see rest
		l.stirResting()
	}
	return a, done, nil
}

// claimBehind claims room for w behind the frames of others that stand at c, and says
// where. false: it takes more than going past them.
func (s *seg) claimBehind(c *segment.Cursor, w segment.Word) bool {
	for {
		there, err := s.Word(c.Off)
		if err != nil || there == 0 || there.Sealed() {
			return false
		}
		*c = c.After(there)
		if s.ClaimFree(c.Off, w) {
			return true
		}
	}
}

// breakOffLane is breakOff of an append in the lane. The tail goes past what the append
// leaves behind: if that was committed already, it is to be synced like all else.
func (l *Log) breakOffLane(own claim, at uint64, claimed, guard bool, p any, err *error) {
	next := at
	defer func() { own.s.lane.leave(at, next) }()
	defer mmap.Recover(guard, err)
	if claimed {
		own.s.TryPad(own.c.Off, own.w)
	}
	if there, werr := own.s.Word(own.c.Off); werr == nil && there != 0 && !there.Sealed() {
		next = lanePlace(own.c.After(there), own.s.First)
	}
	if p != nil {
		panic(p)
	}
}

func (s *seg) laneCursor(at uint64) segment.Cursor {
	return segment.Cursor{Off: int64(at&(1<<32-1)) << 3, Seq: s.First + at&^laneTaken>>32}
}

func lanePlace(c segment.Cursor, first uint64) uint64 {
	return (uint64(c.Off)>>3 | (c.Seq-first)<<32) &^ laneTaken
}

// ownTail is the place from which this handle's appenders walk.
func (s *seg) ownTail() segment.Cursor {
	if at := s.lane.word.Load() &^ laneTaken; at != 0 {
		return s.laneCursor(at)
	}
	return s.Tail()
}

// keepTail moves the handle's own tail to c, for an append beside the lane, unless somebody
// moved it further.
func (s *seg) keepTail(c segment.Cursor) {
	next := lanePlace(c, s.First)
	for {
		w := s.lane.word.Load()
		if w&^laneTaken >= next || s.lane.word.CompareAndSwap(w, next|w&laneTaken) {
			return
		}
	}
}

// drainLanes waits until nobody is in a lane. The gate is closed and drained, so no
// segment becomes the tail any more, and the keeper has ended.
func (l *Log) drainLanes() {
	for _, s := range append(l.keeper.listRetired(), l.tail.Load()) {
		for pause := time.Microsecond; s != nil && s.lane.taken(); pause = min(2*pause, time.Millisecond) {
			time.Sleep(pause)
		}
	}
}
