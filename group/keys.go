package group

import "github.com/walq/walq/internal/step"

// What a group that is ordered by key asks of the ring, beside what every group does;
// see docs/adr/0022-ordered-by-key.md.

// Claimed reports whether somebody has claimed the ordinal n, in this base.
func (g *Ring) Claimed(n uint64) bool {
	return Word(g.at(n, entryWord).Load()).lap() == g.lap(n)
}

// Done reports whether the ordinal n is finished. Once it is, it stays so for as long as
// the base counts; and whoever holds by an old one can claim nothing.
func (g *Ring) Done(n uint64) bool {
	// In this order: the entry is another ordinal's only after the floor was raised, and
	// the floor another base's only after the ring was overtaken.
	return Word(g.at(n, entryWord).Load()) == finishedWord(g.lap(n)) || n < g.Floor() && !g.Overtaken()
}

// Mark notes that somebody waits for the end of the ordinal n. The caller looks whether
// it is Done after that, not only before. A mark that comes a lap late is below the one
// that may be there, and does nothing.
func (g *Ring) Mark(n uint64) {
	step.At(step.KeyMarkBefore)
	raiseMax(g.at(n, entryMark), n)
	step.At(step.KeyMarked)
}

// Marked reports whether somebody waits for the end of the ordinal n, which the caller
// has finished. What a damaged file says can only wake somebody for nothing.
func (g *Ring) Marked(n uint64) bool { return g.at(n, entryMark).Load() >= n }

// Freed grows with every ordinal that was finished and marked.
func (g *Ring) Freed() uint64 { return g.word(grpFreed).Load() }

// Free notes that one was, and returns what Freed is now. The caller wakes who waits.
func (g *Ring) Free() uint64 {
	freed := g.word(grpFreed).Add(1)
	step.At(step.KeyFreed)
	return freed
}
