//go:build amd64 || arm64

package crc32c

import (
	"fmt"
	"testing"
)

// BenchmarkThreshold is where longBytes comes from: the length at which
// handing over becomes cheaper than going on.
func BenchmarkThreshold(b *testing.B) {
	if !hasInstruction {
		b.Skip("this processor has no CRC32C instruction")
	}
	buf := make([]byte, 2048)
	for _, n := range []int{256, 384, 448, 503, 504, 512, 576, 640, 768, 1024, 2048} {
		p := buf[:n]
		b.Run(fmt.Sprintf("here/%d", n), func(b *testing.B) {
			b.SetBytes(int64(n))
			for b.Loop() {
				sink = update(sink, p)
			}
		})
		b.Run(fmt.Sprintf("over/%d", n), func(b *testing.B) {
			b.SetBytes(int64(n))
			for b.Loop() {
				sink = updateLong(sink, hide(p))
			}
		})
	}
}
