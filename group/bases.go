package group

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/walq/walq/internal/step"
	"github.com/walq/walq/mmap"
)

// How a group comes by a base, and what is known of the one before.

// newestBase is the newest record of a base, which counts unless it is newer than the
// generation.
//
// The generation is stored once its record is on disk, so it is loaded first. If there
// is no such record that is damaged: by an older one the ring would be misread.
func (g *File) newestBase() (Base, error) {
	counts := g.r.Word(grpGeneration).Load()
	rec, _, _, err := newestRecord(load(g.r, grpBase, 2*recordSpacing), recordBytes, recordSpacing)
	if err != nil {
		return Base{}, &CorruptError{g.Path(), grpBase, err.Error()}
	}
	b := decodeBase(rec)
	if counts > b.Generation {
		return b, &CorruptError{g.Path(), grpBase, fmt.Sprintf("there is no record of the base in force, of generation %d", counts)}
	}
	return b, nil
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

// A Before is what is finished by the bases that there were.
type Before struct {
	Base     Base            // the newest, which may have never come into force
	From     uint64          // a sequence number below which all is finished
	Finished map[uint64]bool // and these behind it
	// Floors say, each of one base, that the floor was at least there.
	Floors []LeastFloor
}

// A LeastFloor is an ordinal below which all are finished, since another one was claimed a
// window further on. Of which message it is follows from the log, where messages count as
// ordinals do, and from those that are noted. More than one has to agree: a single wrong
// bit is not to be believed.
type LeastFloor struct {
	Ordinal uint64
	Noted   []Noted // in ascending order
}

// Noted is the message that an ordinal is of, by the ring.
type Noted struct{ Ordinal, Seq uint64 }

// Before tells what is finished. After a power loss the file may be of different
// moments; what it says here was so at one of them.
func (g *File) Before() (was Before, err error) {
	defer mmap.Recover(mmap.Protect(), &err)
	s, err := g.bases()
	if err != nil {
		return was, err
	}
	return s.all(), nil
}

// bases are those that something in the ring may be of. Two records alternate: the
// newest, and the one before it. The lap of an entry tells which of them it belongs to.
type bases struct {
	newest *Ring
	before *Ring // nil: there is no record of it
	// pending: the newest is not in force. Its maker died, or is at work; or the power
	// went, and the generation is of an earlier moment than the record.
	pending bool
}

func (g *File) bases() (s bases, err error) {
	newest, err := g.newestBase()
	if err != nil {
		return s, err
	}
	s.newest = &Ring{g.r, uint64(g.Entries), newest}
	s.pending = newest.Generation != s.newest.Generation()
	both := load(g.r, grpBase, 2*recordSpacing)
	for i := range 2 {
		rec := bytes.Clone(both[i*recordSpacing : i*recordSpacing+recordBytes])
		if b := decodeBase(rec); validRecord(rec) && b.Generation < newest.Generation {
			s.before = &Ring{g.r, uint64(g.Entries), b}
		}
	}
	d, err := g.lookForDelays()
	if err != nil {
		return s, err
	}
	if d != nil && !s.pending && d.r.Word(dlyForget).Load() == newest.Generation {
		s.before = nil // what was finished by it does not count, nor what was delayed
	}
	return s, nil
}

// inForce is by the base that came into force last; nil if nobody knows.
func (s bases) inForce() *Ring {
	if s.pending {
		return s.before
	}
	return s.newest
}

// of is the ring by the base that an entry of this lap belongs to; nil if that is one
// before both.
func (s bases) of(lap uint64) *Ring {
	for _, ring := range []*Ring{s.newest, s.before} {
		if ring != nil && ring.covers(lap) {
			return ring
		}
	}
	return nil
}

// covers reports whether a lap is not before that of the base's ordinal.
func (g *Ring) covers(lap uint64) bool {
	return (lap-g.lap(g.Base.Ordinal))&(1<<lapBits-1) < 1<<(lapBits-1)
}

// all is what is finished.
func (s bases) all() Before {
	was := Before{s.newest.Base, s.from(), map[uint64]bool{}, nil}
	for _, ring := range s.counting() {
		if f, ok := s.leastFloor(ring); ok {
			was.Floors = append(was.Floors, f)
		}
	}
	for i := range s.newest.entries {
		s.noteFinished(i, Word(s.newest.at(i, entryWord).Load()), was.Finished)
	}
	return was
}

// from is a sequence number below which all is finished. While the newest base is not in
// force, whoever makes it has not returned, and what was finished by the one before
// counts, even if the newest goes back behind that.
func (s bases) from() uint64 {
	from, end := uint64(0), uint64(math.MaxUint64)
	for _, ring := range s.counting() {
		from, end = max(from, ring.reached(end), s.claimedOver(ring)), ring.Base.Ordinal
	}
	return from
}

// counting are the bases by which what is finished counts, the newest first.
func (s bases) counting() []*Ring {
	if s.pending && s.before != nil {
		return []*Ring{s.newest, s.before}
	}
	return []*Ring{s.newest}
}

// noted are those messages of a base that the ring tells of, in the order of their
// ordinals, so far as they are in the order of the log too. Of what a damaged word says
// little is left.
func (s bases) noted(ring *Ring) (all []Noted) {
	for i := range ring.entries {
		v := ring.at(i, entrySeq).Load()
		if v != 0 && s.of(v>>distBits) == ring {
			all = append(all, Noted{ring.ordinal(v>>distBits, i), ring.Base.Seq + v&maxDistance})
		}
	}
	slices.SortFunc(all, func(a, b Noted) int { return cmp.Compare(a.Ordinal, b.Ordinal) })
	good := all[:0]
	most := uint64(0) // of those before
	for i, x := range all {
		if x.Seq > most && (i+1 == len(all) || x.Seq < all[i+1].Seq) {
			good = append(good, x)
		}
		most = max(most, x.Seq)
	}
	return good
}

// ordinal is that of a lap, which the base covers, and an entry.
func (g *Ring) ordinal(lap, i uint64) uint64 {
	first := g.Base.Ordinal / g.entries
	return (first+(lap-first)&(1<<lapBits-1))*g.entries + i
}

// claimedOver is a sequence number below which all is finished, since ordinals were
// claimed a window further on: those whose message is not noted yet, in the place of the
// one before, which is finished.
func (s bases) claimedOver(ring *Ring) (from uint64) {
	for _, x := range s.noted(ring) {
		w := Word(ring.at(x.Ordinal, entryWord).Load())
		if w.State() != Finished && w.lap() == ring.lap(x.Ordinal+ring.entries) {
			from = x.Seq + 1
		}
	}
	return from
}

// leastFloor is what the floor must have been for the last claim that the ring tells of.
func (s bases) leastFloor(ring *Ring) (f LeastFloor, ok bool) {
	f.Noted = s.noted(ring)
	for _, x := range f.Noted {
		if Word(ring.at(x.Ordinal, entryWord).Load()).lap() == ring.lap(x.Ordinal) && x.Ordinal+2 >= ring.entries {
			f.Ordinal = x.Ordinal + 2 - ring.entries
		}
	}
	return f, f.Ordinal > ring.Base.Ordinal
}

// reached is a sequence number below which all is finished by the base, as far as what
// the file holds says. Each of these words may be of another moment, and was true then.
// Ordinals from end on are of another base.
func (g *Ring) reached(end uint64) uint64 {
	from := g.Base.Seq
	both := load(g.r, grpCheckpoint, 2*recordSpacing)
	for i := range 2 {
		rec := bytes.Clone(both[i*recordSpacing : i*recordSpacing+recordBytes])
		if seq, base := decodeCheckpoint(rec); validRecord(rec) && base == g.Base.Generation {
			from = max(from, seq)
		}
	}
	if passed := g.word(grpPassed).Load(); g.isOurs(passed) {
		from = max(from, g.Base.Seq+passed&(1<<passedBits-1))
	}
	if n := g.Floor(); n > g.Base.Ordinal && n < end {
		if v := g.at(n-1, entrySeq).Load(); v>>distBits == g.lap(n-1) {
			from = max(from, g.Base.Seq+v&maxDistance+1)
		}
	}
	return from
}

// isOurs reports whether a word passed is of the base.
func (g *Ring) isOurs(passed uint64) bool {
	return passed>>passedBits == g.Base.Generation&(1<<(64-passedBits)-1)
}

// noteFinished notes the message of an entry whose word is w, if it is finished.
func (s bases) noteFinished(i uint64, w Word, finished map[uint64]bool) {
	v := s.newest.at(i, entrySeq).Load()
	if w.State() != Finished || v>>distBits != w.lap() {
		return // what emptied the entry leaves the lap of the message as it was
	}
	if ring := s.of(w.lap()); ring != nil {
		finished[ring.Base.Seq+v&maxDistance] = true
	}
}

// forget makes what the ring holds of a base that is not in force count for nothing.
// Whoever overwrites the record of that base does so first, and what the records
// explained that are overwritten is not on the disk any more either: else the ring
// would be read by a base that it is not of.
func (s bases) forget() error {
	ring := s.newest
	for i := range ring.entries {
		lap, v := Word(ring.at(i, entryWord).Load()).lap(), ring.at(i, entrySeq)
		if s.pending && ring.covers(lap) && v.Load()>>distBits == lap {
			v.Store((lap ^ 1<<(lapBits-1)) << distBits) // no lap that any base is near
		}
	}
	err := ring.r.Flush(grpFloor, ring.r.Len()-grpFloor)
	step.At(step.GroupBaseForgotten)
	return err
}

// Rebase gives the group another base, which begins at b.Seq; its ordinal and
// generation follow from the file. choose is called under the lock, so that what was
// known before can be looked at again; it returns false if nothing is to be done. marks
// says which of the messages behind the base need not be delivered, of those that were
// finished, also by who went on until the ring was emptied; nil: none, and delayed ones
// are forgotten. What is in the file is on disk when it returns.
//
// Errors: ErrBusy, and those of the functions.
func (g *File) Rebase(choose func(Before) (b Base, ok bool, err error), marks func(b Base, finished map[uint64]bool) ([]Mark, error)) error {
	return g.locked(lockBase, lockPatience, func() error {
		s, err := g.bases()
		if err != nil {
			return err
		}
		was := s.all()
		b, ok, err := choose(was)
		if err != nil || !ok {
			return err
		}
		last := s.inForce()
		fresh := last == nil || last.Base.Boot != b.Boot || last.Base.Epoch != b.Epoch
		delays, err := g.delaysBeforeBase(fresh)
		if err == nil && delays != nil {
			err = delays.endForget(s, fresh)
		}
		if err != nil {
			return err
		}
		if err := s.forget(); err != nil {
			return err
		}
		var kept map[uint64]bool // behind the base, and finished in the ring
		var moved []movedCell    // that were not on disk
		ring, err := g.empty(s, b, func(i uint64, w Word) {
			s.noteFinished(i, w, was.Finished)
			if m, ok := s.movedCell(i, w); ok && delays != nil && !fresh {
				moved = append(moved, m)
			}
		})
		if err != nil {
			return err
		}
		if delays == nil { // it may have been made meanwhile; now nobody can move anything there
			if delays, err = g.lookForDelays(); err != nil {
				return err
			}
		}
		if marks != nil {
			for _, m := range moved { // the ring brings those again that nobody finished
				if delays.seize(m) {
					was.Finished[m.seq] = true
				}
			}
			if from := s.from(); from > was.From {
				if err := ring.follow(g, from); err != nil {
					return err
				}
			}
			all, err := marks(ring.Base, was.Finished)
			if err != nil {
				return err
			}
			kept = ring.mark(all)
		}
		if delays == nil {
			return ring.putInForce()
		}
		if marks != nil {
			delays.purge(ring.Base.Seq, kept, false, fresh)
			return errors.Join(delays.flush(), ring.putInForce())
		}
		if err := delays.noteForget(ring.Base.Generation); err != nil {
			return err
		}
		if err := ring.putInForce(); err != nil {
			return err
		}
		return delays.forgetAll(fresh)
	})
}

// empty writes the record of the base b and empties the ring for it. was is told what was
// in it.
func (g *File) empty(s bases, b Base, was func(i uint64, w Word)) (*Ring, error) {
	ring := &Ring{r: g.r, entries: uint64(g.Entries)}
	for {
		near := max(ring.Floor(), s.newest.Base.Ordinal) / ring.entries
		top := ring.topLap(near)
		b.Ordinal = (top + 3) * ring.entries
		if err := g.writeBase(&b); err != nil {
			return nil, err
		}
		ring.Base = b
		step.At(step.GroupBaseWritten)
		if ring.reset(near, top, was) {
			return ring, nil
		}
	}
}

// follow lets the base begin at seq, if that is later: the ring was emptied only now, and
// what consumers finished until then is below that, or among what was found in it.
func (g *Ring) follow(f *File, seq uint64) error {
	if seq <= g.Base.Seq {
		return nil
	}
	g.Base.Seq = seq
	return f.writeBase(&g.Base)
}

// mark makes messages count as finished that were so before the base, and says which.
func (g *Ring) mark(all []Mark) map[uint64]bool {
	marked := map[uint64]bool{}
	for _, m := range all {
		if n := g.Base.Ordinal + uint64(m.Behind); uint64(m.Behind) < g.Window() && g.Fits(m.Seq) {
			g.at(n, entrySeq).Store(g.seqWord(n, m.Seq))
			g.at(n, entryWord).Store(uint64(finishedWord(g.lap(n))))
			marked[m.Seq] = true
			step.At(step.GroupBaseMarked)
		}
	}
	return marked
}

// putInForce lets the base count. Passed comes first, with its generation: who walks by
// an older base must not take the floor for one of its own.
func (g *Ring) putInForce() error {
	step.At(step.GroupRingReset)
	g.word(grpPassed).Store(g.Base.Generation << passedBits)
	step.At(step.GroupBasePassed)
	g.word(grpFloor).Store(g.Base.Ordinal)
	step.At(step.GroupFloorSet)
	g.word(grpGeneration).Store(g.Base.Generation)
	g.word(grpRetry).Add(1)
	step.At(step.GroupBaseCounts)
	return g.r.Flush(grpFloor, g.r.Len()-grpFloor)
}

// writeBase writes the record of the next base, on disk too, in the place of the one
// that is not in force. No generation is given twice: what bears that of a base which
// never came into force would count for the next.
func (g *File) writeBase(b *Base) error {
	both := load(g.r, grpBase, 2*recordSpacing)
	_, newest, next, err := newestRecord(both, recordBytes, recordSpacing)
	if err != nil {
		return &CorruptError{g.Path(), grpBase, err.Error()}
	}
	if newest >= math.MaxUint64-2 {
		return &CorruptError{g.Path(), grpBase, fmt.Sprintf("generation %d of the base", newest)}
	}
	b.Generation = newest + 1
	if newest != g.r.Word(grpGeneration).Load() {
		at := recordSpacing // the newest one is not in force, the other is, or was
		if first := both[:recordBytes]; validRecord(first) && decodeBase(first).Generation == newest {
			at = 0
		}
		next = both[at : at+recordBytes]
	}
	encodeBase(next, *b)
	store(g.r, grpBase, both)
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
				step.At(step.GroupBaseEmptied)
				break
			}
		}
	}
	return true
}
