package crc32c

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"math/rand/v2"
	sl "slices"
	"testing"

	"pgregory.net/rapid"
)

// implementations are what each test holds against hash/crc32: the exported
// functions, whatever this processor makes of them, and the Go twin, which
// most machines would otherwise never run.
var implementations = []struct {
	name   string
	update func(uint32, []byte) uint32
	words5 func(a, b, c, d, e uint64) uint32
	frame  func(a, b, c, d, e uint64, p []byte) uint32
}{
	{"exported", Update, Words5, Frame},
	{"twin", updateTwin, words5Twin, func(a, b, c, d, e uint64, p []byte) uint32 {
		return words5Twin(a, b, c, d|uint64(updateTwin(0, p))<<32, e)
	}},
}

// wantWords5 is the definition of Words5 in its own words.
func wantWords5(a, b, c, d, e uint64) uint32 {
	var buf []byte
	for _, w := range []uint64{a, b, c, d, e} {
		buf = binary.LittleEndian.AppendUint64(buf, w)
	}
	return crc32.Checksum(buf, castagnoli)
}

func TestUpdateEqualsHashCRC32AtEveryLengthAndAlignment(t *testing.T) {
	const maxLen, alignments = 1200, 16
	random := rand.New(rand.NewPCG(1, 2))
	buf := make([]byte, maxLen+alignments)
	for i := range buf {
		buf[i] = byte(random.Uint32())
	}
	for _, impl := range implementations {
		t.Run(impl.name, func(t *testing.T) {
			for n := range maxLen + 1 {
				for at := range alignments {
					p := buf[at : at+n]
					for _, crc := range []uint32{0, ^uint32(0), random.Uint32()} {
						want := crc32.Update(crc, castagnoli, p)
						if got := impl.update(crc, p); got != want {
							t.Fatalf("length %d, alignment %d, crc %#x: got %#x, want %#x", n, at, crc, got, want)
						}
					}
				}
			}
		})
	}
}

// Rounds of several streams, what is left of them, and how they are put together.
func TestEveryLengthOfSeveralRoundsEqualsHashCRC32(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 8))
	buf := make([]byte, 10_000)
	for i := range buf {
		buf[i] = byte(random.Uint32())
	}
	for _, impl := range implementations {
		t.Run(impl.name, func(t *testing.T) {
			for n := range len(buf) - 16 {
				p, crc := buf[n%16:][:n], random.Uint32()
				if got, want := impl.update(crc, p), crc32.Update(crc, castagnoli, p); got != want {
					t.Fatalf("length %d, crc %#x: got %#x, want %#x", n, crc, got, want)
				}
				a, b, c, d, e := random.Uint64(), random.Uint64(), random.Uint64(), uint64(random.Uint32()), random.Uint64()
				want := wantWords5(a, b, c, d|uint64(crc32.Checksum(p, castagnoli))<<32, e)
				if got := impl.frame(a, b, c, d, e, p); got != want {
					t.Fatalf("frame of %d bytes: got %#x, want %#x", n, got, want)
				}
			}
		})
	}
}

func TestUpdateReadsNothingOutsideTheSlice(t *testing.T) {
	for _, impl := range implementations {
		t.Run(impl.name, func(t *testing.T) {
			for n := range 100 {
				buf := make([]byte, n+16)
				p := buf[8 : 8+n]
				before := impl.update(7, p)
				for i := range buf {
					if i < 8 || i >= 8+n {
						buf[i] = 0xff
					}
				}
				if after := impl.update(7, p); after != before {
					t.Fatalf("length %d: neighbours changed the result from %#x to %#x", n, before, after)
				}
			}
		})
	}
}

func TestUpdateOfALongInputEqualsHashCRC32(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	buf := make([]byte, 3*chunkBytes+5)
	for i := range buf {
		buf[i] = byte(random.Uint32())
	}
	lengths := []int{chunkBytes - 1, chunkBytes, chunkBytes + 1, 2 * chunkBytes, len(buf)}
	for _, impl := range implementations {
		t.Run(impl.name, func(t *testing.T) {
			for _, n := range lengths {
				crc := random.Uint32()
				want := crc32.Update(crc, castagnoli, buf[:n])
				if got := impl.update(crc, buf[:n]); got != want {
					t.Errorf("length %d, crc %#x: got %#x, want %#x", n, crc, got, want)
				}
			}
		})
	}
}

// The check value of CRC-32C in every catalogue; RFC 3720, B.4 has the zeros.
func TestKnownValues(t *testing.T) {
	for _, impl := range implementations {
		t.Run(impl.name, func(t *testing.T) {
			if got, want := impl.update(0, []byte("123456789")), uint32(0xe3069283); got != want {
				t.Errorf("of 123456789: got %#x, want %#x", got, want)
			}
			if got, want := impl.update(0, make([]byte, 32)), uint32(0x8a9136aa); got != want {
				t.Errorf("of 32 zeros: got %#x, want %#x", got, want)
			}
		})
	}
}

func TestWords5DependsOnEachBit(t *testing.T) {
	for _, impl := range implementations {
		t.Run(impl.name, func(t *testing.T) {
			for word := range 5 {
				for bit := range 64 {
					var w [5]uint64
					w[word] = 1 << bit
					want := wantWords5(w[0], w[1], w[2], w[3], w[4])
					if got := impl.words5(w[0], w[1], w[2], w[3], w[4]); got != want {
						t.Fatalf("word %d, bit %d: got %#x, want %#x", word, bit, got, want)
					}
				}
			}
		})
	}
}

func TestRandomInputs(t *testing.T) {
	for _, impl := range implementations {
		t.Run(impl.name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				crc := rapid.Uint32().Draw(t, "crc")
				p := rapid.SliceOfN(rapid.Byte(), -1, 4*longest).Draw(t, "p")
				cut := rapid.IntRange(0, len(p)).Draw(t, "cut")
				want := crc32.Update(crc, castagnoli, p)
				if got := impl.update(crc, p); got != want {
					t.Fatalf("update: got %#x, want %#x", got, want)
				}
				if got := impl.update(impl.update(crc, p[:cut]), p[cut:]); got != want {
					t.Fatalf("update in two parts: got %#x, want %#x", got, want)
				}
				var w [5]uint64
				for i := range w {
					w[i] = rapid.Uint64().Draw(t, "word")
				}
				want = wantWords5(w[0], w[1], w[2], w[3], w[4])
				if got := impl.words5(w[0], w[1], w[2], w[3], w[4]); got != want {
					t.Fatalf("words5: got %#x, want %#x", got, want)
				}
				d := w[3] & math.MaxUint32
				want = wantWords5(w[0], w[1], w[2], d|uint64(crc32.Update(0, castagnoli, p))<<32, w[4])
				if got := impl.frame(w[0], w[1], w[2], d, w[4], p); got != want {
					t.Fatalf("frame of %d bytes: got %#x, want %#x", len(p), got, want)
				}
			})
		})
	}
}

// Around dst and src lies what must be neither written nor summed.
func TestCopyFrameAtEveryLengthAndAlignment(t *testing.T) {
	const most, alignments, border = 600, 9, 16
	random := rand.New(rand.NewPCG(5, 6))
	from := make([]byte, most+alignments+border)
	for i := range from {
		from[i] = byte(random.Uint32())
	}
	for _, impl := range []struct {
		name string
		copy func(dst, src []byte, a, b, c, d, e uint64) uint32
	}{{"exported", CopyFrame}, {"twin", copyThenSum}} {
		t.Run(impl.name, func(t *testing.T) {
			for n := range most + 1 {
				padded := (n + 7) &^ 7
				for at := range alignments {
					src := from[at : at+n : at+n]
					into := bytes.Repeat([]byte{0xa5}, border+padded+border)
					dst := into[border : border+padded+at%2*8]
					a, b, c, d, e := random.Uint64(), random.Uint64(), random.Uint64(), uint64(random.Uint32()), random.Uint64()
					got := impl.copy(dst, src, a, b, c, d, e)
					if want := wantWords5(a, b, c, d|uint64(crc32.Checksum(src, castagnoli))<<32, e); got != want {
						t.Fatalf("length %d, alignment %d: got %#x, want %#x", n, at, got, want)
					}
					want := sl.Concat(bytes.Repeat([]byte{0xa5}, border), src, make([]byte, padded-n), bytes.Repeat([]byte{0xa5}, border))
					if !bytes.Equal(into, want) {
						t.Fatalf("length %d, alignment %d: got % x, want % x", n, at, into, want)
					}
				}
			}
		})
	}
}

func TestCopyFrameRefusesRoomWithoutPadding(t *testing.T) {
	for _, n := range []int{1, 8, 13, 600} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%d bytes went into room that is too small", n)
				}
			}()
			room := (n+7)&^7 - 1
			CopyFrame(make([]byte, room, 2*room), make([]byte, n), 1, 2, 3, 4, 5) // what lies behind is another's
		}()
	}
}

// longest is past the threshold of every architecture.
const longest = 1024

var sink uint32

// The array lives on the stack of the measured function: were the argument to
// escape, it would move to the heap and be counted.
func TestNothingIsAllocated(t *testing.T) {
	if got := testing.AllocsPerRun(100, func() {
		var short [100]byte
		short[3] = byte(sink)
		sink ^= Update(1, short[:])
	}); got != 0 {
		t.Errorf("Update of 100 bytes: %v allocations, want 0", got)
	}
	if got := testing.AllocsPerRun(100, func() {
		var long [4 * longest]byte
		long[3] = byte(sink)
		sink ^= Update(1, long[:])
	}); got != 0 {
		t.Errorf("Update of %d bytes: %v allocations, want 0", 4*longest, got)
	}
	if got := testing.AllocsPerRun(100, func() {
		sink ^= Words5(1, 2, 3, 4, uint64(sink))
	}); got != 0 {
		t.Errorf("Words5: %v allocations, want 0", got)
	}
	if got := testing.AllocsPerRun(100, func() {
		var short [100]byte
		short[3] = byte(sink)
		sink ^= Frame(1, 2, 3, 4, 5, short[:])
	}); got != 0 {
		t.Errorf("Frame: %v allocations, want 0", got)
	}
	if got := testing.AllocsPerRun(100, func() {
		var from, to [104]byte
		from[3] = byte(sink)
		sink ^= CopyFrame(to[:], from[:101], 1, 2, 3, 4, 5)
	}); got != 0 {
		t.Errorf("CopyFrame: %v allocations, want 0", got)
	}
	// That the measure can see an escape at all:
	if got := testing.AllocsPerRun(100, func() {
		var short [100]byte
		short[3] = byte(sink)
		sink ^= crc32.Update(1, castagnoli, short[:])
	}); got == 0 {
		t.Log("hash/crc32 no longer lets its argument escape: this package may have become needless")
	}
}

func BenchmarkUpdate(b *testing.B) {
	buf := make([]byte, 65536)
	for _, n := range []int{8, 24, 100, 256, 384, 504, 512, 640, 768, 1024, 4096, 65536} {
		p := buf[:n]
		b.Run(fmt.Sprintf("walq/%d", n), func(b *testing.B) {
			b.SetBytes(int64(n))
			for b.Loop() {
				sink = Update(sink, p)
			}
		})
		b.Run(fmt.Sprintf("std/%d", n), func(b *testing.B) {
			b.SetBytes(int64(n))
			for b.Loop() {
				sink = crc32.Update(sink, castagnoli, p)
			}
		})
		b.Run(fmt.Sprintf("twin/%d", n), func(b *testing.B) {
			b.SetBytes(int64(n))
			for b.Loop() {
				sink = updateTwin(sink, p)
			}
		})
	}
}

func BenchmarkWords5(b *testing.B) {
	b.Run("walq", func(b *testing.B) {
		for b.Loop() {
			sink = Words5(1, 2, 3, 4, uint64(sink))
		}
	})
	b.Run("twin", func(b *testing.B) {
		for b.Loop() {
			sink = words5Twin(1, 2, 3, 4, uint64(sink))
		}
	})
	b.Run("std", func(b *testing.B) {
		for b.Loop() {
			var buf [40]byte
			binary.LittleEndian.PutUint64(buf[32:], uint64(sink))
			sink = crc32.Checksum(buf[:], castagnoli)
		}
	})
}
