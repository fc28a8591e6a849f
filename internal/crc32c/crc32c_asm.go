//go:build amd64 || arm64

package crc32c

// longBytes is the length from which hash/crc32 is faster: there it starts to
// run three streams side by side, each of which waits only for itself, while
// one stream pays three cycles for every eight bytes. Measured with
// BenchmarkThreshold (AMD EPYC, best of 10): 503 bytes take 62 ns here and
// 65 ns there, 504 bytes 60 ns here and 36 ns there.
//
// On arm64 hash/crc32 has one stream as well and nothing is gained, nor lost:
// updateLong keeps the calls into assembly short.
const longBytes = 504

// Update returns crc advanced over p, as hash/crc32.Update does with the
// Castagnoli table. It neither allocates nor retains p, and p does not escape.
// It is safe for concurrent use.
func Update(crc uint32, p []byte) uint32 {
	if !hasInstruction {
		return updateTwin(crc, p)
	}
	if len(p) >= longBytes {
		return updateLong(crc, hide(p))
	}
	return update(crc, p)
}

// Words5 returns the CRC of the 40 bytes that are the five words in little
// endian order, as hash/crc32.Checksum does with the Castagnoli table. The
// words stay in registers until the checksum is done: no buffer, no byte
// order, no allocation. It is safe for concurrent use.
func Words5(a, b, c, d, e uint64) uint32 {
	if !hasInstruction {
		return words5Twin(a, b, c, d, e)
	}
	return words5(a, b, c, d, e)
}

// update advances crc over p one word at a time.
//
//go:noescape
func update(crc uint32, p []byte) uint32

// Frame returns Words5(a, b, c, d | Update(0, p)<<32, e): the checksum of a frame
// whose content is p, in one call. The high half of d must be zero. p does not escape.
// It is safe for concurrent use.
func Frame(a, b, c, d, e uint64, p []byte) uint32 {
	if !hasInstruction || len(p) >= longBytes {
		return Words5(a, b, c, d|uint64(Update(0, p))<<32, e)
	}
	return frame(a, b, c, d, e, p)
}

// frame is Frame by instruction, one word at a time.
//
//go:noescape
func frame(a, b, c, d, e uint64, p []byte) uint32

// words5 is Words5 by instruction.
//
//go:noescape
func words5(a, b, c, d, e uint64) uint32

// hide returns p. Escape analysis does not look into assembly, so the result
// is unrelated to p for it, and handing the result to hash/crc32 does not move
// the caller's array to the heap. That is sound because hash/crc32 reads p and
// forgets it.
//
//go:noescape
func hide(p []byte) []byte
