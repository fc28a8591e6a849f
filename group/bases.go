package group

import (
	"bytes"
	"fmt"
	"math"

	"github.com/walq/walq/internal/step"
	"github.com/walq/walq/mmap"
)

// How a group comes by a base, and what is known of the one before.

// newestBase is the newest record of a base, which counts unless it is newer than the
// generation.
func (g *File) newestBase() (Base, error) {
	rec, _, _, err := newestRecord(g.r.Bytes(grpBase, 2*recordSpacing), recordBytes, recordSpacing)
	if err != nil {
		return Base{}, &CorruptError{g.Path(), grpBase, err.Error()}
	}
	return decodeBase(rec), nil
}

// Ring is the ring as the base sees it that counts now. ok is false if somebody is
// making another base, or died doing so: that has to be done again.
func (g *File) Ring() (ring *Ring, ok bool, err error) {
	defer mmap.Recover(mmap.Protect(), &err)
	generation := g.r.Word(grpGeneration).Load()
	b, err := g.newestBase()
	if err != nil || b.Generation != generation {
		return nil, false, err
	}
	return &Ring{g.r, uint64(g.Entries), b}, true, nil
}

// A Mark says that the message behind the base by so many ordinals is finished.
type Mark struct {
	Behind int
	Seq    uint64
}

// A Before is what is finished by the base that counted last.
type Before struct {
	Base     Base
	From     uint64          // a sequence number below which all is finished
	Finished map[uint64]bool // and these behind it
}

// Before tells what is finished. After a power loss the file may be of different
// moments; what it says here was so at one of them.
func (g *File) Before() (was Before, err error) {
	defer mmap.Recover(mmap.Protect(), &err)
	if was.Base, err = g.newestBase(); err != nil {
		return was, err
	}
	was.From = was.Base.Seq
	if rec, _, _, err := newestRecord(g.r.Bytes(grpCheckpoint, 2*recordSpacing), recordBytes, recordSpacing); err == nil {
		if seq, base := decodeCheckpoint(rec); base == was.Base.Generation {
			was.From = max(was.From, seq)
		}
	}
	was.Finished = map[uint64]bool{}
	ring := g.countedBy()
	for i := range ring.entries {
		ring.noteFinished(i, Word(ring.at(i, entryWord).Load()), was.Finished)
	}
	return was, nil
}

// countedBy is the ring by the base that its entries were claimed in: the newest one,
// or that before it if somebody died who was making the newest.
func (g *File) countedBy() *Ring {
	both, counts := g.r.Bytes(grpBase, 2*recordSpacing), g.r.Word(grpGeneration).Load()
	newest, _ := g.newestBase()
	for i := range 2 {
		rec := bytes.Clone(both[i*recordSpacing : i*recordSpacing+recordBytes])
		if b := decodeBase(rec); validRecord(rec) && b.Generation == counts {
			newest = b
		}
	}
	return &Ring{g.r, uint64(g.Entries), newest}
}

// noteFinished notes the message of an entry whose word is w, if it is finished, of the
// ring's base.
func (g *Ring) noteFinished(i uint64, w Word, finished map[uint64]bool) {
	v := g.at(i, entrySeq).Load()
	behind := (w.lap() - g.lap(g.Base.Ordinal)) & (1<<lapBits - 1)
	if w.State() == Finished && behind < 1<<(lapBits-1) && v>>distBits == w.lap() {
		finished[g.Base.Seq+v&maxDistance] = true
	}
}

// Rebase gives the group another base, which begins at b.Seq; its ordinal and
// generation follow from the file. choose is called under the lock, so that what was
// known before can be looked at again; it returns false if nothing is to be done. marks
// says which of the messages behind the base need not be delivered, of those that were
// finished, also by who went on until the ring was emptied; nil: none. What is in the
// file is on disk when it returns.
//
// Errors: ErrBusy, and those of the functions.
func (g *File) Rebase(choose func(Before) (b Base, ok bool, err error), marks func(b Base, finished map[uint64]bool) ([]Mark, error)) error {
	return g.locked(lockBase, lockPatience, func() error {
		was, err := g.Before()
		if err != nil {
			return err
		}
		b, ok, err := choose(was)
		if err != nil || !ok {
			return err
		}
		return g.rebase(b, was.Finished, marks)
	})
}

func (g *File) rebase(b Base, finished map[uint64]bool, marks func(Base, map[uint64]bool) ([]Mark, error)) error {
	old := g.countedBy()
	ring := &Ring{r: g.r, entries: uint64(g.Entries)}
	for done := false; !done; {
		near := ring.Floor() / ring.entries
		top := ring.topLap(near)
		b.Ordinal = (top + 3) * ring.entries
		if err := g.writeBase(&b); err != nil {
			return err
		}
		ring.Base = b
		step.At(step.GroupBaseWritten)
		done = ring.reset(near, top, func(i uint64, w Word) { old.noteFinished(i, w, finished) })
	}
	if marks != nil {
		all, err := marks(b, finished)
		if err != nil {
			return err
		}
		for _, m := range all {
			if n := b.Ordinal + uint64(m.Behind); uint64(m.Behind) < ring.Window() && ring.Fits(m.Seq) {
				ring.at(n, entrySeq).Store(ring.seqWord(n, m.Seq))
				ring.at(n, entryWord).Store(uint64(finishedWord(ring.lap(n))))
			}
		}
	}
	step.At(step.GroupRingReset)
	ring.word(grpPassed).Store(b.Generation << passedBits)
	ring.word(grpFloor).Store(b.Ordinal)
	step.At(step.GroupFloorSet)
	ring.word(grpGeneration).Store(b.Generation)
	ring.word(grpRetry).Add(1)
	step.At(step.GroupBaseCounts)
	return g.r.Flush(grpFloor, g.r.Len()-grpFloor)
}

// writeBase writes the record of the base after the one that counts, on disk too, in
// the place of whatever there was of one: who made that did not come to its end.
func (g *File) writeBase(b *Base) error {
	both := g.r.Bytes(grpBase, 2*recordSpacing)
	counts := g.r.Word(grpGeneration).Load()
	if _, newest, _, err := newestRecord(both, recordBytes, recordSpacing); err == nil && newest != counts {
		counts = newest - 1 // what is behind it was never in force, or is of another moment
	}
	if counts >= math.MaxUint64-2 {
		return &CorruptError{g.Path(), grpGeneration, fmt.Sprintf("generation %d of the base", counts)}
	}
	b.Generation = counts + 1
	at := 0
	if first := both[:recordBytes]; validRecord(first) && decodeBase(first).Generation == counts {
		at = recordSpacing
	}
	encodeBase(both[at:at+recordBytes], *b)
	return g.r.Flush(grpBase, 2*recordSpacing)
}

// topLap is the highest lap of any entry, not modulo anything; near is one of about
// now.
func (g *Ring) topLap(near uint64) uint64 {
	top := near
	for i := range g.entries {
		top = max(top, g.fullLap(Word(g.at(i, entryWord).Load()), near))
	}
	return top
}

// fullLap is the lap of a word, which is near another one.
func (g *Ring) fullLap(w Word, near uint64) uint64 {
	ahead := (w.lap() - near) & (1<<lapBits - 1)
	if ahead >= 1<<(lapBits-1) { // behind
		return near - min(near, 1<<lapBits-ahead)
	}
	return near + ahead
}

// reset makes every entry finished, of the lap before the base's ordinal, two above
// top. false: somebody who counts by the old base went on meanwhile, to laps that are
// too near; then it has to be tried again from a higher one.
func (g *Ring) reset(near, top uint64, was func(i uint64, w Word)) bool {
	empty := uint64(finishedWord((top + 2) & (1<<lapBits - 1)))
	for i := range g.entries {
		for w := g.at(i, entryWord); ; {
			old := w.Load()
			if old != empty && g.fullLap(Word(old), near) > top {
				return false
			}
			if w.CompareAndSwap(old, empty) {
				was(i, Word(old))
				break
			}
		}
	}
	return true
}
