package segment

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/walq/walq/internal/testx"
	"github.com/walq/walq/mmap"
)

// explore reads everything that can be read of a segment that may hold any
// bytes, and fails if a walk takes more steps than there is room for.
func explore(t testing.TB, s *Segment) {
	t.Helper()
	bound := s.Size/FrameHeader + 1
	c := s.Start()
	for steps := int64(0); ; steps++ {
		if steps > bound {
			t.Fatalf("still walking after %d frames, at %+v", steps, c)
		}
		w, err := s.Word(c.Off)
		if err != nil || w == 0 || w.Sealed() {
			break
		}
		if w.State() == Committed {
			f, err := s.checkFrame(c)
			if err == nil && f.Kind == KindBatch {
				exploreBatch(t, f, s.Salt)
			}
		}
		c = c.After(w)
	}
	for _, walk := range []func(Cursor) (Cursor, Word, error){s.Walk, s.WalkToFree} {
		for _, from := range []Cursor{s.Start(), s.Tail()} {
			if end, _, err := walk(from); err == nil && (end.Off < from.Off || end.Off > s.Size-SealBytes) {
				t.Fatalf("a walk from %+v ends at %+v", from, end)
			}
		}
	}
	for _, seq := range []uint64{0, s.First, s.First + 5, 1<<64 - 1} {
		for _, c := range []Cursor{s.Near(seq), s.NearTime(int64(seq))} {
			if c != s.Start() {
				if w, err := s.Word(c.Off); err != nil || w.State() != Committed {
					t.Fatalf("%+v is no frame: %v, %v", c, w, err)
				}
			}
		}
	}
	for _, h := range s.Hints() {
		if h.Sound && (h.Place.Off < s.start || h.Place.Off > s.Size) {
			t.Fatalf("sound hint outside the data: %+v", h)
		}
	}
}

func exploreBatch(t testing.TB, f Frame, salt uint64) {
	t.Helper()
	in := f.Inner(salt)
	for range len(f.Body)/FrameHeader + 1 {
		if in.Next() != "" || in.Done() {
			return
		}
	}
	t.Fatal("a batch has more frames than there is room for")
}

// TestHostileImagesAreOnlyRefused mutates a good image in ways that get past
// the first checks.
func TestHostileImagesAreOnlyRefused(t *testing.T) {
	rng := rand.New(rand.NewPCG(testx.Seed(t), 3))
	good, _, _ := filled(t, rng)
	small := golden(t)
	opened := 0
	for range 600 {
		p := append([]byte(nil), small...)
		for range 1 + rng.IntN(20) {
			hurt(rng, p)
		}
		p = p[:len(p)&^7]
		if rng.IntN(4) > 0 {
			resum(p)
		}
		if rng.IntN(8) == 0 {
			p = p[:8*rng.IntN(len(p)/8)+8]
		}
		s, err := fromBytes(p, rng.IntN(2) == 0)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrVersion) {
				t.Fatalf("an error of another kind: %v", err)
			}
			continue
		}
		opened++
		explore(t, s)
	}
	if opened < 100 {
		t.Errorf("only %d images were worth a look", opened)
	}
	explore(t, good)
}

// hurt changes some bytes: anywhere, or a word that stays valid, or a place
// that does.
func hurt(rng *rand.Rand, p []byte) {
	first := DataStart(goldenSize)
	words := func(off int64, w uint64) { putWord(p[off:], Word(w)) }
	switch rng.IntN(6) {
	case 0: // one byte anywhere
		p[rng.IntN(len(p))] = byte(rng.Uint32())
	case 1: // a run of them where frames are
		at := int(first) + rng.IntN(600)
		for i := range rng.IntN(40) {
			p[at+i] = byte(rng.Uint32())
		}
	case 2: // a valid word anywhere
		off := first + 8*rng.Int64N((goldenSize-first)/8)
		words(off, uint64(MakeWord(State(rng.IntN(6)), rng.IntN(MaxSlots), rng.IntN(MaxCount+1), rng.Int64N(MaxLength)>>rng.IntN(29))))
	case 3: // at a frame that is there
		f := goldenFrames[rng.IntN(len(goldenFrames))]
		words(f.off, uint64(MakeWord(State(rng.IntN(6)), f.slot, rng.IntN(4), rng.Int64N(200))))
	case 4: // a place that is sound
		s := &Segment{Header: Header{First: goldenHeader.First}}
		place := s.Pack(Cursor{8 * rng.Int64N(1<<28), goldenHeader.First + rng.Uint64N(1<<28)})
		words([]int64{offTailHint, offIndex, offIndex + indexEntryBytes}[rng.IntN(3)], place)
	case 5: // another header
		words(int64(8*rng.IntN(16)), rng.Uint64()>>rng.IntN(64))
	}
}

func TestRandomBytesAreNoSegment(t *testing.T) {
	rng := rand.New(rand.NewPCG(testx.Seed(t), 4))
	for range 300 {
		p := make([]byte, 1+rng.IntN(20_000))
		for i := range p {
			p[i] = byte(rng.Uint32())
		}
		copy(p, Magic[:min(rng.IntN(9), len(p))])
		if _, err := fromBytes(p, true); err == nil {
			t.Fatal("random bytes were opened as a segment")
		}
	}
	if _, err := FromImage(mmap.Heap(1), true); !errors.Is(err, ErrCorrupt) {
		t.Errorf("one byte: %v", err)
	}
}
