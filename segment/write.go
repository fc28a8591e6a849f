package segment

import (
	"github.com/walq/walq/internal/invariants"
)

// Appending. The caller finds the first Free word with WalkToFree, makes sure
// of the room with Fits and Grow, and then
//
//	TryClaim   FREE -> CLAIMED       the room is mine
//	Fill...                          copy, time, checksum
//	Commit     CLAIMED -> COMMITTED  published; a full fence
//
// each transition being one compare-and-swap of the whole word. If Commit
// fails, somebody judged this claim dead and made it a PAD: nothing was
// published, and the caller appends again.

// Fits reports whether a frame of size bytes can start at off and still leave
// room for a SEAL in the segment.
func (s *Segment) Fits(off, size int64) bool { return off+size+SealBytes <= s.Size }

// TryClaim claims the free room at off for the frame that w, in the state
// Claimed, describes. Room for it and for a SEAL must be allocated.
func (s *Segment) TryClaim(off int64, w Word) bool {
	if invariants.Enabled && (w.State() != Claimed || off < s.start || !s.HasRoom(off, w)) {
		invariants.Broken("claim of %v at %d, allocated %d", w, off, s.Allocated())
	}
	return s.r.Word(off).CompareAndSwap(0, uint64(w))
}

// ClaimFree is TryClaim where it may turn out that the room is not free, or not
// allocated.
func (s *Segment) ClaimFree(off int64, w Word) bool {
	return s.HasRoom(off, w) && s.IsFree(off) && s.TryClaim(off, w)
}

// HasRoom reports whether room for the frame w at off, and for a SEAL, is allocated.
func (s *Segment) HasRoom(off int64, w Word) bool { return off+w.Size()+SealBytes <= s.Allocated() }

// IsFree reports whether nobody has claimed the room at off, which is allocated.
func (s *Segment) IsFree(off int64) bool { return s.r.Word(off).Load() == 0 }

// Content is the room for metadata and body of the claimed frame w at off. It
// aliases the segment.
func (s *Segment) Content(off int64, w Word) []byte {
	return s.r.Bytes(off+FrameHeader, w.Length())
}

// Fill copies a message or a control frame into a claim and finishes it.
func (s *Segment) Fill(c Cursor, w Word, kind uint8, time int64, meta, body []byte) {
	fill(s.r.Bytes(c.Off, w.Size()), w, c.Seq, s.Salt, kind, time, meta, body)
}

// fill writes a message or a control frame but for its word. p is all of its room.
func fill(p []byte, w Word, seq, salt uint64, kind uint8, time int64, meta, body []byte) {
	content := p[FrameHeader : FrameHeader+w.Length()]
	copy(content[copy(content, meta):], body)
	finish(p, content, w, seq, salt, kind, time, len(meta))
}

// Finish writes everything but the word of a frame whose content is in place:
// header, checksum and padding. The checksum is that of what is stored, never of the
// caller's bytes as they are at another moment: they might change meanwhile.
func (s *Segment) Finish(c Cursor, w Word, kind uint8, time int64, metaLen int) {
	p := s.r.Bytes(c.Off, w.Size())
	finish(p, p[FrameHeader:FrameHeader+w.Length()], w, c.Seq, s.Salt, kind, time, metaLen)
}

func finish(p, content []byte, w Word, seq, salt uint64, kind uint8, time int64, metaLen int) {
	if pad := p[FrameHeader+len(content):]; len(pad) > 0 {
		clear(pad)
	}
	if kind == KindBatch {
		content = nil // each frame in it has a checksum of its own
	}
	h := makeHeader(kind, metaLen, time)
	h.put(p, h.checksumOver(salt, seq, w, content))
}

// A Part is one frame of a batch to be: a message, or with Control a control
// frame, which takes no sequence number.
type Part struct {
	Meta, Body []byte
	Control    bool
}

func (p *Part) kind() (kind uint8, count int) {
	if p.Control {
		return KindControl, 0
	}
	return KindMessage, 1
}

// BatchLength is the content length of a batch of these parts, and how many
// sequence numbers it takes. ok is false if a part has more metadata than fits.
func BatchLength(parts []Part) (length int64, count int, ok bool) {
	meta := 0
	for i := range parts { // in place: copies of parts cost more than the sum
		p := &parts[i]
		_, n := p.kind()
		count += n
		meta = max(meta, len(p.Meta))
		length += FrameHeader + (int64(len(p.Meta))+int64(len(p.Body))+7)&^7
	}
	return length, count, meta <= MaxMeta
}

// FillBatch writes the parts as whole, committed frames into a claim made for
// their BatchLength, and finishes it. They are published together by Commit.
func (s *Segment) FillBatch(c Cursor, w Word, time int64, parts []Part) {
	dst := s.Content(c.Off, w)
	seq := c.Seq
	for i := range parts {
		p := &parts[i]
		kind, count := p.kind()
		inner := makeWord(Committed, w.Slot(), count, int64(len(p.Meta)+len(p.Body)))
		size := inner.Size()
		frame := dst[:size]
		if len(p.Meta) == 0 { // as FillBody
			h := makeHeader(kind, 0, time)
			h.put(frame, h.checksumCopying(frame[FrameHeader:], p.Body, s.Salt, seq, inner))
		} else {
			fill(frame, inner, seq, s.Salt, kind, time, p.Meta, p.Body)
		}
		putWord(frame, inner)
		dst = dst[size:]
		seq += uint64(count)
	}
	s.Finish(c, w, KindBatch, time, 0)
}

// BodiesLength is BatchLength for messages without metadata.
func BodiesLength(bodies [][]byte) (length int64) {
	for _, b := range bodies {
		length += FrameHeader + (int64(len(b))+7)&^7
	}
	return length
}

// FillBodies is FillBatch for messages without metadata, in a claim made for their
// BodiesLength. It panics if they have another length now.
func (s *Segment) FillBodies(c Cursor, w Word, time int64, bodies [][]byte) {
	dst := s.Content(c.Off, w)
	h := makeHeader(KindMessage, 0, time)
	var inner Word // of the last body: others are mostly as long
	for i, body := range bodies {
		if i == 0 || inner.Length() != int64(len(body)) {
			inner = makeWord(Committed, w.Slot(), 1, int64(len(body)))
		}
		size := inner.Size()
		frame := dst[:size]
		h.put(frame, h.checksumCopying(frame[FrameHeader:], body, s.Salt, c.Seq+uint64(i), inner))
		putWord(frame, inner)
		dst = dst[size:]
	}
	if len(dst) != 0 {
		panic("segment: a batch became shorter while it was appended")
	}
	s.Finish(c, w, KindBatch, time, 0)
}

// Commit publishes a claim. False means that the claim was revoked: the room
// is a PAD, and nothing was published.
func (s *Segment) Commit(off int64, w Word) bool {
	return s.r.Word(off).CompareAndSwap(uint64(w), uint64(w.with(Committed)))
}

// TryPad makes the claim w at off dead room. Owners do it to abort, anyone does
// it to a claim whose owner is dead. False means that the word changed first.
func (s *Segment) TryPad(off int64, w Word) bool {
	if w.State() != Claimed {
		return false
	}
	if !s.r.Word(off).CompareAndSwap(uint64(w), uint64(w.with(Pad))) {
		return false
	}
	s.r.Word(offPadded).Add(uint64(w.Count()))
	return true
}

// TrySeal ends the segment at the free word at off.
func (s *Segment) TrySeal(off int64, slot int) bool {
	if invariants.Enabled && off+SealBytes > s.Allocated() {
		invariants.Broken("no room kept for a SEAL at %d", off)
	}
	return s.r.Word(off).CompareAndSwap(0, uint64(MakeWord(Seal, slot, 0, 0)))
}

// ForceSealJump overwrites whatever stands at off with a SEAL_JUMP. Only
// recovery, alone with the queue, may do this.
func (s *Segment) ForceSealJump(off int64) {
	s.r.Word(off).Store(uint64(MakeWord(SealJump, 0, 0, 0)))
}
