// Package crc32c computes CRC-32C (Castagnoli), the checksum of walq's
// formats, for the append and read paths.
//
// The values are those of hash/crc32 with its Castagnoli table. What differs
// is the price of a short input: hash/crc32 calls through a function variable,
// so every slice handed to it escapes, and an array on the caller's stack
// becomes an allocation per message. Here nothing escapes and nothing is
// allocated.
//
// Where the processor has an instruction for it (amd64 with SSE 4.2, arm64
// with the CRC extension) a few lines of assembly use it; everywhere else a
// twin in Go gives the same values.
package crc32c

import "hash/crc32"

// castagnoli is hash/crc32's own table; passing exactly this pointer makes
// hash/crc32 choose its accelerated path.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// chunkBytes bounds one call into assembly: the scheduler cannot interrupt it, and half a
// GiB would hold up a garbage collection for tens of milliseconds.
const chunkBytes = 16 * 4032

// copyThenSum is CopyFrame in two passes: where there is no instruction for both at once,
// and where src is so long that three streams side by side make up for the second pass.
func copyThenSum(dst, src []byte, a, b, c, d, e uint64) uint32 {
	dst = dst[: (len(src)+7)&^7 : len(dst)] // no room behind its length is taken
	n := copy(dst, src)
	clear(dst[n:])
	return Frame(a, b, c, d, e, dst[:n])
}
