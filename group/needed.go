package group

import (
	"slices"

	"github.com/walq/walq/mmap"
)

// Needed is the sequence number from which on the group may need messages, whatever
// happens now: also after a power loss, which leaves of the records what is on disk. What
// consumers have finished since the last checkpoint but one may not count; Checkpoint
// makes it count. boot is the present run of the machine.
//
// Two things make certain what is on disk. A base counts only once its record is, and a
// checkpoint is on disk before the next one is written. So where the newest base does not
// count yet either may be found, and of two checkpoints the older one, or the newer. If
// the base is of a former run, all that is here was read from the disk.
//
// Delayed messages, which are below that, are needed too. What was finished of them since
// the last checkpoint is not counted: it may be handed out again after a power loss, and
// is gone then.
//
// Errors: a CorruptError, ErrVersion.
func (g *File) Needed(boot [16]byte) (seq uint64, err error) {
	defer mmap.Recover(mmap.Protect(), &err)
	if seq, err = g.neededByRecords(boot); err != nil {
		return 0, err
	}
	d, err := g.Delays() // after the records: see DelayedFrom
	if d == nil || err != nil {
		return seq, err
	}
	if delayed, n := d.DelayedFrom(); n > 0 {
		seq = min(seq, delayed)
	}
	return seq, nil
}

func (g *File) neededByRecords(boot [16]byte) (seq uint64, err error) {
	counts := g.r.Word(grpGeneration).Load()
	newest, err := g.newestBase()
	if err != nil {
		return 0, err
	}
	seq = g.neededBy(newest, boot)
	if newest.Generation == counts {
		return seq, nil
	}
	both := load(g.r, grpBase, 2*recordSpacing)
	for i := range 2 {
		if b, ok := g.record(both, i); ok {
			seq = min(seq, g.neededBy(decodeBase(b), boot))
		}
	}
	return seq, nil
}

// neededBy is what the group needs at most if this is its base after a power loss.
func (g *File) neededBy(b Base, boot [16]byte) uint64 {
	both := load(g.r, grpCheckpoint, 2*recordSpacing)
	var seqs []uint64
	for i := range 2 {
		if rec, ok := g.record(both, i); ok {
			if seq, base := decodeCheckpoint(rec); base == b.Generation {
				seqs = append(seqs, max(seq, b.Seq))
			}
		}
	}
	switch {
	case len(seqs) > 0 && b.Boot != boot:
		return slices.Max(seqs)
	case len(seqs) == 2:
		return slices.Min(seqs)
	}
	return b.Seq
}

// record is one of two, if it is valid: a copy, since others may replace it.
func (g *File) record(both []byte, i int) (rec []byte, ok bool) {
	rec = append(rec, both[i*recordSpacing:i*recordSpacing+recordBytes]...)
	return rec, validRecord(rec)
}
