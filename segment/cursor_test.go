package segment

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"github.com/walq/walq/internal/testx"
)

// filled makes a segment of 1 MiB with frames of random kinds and sizes, and
// tells where each starts, the end included.
func filled(t testing.TB, rng *rand.Rand) (s *Segment, boundaries map[Cursor]bool, end Cursor) {
	s = OnHeap(header(1 << 20))
	boundaries = map[Cursor]bool{}
	c := s.Start()
	for i := int64(1); ; i++ {
		n := rng.IntN(3000)
		if rng.IntN(20) == 0 {
			n = rng.IntN(150_000) // crosses several strides at once
		}
		if !s.Fits(c.Off, MakeWord(0, 0, 0, int64(n)+1000).Size()) {
			return s, boundaries, c
		}
		boundaries[c] = true
		switch rng.IntN(8) {
		case 0:
			at, w := claim(t, s, c, 1, rng.IntN(4), int64(n))
			s.TryPad(at.Off, w)
			c = at.After(w)
		case 1:
			c = put(t, s, c, KindControl, i, nil, make([]byte, n))
		case 2:
			c = putBatch(t, s, c, i, []Part{{Body: make([]byte, n)}, {Body: []byte("x"), Control: true}, {Body: []byte("y")}})
		default:
			c = put(t, s, c, KindMessage, i, nil, make([]byte, n))
		}
		boundaries[c] = true
	}
}

func TestHintsStandAtFramesOnly(t *testing.T) {
	s, boundaries, end := filled(t, rand.New(rand.NewPCG(testx.Seed(t), 0)))
	if c := s.Tail(); !boundaries[c] || end.Off-c.Off > 200_000 {
		t.Errorf("tail hint %+v is no boundary, or far from the end %+v", c, end)
	}
	hints := s.Hints()
	for _, h := range hints {
		if !h.Sound || !boundaries[h.Place] {
			t.Errorf("%+v points at no frame", h)
		}
	}
	if len(hints) < 5 {
		t.Errorf("only %d hints in a full segment", len(hints))
	}
	for i := range indexEntries(s.Size) {
		if c, _, ok := s.entry(i); ok && c.Off/indexStrideBytes != i {
			t.Errorf("entry %d points into another stride: %+v", i, c)
		}
	}
}

// nearest is Near without cleverness: the last entry that is proven and early
// enough.
func nearest(s *Segment, early func(Cursor, int64) bool) Cursor {
	best := s.Start()
	for i := range indexEntries(s.Size) {
		if c, maxTime, ok := s.entry(i); ok && early(c, maxTime) && s.proven(c) {
			best = c
		}
	}
	return best
}

func TestNearFindsTheLastEntryThatIsEarlyEnough(t *testing.T) {
	rng := rand.New(rand.NewPCG(testx.Seed(t), 1))
	s, _, end := filled(t, rng)
	// A wrong entry may make the place worse, but never late, or none.
	right := func(round int, got, want Cursor) bool {
		return got == want || round > 0 && (got == s.Start() || got.Off < want.Off && s.proven(got))
	}
	for round := range 3 { // with all entries, then with more and more of them gone or wrong
		for range 500 {
			seq := s.First + rng.Uint64N(end.Seq-s.First+10)
			if got, want := s.Near(seq), nearest(s, func(c Cursor, _ int64) bool { return c.Seq <= seq }); !right(round, got, want) {
				t.Fatalf("round %d, sequence number %d: got %+v, want %+v", round, seq, got, want)
			}
			off := rng.Int64N(s.Size)
			if got, want := s.NearOff(off), nearest(s, func(c Cursor, _ int64) bool { return c.Off <= off }); !right(round, got, want) {
				t.Fatalf("round %d, offset %d: got %+v, want %+v", round, off, got, want)
			}
			at := rng.Int64N(1000)
			if got, want := s.NearTime(at), nearest(s, func(_ Cursor, maxTime int64) bool { return maxTime < at }); !right(round, got, want) {
				t.Fatalf("round %d, time %d: got %+v, want %+v", round, at, got, want)
			}
		}
		for range 4 {
			i := rng.Int64N(indexEntries(s.Size))
			s.r.Word(offIndex + i*indexEntryBytes).Store(rng.Uint64() >> rng.IntN(64))
		}
	}
	for _, seq := range []uint64{0, s.First, math.MaxUint64} {
		if got, want := s.Near(seq), nearest(s, func(c Cursor, _ int64) bool { return c.Seq <= seq }); !right(1, got, want) {
			t.Errorf("sequence number %d: got %+v, want %+v", seq, got, want)
		}
	}
}

// TestAnIndexEntryIsNotBelieved: a body that looks like a frame, and an entry
// that points at it.
func TestAnIndexEntryIsNotBelieved(t *testing.T) {
	victim := func(fake []byte) (s *Segment, inside Cursor) {
		s = OnHeap(header(256 << 10))
		body := make([]byte, 100_000)
		at := int64(70_000) // in the stride 1
		inside = Cursor{at + s.start + FrameHeader, s.First + 1}
		copy(body[at:], fake)
		c := put(t, s, s.Start(), KindMessage, 1, nil, body)
		put(t, s, c, KindMessage, 2, nil, []byte("real"))
		s.r.Word(offIndex + inside.Off/indexStrideBytes*indexEntryBytes).Store(s.Pack(inside))
		return s, inside
	}
	forge := func(salt, seq uint64) []byte {
		p := message(seq, "forged").bytes(salt)
		return p
	}
	salt, seq := header(0).Salt, header(0).First+1
	for name, fake := range map[string][]byte{
		"zeros":                  nil,
		"another salt":           forge(salt+1, seq),
		"another sequence":       forge(salt, seq+1),
		"a valid word only":      forge(0, 0)[:8],
		"a claim":                forge(salt, seq)[:0],
		"a word that is invalid": {1, 2, 3, 4, 5, 6, 7, 8},
	} {
		if s, inside := victim(fake); s.Near(seq+10) == inside {
			t.Errorf("%s: the entry was believed", name)
		}
	}
	// That the entry itself would be found: with everything right it is.
	if s, inside := victim(forge(salt, seq)); s.Near(seq+10) != inside {
		t.Error("the test's entry would not be found if it were true")
	}
}

func TestAnIndexEntryOfAnotherStrideIsNotUsed(t *testing.T) {
	s := OnHeap(header(512 << 10))
	for c, i := s.Start(), 0; i < 4; i++ {
		c = put(t, s, c, KindMessage, 1, nil, make([]byte, 70_000))
	}
	entry := func(i int64) int64 { return offIndex + i*indexEntryBytes }
	if c, _, ok := s.entry(3); !ok || c.Off/indexStrideBytes != 3 {
		t.Fatalf("there is no entry for the stride 3: %+v", c)
	}
	for _, i := range []int64{0, 1, 2, 5} {
		s.r.Word(entry(i)).Store(s.r.Word(entry(3)).Load())
		if c, _, ok := s.entry(i); ok {
			t.Errorf("entry %d is believed, which points to %+v", i, c)
		}
	}
}

func TestAnInvalidTailHintIsNotUsed(t *testing.T) {
	s := OnHeap(header(MinSize))
	put(t, s, s.Start(), KindMessage, 1, nil, make([]byte, 5000))
	good := s.Tail()
	if good == s.Start() {
		t.Fatal("no hint was written")
	}
	place := s.r.Word(offTailHint).Load()
	for bit := range 64 {
		s.r.Word(offTailHint).Store(place ^ 1<<bit)
		if c := s.Tail(); c != s.Start() {
			t.Errorf("with bit %d flipped: %+v", bit, c)
		}
	}
	s.r.Word(offTailHint).Store(place)
	s.allocated().Store(uint64(good.Off) - 8)
	if c := s.Tail(); c != s.Start() {
		t.Errorf("beyond what is allocated: %+v", c)
	}
}

func TestClearedHintsAreGoneFromThereOnOnly(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s, boundaries, _ := filled(t, rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 2)))
		off := rapid.Int64Range(s.start/8, s.Size/8).Draw(rt, "off") * 8
		if at := rapid.IntRange(-5, 20).Draw(rt, "hint"); at >= 0 && at < len(s.Hints()) {
			off = s.Hints()[at].Place.Off // exactly at one
		}
		kept := 0
		for _, h := range s.Hints() {
			if h.What != "a tail hint" && h.Place.Off < off {
				kept++
			}
		}
		s.ClearHintsFrom(off)
		if s.Tail() != s.Start() {
			rt.Fatalf("the tail hint stayed: %+v", s.Tail())
		}
		for _, h := range s.Hints() {
			if kept--; h.Place.Off >= off || !boundaries[h.Place] {
				rt.Fatalf("cleared from %d, and %+v stayed", off, h)
			}
		}
		if kept != 0 {
			rt.Fatalf("cleared from %d: %d entries below are gone", off, kept)
		}
	})
}

func TestAWalkStopsAtWhatIsNotFinal(t *testing.T) {
	s := OnHeap(header(MinSize))
	c := put(t, s, s.Start(), KindMessage, 1, nil, []byte("a"))
	at, w := claim(t, s, c, 9, 3, 50)
	end := put(t, s, at.After(w), KindMessage, 1, nil, []byte("b"))
	if got, there, err := s.Walk(s.Start()); got != at || there != w || err != nil {
		t.Errorf("Walk: got %+v, %v, %v, want the claim at %+v", got, there, err, at)
	}
	if got, there, err := s.WalkToFree(s.Start()); got != end || there != 0 || err != nil {
		t.Errorf("WalkToFree: got %+v, %v, %v, want the free word at %+v", got, there, err, end)
	}
	if end.Seq != s.First+5 {
		t.Errorf("at the end the sequence number is %d, want %d", end.Seq, s.First+5)
	}
	s.TryPad(at.Off, w)
	s.TrySeal(end.Off, 1)
	for name, walk := range map[string]func(Cursor) (Cursor, Word, error){"Walk": s.Walk, "WalkToFree": s.WalkToFree} {
		if got, there, err := walk(s.Start()); got != end || there.State() != Seal || err != nil {
			t.Errorf("%s: got %+v, %v, %v, want the SEAL at %+v", name, got, there, err, end)
		}
	}
}

func TestBeyondWhatIsAllocatedEverythingIsFree(t *testing.T) {
	s := OnHeap(header(1 << 20))
	s.allocated().Store(uint64(s.start + 64))
	for off := s.start; off <= s.Size-SealBytes; off += 8 {
		s.r.Word(off).Store(0xffff) // nobody may look at it
	}
	for off := s.start + 64 - SealBytes + 8; off <= s.Size-SealBytes; off += 8 {
		if w, err := s.Word(off); w != 0 || err != nil {
			t.Fatalf("at %d: %v, %v", off, w, err)
		}
	}
	for _, off := range []int64{s.Size - SealBytes + 8, s.Size, s.Size + 4096, 1 << 34, s.Size - SealBytes - 1} {
		if _, err := s.Word(off); !errors.Is(err, ErrCorrupt) {
			t.Errorf("at %d: %v", off, err)
		}
	}
}

// TestNoFrameStartsBelowTheData: there zeros would read as FREE.
func TestNoFrameStartsBelowTheData(t *testing.T) {
	s := OnHeap(header(MinSize))
	for off := int64(0); off < s.start; off += 8 {
		if w, err := s.Word(off); !errors.Is(err, ErrCorrupt) {
			t.Errorf("at %d: got %v, %v, want ErrCorrupt", off, w, err)
			return
		}
	}
}

func TestAFrameThatRunsPastTheEndIsRefused(t *testing.T) {
	s := OnHeap(header(MinSize))
	room := MaxContent(MinSize)
	s.r.Word(s.start).Store(uint64(MakeWord(Committed, 0, 1, room)))
	if _, err := s.Word(s.start); err != nil {
		t.Errorf("a frame that just fits: %v", err)
	}
	for _, length := range []int64{room + 1, room + 24, MinSize, MaxLength} {
		for _, state := range []State{Claimed, Committed, Pad} {
			s.r.Word(s.start).Store(uint64(MakeWord(state, 0, 1, length)))
			if _, err := s.Word(s.start); !errors.Is(err, ErrCorrupt) {
				t.Errorf("%v of %d bytes: %v", state, length, err)
			}
		}
	}
	s.r.Word(s.start).Store(uint64(MakeWord(Committed, 0, 1, 5000)))
	s.allocated().Store(uint64(s.start + 4096))
	if _, err := s.checkFrame(s.Start()); !errors.Is(err, ErrCorrupt) {
		t.Errorf("past what is allocated: %v", err)
	}
}
