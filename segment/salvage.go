package segment

import (
	"context"
	"fmt"
)

// Salvage goes over the frames of a segment that may be damaged, for repair. What
// verifies stays as it is; what does not becomes a PAD that takes the same
// sequence numbers, so that everything behind it keeps its own. The decoder is the
// one of all readers; here is only the search for where to go on.

// SalvageOptions say what is known of a segment from elsewhere.
type SalvageOptions struct {
	// Sealed: a successor exists or existed, so there must be a SEAL; End is its
	// kind if it has to be written. Until, if Known, is the sequence number there.
	Sealed, Known bool
	End           State
	Until         uint64
	// Cut: a power loss went by and nobody recovered. The first frame at or
	// behind CutFrom that is not whole ends the log, and that is no damage.
	Cut     bool
	CutFrom int64
	// DurableOff: claims below are damage. Proven: a sequence number up to which
	// messages are known to have existed, in this segment or behind it.
	DurableOff int64
	Proven     uint64
	// Marks are offsets at which the caller wants to know the sequence number.
	Marks []int64
}

// A Loss is a run of sequence numbers whose messages are gone.
type Loss struct {
	First   uint64
	Count   uint64
	Offset  int64
	Reason  string
	AtLeast bool // how many more there were, nobody can tell
}

// A Salvage is what came of it.
type Salvage struct {
	End      Cursor // where the frames end
	Word     Word   // what stands there then: 0 or a SEAL
	Final    Cursor // behind the last frame before the first claim
	Messages uint64
	Lost     []Loss
	Fixes    []Fix // of frames; those of what surrounds them follow from Trace
	Trace    *Trace
	Padded   uint64           // sequence numbers in PADs
	Marks    map[int64]uint64 // by offset, where a frame starts or the frames end
	CutShort bool             // see Cut
	Mismatch bool             // it holds more messages than its successor knows of
}

type salvager struct {
	ctx   context.Context
	s     *Segment
	o     SalvageOptions
	out   Salvage
	c     Cursor
	marks map[int64]bool
	claim bool

	borneOut int64 // see beyond; up to here each frame was looked at once
}

// Salvage goes over the segment, which lies in memory and is not changed.
func (s *Segment) Salvage(ctx context.Context, o SalvageOptions) (Salvage, error) {
	v := &salvager{ctx: ctx, s: s, o: o, c: s.Start(), marks: map[int64]bool{}}
	v.out.Trace, v.out.Marks = s.NewTrace(), map[int64]uint64{}
	for _, off := range o.Marks {
		v.marks[off] = true
	}
	for n, more := 0, true; more; n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return v.out, ctx.Err()
		}
		v.reach()
		var err error
		if more, err = v.next(); err != nil {
			return v.out, err
		}
	}
	v.out.End, v.out.Padded = v.c, v.out.Trace.padded
	if !v.claim {
		v.out.Final = v.c
	}
	return v.out, nil
}

func (v *salvager) reach() {
	v.out.Trace.Reach(v.c)
	if v.marks[v.c.Off] {
		v.out.Marks[v.c.Off] = v.c.Seq
	}
}

// pass steps over the frame at the cursor.
func (v *salvager) pass(w Word, time int64) {
	v.out.Trace.Pass(v.c, w, time)
	v.c = v.c.After(w)
}

func (v *salvager) lose(off int64, first, count uint64, atLeast bool, format string, args ...any) {
	v.out.Lost = append(v.out.Lost, Loss{first, count, off, fmt.Sprintf(format, args...), atLeast})
}

func (v *salvager) put(off int64, w Word, format string, args ...any) {
	v.out.Fixes = append(v.out.Fixes, fixWord(off, uint64(w), format, args...))
}

// next deals with what stands at the cursor; false: the frames end there.
func (v *salvager) next() (more bool, err error) {
	s, off := v.s, v.c.Off
	w, bad := s.Word(off)
	if bad == nil && w.State() == Committed {
		var f Frame
		if f, bad = s.Frame(v.c, w); bad == nil {
			v.keep(f, w)
			return true, nil
		}
	}
	cut := v.o.Cut && off >= v.o.CutFrom
	switch {
	case bad != nil && cut, w == 0 && cut && bad == nil, w.State() == Claimed && cut:
		v.out.CutShort = true
		return false, nil
	case bad != nil && w.State() == Committed && v.plausible(v.c.After(w)):
		v.put(off, w.with(Pad), "%v; the frame is made a PAD", bad.(*CorruptError).Reason)
		v.lose(off, v.c.Seq, uint64(w.Count()), false, "%v", bad.(*CorruptError).Reason)
		v.pass(w.with(Pad), 0)
		return true, nil
	case bad != nil:
		return v.damaged(bad.(*CorruptError).Reason)
	case w == 0:
		return v.free()
	case w.Sealed():
		return v.sealed(w)
	case !v.plausible(v.c.After(w)):
		return v.damaged("what follows on the frame is none")
	case w.State() == Claimed && off < v.o.DurableOff:
		v.put(off, w.with(Pad), "a claim below the durable position; it is made a PAD")
		v.lose(off, v.c.Seq, uint64(w.Count()), false, "a claim below the durable position")
		w = w.with(Pad)
	case w.State() == Claimed && !v.claim:
		v.claim, v.out.Final = true, v.c
	}
	v.pass(w, 0)
	return true, nil
}

// keep takes a whole frame as it is, but for padding that is not zero.
func (v *salvager) keep(f Frame, w Word) {
	v.out.Messages += uint64(f.Count)
	for {
		err := v.s.CheckPadding(v.c, w, f)
		if err == nil {
			break
		}
		bad := err.(*CorruptError)
		at := bad.Offset
		if at < v.c.Off+FrameHeader || at >= min(v.c.Off+w.Size(), v.s.r.Len()) {
			break // the file ends within the padding; allocating it mends that
		}
		v.out.Fixes = append(v.out.Fixes, Fix{at, bad.Reason, []byte{0}})
		clear(v.s.r.Bytes(at, 1)) // a private copy: so the next look goes on
	}
	v.pass(w, f.Time)
}

// plausible reports whether the frames may go on, or end, at c, which the word at
// the cursor names as its end. It guards against a length in which several bits are
// wrong though its check fits: such a word must not lead past what is sound.
func (v *salvager) plausible(c Cursor) bool {
	if v.skips(c) || v.beyond(c) {
		return false
	}
	w, err := v.s.Word(c.Off)
	if err == nil && (w != 0 || c.Off+SealBytes > v.s.r.Len() || !v.o.Sealed && v.zeroFrom(c.Off)) {
		return true
	}
	here := v.c
	v.c = c
	_, mended := v.mendWord()
	v.c = here
	if mended {
		return true
	}
	before, found := v.find(here, v.s.r.Len())
	if !found {
		return true
	}
	behind, found := v.find(c, v.s.r.Len())
	return found && behind.Off <= before.Off
}

// skips reports whether between the cursor and c there are sound frames that do not
// lead to c, as those within a batch do.
func (v *salvager) skips(c Cursor) bool {
	at, found := v.find(v.c, c.Off)
	if !found {
		return false
	}
	for at.Off < c.Off {
		w, err := v.s.Word(at.Off)
		if err != nil || w == 0 || w.Sealed() {
			return true
		}
		at = at.After(w)
	}
	return at != c
}

// beyond reports whether c has a number that the successor does not know of, and that no
// frame bears out. The count in a word has a check of eight bits only, the successor's
// header and the frames checksums.
func (v *salvager) beyond(c Cursor) bool {
	if !v.o.Known || c.Seq <= v.o.Until || c.Off <= v.borneOut {
		return false
	}
	for {
		w, err := v.s.Word(c.Off)
		if err != nil || w.State() != Pad && w.State() != Claimed {
			if !v.proven(c) {
				return true
			}
			v.borneOut = c.Off
			return false
		}
		c = c.After(w)
	}
}

func (v *salvager) zeroFrom(off int64) bool {
	if off >= v.s.r.Len() {
		return true
	}
	_, found := nonZero(v.s.r.Bytes(off, v.s.r.Len()-off))
	return !found
}

// sealed: is it the SEAL that the successor knows?
func (v *salvager) sealed(w Word) (more bool, err error) {
	switch {
	case v.o.Known && v.c.Seq == v.o.Until && w.State() != v.o.End:
		v.out.Word = MakeWord(v.o.End, 0, 0, 0)
		v.put(v.c.Off, v.out.Word, "a %v, but the name of its successor says %v", w.State(), v.o.End)
		return false, nil
	case !v.o.Known || v.c.Seq == v.o.Until:
		v.out.Word = w
		return false, nil
	case v.c.Seq > v.o.Until:
		v.out.Word, v.out.Mismatch = w, true
		return false, nil
	}
	return v.damaged(fmt.Sprintf("it is sealed at sequence number %d, but its successor follows on %d", v.c.Seq, v.o.Until))
}

// free: the frames end here, unless something follows.
func (v *salvager) free() (more bool, err error) {
	zero := v.zeroFrom(v.c.Off)
	if v.o.Sealed || !zero || v.o.Proven > v.c.Seq {
		if found, err := v.resync("zeros where a frame was"); found || err != nil {
			return found, err
		}
	}
	switch {
	case v.o.Sealed || v.o.Proven > v.c.Seq:
		return v.giveUp("zeros where a frame was")
	case !zero:
		at, _ := nonZero(v.s.r.Bytes(v.c.Off, v.s.r.Len()-v.c.Off))
		rest := v.s.r.Len() - v.c.Off - at
		v.out.Fixes = append(v.out.Fixes, Fix{v.c.Off + at, "bytes behind the end of the log, which nobody wrote", make([]byte, rest)})
	}
	return false, nil
}

// damaged: the word at the cursor cannot be believed.
func (v *salvager) damaged(reason string) (more bool, err error) {
	if w, ok := v.mendWord(); ok {
		v.put(v.c.Off, w, "%s; one bit of it is wrong, and what stands behind proves which", reason)
		if w.State() == Committed {
			if f, err := v.s.Frame(v.c, w); err == nil {
				v.keep(f, w)
				return true, nil
			}
		}
		if w == 0 || w.Sealed() {
			v.out.Word = w
			return false, nil
		}
		if v.wasMessage(w) {
			v.lose(v.c.Off, v.c.Seq, uint64(w.Count()), false, "%s; what stands behind it may have been a message, but does not verify", reason)
		}
		v.pass(w, 0)
		return true, nil
	}
	if w, ok := v.batchWord(); ok {
		if f, err := v.s.Frame(v.c, w); err == nil {
			v.put(v.c.Off, w, "%s; the checksum of the batch proves what it was", reason)
			v.keep(f, w)
			return true, nil
		}
	}
	if found, err := v.resync(reason); found || err != nil {
		return found, err
	}
	return v.giveUp(reason)
}

// mendWord tries each single bit of the word. What speaks for a candidate must be
// something that the word itself does not contain.
func (v *salvager) mendWord() (Word, bool) {
	off := v.c.Off
	if off+8 > v.s.r.Len() {
		return 0, false
	}
	raw := v.s.r.Word(off).Load()
	var dead []Word
	for bit := range 64 {
		w := Word(raw ^ 1<<bit)
		if !w.Valid() || !w.Sealed() && w != 0 && off+w.Size()+SealBytes > v.s.Size {
			continue
		}
		switch w.State() {
		case Committed:
			if _, err := v.s.Frame(v.c, w); err == nil {
				return w, true
			}
		case Free:
			if !v.o.Sealed && v.o.Proven <= v.c.Seq && v.zeroFrom(off+8) {
				return 0, true
			}
		case Seal, SealJump:
			if v.o.Known && v.c.Seq == v.o.Until && w.State() == v.o.End || !v.o.Known && v.o.Proven <= v.c.Seq && v.zeroFrom(off+8) {
				return w, true
			}
		default: // a claim is nobody's any more
			dead = append(dead, w.with(Pad))
		}
	}
	for _, w := range dead {
		if next := v.c.After(w); v.proven(next) && !v.skips(next) {
			return w, true
		}
	}
	return 0, false
}

// wasMessage reports whether the frame at the cursor, which is to become a PAD, may
// have carried messages: from COMMITTED to PAD it is one bit of the state and one of
// the check, so a message whose check was hit, and whose body was hit too, looks like
// a PAD whose state was. What speaks against that is a frame nobody wrote into, as
// the claim of a writer that died before copying, and one that verifies.
func (v *salvager) wasMessage(w Word) bool {
	raw, committed := v.s.r.Word(v.c.Off).Load(), w.with(Committed)
	if Word(raw).State() != Committed && raw>>checkShift != uint64(committed)>>checkShift {
		return false
	}
	from := v.c.Off + 8
	if _, found := nonZero(v.s.r.Bytes(from, min(v.c.Off+w.Size(), v.s.r.Len())-from)); !found {
		return false
	}
	_, err := v.s.Frame(v.c, committed)
	return err != nil
}

// proven reports whether the log certainly goes on, or ends, at c.
func (v *salvager) proven(c Cursor) bool {
	w, err := v.s.Word(c.Off)
	switch {
	case err != nil:
		return false
	case w.State() == Committed:
		_, err := v.s.Frame(c, w)
		return err == nil
	case w.Sealed():
		return v.o.Known && c.Seq == v.o.Until || !v.o.Known
	case w == 0:
		return !v.o.Sealed && v.o.Proven <= c.Seq && v.zeroFrom(c.Off)
	}
	return false
}

// giveUp: nothing behind the cursor can be read. Where the number at the SEAL is
// known the rest becomes PADs; else numbers jump, since nobody knows how many were
// given out.
func (v *salvager) giveUp(reason string) (more bool, err error) {
	lost, off := uint64(0), v.c.Off
	if v.o.Known {
		if v.o.Until < v.c.Seq {
			v.out.Mismatch = true
			return false, nil
		}
		lost = v.o.Until - v.c.Seq
		pads := int64((lost + MaxCount - 1) / MaxCount)
		if off+pads*FrameHeader+SealBytes > v.s.Size {
			v.out.Mismatch = true
			return false, nil
		}
		if lost > 0 {
			v.lose(off, v.c.Seq, lost, false, "%s", reason)
			v.pad(off+pads*FrameHeader, v.c.Seq+lost, reason)
		}
	} else if lost := v.o.Proven - v.c.Seq; v.o.Proven > v.c.Seq {
		pads := int64((lost + MaxCount - 1) / MaxCount)
		if lost>>32 == 0 && off+pads*FrameHeader+SealBytes <= v.s.Size {
			v.lose(off, v.c.Seq, lost, true, "%s", reason)
			v.pad(off+pads*FrameHeader, v.o.Proven, reason)
		} // else whoever asked has to get there in another way
	} else if !v.o.Sealed {
		v.lose(off, v.c.Seq, 1, true, "%s", reason)
	}
	end := v.o.End
	if !v.o.Sealed {
		end = SealJump
	}
	v.out.Word = MakeWord(end, 0, 0, 0)
	v.put(v.c.Off, v.out.Word, "%s; the segment is sealed here", reason)
	v.reach()
	return false, nil
}

// pad makes PADs of everything from the cursor to the place end with the sequence
// number seq there.
func (v *salvager) pad(end int64, seq uint64, reason string) {
	for v.c.Off < end {
		size, count := end-v.c.Off, seq-v.c.Seq
		if count > MaxCount && size >= 2*FrameHeader {
			size = FrameHeader
		}
		if size > FrameHeader+MaxLength&^7 {
			size -= max(FrameHeader, size-(FrameHeader+MaxLength&^7))
		}
		w := MakeWord(Pad, 0, int(min(count, MaxCount)), size-FrameHeader)
		v.put(v.c.Off, w, "%s; made a PAD", reason)
		v.pass(w, 0)
	}
}

// resync goes on at the next frame that can be found, and makes a PAD of what lies
// before it.
func (v *salvager) resync(reason string) (found bool, err error) {
	c, found := v.find(v.c, v.s.r.Len())
	if !found {
		return false, v.ctx.Err()
	}
	if n := c.Seq - v.c.Seq; n > 0 {
		v.lose(v.c.Off, v.c.Seq, n, false, "%s", reason)
	}
	v.pad(c.Off, c.Seq, reason)
	return true, nil
}
