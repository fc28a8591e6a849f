package segment

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// A written frame is what a frame must be read as. Parts stands for a batch.
type written struct {
	at    Cursor
	state State
	kind  uint8
	time  int64
	meta  []byte
	body  []byte
	parts []Part
}

func drawBytes(t *rapid.T, label string, most int) []byte {
	n := rapid.OneOf(rapid.IntRange(0, 17), rapid.IntRange(0, most)).Draw(t, label)
	return bytes.Repeat([]byte{rapid.Byte().Draw(t, "byte")}, n)
}

func drawParts(t *rapid.T) (parts []Part) {
	for range rapid.IntRange(1, 5).Draw(t, "parts") {
		parts = append(parts, Part{drawBytes(t, "meta", 40), drawBytes(t, "body", 100), rapid.Bool().Draw(t, "control")})
	}
	return parts
}

// draw appends one frame of any kind to s.
func draw(rt *rapid.T, t testing.TB, s *Segment, c Cursor) (written, Cursor) {
	w := written{at: c, state: Committed, time: rapid.Int64().Draw(rt, "time")}
	switch rapid.IntRange(0, 3).Draw(rt, "what") {
	case 0:
		w.state = Pad
		at, word := claim(t, s, c, 1, rapid.IntRange(0, 5).Draw(rt, "count"), rapid.Int64Range(0, 200).Draw(rt, "length"))
		copy(s.Content(at.Off, word), "left by somebody")
		s.TryPad(at.Off, word)
		return w, at.After(word)
	case 1:
		w.kind, w.parts = KindBatch, drawParts(rt)
		return w, putBatch(t, s, c, w.time, w.parts)
	case 2:
		w.kind = KindControl
	default:
		w.kind = KindMessage
	}
	w.meta, w.body = drawBytes(rt, "meta", 100), drawBytes(rt, "body", 3000)
	return w, put(t, s, c, w.kind, w.time, w.meta, w.body)
}

func TestFramesAreReadAsTheyWereWritten(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h := header(MinSize)
		h.First, h.Salt = rapid.Uint64Range(1, 1<<62).Draw(rt, "first"), rapid.Uint64().Draw(rt, "salt")
		s := OnHeap(h)
		var all []written
		c := s.Start()
		for c.Off < MinSize-5000 && len(all) < 50 {
			var w written
			w, c = draw(rt, t, s, c)
			all = append(all, w)
		}
		s.TrySeal(c.Off, 1)
		copied, err := fromBytes(image(s), true)
		if err != nil {
			rt.Fatal(err)
		}
		c = s.Start()
		for _, w := range all {
			c = readBack(rt, copied, c, w)
		}
		if w, err := copied.Word(c.Off); err != nil || w.State() != Seal {
			rt.Fatalf("at the end: %v, %v", w, err)
		}
	})
}

func readBack(t *rapid.T, s *Segment, c Cursor, want written) Cursor {
	w, err := s.Word(c.Off)
	if err != nil || w.State() != want.state || c != want.at {
		t.Fatalf("at %+v: %v, %v, want %v at %+v", c, w, err, want.state, want.at)
	}
	if want.state != Committed {
		return c.After(w)
	}
	f, err := s.checkFrame(c)
	if err != nil || f.Kind != want.kind || f.Time != want.time || f.Seq != c.Seq || f.Count != w.Count() {
		t.Fatalf("at %+v: %+v, %v", c, f, err)
	}
	if f.Kind != KindBatch {
		if !bytes.Equal(f.Meta, want.meta) || !bytes.Equal(f.Body, want.body) {
			t.Fatalf("at %+v: got %x and %x, want %x and %x", c, f.Meta, f.Body, want.meta, want.body)
		}
		return c.After(w)
	}
	in, seq := f.Inner(s.Salt), c.Seq
	for i, p := range want.parts {
		if reason := in.Next(); reason != "" || in.Done() {
			t.Fatalf("part %d: %q", i, reason)
		}
		got := in.Frame()
		if kind, n := p.kind(); got.Kind != kind || got.Count != n || got.Seq != seq || !bytes.Equal(got.Meta, p.Meta) || !bytes.Equal(got.Body, p.Body) {
			t.Fatalf("part %d: got %+v, want %+v from %d", i, got, p, seq)
		}
		seq += uint64(got.Count)
	}
	if reason := in.Next(); reason != "" || !in.Done() {
		t.Fatalf("behind the last part: %q", reason)
	}
	return c.After(w)
}

// TestWhatWasInTheRoomDoesNotShow: a writer of its own memory may have left
// anything behind the content.
func TestWhatWasInTheRoomDoesNotShow(t *testing.T) {
	s := OnHeap(header(MinSize))
	at, w := claim(t, s, s.Start(), 1, 1, 13)
	for off := at.Off + 8; off < at.After(w).Off; off++ {
		s.r.Bytes(off, 1)[0] = 0xff
	}
	s.Fill(at, w, KindMessage, 1, nil, make([]byte, 13))
	s.Commit(at.Off, w)
	if f, err := s.checkFrame(at); err != nil || !bytes.Equal(f.Body, make([]byte, 13)) || f.Flags != 0 {
		t.Errorf("got %+v, %v", f, err)
	}
}

func TestTheLargestContentFillsASegment(t *testing.T) {
	for _, size := range []int64{MinSize, 1 << 20} {
		s := OnHeap(header(size))
		body := bytes.Repeat([]byte{7}, int(MaxContent(size)))
		c := put(t, s, s.Start(), KindMessage, 1, nil, body)
		if f, err := s.checkFrame(s.Start()); err != nil || !bytes.Equal(f.Body, body) {
			t.Errorf("size %d: %v", size, err)
		}
		if !s.TrySeal(c.Off, 0) || s.Fits(c.Off, FrameHeader) {
			t.Errorf("size %d: the SEAL does not end it at %d", size, c.Off)
		}
		if w := MakeWord(Claimed, 0, 1, MaxContent(size)+1); s.Fits(s.start, w.Size()) {
			t.Errorf("size %d: one byte more fits too", size)
		}
	}
}

// flips flips every bit of [from, to) and returns the offsets of bytes where
// that is not noticed by who reads the frame at c.
func flips(s *Segment, c Cursor, from, to int64) (unnoticed []int64) {
	for at := from; at < to; at++ {
		for bit := range 8 {
			p := s.r.Bytes(at, 1)
			p[0] ^= 1 << bit
			if _, err := s.checkFrame(c); !errors.Is(err, ErrCorrupt) && !slices.Contains(unnoticed, at) {
				unnoticed = append(unnoticed, at)
			}
			p[0] ^= 1 << bit
		}
	}
	return unnoticed
}

func TestEveryFlippedBitOfAFrameIsFound(t *testing.T) {
	for name, c := range map[string]struct {
		kind       uint8
		meta, body string
	}{
		"message with metadata": {KindMessage, string(metaBoth), "a body"},
		"empty message":         {KindMessage, "", ""},
		"no padding":            {KindMessage, "", "12345678"},
		"control":               {KindControl, "", "abc"},
	} {
		s := OnHeap(goldenHeader)
		next := put(t, s, s.Start(), c.kind, goldenTime, []byte(c.meta), []byte(c.body))
		if at := flips(s, s.Start(), s.start, next.Off); len(at) > 0 {
			t.Errorf("%s: flips in bytes %v are not found", name, at)
		}
	}
}

// TestEveryFlippedBitOfABatchIsFound: also in the padding of the frames within,
// which each of its parts has.
func TestEveryFlippedBitOfABatchIsFound(t *testing.T) {
	s := OnHeap(goldenHeader)
	next := putBatch(t, s, s.Start(), goldenTime, goldenParts)
	if at := flips(s, s.Start(), s.start, next.Off); len(at) > 0 {
		t.Errorf("flips in bytes %v are not found", at)
	}
}

func TestAnImageThatEndsWithinPaddingIsRefused(t *testing.T) {
	s := OnHeap(header(MinSize))
	put(t, s, s.Start(), KindMessage, 1, nil, []byte("a"))
	p := image(s)
	for cut := s.start + FrameHeader; cut <= s.start+FrameHeader+8; cut++ {
		short, err := fromBytes(p[:cut], true)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := short.checkFrame(short.Start()); errors.Is(err, ErrCorrupt) != (cut < s.start+FrameHeader+8) {
			t.Errorf("cut at %d: got %v", cut, err)
		}
	}
}

func TestEveryFlippedBitOfAPadOrASealIsFound(t *testing.T) {
	s := OnHeap(goldenHeader)
	at, w := claim(t, s, s.Start(), 5, 2, 64)
	s.TryPad(at.Off, w)
	end := at.After(w)
	for name, seal := range map[string]func(){
		"SEAL": func() { s.TrySeal(end.Off, 3) }, "SEAL_JUMP": func() { s.ForceSealJump(end.Off) },
	} {
		seal()
		for _, c := range []Cursor{at, end} {
			if bytes := flips(s, c, c.Off, c.Off+8); len(bytes) > 0 {
				t.Errorf("%s: flips in bytes %v are not found", name, bytes)
			}
		}
	}
}

// A frame verifies only where it was written: not elsewhere, not in another
// segment.
func TestAFrameBelongsToItsPlace(t *testing.T) {
	s := OnHeap(goldenHeader)
	put(t, s, s.Start(), KindMessage, goldenTime, metaBoth, []byte("a body"))
	w := Word(s.r.Word(s.start).Load())
	if _, err := s.Frame(Cursor{s.start, s.First + 1}, w); !errors.Is(err, ErrCorrupt) {
		t.Errorf("at another sequence number: %v", err)
	}
	if _, err := s.Frame(s.Start(), MakeWord(Committed, 3, 1, w.Length()-1)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("with another length: %v", err)
	}
	s.Salt++
	if _, err := s.Frame(s.Start(), w); !errors.Is(err, ErrCorrupt) {
		t.Errorf("with another salt: %v", err)
	}
}

// inner is a frame within a batch.
type inner struct {
	w       Word
	kind    uint8
	metaLen int
	content string
	seq     uint64
}

func (in inner) bytes(salt uint64) []byte {
	p := make([]byte, in.w.Size())
	copy(p[FrameHeader:], in.content)
	finish(p, p[FrameHeader:FrameHeader+in.w.Length()], in.w, in.seq, salt, in.kind, 1, in.metaLen)
	putWord(p, in.w)
	return p
}

// raw puts a frame of any kind at the start of a segment, checksum and all.
func raw(kind uint8, count, metaLen int, content []byte) *Segment {
	s := OnHeap(goldenHeader)
	w := MakeWord(Committed, 1, count, int64(len(content)))
	p := s.r.Bytes(s.start, w.Size())
	copy(p[FrameHeader:], content)
	finish(p, p[FrameHeader:FrameHeader+w.Length()], w, s.First, s.Salt, kind, 1, metaLen)
	putWord(p, w)
	return s
}

func message(seq uint64, body string) inner {
	return inner{MakeWord(Committed, 1, 1, int64(len(body))), KindMessage, 0, body, seq}
}

func TestAFrameThatIsNotWhatItSaysIsRefused(t *testing.T) {
	for _, c := range []struct {
		name    string
		s       *Segment
		because string
	}{
		{"kind 0", raw(0, 1, 0, nil), "no such kind"},
		{"kind 4", raw(4, 1, 0, nil), "no such kind"},
		{"a message that counts 0", raw(KindMessage, 0, 0, nil), "no such kind"},
		{"a message that counts 2", raw(KindMessage, 2, 0, nil), "no such kind"},
		{"a control frame that counts 1", raw(KindControl, 1, 0, nil), "no such kind"},
		{"a batch with metadata", raw(KindBatch, 1, 8, message(1000, "").bytes(goldenHeader.Salt)), "no such kind"},
		{"a batch of odd length", raw(KindBatch, 0, 0, make([]byte, 12)), "no such kind"},
		{"metadata longer than the content", raw(KindMessage, 1, 9, make([]byte, 8)), "longer than the frame"},
		{"metadata without content", raw(KindControl, 0, 65535, nil), "longer than the frame"},
	} {
		if _, err := c.s.checkFrame(c.s.Start()); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), c.because) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.because)
		}
	}
}

func TestABatchThatIsNotWholeIsRefused(t *testing.T) {
	first := goldenHeader.First
	state := func(in inner, s State) inner { in.w = in.w.with(s); return in }
	nested := inner{MakeWord(Committed, 1, 1, 24), KindBatch, 0, string(message(first, "").bytes(goldenHeader.Salt)), first}
	long := message(first, "12345678")
	long.w = MakeWord(Committed, 1, 1, 8+24)
	for _, c := range []struct {
		name    string
		count   int
		frames  []inner
		tail    int // zero bytes behind the frames
		because string
	}{
		{"whole", 2, []inner{message(first, "a"), message(first+1, "")}, 0, ""},
		{"empty", 0, nil, 0, ""},
		{"counts more", 3, []inner{message(first, "a"), message(first+1, "")}, 0, "another number of messages"},
		{"counts less", 1, []inner{message(first, "a"), message(first+1, "")}, 0, "another number of messages"},
		{"empty, counts 1", 1, nil, 0, "another number of messages"},
		{"nested", 1, []inner{nested}, 0, "no such kind"},
		{"claimed within", 1, []inner{state(message(first, "a"), Claimed)}, 0, "no committed frame"},
		{"pad within", 1, []inner{state(message(first, "a"), Pad)}, 0, "no committed frame"},
		{"seal within", 0, []inner{{w: MakeWord(Seal, 0, 0, 0)}}, 0, "no committed frame"},
		{"free word within", 1, []inner{message(first, "a")}, 24, "no committed frame"},
		{"rest of 8 bytes", 1, []inner{message(first, "a")}, 8, "no room for a frame"},
		{"sequence number out of turn", 2, []inner{message(first, "a"), message(first+2, "")}, 0, "checksum"},
	} {
		var content []byte
		for _, in := range c.frames {
			content = append(content, in.bytes(goldenHeader.Salt)...)
		}
		s := raw(KindBatch, c.count, 0, append(content, make([]byte, c.tail)...))
		_, err := s.checkFrame(s.Start())
		if c.because == "" && err != nil || c.because != "" && (!errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), c.because)) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.because)
		}
	}
	s := raw(KindBatch, 1, 0, long.bytes(goldenHeader.Salt)[:32])
	if _, err := s.checkFrame(s.Start()); err == nil || !strings.Contains(err.Error(), "longer than the batch") {
		t.Errorf("a frame longer than the batch: got %v", err)
	}
}

// TestNothingOfABatchIsHandedOutIfOneFrameIsBad breaks each inner frame in
// turn.
func TestNothingOfABatchIsHandedOutIfOneFrameIsBad(t *testing.T) {
	off := int64(FrameHeader)
	for i, p := range goldenParts {
		s := OnHeap(goldenHeader)
		putBatch(t, s, s.Start(), goldenTime, goldenParts)
		s.r.Bytes(s.start+off+FrameHeader, 1)[0] ^= 1
		var corrupt *CorruptError
		f, err := s.checkFrame(s.Start())
		if !errors.As(err, &corrupt) || f.Count != 0 || f.Body != nil {
			t.Errorf("frame %d: got %+v, %v", i, f, err)
		} else if corrupt.Offset != s.start+off {
			t.Errorf("frame %d: error at offset %d, want %d", i, corrupt.Offset, s.start+off)
		}
		off += MakeWord(0, 0, 0, int64(len(p.Meta)+len(p.Body))).Size()
	}
}
