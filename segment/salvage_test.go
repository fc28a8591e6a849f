package segment

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/walq/walq/internal/crc32c"
	"github.com/walq/walq/internal/testx"
	"github.com/walq/walq/mmap"
)

func TestOneWrongBitIsFoundWhereverItIs(t *testing.T) {
	rnd := rand.New(rand.NewPCG(testx.Seed(t), 0))
	p := make([]byte, 60)
	for i := range p {
		p[i] = byte(rnd.Uint32())
	}
	sum := crc32c.Update(0, p)
	if _, ok := WrongBit(p, sum); ok {
		t.Error("a wrong bit is found where none is")
	}
	for bit := range len(p) * 8 {
		p[bit/8] ^= 1 << (bit % 8)
		if got, ok := WrongBit(p, sum); !ok || got != bit {
			t.Errorf("got bit %d (%v), want %d", got, ok, bit)
		}
		p[bit/8] ^= 1 << (bit % 8)
	}
	for bit := range 32 {
		if got, ok := WrongBit(p, sum^1<<bit); !ok || got != len(p)*8+bit {
			t.Errorf("in the checksum: got bit %d (%v), want %d", got, ok, len(p)*8+bit)
		}
	}
	// Two wrong bits are never taken for one: the checksum has that distance.
	for a := range len(p) * 8 {
		b := rnd.IntN(len(p) * 8)
		if a == b {
			continue
		}
		q := bytes.Clone(p)
		q[a/8] ^= 1 << (a % 8)
		q[b/8] ^= 1 << (b % 8)
		if got, ok := WrongBit(q, sum); ok {
			t.Errorf("bits %d and %d are taken for bit %d", a, b, got)
		}
	}
}

func TestTheChecksumTellsTheSequenceNumber(t *testing.T) {
	rnd := rand.New(rand.NewPCG(testx.Seed(t), 0))
	s := OnHeap(Header{Size: MinSize, Ordinal: 1, First: 1, Salt: rnd.Uint64()})
	off := s.Start().Off
	for range 1000 {
		seq := rnd.Uint64() >> rnd.IntN(64)
		body := make([]byte, rnd.IntN(100))
		w := MakeWord(Claimed, 3, 1, int64(len(body)))
		s.r.Word(off).Store(uint64(w))
		s.Fill(Cursor{off, seq}, w, KindMessage, rnd.Int64(), nil, body)
		if !s.Commit(off, w) {
			t.Fatal("not committed")
		}
		w = w.with(Committed)
		below := rnd.Uint64N(1 << 20)
		from := seq - min(seq, below)
		if c, ok := s.numberOf(off, w, from, below); !ok || c.Seq != seq {
			t.Errorf("got %d (%v), want %d, of %d and %d behind", c.Seq, ok, seq, from, below)
		}
		if from > 0 {
			if c, ok := s.numberOf(off, w, seq+1, 1<<20); ok {
				t.Errorf("%d is found among numbers behind %d", c.Seq, seq)
			}
		}
		s.r.Word(off).Store(0)
	}
}

// Any damage is that of one sequence number out of 2^32. Where it is one that could
// be, the frame must not make all behind it be counted from there.
func TestADamageThatLooksLikeAnotherNumberCostsOneMessage(t *testing.T) {
	for _, taken := range []uint64{9, 10, 12, 13, 27} { // for 11
		s := OnHeap(Header{Size: MinSize, Ordinal: 1, First: 1, Salt: rand.Uint64()})
		c := s.Start()
		for seq := uint64(1); seq <= 20; seq++ {
			w := MakeWord(Claimed, 3, 1, 500)
			s.r.Word(c.Off).Store(uint64(w))
			at := c
			if seq == 11 {
				at.Seq = taken
			}
			s.Fill(at, w, KindMessage, int64(seq), nil, make([]byte, 500))
			if !s.Commit(c.Off, w) {
				t.Fatal("not committed")
			}
			if 7 <= seq && seq <= 10 {
				clear(s.r.Bytes(c.Off, 100)) // so that the number has to be found
			}
			c = c.After(w)
		}
		out, err := s.Salvage(t.Context(), SalvageOptions{})
		if err != nil || out.Messages != 15 || out.End != c {
			t.Errorf("11 looks like %d: %d messages are left (%v), the end is %+v; want 15, %+v (%+v)", taken, out.Messages, err, out.End, c, out.Lost)
		}
	}
}

func TestAFillerTakesExactlyItsNumbers(t *testing.T) {
	for _, count := range []uint64{0, 1, MaxCount, MaxCount + 1, 1 << 20} {
		h := Header{Size: MinSize, Ordinal: 1, First: 7, Salt: 1}
		image := NewFiller(h, count, Seal)
		if image == nil {
			t.Fatalf("%d numbers do not fit", count)
		}
		r := mmap.Heap(int64(len(image)))
		copy(r.Bytes(0, r.Len()), image)
		s, err := FromImage(r, false)
		if err != nil {
			t.Fatal(err)
		}
		end, w, err := s.Walk(s.Start())
		if err != nil || w.State() != Seal || end.Seq != 7+count || end.Off != FillerEnd(h, count) || s.Padded() != count {
			t.Errorf("%d numbers: the end is %+v, %v, %v, padded %d", count, end, w, err, s.Padded())
		}
	}
	if NewFiller(Header{Size: MinSize}, 1<<40, Seal) != nil {
		t.Error("2^40 numbers fit a segment of 64 KiB")
	}
}
