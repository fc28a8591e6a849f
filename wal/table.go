package wal

import (
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"github.com/walq/walq/mmap"
	"github.com/walq/walq/segment"
)

// A seg is a segment mapped by this handle, shared by all in it who need it.
type seg struct {
	*segment.Segment
	refs int // guarded by table.mu

	// sealed: it was when it was mapped, so nothing in it will be synced by us.
	sealed bool
	// parkable: besides, what it has was not cut short for this handle.
	parkable bool
	parked   parkedSeg // guarded by table.mu

	lane lane // in which this handle's goroutines append
}

// Walk and WalkToFree are the segment's, but make an error of a fault, so that who
// walks goes on and gives the segment back.

func (s *seg) Walk(c segment.Cursor) (end segment.Cursor, w segment.Word, err error) {
	defer mmap.Recover(mmap.Protect(), &err)
	return s.Segment.Walk(c)
}

func (s *seg) WalkToFree(c segment.Cursor) (end segment.Cursor, w segment.Word, err error) {
	defer mmap.Recover(mmap.Protect(), &err)
	return s.Segment.WalkToFree(c)
}

func (s *seg) position(off int64) Position { return makePosition(s.Ordinal, off) }

// table holds the mapped segments of a handle by first sequence number.
type table struct {
	mu       sync.Mutex
	open     map[uint64]*seg // those that are parked, too, with no references
	parked   parked
	readOnly bool
	random   bool // mappings are not read in order, see mmap.Region.Random

	// awaitsCut, of a read-only handle, reports whether the allocated words
	// cannot be believed, because a power loss went by and nobody recovered.
	awaitsCut func() (bool, error)
}

// acquire returns the segment with one more reference, opening it if need be.
// The error Is fs.ErrNotExist if there is none.
func (f *files) acquire(t *table, first uint64) (*seg, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := t.open[first]; s != nil && f.believeLocked(t, s) {
		s.refs++
		return s, nil
	}
	s, err := segment.Open(f.log, segment.Name(first), t.readOnly)
	if err != nil {
		return nil, err
	}
	if err := f.checkSegment(s, first); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return t.adoptLocked(s)
}

func (f *files) checkSegment(s *segment.Segment, first uint64) error {
	if s.First != first {
		return &CorruptError{Path: s.Path(), Reason: fmt.Sprintf("its header says that it starts at sequence number %d", s.First)}
	}
	if s.Queue != f.ctl.queue {
		return &CorruptError{Path: s.Path(), Reason: fmt.Sprintf("it belongs to another queue, %x", s.Queue)}
	}
	owner, err := f.dir.Owner()
	if err != nil {
		return err
	}
	return checkOwner(owner, s.File(), f.perms.file&0o060 != 0)
}

// adopt takes over a mapped segment and returns it with one reference. If the
// segment was opened under its name meanwhile, that mapping is used.
func (t *table) adopt(s *segment.Segment) (*seg, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	open := t.open[s.First]
	if open != nil && open.refs == 0 {
		t.dropLocked(open) // s is what the name leads to
		open = nil
	}
	if open != nil {
		open.refs++
		return open, s.Close()
	}
	return t.adoptLocked(s)
}

func (t *table) adoptLocked(s *segment.Segment) (*seg, error) {
	sealed := isSealed(s)
	if t.random && !sealed {
		if err := s.Region().Random(); err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	cut := false
	if t.awaitsCut != nil {
		var err error
		cut, err = t.awaitsCut()
		if err == nil && cut {
			err = s.UseFileSize()
		}
		if err != nil {
			return nil, errors.Join(err, s.Close())
		}
	}
	n := &seg{Segment: s, refs: 1, sealed: sealed, parkable: sealed && !cut}
	t.open[s.First] = n
	return n, nil
}

// isSealed looks for the SEAL behind the tail hint. A segment without a hint
// counts as not sealed: it may be long, and only speed depends on it. So does one
// whose file is shorter than it should be, as a power loss may leave it: nothing
// may be loaded there yet.
func isSealed(s *segment.Segment) bool {
	size, err := s.File().Size()
	hint := s.Tail()
	if err != nil || size < s.Allocated() || hint == s.Start() {
		return false
	}
	_, w, err := s.WalkToFree(hint)
	return err == nil && w.Sealed()
}

// again takes one more reference to a segment that the caller keeps alive.
func (t *table) again(s *seg) *seg {
	t.mu.Lock()
	defer t.mu.Unlock()
	s.refs++
	return s
}

// release gives a reference back; the last one unmaps, unless the segment is parked.
func (t *table) release(s *seg) {
	if s == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.releaseLocked(s)
}

func (t *table) releaseLocked(s *seg) {
	s.refs--
	if s.refs > 0 {
		return
	}
	if s.refs < 0 {
		panic("wal: segment released too often")
	}
	if !t.parkLocked(s) {
		t.closeLocked(s)
	}
}

func (t *table) closeLocked(s *seg) {
	delete(t.open, s.First)
	if err := s.Close(); err != nil {
		panic(err) // close of a good descriptor
	}
}

// successorName is the first sequence number of the segment that follows one
// that starts at first and is sealed by w at end. A segment that took no number,
// because it holds control frames alone, gives one up: names never repeat.
func successorName(first uint64, end segment.Cursor, w segment.Word) uint64 {
	if w.State() == segment.SealJump {
		return jumpFrom(end.Seq)
	}
	return max(end.Seq, first+1)
}

// jumpFrom is where sequence numbers go on after a recovery that cut the log at
// seq. Nobody was ever given a number that far ahead: appends sync before they
// get 2^32 past the durable position.
func jumpFrom(seq uint64) uint64 { return (seq>>32 + 2) << 32 }

// successor opens the segment that follows s, which is sealed by w at end. It
// is accepted only if it names s as its predecessor: the order of names in the
// directory means nothing, stale segments may lie there. nil without an error
// means that there is none.
func (f *files) successor(t *table, s *seg, end segment.Cursor, w segment.Word) (*seg, error) {
	first := successorName(s.First, end, w)
	newest := f.ctl.word(ctlNewest).Load() // before the look
	n, err := f.acquire(t, first)
	if errors.Is(err, fs.ErrNotExist) {
		if first <= newest && first >= f.ctl.oldest() {
			return nil, f.vanished(first)
		}
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if n.First < f.ctl.oldest() {
		// Trimmed: still mapped, or the relic of a roller that was too late and
		// has yet to remove it. Nobody appends there, and the log goes on elsewhere.
		t.release(n)
		return nil, nil
	}
	if !follows(s, end, n) {
		err := &CorruptError{Path: n.Path(), Reason: fmt.Sprintf("it does not name %s, sealed at sequence number %d, as its predecessor", s.Path(), end.Seq)}
		t.release(n)
		return nil, err
	}
	return n, nil
}

// vanished: a segment that was made is not there, and was not trimmed.
func (f *files) vanished(first uint64) error {
	return &CorruptError{Path: f.log.Join(segment.Name(first)), Reason: "the segment is missing; walq does not remove a segment that was not trimmed"}
}

func follows(s *seg, end segment.Cursor, n *seg) bool {
	return n.PrevFirst == s.First && n.PrevEnd == end.Seq && n.Ordinal == s.Ordinal+1
}

// locateMoving finds the segment that holds a position that others move: what is
// not found at one moment may have been trimmed, if the position moved meanwhile.
func (l *Log) locateMoving(position func() Position) (*seg, Position, error) {
	for {
		p := position()
		s, err := l.locate(p)
		if err == nil || !errors.Is(err, ErrCorrupt) || position() == p {
			return s, p, err
		}
	}
}

// locate finds the segment that holds the durable or the settled position, or one
// near them. The control file names the segments of both; where a name leads
// nowhere, ordinals ascend by one from name to name.
func (l *Log) locate(p Position) (*seg, error) {
	for _, hint := range []int64{ctlDurableFirst, ctlSettledFirst} {
		s, err := l.acquire(&l.table, l.ctl.word(hint).Load())
		if err == nil && s.Ordinal == p.ordinal() {
			return s, nil
		}
		if err == nil {
			l.table.release(s)
		} // else the search will meet what is wrong
	}
	firsts, err := segmentNames(l.log)
	if err != nil {
		return nil, err
	}
	lo, hi := 0, len(firsts)
	guess := len(firsts) - 1 // mostly in the last
	for lo < hi {
		s, err := l.acquire(&l.table, firsts[guess])
		switch {
		case errors.Is(err, fs.ErrNotExist): // trimmed meanwhile
			lo = guess + 1
		case err != nil:
			return nil, err
		case s.Ordinal == p.ordinal():
			return s, nil
		case s.Ordinal < p.ordinal():
			l.table.release(s)
			lo = guess + 1
		default:
			hi = guess
			guess -= int(s.Ordinal - p.ordinal())
			l.table.release(s)
		}
		if guess < lo || guess >= hi {
			guess = (lo + hi) / 2
		}
	}
	return nil, &CorruptError{Path: l.log.Path(), Reason: fmt.Sprintf("no segment has the ordinal %d, which the control file's durable position names", p.ordinal())}
}
