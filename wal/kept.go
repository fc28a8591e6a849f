package wal

import (
	"slices"

	"github.com/walq/walq/internal/step"
	"github.com/walq/walq/segment"
)

// Trimming looks at both ends of the log, and at what lies between them only to add up
// its bytes. So the limits are first asked of the ends alone: a log never has more than
// so many segments of their full size, which their ordinals tell. Only where that is too
// much, or something is to go, are the segments listed, and what a handle has listed it
// keeps: what others trim and append since is found by the oldest kept number and along
// the chain of seals.

// keptSegments is what a handle knows of the segments that count, for trimming. It is
// guarded by the trim lock: nobody trims meanwhile.
type keptSegments struct {
	segmentList
	bytes  int64    // of all of them
	sized  int      // so many, from the oldest on, have their final size
	sealed int64    // bytes of those
	gone   int      // so many left the list since the directory was read
	doomed []uint64 // files that are there and lie below the oldest kept number

	front front
}

// front is what is known of the two oldest segments, without a list.
type front struct {
	first, second  uint64 // 0: not known
	ordinal        uint32 // of the first
	secondsCreated int64  // nanoseconds since the Unix epoch
}

// nothingToTrim reports whether the ends of the log tell that neither the limits nor
// before ask for anything. false may also mean that they cannot tell.
func (l *Log) nothingToTrim(before uint64, s Settings, need *room) bool {
	if s.MaxBytes == 0 && s.MaxAge == 0 && before == 0 {
		return true
	}
	f := &l.kept.front
	if err := f.update(l); err != nil {
		return false
	}
	if before > 0 || s.MaxAge > 0 {
		if f.second != 0 && (f.second <= before || tooOld(f.secondsCreated, s)) {
			return false
		}
	}
	if s.MaxBytes == 0 {
		return true
	}
	last, err := l.lastSegment()
	if err != nil {
		return false
	}
	defer l.table.release(last)
	if last.First < f.first {
		return false
	}
	most := (int64(last.Ordinal-f.ordinal) + 1) * l.settings.SegmentSize
	if need != nil {
		most += need.bytes
	}
	return most <= s.MaxBytes
}

func (f *front) update(l *Log) error {
	oldest := l.ctl.oldest()
	if f.first == oldest && f.second != 0 {
		return nil
	}
	s, err := l.acquire(&l.table, oldest)
	if err != nil {
		return err
	}
	defer func() { l.table.release(s) }()
	*f = front{first: oldest, ordinal: s.Ordinal}
	n, err := l.next(s)
	if n != nil {
		f.second, f.secondsCreated = n.First, n.Created
		l.table.release(n)
	}
	return err
}

// next opens the segment behind s; nil: there is none, or not yet.
func (l *Log) next(s *seg) (*seg, error) {
	end, w, err := s.WalkToFree(s.Tail())
	if err != nil || !w.Sealed() {
		return nil, err
	}
	return l.successor(&l.table, s, end, w)
}

// lastSegment opens the last segment. The control file's word for it is only where
// the look begins.
func (l *Log) lastSegment() (*seg, error) {
	s, err := l.acquire(&l.table, l.ctl.word(ctlNewest).Load())
	for err == nil {
		n, err := l.next(s)
		if n == nil && err == nil {
			return s, nil
		}
		l.table.release(s)
		if err != nil {
			return nil, err
		}
		s = n
	}
	return nil, err
}

// maxSteps is how far a list that is no longer new is followed along the chain, for
// which each segment is opened: beyond that it is cheaper to read the directory again.
const maxSteps = 32

// listAfter is how many segments go at least before the directory is read again for what
// nobody knows of: the relic of a roller that died before it could remove it. The next to
// open the queue alone removes that too.
const listAfter = 64

// update makes the list that of the segments that count, with the bytes that each takes
// on disk. What it cannot find out about what changed it takes from the directory.
func (k *keptSegments) update(l *Log) error {
	oldest := l.ctl.oldest()
	i, known := k.find(oldest)
	if known {
		// One wrong bit of that number must not remove the log.
		_, err := l.log.Size(segment.Name(oldest))
		known = err == nil
	}
	if known && k.gone < len(k.all)+listAfter {
		// Who trimmed may have died before the files were gone.
		for _, one := range k.all[:i] {
			if _, err := l.log.Size(segment.Name(one.first)); err == nil {
				k.doomed = append(k.doomed, one.first)
			} else if !isNotExist(err) {
				return err
			}
		}
		k.drop(i)
		if all, err := k.follow(l, maxSteps); all && err == nil {
			return k.measure(l)
		}
	}
	below, err := k.list(l)
	if err != nil {
		return err
	}
	k.doomed, k.gone, k.sized, k.sealed = below, 0, 0, 0
	if len(k.all) == 0 || k.all[0].first != oldest {
		return &CorruptError{Path: l.log.Join(segment.Name(oldest)), Reason: "the segment with the oldest messages is missing"}
	}
	if _, err := k.follow(l, maxOrdinal); err != nil {
		return err
	}
	return k.measure(l)
}

// acquireKept opens a segment that was listed. The file may have vanished since, though
// its mapping is still there.
func (l *Log) acquireKept(first uint64) (*seg, error) {
	_, err := l.log.Size(segment.Name(first))
	var s *seg
	if err == nil {
		s, err = l.acquire(&l.table, first)
	}
	if isNotExist(err) {
		err = l.vanished(first)
	}
	return s, err
}

// drop forgets the i oldest segments.
func (k *keptSegments) drop(i int) {
	for _, one := range k.all[:min(i, k.sized)] {
		k.sealed -= one.bytes
	}
	k.sized = max(k.sized-i, 0)
	k.gone += i
	k.all = k.all[i:]
}

// measure adds up the bytes of the files. Those with a segment behind them are sealed
// and grow no more, so it looks at each of them once.
func (k *keptSegments) measure(l *Log) error {
	for i := k.sized; i < len(k.all); i++ {
		one := &k.all[i]
		size, err := l.log.Size(segment.Name(one.first))
		if isNotExist(err) {
			err = l.vanished(one.first)
		}
		if err != nil {
			return err
		}
		one.bytes = size
		if i+1 < len(k.all) {
			k.sized, k.sealed = i+1, k.sealed+size
		} else {
			k.bytes = k.sealed + size
		}
	}
	return nil
}

// remove unlinks the i oldest segments, and what else lies below them. The oldest kept
// number is on disk.
func (k *keptSegments) remove(l *Log, i int) error {
	for _, one := range k.all[:i] {
		k.doomed = append(k.doomed, one.first)
	}
	slices.Sort(k.doomed)
	k.drop(i)
	l.table.dropBelow(l.ctl.oldest()) // or the space would not be free at once
	for _, first := range k.doomed {
		if err := l.log.Unlink(segment.Name(first)); err != nil && !isNotExist(err) {
			return err
		}
		step.At(step.TrimUnlinked)
	}
	k.doomed = nil
	return nil
}
