package segment

// A Cursor is a place between two frames: where the next one starts and which
// sequence number it has.
type Cursor struct {
	Off int64  // bytes from the start of the segment, a multiple of 8
	Seq uint64 // sequence number of the first message at or after Off
}

// After is the place behind a frame with the word w at c.
func (c Cursor) After(w Word) Cursor {
	return Cursor{c.Off + w.Size(), c.Seq + uint64(w.Count())}
}

// Start is the place of the first frame.
func (s *Segment) Start() Cursor { return Cursor{s.start, s.First} }

// A place packs a cursor into one word, so that it can be stored and loaded
// atomically: bits 0-27 offset/8, 28-55 count of sequence numbers from the
// segment's first, 56-63 the same check as a frame's word. It is used for
// hints only: the tail hint, the sparse index, a writer's own cursor.
const placeBits = 28

// Pack packs c, which must lie in the segment.
func (s *Segment) Pack(c Cursor) uint64 {
	v := uint64(c.Off)>>3 | (c.Seq-s.First)<<placeBits
	return v | check(v)<<checkShift
}

// Unpack is the reverse of Pack. It is false for what is no place in this
// segment: zero, a wrong check, an offset outside the data.
func (s *Segment) Unpack(place uint64) (Cursor, bool) {
	const mask = 1<<placeBits - 1
	c := Cursor{int64(place&mask) << 3, s.First + place>>placeBits&mask}
	ok := place != 0 && place>>checkShift == check(place&(1<<checkShift-1)) &&
		c.Off >= s.start && c.Off <= s.Size-SealBytes
	return c, ok
}

// Word loads the word at off once and checks all that can be checked without
// the content: that it is valid and that the frame ends within the segment,
// leaving room for a SEAL. Beyond what is allocated everything is Free.
func (s *Segment) Word(off int64) (Word, error) {
	if off < s.start || off&7 != 0 || off+SealBytes > s.Size {
		return 0, s.corrupt(off, "no frame can start here")
	}
	if off+SealBytes > s.Allocated() {
		return 0, nil
	}
	w := Word(s.r.Word(off).Load())
	if w == 0 {
		return 0, nil
	}
	if !w.Valid() {
		return 0, s.corrupt(off, "%v", w)
	}
	if !w.Sealed() && off+w.Size()+SealBytes > s.Size {
		return 0, s.corrupt(off, "a frame of %d bytes runs past the end of the segment", w.Size())
	}
	return w, nil
}

// Walk goes over frames from c as long as they are final and the segment does
// not end, and returns where it stopped and the word found there: Free,
// Claimed, Seal or SealJump.
func (s *Segment) Walk(c Cursor) (Cursor, Word, error) {
	return s.walk(c, func(w Word) bool { return w.State() == Committed || w.State() == Pad })
}

// WalkUntil is Walk, but goes no further than the first boundary at or behind end.
func (s *Segment) WalkUntil(c Cursor, end int64) (Cursor, Word, error) {
	for {
		w, err := s.Word(c.Off)
		if err != nil || c.Off >= end || w.State() != Committed && w.State() != Pad {
			return c, w, err
		}
		c = c.After(w)
	}
}

// WalkToFree is Walk, but goes over claims of others too: to the place where
// the next claim or the SEAL belongs.
func (s *Segment) WalkToFree(c Cursor) (Cursor, Word, error) {
	return s.walk(c, func(w Word) bool { return w != 0 && !w.Sealed() })
}

func (s *Segment) walk(c Cursor, over func(Word) bool) (Cursor, Word, error) {
	for {
		w, err := s.Word(c.Off)
		if err != nil || !over(w) {
			return c, w, err
		}
		c = c.After(w)
	}
}

// The tail hint spares a newcomer the walk from the segment's start.

// hintStrideBytes is how far the tail moves before the hint follows.
const hintStrideBytes = 4 << 10

// Passes reports whether a frame from c to next is one of the few that Passed
// has anything to do for.
func (s *Segment) Passes(c, next Cursor) bool {
	return c.Off/hintStrideBytes != next.Off/hintStrideBytes
}

// PassesStride reports whether Passed writes an entry of the sparse index, which needs a
// time.
func (s *Segment) PassesStride(c, next Cursor) bool {
	return c.Off/indexStrideBytes != next.Off/indexStrideBytes
}

// Passed tells the segment that the frame from c to next was committed: at
// every few KiB it moves the tail hint, and where a stride of the sparse index
// is crossed it writes the entry. maxTime, which only that needs, is not less than the
// time of any frame before next, in nanoseconds.
func (s *Segment) Passed(c, next Cursor, maxTime int64) {
	if !s.Passes(c, next) {
		return
	}
	s.r.Word(offTailHint).Store(s.Pack(next))
	if s.PassesStride(c, next) {
		i := next.Off / indexStrideBytes
		at := offIndex + i*indexEntryBytes
		for j := at - indexEntryBytes; j >= offIndex; j -= indexEntryBytes {
			// The entries hold a running maximum; a long frame leaves some out.
			if s.r.Word(j).Load() != 0 {
				maxTime = max(maxTime, int64(s.r.Word(j+8).Load()))
				break
			}
		}
		s.r.Word(at + 8).Store(uint64(maxTime))
		s.r.Word(at).Store(s.Pack(next))
	}
}

// Tail is a place from which the tail is not far: the tail hint, or the start
// if there is none. Every frame boundary it names was one when it was written.
func (s *Segment) Tail() Cursor {
	if c, ok := s.Unpack(s.r.Word(offTailHint).Load()); ok && c.Off <= s.Allocated() {
		return c
	}
	return s.Start()
}

// Near is the best known place at or before the sequence number seq, found in
// the sparse index. An entry is used only if a valid frame with the right
// sequence number stands there, which the frame's checksum proves.
func (s *Segment) Near(seq uint64) Cursor {
	return s.near(func(c Cursor, _ int64) bool { return c.Seq <= seq })
}

// NearTime is the best known place before which every frame that the index
// knows of is older than t, nanoseconds since the Unix epoch.
func (s *Segment) NearTime(t int64) Cursor {
	return s.near(func(_ Cursor, maxTime int64) bool { return maxTime < t })
}

// NearOff is the best known place at or before the offset off.
func (s *Segment) NearOff(off int64) Cursor {
	return s.near(func(c Cursor, _ int64) bool { return c.Off <= off })
}

// maxFailedProofs bounds what a damaged index can cost: a proof reads a whole
// frame.
const maxFailedProofs = 16

// near searches the index for the last proven entry that is early enough. The
// entries ascend, so it halves, and believes them on the way; unwritten and wrong ones
// are passed over downwards. Only where it comes out is proven: a wrong entry can make
// the place worse, not wrong.
func (s *Segment) near(early func(Cursor, int64) bool) Cursor {
	lo, hi := int64(0), min(indexEntries(s.Size), s.Allocated()/indexStrideBytes+1)
	for from := lo; from < hi; {
		mid := (from + hi) / 2
		at := mid
		c, maxTime, ok := s.entry(at)
		for ; !ok && at > from; c, maxTime, ok = s.entry(at) {
			at--
		}
		switch {
		case !ok: // nothing known in [from, mid]
			from = mid + 1
		case early(c, maxTime):
			lo, from = at+1, mid+1
		default:
			hi = at
		}
	}
	for failed := 0; lo > 0 && failed < maxFailedProofs; lo-- {
		c, maxTime, ok := s.entry(lo - 1)
		if ok && early(c, maxTime) {
			if s.proven(c) {
				return c
			}
			failed++
		}
	}
	return s.Start()
}

// entry is what the index says of a stride, which may be anything.
func (s *Segment) entry(i int64) (c Cursor, maxTime int64, ok bool) {
	at := offIndex + i*indexEntryBytes
	place := s.r.Word(at).Load()
	maxTime = int64(s.r.Word(at + 8).Load())
	c, ok = s.Unpack(place)
	return c, maxTime, ok && c.Off/indexStrideBytes == i
}

// proven reports whether a valid frame with the right sequence number stands at c. What
// is in a batch proves no more than its header does, and may be long.
func (s *Segment) proven(c Cursor) bool {
	w, err := s.Word(c.Off)
	if err != nil || w.State() != Committed {
		return false
	}
	var f Frame
	return s.ReadOuter(&f, c, w) == nil
}

// ClearHintsFrom forgets the tail hint and every index entry at or past off:
// recovery does it before it cuts the segment there.
func (s *Segment) ClearHintsFrom(off int64) {
	s.r.Word(offTailHint).Store(0)
	for i := off / indexStrideBytes; i < indexEntries(s.Size); i++ {
		at := offIndex + i*indexEntryBytes
		if c, ok := s.Unpack(s.r.Word(at).Load()); !ok || c.Off >= off {
			s.r.Word(at).Store(0)
			s.r.Word(at + 8).Store(0)
		}
	}
}

// A Hint is a word that points at a frame, for verify.
type Hint struct {
	What   string
	Offset int64 // of the hint in the segment
	Place  Cursor
	Sound  bool // it is a place of this segment at all
}

// Hints lists the hints that are set.
func (s *Segment) Hints() (all []Hint) {
	add := func(what string, at int64) {
		if place := s.r.Word(at).Load(); place != 0 {
			c, ok := s.Unpack(place)
			all = append(all, Hint{what, at, c, ok})
		}
	}
	add("a tail hint", offTailHint)
	for i := range indexEntries(s.Size) {
		add("an index entry", offIndex+i*indexEntryBytes)
	}
	return all
}
