package group

import (
	"sync/atomic"

	"github.com/walq/walq/internal/step"
	"github.com/walq/walq/mmap"
)

// A Ring is the shared part of a group as one base of it sees it. The order of the
// accesses in each method is the protocol; see docs/adr/0021-groups.md.
type Ring struct {
	r       *mmap.Region
	entries uint64 // a power of two
	Base    Base
}

// A Lease is what one delivery holds, of the ring or of a delay file. It is for one
// goroutine at a time.
type Lease struct {
	Ordinal uint64 // or the number of the cell
	Word    Word
	time    uint64 // as last stored by us
}

// An Outcome is what came of an attempt to claim an ordinal.
type Outcome int

// The outcomes.
const (
	Claimed Outcome = iota
	Taken           // somebody has it, or had: go on with the next
	Full            // the window is full: the floor must rise first
	Stale           // what the caller knows of the ring is old: join again
)

func (g *Ring) word(off int64) *atomic.Uint64 { return g.r.Word(off) }

func (g *Ring) at(n uint64, field int64) *atomic.Uint64 {
	return g.r.Word(grpRing + int64(n&(g.entries-1))*entryBytes + field)
}

func (g *Ring) lap(n uint64) uint64 { return n / g.entries & (1<<lapBits - 1) }

// Floor is the ordinal below which all are finished.
func (g *Ring) Floor() uint64 { return g.word(grpFloor).Load() }

// Generation is that of the base which counts now.
func (g *Ring) Generation() uint64 { return g.word(grpGeneration).Load() }

// Entries is how many ordinals the ring has room for. One of them is that below the
// floor, which says where the floor is in the log; so one less may be in flight.
func (g *Ring) Entries() uint64 { return g.entries }

// Window is how many messages may be in flight.
func (g *Ring) Window() uint64 { return g.entries - 1 }

// distance is a sequence number as the ring keeps it.
func (g *Ring) distance(seq uint64) (uint64, bool) {
	return seq - g.Base.Seq, seq >= g.Base.Seq && seq-g.Base.Seq <= maxDistance
}

func (g *Ring) seqWord(n, seq uint64) uint64 {
	d, _ := g.distance(seq)
	return g.lap(n)<<distBits | d
}

// Fits reports whether the ring can keep this sequence number. Where it cannot, the
// group needs another base.
func (g *Ring) Fits(seq uint64) bool {
	_, ok := g.distance(seq)
	return ok
}

// Claim leases the ordinal n, which stands for the message seq and was never handed
// out, until the deadline, in milliseconds since the boot. If the outcome is not
// Claimed nothing was changed.
func (g *Ring) Claim(n, seq uint64, o Owner, deadline int64) (l Lease, _ Outcome) {
	floor, lap := g.Floor(), g.lap(n)
	switch {
	case n < floor:
		return l, Stale
	case n-floor >= g.Window():
		return l, Full
	}
	w0 := g.at(n, entryWord)
	w := Word(w0.Load())
	switch {
	case w.lap() == lap:
		return l, Taken
	case w.State() != Finished || w.lap() != (lap-1)&(1<<lapBits-1):
		return l, Stale
	}
	oldSeq, oldTime := g.at(n, entrySeq).Load(), g.at(n, entryTime).Load()
	leased := makeWord(Leased, lap, o, 1, 0)
	step.At(step.GroupClaimBefore)
	if !w0.CompareAndSwap(uint64(w), uint64(leased)) {
		return l, Taken
	}
	step.At(step.GroupClaimed)
	l = Lease{n, leased, oldTime}
	g.storeSeq(&l, oldSeq, seq)
	step.At(step.GroupSeqStored)
	g.Extend(&l, deadline)
	step.At(step.GroupDeadlineStored)
	return l, Claimed
}

// Take leases an ordinal whose word w is Ready, or Waiting and due. seq is its message.
func (g *Ring) Take(n uint64, w Word, seq uint64, o Owner, deadline int64) (l Lease, ok bool) {
	if s := w.State(); s != Ready && s != Waiting || w.lap() != g.lap(n) {
		return l, false
	}
	oldSeq, oldTime := g.at(n, entrySeq).Load(), g.at(n, entryTime).Load()
	leased := w.leased(o)
	step.At(step.GroupTakeBefore)
	if !g.at(n, entryWord).CompareAndSwap(uint64(w), uint64(leased)) {
		return l, false
	}
	step.At(step.GroupTaken)
	l = Lease{n, leased, oldTime}
	if oldSeq>>distBits != g.lap(n) { // its first owner did not come that far
		g.storeSeq(&l, oldSeq, seq)
	}
	g.Extend(&l, deadline)
	return l, true
}

// storeSeq notes which message the lease is of. old was loaded before the lease was
// ours: whoever sleeps here for a lap must not write into another's entry. And it tries
// again, unless the lease is lost: a holder of another base may have come late.
func (g *Ring) storeSeq(l *Lease, old, seq uint64) {
	w := g.at(l.Ordinal, entrySeq)
	for g.Held(l) && !w.CompareAndSwap(old, g.seqWord(l.Ordinal, seq)) {
		if old = w.Load(); old>>distBits == l.Word.lap() {
			return // somebody who held it after us, or before
		}
	}
}

// Finish ends the lease: its message is done with. false: the lease was lost.
func (g *Ring) Finish(l *Lease) bool {
	step.At(step.GroupFinishBefore)
	ok := g.at(l.Ordinal, entryWord).CompareAndSwap(uint64(l.Word), uint64(finishedWord(l.Word.lap())))
	if ok {
		step.At(step.GroupFinished)
		g.word(grpFinished).Add(1)
	}
	return ok
}

// SendBack ends the lease: its message is to be handed out again, not before due, in
// milliseconds since the Unix epoch, if that is not 0. false: the lease was lost.
func (g *Ring) SendBack(l *Lease, due int64) bool {
	if due <= 0 {
		return g.giveBack(l, l.Word.sentBack(Ready, false))
	}
	return g.giveBackUntil(l, l.Word.sentBack(Waiting, false), due)
}

// Delay is SendBack for a message that was not handed out: that does not count as a
// delivery.
func (g *Ring) Delay(l *Lease, due int64) bool { return g.giveBackUntil(l, l.Word.notYet(), due) }

func (g *Ring) giveBackUntil(l *Lease, w Word, due int64) bool {
	if !g.storeTime(l, makeTime(w.tag()|dueBit, due)) {
		return false
	}
	step.At(step.GroupDueStored)
	return g.giveBack(l, w)
}

func (g *Ring) giveBack(l *Lease, w Word) bool {
	if !g.at(l.Ordinal, entryWord).CompareAndSwap(uint64(l.Word), uint64(w)) {
		return false
	}
	step.At(step.GroupSentBack)
	g.word(grpRetry).Add(1)
	return true
}

// Extend moves the lease's end, in milliseconds since the boot. false: the lease was
// lost.
func (g *Ring) Extend(l *Lease, deadline int64) bool {
	return g.storeTime(l, makeTime(l.Word.tag(), deadline))
}

// storeTime stores the time word of a lease, unless the lease is lost. By
// compare-and-swap: its holder may have slept since it looked.
func (g *Ring) storeTime(l *Lease, v uint64) bool {
	return storeTime(g.at(l.Ordinal, entryWord), g.at(l.Ordinal, entryTime), l, v)
}

func storeTime(word, time *atomic.Uint64, l *Lease, v uint64) bool {
	for Word(word.Load()) == l.Word {
		if time.CompareAndSwap(l.time, v) {
			l.time = v
			return Word(word.Load()) == l.Word
		}
		l.time = time.Load() // of a former owner that came late
	}
	return false
}

// Held reports whether the lease is still the holder's.
func (g *Ring) Held(l *Lease) bool { return Word(g.at(l.Ordinal, entryWord).Load()) == l.Word }

// A Look is what an observer sees of an ordinal.
type Look struct {
	Word Word
	// Ends is when the lease ends, in milliseconds since the boot, or a waiting message
	// is due, since the Unix epoch. Known is false if the holder has not said yet.
	Ends  int64
	Known bool
}

// Look looks at the ordinal n. ok is false if nobody has claimed it yet, or not in
// this base.
func (g *Ring) Look(n uint64) (k Look, ok bool) {
	k.Word = Word(g.at(n, entryWord).Load())
	if k.Word.lap() != g.lap(n) {
		return k, false
	}
	tag, ms := timeOf(g.at(n, entryTime).Load())
	want := k.Word.tag()
	if k.Word.State() == Waiting {
		want |= dueBit
	}
	k.Ends, k.Known = ms, tag == want
	return k, true
}

// Release takes a lease from its holder, whose process died or whose time is over: the
// ordinal is Ready. false: it is no longer as it was seen.
func (g *Ring) Release(n uint64, w Word, died bool) bool {
	if w.State() != Leased {
		return false
	}
	step.At(step.LeaseRelease)
	ok := g.at(n, entryWord).CompareAndSwap(uint64(w), uint64(w.sentBack(Ready, died)))
	if ok {
		g.word(grpRetry).Add(1)
	}
	return ok
}

// Retries grows with every message that is sent back, or taken from its holder.
func (g *Ring) Retries() uint64 { return g.word(grpRetry).Load() }

// Advance raises the floor over what is finished, and returns it.
func (g *Ring) Advance() uint64 {
	floor := g.Floor()
	n := floor
	for ; n-floor < g.entries; n++ {
		if Word(g.at(n, entryWord).Load()) != finishedWord(g.lap(n)) {
			break
		}
	}
	step.At(step.GroupFloorBefore)
	if n > floor {
		raiseMax(g.word(grpFloor), n)
	}
	return n
}

// Overtaken reports whether another base is about to come into force, or is. A floor
// that was loaded before is else of this base: passed becomes another's first. Whoever
// walked on below a floor of another base would come to its ordinals with other messages.
func (g *Ring) Overtaken() bool { return !g.isOurs(g.word(grpPassed).Load()) }

// Pass notes that everything in the log before seq is done with. The caller has
// counted up to there and found the floor equal to the next ordinal. Once passed is
// another base's it stays so: whatever its generation is modulo 2^16.
func (g *Ring) Pass(seq uint64) {
	d := seq - g.Base.Seq
	if seq < g.Base.Seq || d >= 1<<passedBits {
		return
	}
	w, v := g.word(grpPassed), g.Base.Generation<<passedBits|d
	for old := w.Load(); g.isOurs(old) && old < v && !w.CompareAndSwap(old, v); {
		old = w.Load()
	}
}

// Start is where counting begins for somebody new: the next ordinal, and the sequence
// number from which on to look for its message. ok is false if it has to be asked
// again, since the floor moved, or because another base is being made.
func (g *Ring) Start() (n, seq uint64, ok bool) {
	passed := g.word(grpPassed).Load() // before the floor: what was passed then is below the floor now
	n = g.Floor()
	switch v := g.at(n-1, entrySeq).Load(); {
	case n == g.Base.Ordinal:
		seq = g.Base.Seq
	case v>>distBits != g.lap(n-1):
		return 0, 0, false
	default:
		seq = g.Base.Seq + v&maxDistance + 1
	}
	seq = max(seq, g.Base.Seq+passed&(1<<passedBits-1))
	return n, seq, g.isOurs(passed) && g.Generation() == g.Base.Generation
}

// Reach goes from the floor n, whose message has at least the number seq, over what is
// finished but not below the floor yet: the floor is raised in runs.
func (g *Ring) Reach(n, seq uint64) (uint64, uint64) {
	for range g.entries {
		v := g.at(n, entrySeq).Load()
		if Word(g.at(n, entryWord).Load()) != finishedWord(g.lap(n)) || v>>distBits != g.lap(n) {
			break
		}
		n, seq = n+1, max(seq, g.Base.Seq+v&maxDistance+1)
	}
	return n, seq
}

// raiseMax makes a word v, unless it is more already.
func raiseMax(w *atomic.Uint64, v uint64) {
	for {
		old := w.Load()
		if old >= v || w.CompareAndSwap(old, v) {
			return
		}
	}
}

// Counts are for information.
type Counts struct{ Finished, Redelivered, DeadLettered uint64 }

// Counts reads the counters.
func (g *Ring) Counts() Counts {
	return Counts{g.word(grpFinished).Load(), g.word(grpRedelivered).Load(), g.word(grpDeadLettered).Load()}
}

// CountRedelivered counts a message that was handed out again.
func (g *Ring) CountRedelivered() { g.word(grpRedelivered).Add(1) }

// CountDeadLettered counts a message that was given up.
func (g *Ring) CountDeadLettered() { g.word(grpDeadLettered).Add(1) }

// Paused reports whether nothing is to be delivered.
func (g *Ring) Paused() bool { return g.word(grpPaused).Load() != 0 }

// SetPaused pauses the group, or lets it go on.
func (g *Ring) SetPaused(on bool) {
	v := uint64(0)
	if on {
		v = 1
	}
	g.word(grpPaused).Store(v)
	g.word(grpRetry).Add(1)
}

// WantRoom notes that somebody waits for the floor to rise.
func (g *Ring) WantRoom() { g.word(grpWanted).Store(1) }

// RoomMayBeWanted reports whether it is worth to raise the floor for somebody.
func (g *Ring) RoomMayBeWanted() bool { return g.word(grpWanted).Load() != 0 }

// RoomWanted reports whether somebody waits for the floor to rise, and takes the note
// away: the caller wakes them.
func (g *Ring) RoomWanted() bool {
	w := g.word(grpWanted)
	return w.Load() != 0 && w.Swap(0) != 0
}

// Guarded runs f, which uses a ring, and makes an error of a fault in the mapped file.
func Guarded(f func() error) (err error) {
	guard, done := mmap.Protect(), false
	defer func() {
		if !done {
			breakOff(guard, recover(), &err)
		}
	}()
	err = f()
	done = true
	mmap.Unprotect(guard)
	return err
}

// breakOff makes an error of the panic p if that was a fault in a mapping, and passes it
// on if not. Who comes to the end without one does not pay for it.
func breakOff(guard bool, p any, err *error) {
	defer mmap.Recover(guard, err)
	if p != nil {
		panic(p)
	}
}
