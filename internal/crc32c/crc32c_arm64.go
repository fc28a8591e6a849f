package crc32c

import (
	"hash/crc32"

	"golang.org/x/sys/cpu"
)

// hasInstruction says that CRC32C exists (optional in ARMv8.0, mandatory since
// ARMv8.1).
var hasInstruction = cpu.ARM64.HasCRC32

// handOver is the length from which hash/crc32 sums. It has one stream as well and
// nothing is gained, nor lost: updateLong keeps the calls into assembly short.
const handOver = 504

// updateLong leaves a long input to hash/crc32.
func updateLong(crc uint32, p []byte) uint32 {
	p = hide(p)
	for len(p) > chunkBytes {
		crc = crc32.Update(crc, castagnoli, p[:chunkBytes])
		p = p[chunkBytes:]
	}
	return crc32.Update(crc, castagnoli, p)
}

// hide returns p. Escape analysis does not look into assembly, so the result
// is unrelated to p for it, and handing the result to hash/crc32 does not move
// the caller's array to the heap. That is sound because hash/crc32 reads p and
// forgets it.
//
//go:noescape
func hide(p []byte) []byte
