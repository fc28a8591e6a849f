package fuzz

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"testing"

	"github.com/walq/walq/mmap"
	"github.com/walq/walq/segment"
)

// The layout of the image that a FuzzSegment input stands for. The offsets are
// those of docs/FORMAT.md, and written out: the fuzz target is a second reader
// of it.
const (
	imageSize  = 64 << 10
	headerEnd  = 128 // of the fields; behind it reserved bytes
	sharedFrom = 4096
	sharedEnd  = 4640 // shared words and the one index entry
	framesFrom = 8192

	modeHeader = 1 << 0 // the header's bytes are the input's, its checksum is made right
	modeWords  = 1 << 1 // the check of every frame's word is made right
	modeSums   = 1 << 2 // and so is its checksum
	modePlaces = 1 << 3 // the check of the hints is made right
	modeShort  = 1 << 4 // the image ends with the input
	modeWrite  = 1 << 5 // it is opened for writing
)

func castagnoli(p []byte) uint32 { return crc32.Checksum(p, crc32.MakeTable(crc32.Castagnoli)) }

// summed puts the sum of the seven lower bytes into the highest.
func summed(w uint64) uint64 {
	var sum uint64
	for i := range 7 {
		sum += w >> (8 * i)
	}
	return w&(1<<56-1) | sum<<56
}

// segmentImage makes a segment of an input: the first bytes are its header's
// fields, the next its shared words, the rest frames.
func segmentImage(mode byte, input []byte) []byte {
	le := binary.LittleEndian
	base := segment.OnHeap(segment.Header{Size: imageSize, Ordinal: 1, First: 1, Epoch: 1, Salt: 1})
	p := bytes.Clone(base.Region().Bytes(0, imageSize))
	take := func(n int) []byte {
		n = min(n, len(input))
		part := input[:n]
		input = input[n:]
		return part
	}
	if head := take(headerEnd); mode&modeHeader != 0 {
		copy(p[8:headerEnd], head) // the magic stays
		le.PutUint32(p[4088:], castagnoli(p[:4088]))
	}
	copy(p[sharedFrom:sharedEnd], take(sharedEnd-sharedFrom))
	if mode&modePlaces != 0 {
		for _, off := range []int{4096, 4608} {
			le.PutUint64(p[off:], summed(le.Uint64(p[off:])))
		}
	}
	n := copy(p[framesFrom:], input)
	if mode&(modeWords|modeSums) != 0 {
		repair(p[framesFrom:], le.Uint64(p[56:]), le.Uint64(p[96:]), mode&modeSums != 0, 0)
	}
	if mode&modeShort != 0 {
		p = p[:min(framesFrom+n, len(p))]
	}
	return p
}

// repair makes the frames in p pass the checks, as far as they can be told
// apart: the check of each word, its CRC if sums is set, and within a batch the
// same.
func repair(p []byte, seq, salt uint64, sums bool, depth int) {
	le := binary.LittleEndian
	for len(p) >= 24 {
		w := le.Uint64(p)
		if w == 0 {
			return
		}
		w = summed(w)
		length, count := w&(1<<29-1), w>>29&(1<<13-1)
		size := 24 + (length+7)&^7
		le.PutUint64(p, w)
		if size > uint64(len(p)) {
			return
		}
		if sums {
			content := castagnoli(p[24 : 24+length])
			if p[12] == 2 && depth == 0 {
				repair(p[24:24+length], seq, salt, sums, 1)
				content = 0
			}
			le.PutUint32(p[8:], frameSum(p, salt, seq, length, count, content))
		}
		p, seq = p[size:], seq+count
	}
}

func frameSum(p []byte, salt, seq, length, count uint64, content uint32) uint32 {
	le := binary.LittleEndian
	var words []byte
	for _, w := range []uint64{
		salt, seq, length | count<<32 | uint64(p[12])<<48 | uint64(p[13])<<56,
		uint64(le.Uint16(p[14:])) | uint64(content)<<32, le.Uint64(p[16:]),
	} {
		words = le.AppendUint64(words, w)
	}
	return castagnoli(words)
}

// segmentSeed is an input whose image, with everything repaired, holds a frame
// of every kind.
func segmentSeed() []byte {
	var frames []byte
	frame := func(state, count uint64, kind byte, meta int, content []byte) []byte {
		p := binary.LittleEndian.AppendUint64(nil, uint64(len(content))|count<<29|3<<42|state<<52)
		p = append(p, 0, 0, 0, 0, kind, 0, byte(meta), 0)
		p = append(append(p, 1, 2, 3, 4, 5, 6, 7, 8), content...)
		return append(p, make([]byte, (8-len(p)%8)%8)...)
	}
	inner := append(frame(2, 1, 1, 1, []byte("mbody")), frame(2, 0, 3, 0, []byte("control"))...)
	for _, f := range [][]byte{
		frame(2, 1, 1, 3, []byte("abcbody")), frame(3, 2, 0, 0, make([]byte, 16)), frame(2, 1, 2, 0, inner),
		frame(2, 0, 3, 0, []byte("ack")), frame(2, 1, 1, 0, nil), frame(1, 1, 0, 0, make([]byte, 8)),
		frame(2, 1, 1, 0, bytes.Repeat([]byte("x"), 4096)), frame(4, 0, 0, 0, nil),
	} {
		frames = append(frames, f...)
	}
	p := make([]byte, headerEnd+sharedEnd-sharedFrom)
	le := binary.LittleEndian
	le.PutUint32(p, 1)     // version
	le.PutUint32(p[4:], 1) // algorithm
	le.PutUint64(p[32:], 65536)
	le.PutUint64(p[40:], 7)    // ordinal
	le.PutUint64(p[48:], 1000) // first
	shared := p[headerEnd:]
	le.PutUint64(shared, framesFrom/8)       // tail hint
	le.PutUint64(shared[128:], imageSize)    // allocated
	le.PutUint64(shared[512:], framesFrom/8) // index entry
	return append(p, frames...)
}

// FuzzSegment: any bytes as the image of a segment are read to the end without
// a panic, in as many steps as there is room for frames, and every slice that
// is handed out lies within the image.
func FuzzSegment(f *testing.F) {
	seed := segmentSeed()
	for mode := range byte(64) {
		f.Add(mode, seed)
	}
	f.Add(byte(0xff), []byte{})
	f.Fuzz(func(t *testing.T, mode byte, input []byte) {
		p := segmentImage(mode, input)
		r := mmap.Heap(int64(len(p)))
		copy(r.Bytes(0, r.Len()), p)
		s, err := segment.FromImage(r, mode&modeWrite == 0)
		if err != nil {
			if !errors.Is(err, segment.ErrCorrupt) && !errors.Is(err, segment.ErrVersion) {
				t.Fatalf("an error of another kind: %v", err)
			}
			return
		}
		frames := walkAll(t, s)
		lookEverywhere(t, s, frames)
		if !bytes.Equal(r.Bytes(0, r.Len()), p) {
			t.Fatal("reading changed the image")
		}
	})
}

// walkAll goes over every frame and returns the places where they start.
func walkAll(t *testing.T, s *segment.Segment) map[segment.Cursor]bool {
	frames := map[segment.Cursor]bool{}
	for c := s.Start(); ; {
		frames[c] = true
		w, err := s.Word(c.Off)
		if err != nil && !errors.Is(err, segment.ErrCorrupt) {
			t.Fatalf("an error of another kind: %v", err)
		}
		if err != nil || w == 0 || w.Sealed() {
			return frames
		}
		if w.State() == segment.Committed {
			frame, err := s.Frame(c, w)
			if err == nil {
				checkDecoded(t, s, frame, w)
				checkSum(t, s, c)
				err = s.CheckPadding(c, w, frame)
			}
			if err != nil && !errors.Is(err, segment.ErrCorrupt) {
				t.Fatalf("an error of another kind: %v", err)
			}
		}
		next := c.After(w)
		if next.Off < c.Off+segment.FrameHeader || next.Off > s.Size-segment.SealBytes {
			t.Fatalf("from %+v over %v to %+v", c, w, next)
		}
		c = next
	}
}

// checkSum holds a frame that was delivered against its checksum, computed here.
func checkSum(t *testing.T, s *segment.Segment, c segment.Cursor) {
	le := binary.LittleEndian
	p := s.Region().Bytes(c.Off, s.Allocated()-c.Off)
	w := segment.Word(le.Uint64(p))
	length, count := uint64(w.Length()), uint64(w.Count())
	sum := uint32(0)
	if p[12] != segment.KindBatch {
		sum = castagnoli(p[24 : 24+length])
	}
	if want := frameSum(p, s.Salt, c.Seq, length, count, sum); le.Uint32(p[8:]) != want {
		t.Fatalf("the frame at %+v was delivered with the checksum %08x, want %08x", c, le.Uint32(p[8:]), want)
	}
	if p[12] != segment.KindBatch {
		return
	}
	for inner, seq := p[24:24+length], c.Seq; len(inner) > 0; {
		w := segment.Word(le.Uint64(inner))
		length, count := uint64(w.Length()), uint64(w.Count())
		if want := frameSum(inner, s.Salt, seq, length, count, castagnoli(inner[24:24+length])); le.Uint32(inner[8:]) != want {
			t.Fatalf("in the batch at %+v message %d was delivered with the checksum %08x, want %08x", c, seq, le.Uint32(inner[8:]), want)
		}
		inner, seq = inner[w.Size():], seq+count
	}
}

func checkDecoded(t *testing.T, s *segment.Segment, frame segment.Frame, w segment.Word) {
	if int64(len(frame.Meta)+len(frame.Body)) != w.Length() || frame.Count != w.Count() {
		t.Fatalf("%v was read as %d and %d bytes, %d messages", w, len(frame.Meta), len(frame.Body), frame.Count)
	}
	if frame.Kind != segment.KindBatch {
		return
	}
	in, count := frame.Inner(s.Salt), 0
	for range len(frame.Body)/segment.FrameHeader + 1 {
		if reason := in.Next(); reason != "" {
			t.Fatalf("a batch that was verified: %s", reason)
		}
		if in.Done() {
			break
		}
		count += in.Frame().Count
	}
	if !in.Done() || count != frame.Count {
		t.Fatalf("a batch of %d messages holds %d, done %v", frame.Count, count, in.Done())
	}
}

// lookEverywhere asks for what hints and hostile offsets lead to.
func lookEverywhere(t *testing.T, s *segment.Segment, frames map[segment.Cursor]bool) {
	for _, seq := range []uint64{0, s.First, s.First + 1, s.First + 100, 1<<64 - 1} {
		for _, c := range []segment.Cursor{s.Near(seq), s.NearTime(int64(seq))} {
			if !frames[c] && c != s.Start() {
				if w, err := s.Word(c.Off); err != nil || w.State() != segment.Committed {
					t.Fatalf("a place without a frame: %+v", c)
				}
			}
		}
	}
	for _, hint := range s.Hints() {
		if hint.Sound && (hint.Place.Off < framesFrom || hint.Place.Off > s.Size-segment.SealBytes || hint.Place.Off%8 != 0) {
			t.Fatalf("a sound hint to %+v", hint.Place)
		}
	}
	for _, from := range []segment.Cursor{s.Start(), s.Tail()} {
		final, _, ferr := s.Walk(from)
		free, _, rerr := s.WalkToFree(from)
		if ferr == nil && rerr == nil && final.Off > free.Off {
			t.Fatalf("final frames end at %+v, behind all at %+v", final, free)
		}
	}
	for off := int64(framesFrom); off < s.Region().Len()+64; off += 8 {
		w, err := s.Word(off)
		if err != nil || w.State() != segment.Committed {
			continue
		}
		if frame, err := s.Frame(segment.Cursor{Off: off, Seq: s.First}, w); err == nil {
			checkDecoded(t, s, frame, w)
		}
	}
}

// FuzzSegmentHeader: a header page is refused, or decoded to what may be used, and
// then encoded again as the bytes that count.
func FuzzSegmentHeader(f *testing.F) {
	page := segmentImage(modeHeader, segmentSeed())[:4096]
	f.Add(page[:headerEnd], true, true)
	f.Add(page[:headerEnd], false, false)
	f.Add([]byte("walqseg\n"), true, false)
	other := bytes.Clone(page[:headerEnd])
	binary.LittleEndian.PutUint64(other[40:], 0xff0000) // another size that may be
	f.Add(other, true, true)
	f.Add([]byte{}, false, true)
	for off := 8; off < headerEnd; off += 8 {
		other = bytes.Clone(page[:headerEnd])
		other[off] ^= 0x80
		f.Add(other, true, off%16 == 0)
	}
	f.Fuzz(func(t *testing.T, fields []byte, sum, readOnly bool) {
		p := make([]byte, 4096)
		copy(p, fields)
		if sum {
			binary.LittleEndian.PutUint32(p[4088:], castagnoli(p[:4088]))
		}
		before := bytes.Clone(p)
		h, err := segment.DecodeHeader(p, readOnly)
		if !bytes.Equal(p, before) {
			t.Fatal("the page was changed")
		}
		if err != nil {
			return
		}
		if castagnoli(p[:4088]) != binary.LittleEndian.Uint32(p[4088:]) || h.Size%4096 != 0 || h.Size < 64<<10 || h.Size > 1<<30 {
			t.Fatalf("a header that cannot be used was decoded: %+v", h)
		}
		if start := segment.DataStart(h.Size); start%4096 != 0 || start+segment.SealBytes > h.Size || segment.MaxContent(h.Size) <= 0 {
			t.Fatalf("a segment of %d bytes: the data start at %d, a message has %d bytes", h.Size, start, segment.MaxContent(h.Size))
		}
		if h.Size > 1<<20 {
			return // a segment on the heap takes all of its size
		}
		s := segment.OnHeap(h)
		again, err := segment.DecodeHeader(s.Region().Bytes(0, 4096), false)
		if err != nil || again != h {
			t.Fatalf("encoded and decoded again: %+v, %v, want %+v", again, err, h)
		}
	})
}
