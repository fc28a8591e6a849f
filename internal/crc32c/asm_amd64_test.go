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
