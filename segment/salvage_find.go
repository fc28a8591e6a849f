package segment

import (
	"github.com/walq/walq/internal/crc32c"
)

// The search for where the frames go on behind damage.

// find looks behind the damaged place from, and before the offset below, for the next
// frame that verifies, for a sequence number that can have got there. A damaged frame may
// verify too, for a wrong number: any damage is that of one number out of 2^32, and that
// of one bit, at some places of a body, that of a number near by, since the checksum is
// linear. So the frame that is found next must be in accord with it; if not, the one
// behind both says which is wrong, and the first is if that does not say it either.
func (v *salvager) find(from Cursor, below int64) (Cursor, bool) {
	for _, each := range []uint64{1, MaxCount} { // PADs of an earlier repair take more numbers than messages could
		c, w, found := v.candidate(from, from.Off+FrameHeader, below, each)
		for found && !v.proven(c.After(w)) {
			next := c.After(w)
			other, ow, more := v.candidateBehind(from, c, w, each)
			if !more || accord(next, other, each) {
				break
			}
			third, _, more := v.candidateBehind(from, other, ow, each)
			if more && accord(next, third, each) && !accord(other.After(ow), third, each) {
				break
			}
			if other.Off >= below {
				return Cursor{}, false
			}
			c, w = other, ow
		}
		if found {
			return c, true
		}
		if v.ctx.Err() != nil {
			break
		}
	}
	return Cursor{}, false
}

// candidateBehind finds the first candidate behind the frame w at c.
func (v *salvager) candidateBehind(from, c Cursor, w Word, each uint64) (other Cursor, ow Word, found bool) {
	next := c.After(w).Off
	other, ow, found = v.candidate(from, c.Off+8, v.s.r.Len(), each)
	for found && other.Off < next { // within a batch, or within what a message carries
		other, ow, found = v.candidate(from, other.Off+8, v.s.r.Len(), each)
	}
	return other, ow, found
}

// accord reports whether the frame at other can have got there if another one ends at
// next.
func accord(next, other Cursor, each uint64) bool {
	gap := uint64(other.Off-next.Off) / FrameHeader * each
	return other.Seq >= next.Seq && other.Seq-next.Seq <= gap
}

// candidate finds the first frame at or behind the offset at, and before below, that
// verifies for one of the numbers that can have got there from the place from: each
// room for a frame may have taken so many.
func (v *salvager) candidate(from Cursor, at, below int64, each uint64) (Cursor, Word, bool) {
	h, _ := v.header(from.Off)
	for off := at; off < below && off+FrameHeader+SealBytes <= v.s.r.Len(); off += 8 {
		if off%(1<<20) == 0 && v.ctx.Err() != nil {
			break
		}
		w := Word(v.s.r.Word(off).Load())
		if w.State() != Committed || !w.Valid() || off+w.Size()+SealBytes > v.s.Size {
			continue
		}
		room := uint64(off-from.Off) / FrameHeader * each
		c, ok := v.s.numberOf(off, w, from.Seq, room)
		if !ok || v.o.Known && c.Seq > v.o.Until || !v.goesOn(c.After(w), room) {
			continue
		}
		if g, _ := v.header(off); h.kind() == KindBatch && g.time == h.time {
			continue // of the batch whose beginning is damaged: all of it is lost
		}
		if pads := (c.Seq - from.Seq + MaxCount - 1) / MaxCount; int64(pads)*FrameHeader <= off-from.Off {
			return c, w, true
		}
	}
	return Cursor{}, 0, false
}

// goesOn reports whether the chain goes on behind a frame that was found by its
// checksum alone. The more sequence numbers would have satisfied that, the more is
// asked for.
func (v *salvager) goesOn(c Cursor, tried uint64) bool {
	if tried >= 1<<16 {
		return v.proven(c)
	}
	if w, err := v.s.Word(c.Off); err == nil && (w != 0 || !v.o.Sealed) {
		return true
	}
	here := v.c
	v.c = c
	_, mended := v.mendWord()
	v.c = here
	if mended || tried < 1<<12 {
		return true // by chance the checksum matches so few numbers once in a million times
	}
	_, found := v.find(c, v.s.r.Len())
	return found
}

// numberOf finds the sequence number, of from and so many behind it, under which
// the frame with the word w at off verifies. The checksum is linear, so the number
// follows from it and need not be searched for.
func (s *Segment) numberOf(off int64, w Word, from, more uint64) (Cursor, bool) {
	end := off + FrameHeader + w.Length()
	if end > s.r.Len() {
		return Cursor{}, false
	}
	p := s.r.Bytes(off, FrameHeader+w.Length())
	h := getHeader(p)
	var sum uint32
	switch {
	case h.kind() == KindMessage && w.Count() == 1, h.kind() == KindControl && w.Count() == 0:
		sum = crc32c.Update(0, p[FrameHeader:])
	case h.kind() != KindBatch:
		return Cursor{}, false
	}
	const low = 1<<32 - 1
	for base := from &^ low; base <= from+more && base >= from&^low; base += 1 << 32 {
		seq := base | uint64(invert(h.crc()^h.checksum(s.Salt, base, w, sum)))
		if seq < from || seq-from > more {
			continue
		}
		c := Cursor{off, seq}
		_, err := s.Frame(c, w)
		return c, err == nil
	}
	return Cursor{}, false
}

// batchWord finds the word of a batch that lost it: the header's checksum covers
// length and count, and the frames within tell how far it may reach.
func (v *salvager) batchWord() (Word, bool) {
	h, ok := v.header(v.c.Off)
	if !ok || h.kind() != KindBatch || h.metaLen() != 0 {
		return 0, false
	}
	start, c := v.c.Off+FrameHeader, Cursor{v.c.Off + FrameHeader, v.c.Seq}
	for {
		w, err := v.s.Word(c.Off)
		if err != nil || w.State() != Committed {
			return 0, false
		}
		if f, err := v.s.Frame(c, w); err != nil || f.Kind == KindBatch {
			return 0, false
		}
		c = c.After(w)
		length, count := c.Off-start, c.Seq-v.c.Seq
		if length > MaxLength || count > MaxCount {
			return 0, false
		}
		outer := MakeWord(Committed, w.Slot(), int(count), length)
		if h.checksum(v.s.Salt, v.c.Seq, outer, 0) == h.crc() {
			return outer, true
		}
	}
}

func (v *salvager) header(off int64) (h frameHeader, ok bool) {
	if off+FrameHeader > v.s.r.Len() {
		return h, false
	}
	h = getHeader(v.s.r.Bytes(off, FrameHeader))
	return h, true
}
