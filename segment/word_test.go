package segment

import (
	"math/bits"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"github.com/walq/walq/internal/testx"
)

func TestAWordKeepsItsFields(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		state := State(rapid.IntRange(0, 5).Draw(t, "state"))
		slot := rapid.IntRange(0, MaxSlots-1).Draw(t, "slot")
		count := rapid.IntRange(0, MaxCount).Draw(t, "count")
		length := rapid.Int64Range(0, MaxLength).Draw(t, "length")
		w := MakeWord(state, slot, count, length)
		if w.State() != state || w.Slot() != slot || w.Count() != count || w.Length() != length {
			t.Fatalf("got %v", w)
		}
		if size := w.Size(); size%8 != 0 || size < FrameHeader+length || size >= FrameHeader+length+8 {
			t.Fatalf("size %d for length %d", size, length)
		}
		if w.Final() != (state >= Committed) || w.Sealed() != (state == Seal || state == SealJump) {
			t.Fatalf("%v: final %v, sealed %v", w, w.Final(), w.Sealed())
		}
		to := State(rapid.IntRange(1, 3).Draw(t, "to"))
		if got, want := w.with(to), MakeWord(to, slot, count, length); got != want {
			t.Fatalf("in another state: got %v, want %v", got, want)
		}
	})
}

func TestAWordDoesNotTakeWhatDoesNotFit(t *testing.T) {
	for _, c := range []struct {
		slot, count int
		length      int64
	}{{MaxSlots, 0, 0}, {-1, 0, 0}, {0, MaxCount + 1, 0}, {0, -1, 0}, {0, 0, MaxLength + 1}, {0, 0, -1}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%+v: no panic", c)
				}
			}()
			MakeWord(Claimed, c.slot, c.count, c.length)
		}()
	}
}

func TestTheCheckIsTheSumOfTheSevenBytesBelow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := rapid.Uint64().Draw(t, "word")
		var sum uint64
		for i := range 7 {
			sum += v >> (8 * i) & 0xff
		}
		if got := check(v); got != sum&0xff {
			t.Fatalf("check of %#x: got %#x, want %#x", v, got, sum&0xff)
		}
	})
}

// words calls f with every state, extreme and random fields.
func words(t *testing.T, f func(Word)) {
	rng := rand.New(rand.NewPCG(testx.Seed(t), 0))
	f(0)
	f(MakeWord(Seal, 0, 0, 0))
	f(MakeWord(SealJump, 0, 0, 0))
	for slot := range MaxSlots {
		f(MakeWord(Seal, slot, 0, 0))
	}
	for _, state := range []State{Claimed, Committed, Pad} {
		for _, slot := range []int{0, 1, MaxSlots / 2, MaxSlots - 1} {
			for _, count := range []int{0, 1, 255, 256, MaxCount} {
				for _, length := range []int64{0, 1, 255, 256, 65535, 1 << 28, MaxLength} {
					f(MakeWord(state, slot, count, length))
				}
			}
		}
		for range 20_000 {
			f(MakeWord(state, rng.IntN(MaxSlots), rng.IntN(MaxCount+1), rng.Int64N(MaxLength+1)>>rng.IntN(29)))
		}
	}
}

func TestNoSingleFlippedBitTurnsAValidWordIntoAnother(t *testing.T) {
	words(t, func(w Word) {
		if !w.Valid() {
			t.Fatalf("%v", w)
		}
		for bit := range 64 {
			if flipped := w ^ 1<<bit; flipped.Valid() {
				t.Fatalf("%v (%#x) with bit %d flipped is %v", w, uint64(w), bit, flipped)
			}
		}
	})
}

func TestAWordWithOneBitIsNeverValid(t *testing.T) {
	for bit := range 64 {
		if w := Word(1) << bit; w.Valid() {
			t.Errorf("%#x is valid: one flip away from FREE", uint64(w))
		}
	}
}

// TestAWrongByteInAWordIsFound: the check is a sum, so it finds any change of a
// single byte.
func TestAWrongByteInAWordIsFound(t *testing.T) {
	w := MakeWord(Committed, 3, 1, 100)
	for i := range 8 {
		for b := range uint64(256) {
			changed := w&^(0xff<<(8*i)) | Word(b<<(8*i))
			if changed != w && changed.Valid() {
				t.Errorf("byte %d changed to %#x: %v", i, b, changed)
			}
		}
	}
}

func TestOnlyKnownStatesAreValid(t *testing.T) {
	for state := range State(16) {
		w := MakeWord(state, 1, 0, 0)
		if want := state >= Claimed && state <= SealJump; w.Valid() != want {
			t.Errorf("%v: valid %v, want %v", state, w.Valid(), want)
		}
		if state.String() == "" || w.String() == "" {
			t.Errorf("state %d has no name", state)
		}
	}
}

func TestASealHasNoContent(t *testing.T) {
	for _, state := range []State{Seal, SealJump} {
		if MakeWord(state, 0, 1, 0).Valid() || MakeWord(state, 0, 0, 1).Valid() {
			t.Errorf("%v with content is valid", state)
		}
	}
}

func TestAPlaceKeepsItsCursor(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := header(MaxSize >> rapid.IntRange(0, 14).Draw(t, "size"))
		h.First = rapid.Uint64().Draw(t, "first")
		s := &Segment{Header: h, start: DataStart(h.Size)}
		c := Cursor{
			Off: s.start + 8*rapid.Int64Range(0, (h.Size-SealBytes-s.start)/8).Draw(t, "off"),
			Seq: h.First + rapid.Uint64Range(0, 1<<28-1).Draw(t, "seq"),
		}
		place := s.Pack(c)
		if got, ok := s.Unpack(place); !ok || got != c {
			t.Fatalf("got %+v, %v, want %+v", got, ok, c)
		}
		bit := rapid.IntRange(0, 63).Draw(t, "bit")
		if got, ok := s.Unpack(place ^ 1<<bit); ok {
			t.Fatalf("with bit %d flipped: %+v", bit, got)
		}
	})
}

func TestWhatLiesOutsideTheDataIsNoPlace(t *testing.T) {
	s := OnHeap(header(MinSize))
	for _, off := range []int64{0, s.start - 8, s.Size - SealBytes + 8, s.Size, (1<<28 - 1) * 8} {
		if c, ok := s.Unpack(s.Pack(Cursor{off, s.First})); ok {
			t.Errorf("offset %d: %+v", off, c)
		}
	}
	if c, ok := s.Unpack(0); ok {
		t.Errorf("zero: %+v", c)
	}
	if bits.OnesCount64(s.Pack(Cursor{s.Size - SealBytes, s.First})) == 0 {
		t.Error("the last place packs to zero")
	}
}
