package wal

import (
	"bytes"
	"fmt"
	"math"

	"github.com/walq/walq/internal/crc32c"
	"github.com/walq/walq/segment"
)

// What must be true of the control file. Verify reports what is not, repair writes
// what would be: both ask here.

// findings are what the frames say, against which the shared words are held.
type findings struct {
	wanted   []Position
	marks    map[Position]mark
	known    bool // the walk came to the end of the log
	end      Position
	final    mark // of end: behind the last frame before the first claim
	stopped  bool // a claim was met
	maxEpoch uint64
	last     uint64 // first sequence number of the last segment
}

// A mark is a place at which a frame starts, or the frames of a segment end.
type mark struct{ seq, first uint64 }

func (f *findings) reach(h segment.Header, c segment.Cursor) {
	p := makePosition(h.Ordinal, c.Off)
	for _, want := range f.wanted {
		if p == want {
			f.marks[p] = mark{c.Seq, h.First}
		}
	}
	if !f.stopped {
		f.end, f.final = p, mark{c.Seq, h.First}
	}
}

func (f *findings) claimed() { f.stopped = true }

func fixControl(off int64, v uint64, format string, args ...any) segment.Fix {
	data := make([]byte, 8)
	putWord(data, v)
	return segment.Fix{Offset: off, Reason: fmt.Sprintf(format, args...), Data: data}
}

// mendIdentity gives the page with the one bit corrected that is wrong in it, if
// one wrong bit is what is wrong, and where it is.
func mendIdentity(page []byte) (mended []byte, at int64, ok bool) {
	sum := uint32(getWord(page[ctlChecksum:]))
	bit, ok := segment.WrongBit(page[:ctlChecksum], sum)
	if !ok {
		return nil, 0, false
	}
	mended = bytes.Clone(page)
	mended[bit/8] ^= 1 << (bit % 8)
	return mended, int64(bit / 8), true
}

// controlGaps are the parts of the control file that nothing is ever written to.
func controlGaps(yield func(from, to int)) {
	yield(ctlChecksum+4, ctlSettings)
	for _, at := range []int{ctlSettings, ctlSettings + recordSpacing, ctlBoot, ctlBoot + recordSpacing} {
		yield(at+recordBytes, at+recordSpacing)
	}
	yield(ctlBoot+2*recordSpacing, ctlDurable)
	yield(ctlTrimCheck+8, ctlSettled)
	yield(ctlNewest+8, ctlPoison)
	yield(ctlPoisonLength+8, ctlIntentOwner)
	yield(ctlIntentEnd+8, ctlGather)
	yield(ctlGather+8, ctlOldest)
	yield(ctlOldest+8, ctlPoisonReason)
	yield(ctlPoisonReason+poisonReasonSize, ctlWaiters)
	for r := range 4 {
		at := ctlWaiters + r*waiterSpacing
		yield(at+8, at+waiterLeaves)
	}
	yield(ctlWaiters+4*waiterSpacing, ctlParticipants)
	for slot := range maxSlots {
		at := ctlParticipants + slot*participantSize
		yield(at+parVersion+8, at+participantSize)
	}
}

// reservedFixes finds what is not zero where nothing is ever written.
func reservedFixes(page []byte) (all []segment.Fix) {
	if getWord(page[ctlCompatible:]) != 0 {
		return nil // a later version may use it
	}
	controlGaps(func(from, to int) {
		for i, b := range page[from:to] {
			if b != 0 {
				all = append(all, segment.Fix{Offset: int64(from + i), Reason: "a reserved byte is not zero", Data: make([]byte, to-from-i)})
				return
			}
		}
	})
	return all
}

// participantFixes finds what no participant leaves behind: a slot that was never
// owned is empty, unless its first owner died while it wrote, and one that was has
// its owner's version.
func participantFixes(page []byte) (all []segment.Fix) {
	for slot := range maxSlots {
		at := ctlParticipants + slot*participantSize
		p := page[at : at+participantSize]
		get := func(field int) uint64 { return getWord(p[field:]) }
		state, version, owned := get(parState), get(parVersion), get(parIncarnation) != 0
		switch {
		case state != 1 && (!owned || version == 0) && !allZero(p[:parVersion+8]):
			all = append(all, segment.Fix{Offset: int64(at), Reason: fmt.Sprintf("slot %d was never in use and is not empty", slot), Data: make([]byte, participantSize)})
		case state > 1 && version > controlVersion:
			all = append(all, segment.Fix{Offset: int64(at), Reason: fmt.Sprintf("slot %d holds nothing that a participant writes", slot), Data: make([]byte, participantSize)})
		case state > 1:
			all = append(all, fixControl(int64(at+parState), 0, "slot %d is in the state %d", slot, state))
		case version > controlVersion, version == 0 && owned:
			all = append(all, fixControl(int64(at+parVersion), controlVersion, "the owner of slot %d writes version %d of the format", slot, version))
		}
	}
	return all
}

// announcedTrim is the number from which the log will count as soon as somebody
// recovers, because trimming was about to raise the oldest one to it; else oldest.
func announcedTrim(page []byte, exists func(first uint64) bool) uint64 {
	oldest, to := getWord(page[ctlOldest:]), getWord(page[ctlTrimTo:])
	if getWord(page[ctlTrimCheck:]) == ^to && to > oldest && exists(to) {
		return to
	}
	return oldest
}

func allZero(p []byte) bool {
	for _, b := range p {
		if b != 0 {
			return false
		}
	}
	return true
}

// recordFixes finds records that are neither valid nor empty. One that does not
// count is not missed, but if it is the newer one, what counts is out of date.
func recordFixes(page []byte) (all []segment.Fix) {
	for _, at := range []int64{ctlSettings, ctlSettings + recordSpacing, ctlBoot, ctlBoot + recordSpacing} {
		rec := page[at : at+recordBytes]
		sum := uint32(getWord(rec[recChecksum-4:]) >> 32)
		generation := getWord(rec[recGeneration:])
		valid := sum == crc32c.Update(0, rec[:recChecksum]) && generation != 0 && generation != math.MaxUint64
		if valid || allZero(rec) {
			continue
		}
		bit, ok := segment.WrongBit(rec[:recChecksum], sum)
		switch {
		case ok:
			mended := bytes.Clone(rec)
			mended[bit/8] ^= 1 << (bit % 8)
			all = append(all, segment.Fix{Offset: at, Reason: "a record with one wrong bit", Data: mended})
		default:
			all = append(all, segment.Fix{Offset: at, Reason: "a record that is neither valid nor empty", Data: make([]byte, recordBytes)})
		}
	}
	return all
}

// controlFixes finds shared words that do not agree with the log. Nobody has the
// queue open, and it awaits no recovery after a power loss. The names of the segments
// in which the positions lie are hints that are checked at each use, and the intent's
// owner, the turn to sync and the waiters may be anything.
func controlFixes(page []byte, b boot, f findings) (all []segment.Fix) {
	get := func(off int64) uint64 { return getWord(page[off:]) }
	add := func(off int64, v uint64, format string, args ...any) {
		all = append(all, fixControl(off, v, format, args...))
	}
	if !f.known {
		return nil // where the log ends nobody can tell
	}
	durable, at := Position(get(ctlDurable)), mark{}
	if m, ok := f.marks[durable]; !ok || durable > f.end || b.clean && durable != f.end {
		add(ctlDurable, uint64(f.end), "the durable position (%v) is not where a frame ends, or not where the log does (%v)", durable, f.end)
		durable, at = f.end, f.final
	} else {
		at = m
	}
	if seq := get(ctlDurableSeq); seq > at.seq || b.clean && seq != at.seq {
		add(ctlDurableSeq, at.seq, "the durable sequence number is %d; at the durable position it is %d", seq, at.seq)
	}
	settled := Position(get(ctlSettled))
	if _, ok := f.marks[settled]; settled > durable && (!ok || settled > f.end) || b.clean && settled != f.end {
		add(ctlSettled, uint64(durable), "the settled position (%v) is not where a frame ends, or not where the log does (%v)", settled, f.end)
	}
	if newest := get(ctlNewest); newest > f.last {
		add(ctlNewest, f.last, "the newest segment is said to start at sequence number %d, which is not there; the last one starts at %d", newest, f.last)
	}
	if end := Position(get(ctlIntentEnd)); end > f.end {
		add(ctlIntentEnd, uint64(durable), "somebody is said to have seen frames up to %v; the log ends at %v", end, f.end)
	}
	return all
}

// wellPoisoned reports whether the queue is poisoned in the way in which a failed sync
// poisons it: that is no fault of the files, and stat shows it.
func wellPoisoned(page []byte) bool {
	return getWord(page[ctlPoison:]) == 2 && getWord(page[ctlPoisonTime:]) != 0 && getWord(page[ctlPoisonLength:]) <= poisonReasonSize
}

// poisonFixes tells that the queue is poisoned, or that what is left of a poison
// does not make one.
func poisonFixes(page []byte) (all []segment.Fix) {
	state := getWord(page[ctlPoison:])
	switch {
	case state == 0 && !allZero(page[ctlPoisonTime:ctlPoisonLength+8]):
		all = append(all, segment.Fix{Offset: ctlPoisonTime, Reason: "the queue is not poisoned, but the time, slot or length of the reason is set", Data: make([]byte, 24)})
	case state == 0 && !allZero(page[ctlPoisonReason:ctlPoisonReason+poisonReasonSize]):
		all = append(all, segment.Fix{Offset: ctlPoisonReason, Reason: "the queue is not poisoned, but a reason is there", Data: make([]byte, poisonReasonSize)})
	case state == 1:
		all = append(all, fixControl(ctlPoison, 0, "the queue is poisoned: a sync failed; `walq repair` ends that"))
	case state == 2:
		n := min(getWord(page[ctlPoisonLength:]), poisonReasonSize)
		all = append(all, fixControl(ctlPoison, 0, "the queue is poisoned: %s; `walq repair` ends that", page[ctlPoisonReason:ctlPoisonReason+int64(n)]))
	case state > 2:
		all = append(all, fixControl(ctlPoison, 0, "the word that says whether the queue is poisoned is %d", state))
	}
	return all
}
