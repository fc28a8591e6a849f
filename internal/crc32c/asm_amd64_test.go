package crc32c

import (
	"fmt"
	"testing"
)

// BenchmarkThreshold is where streamsBytes comes from: the length at which three streams
// become cheaper than one.
func BenchmarkThreshold(b *testing.B) {
	if !hasInstruction || !hasFold {
		b.Skip("this processor has no CRC32C instruction")
	}
	defer func() { hasFold = true }()
	buf := make([]byte, 4096)
	for _, n := range []int{192, 216, 240, 264, 288, 320, 384, 512, 1024, 2048, 4096} {
		p := buf[:n]
		for _, hasFold = range []bool{false, true} {
			name := "one"
			if hasFold {
				name = "three"
			}
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				b.SetBytes(int64(n))
				for b.Loop() {
					sink = update(sink, p)
				}
			})
		}
	}
}

// Without the multiplication there is one stream, however long that is.
func TestOneStreamEqualsThree(t *testing.T) {
	if !hasInstruction || !hasFold {
		t.Skip("this processor has one way only")
	}
	defer func() { hasFold = true }()
	buf := make([]byte, 5000)
	for i := range buf {
		buf[i] = byte(i * i >> 3)
	}
	for n := range buf {
		p := buf[n%8 : max(n, n%8)]
		hasFold = true
		want, wantFrame := update(7, p), frame(1, 2, 3, 4, 5, p)
		hasFold = false
		if got, gotFrame := update(7, p), frame(1, 2, 3, 4, 5, p); got != want || gotFrame != wantFrame {
			t.Fatalf("%d bytes: got %#x and %#x in one stream, %#x and %#x in three", len(p), got, gotFrame, want, wantFrame)
		}
	}
}
