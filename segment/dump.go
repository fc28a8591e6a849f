package segment

import (
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/walq/walq/mmap"
)

// For those who look at a file as it lies, sound or not. What is judged is
// judged by the same decoder that live readers use.

// A Field is one value in a file.
type Field struct {
	What   string `json:"what"`   // the area of the file
	Offset int64  `json:"offset"` // bytes from the start of the file
	Name   string `json:"field"`
	Value  any    `json:"value"` // prints as people want to read it
}

// Fields lists the header and the shared words of the segment in r, as far as r
// reaches, without judging them: DecodeHeader does that.
func Fields(r *mmap.Region) (all []Field) {
	get := func(off int64) uint64 { return r.Word(off&^7).Load() >> (off & 7 * 8) }
	number := func(off int64) any { return get(off) }
	half := func(off int64) any { return uint32(get(off)) }
	bits := func(off int64) any { return fmt.Sprintf("%#x", get(off)) }
	text := func(off int64) any { return strings.ToValidUTF8(string(r.Bytes(off, 8)), "�") }
	when := func(off int64) any { return time.Unix(0, int64(get(off))).UTC() }
	for _, f := range []struct {
		off, size int64
		name      string
		value     func(off int64) any
	}{
		{offMagic, 8, "magic", text},
		{offVersion, 4, "version", half},
		{offAlgorithm, 4, "checksum algorithm", half},
		{offIncompatible, 8, "incompatible features", bits},
		{offReadCompat, 8, "read-only features", bits},
		{offCompatible, 8, "compatible features", bits},
		{offSize, 8, "segment size", number},
		{offOrdinal, 8, "ordinal", number},
		{offFirst, 8, "first", number},
		{offEpoch, 8, "epoch", number},
		{offPrevFirst, 8, "predecessor's first", number},
		{offPrevEnd, 8, "predecessor's end", number},
		{offDurable, 8, "durable", func(off int64) any {
			return Position{uint32(get(off) >> 32), int64(uint32(get(off))) * 8}
		}},
		{offSalt, 8, "salt", bits},
		{offCreated, 8, "created", when},
		{offQueue, 16, "queue", func(off int64) any { return UUID(r.Bytes(off, 16)) }},
		{offChecksum, 4, "checksum", func(off int64) any { return fmt.Sprintf("%08x", uint32(get(off))) }},
		{offTailHint, 8, "tail hint", bits},
		{offAllocated, 8, "allocated", number},
		{offLinked, 8, "linked", number},
		{offPadded, 8, "padded", number},
	} {
		if (f.off+f.size+7)&^7 > r.Len() {
			break
		}
		what := "header"
		if f.off >= headerBytes {
			what = "shared"
		}
		all = append(all, Field{what, f.off, f.name, f.value(f.off)})
	}
	return all
}

// A Position is a place in the log as it is shown.
type Position struct {
	Segment uint32 `json:"segment"` // ordinal
	Offset  int64  `json:"offset"`
}

func (p Position) String() string { return fmt.Sprintf("segment %d offset %d", p.Segment, p.Offset) }

// UUID writes 16 bytes as the text of a UUID.
func UUID(b []byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:16])
}

// A Laid is a frame as it lies in a file.
type Laid struct {
	Offset int64  // bytes from the start of the file
	Seq    uint64 // of its first message, or of the next if it has none
	Word   Word   // not valid only if Fault says so
	Inner  bool   // within the batch before
	Fault  error  // why it is not sound, or nil; Is ErrCorrupt

	// Filled: the frame is COMMITTED, and the file reaches as far as its header.
	// In others the bytes mean nothing, and what follows is zero.
	Filled      bool
	Kind, Flags uint8
	CRC         uint32
	CRCMatches  bool
	Time        int64  // nanoseconds since the Unix epoch
	Meta, Body  []byte // alias the segment; of a batch there is no body
}

// Frames goes over the frames of the segment as they lie, the frames within a
// batch behind the batch itself. Behind a frame that does not verify it goes on
// by the word; it ends at the word that is free or a SEAL, which is the last that
// it gives, or at the first word that cannot be believed.
func (s *Segment) Frames() iter.Seq[Laid] {
	return func(yield func(Laid) bool) {
		for c := s.Start(); ; {
			l := Laid{Offset: c.Off, Seq: c.Seq}
			l.Word, l.Fault = s.Word(c.Off)
			if l.Fault != nil {
				if c.Off >= s.start && c.Off+FrameHeader <= s.r.Len() {
					l.Word = Word(s.r.Word(c.Off).Load())
				}
				yield(l)
				return
			}
			whole := c.Off+FrameHeader+l.Word.Length() <= s.r.Len()
			if l.Word.State() == Committed {
				s.laid(&l, c, whole)
			}
			if !yield(l) || l.Word == 0 || l.Word.Sealed() {
				return
			}
			if l.Kind == KindBatch && whole && !s.laidInner(l, yield) {
				return
			}
			c = c.After(l.Word)
		}
	}
}

// laid fills in a committed frame, whole or as much as the file holds of it.
func (s *Segment) laid(l *Laid, c Cursor, whole bool) {
	p := s.r.Bytes(c.Off, min(FrameHeader+l.Word.Length(), s.r.Len()-c.Off))
	l.fill(p)
	if whole {
		_, reason := checkFrame(p, l.Word, c.Seq, s.Salt, false)
		l.CRCMatches = reason == ""
	}
	var f Frame
	f, l.Fault = s.Frame(c, l.Word)
	if l.Fault == nil {
		l.Fault = s.CheckPadding(c, l.Word, f)
	}
}

// laidInner goes over the frames within the batch l. Each is judged alone, so
// that one bad frame does not hide those behind it.
func (s *Segment) laidInner(l Laid, yield func(Laid) bool) (more bool) {
	rest, at, seq := s.Content(l.Offset, l.Word), l.Offset+FrameHeader, l.Seq
	for len(rest) >= FrameHeader {
		p, w, _, reason := checkInner(rest, seq, s.Salt)
		i := Laid{Offset: at, Seq: seq, Word: getWord(rest), Inner: true, CRCMatches: reason == ""}
		if reason != "" {
			i.Fault = s.corrupt(at, "in a batch: %s", reason)
		}
		if p != nil {
			i.fill(p)
		}
		if !yield(i) {
			return false
		}
		if p == nil {
			break // the word tells no size
		}
		rest, at, seq = rest[w.Size():], at+w.Size(), seq+uint64(w.Count())
	}
	return true
}

// fill takes the fields of a frame out of p, which may be shorter than the frame.
func (l *Laid) fill(p []byte) {
	h := getHeader(p)
	l.Filled = true
	l.Kind, l.Flags, l.CRC, l.Time = h.kind(), h.flags(), h.crc(), h.time
	if h.kind() == KindBatch {
		return
	}
	n := min(h.metaLen(), len(p)-FrameHeader)
	l.Meta, l.Body = p[FrameHeader:FrameHeader+n], p[FrameHeader+n:]
}

// CheckImage reports what is wrong with a segment in memory beside its frames:
// why FromImage refuses it, or that the file, fileBytes long when it was looked at
// last, is shorter than the room that was allocated in it.
func CheckImage(r *mmap.Region, fileBytes int64) (*Segment, error) {
	s, err := FromImage(r, true)
	if err != nil {
		return nil, err
	}
	if a := s.allocated().Load(); a > uint64(fileBytes) {
		return s, s.corrupt(offAllocated, "the file has %d bytes, of which %d were allocated: it was cut short", fileBytes, a)
	}
	return s, nil
}

// KindName names a kind of frame.
func KindName(kind uint8) string {
	switch kind {
	case KindMessage:
		return "message"
	case KindBatch:
		return "batch"
	case KindControl:
		return "control"
	}
	return fmt.Sprintf("kind %d", kind)
}
