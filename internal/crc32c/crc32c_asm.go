//go:build amd64 || arm64

package crc32c

// HasInstruction reports whether the processor has an instruction for CRC-32C, for
// assembly elsewhere that uses it.
func HasInstruction() bool { return hasInstruction }

// Update returns crc advanced over p, as hash/crc32.Update does with the
// Castagnoli table. It neither allocates nor retains p, and p does not escape.
// It is safe for concurrent use.
func Update(crc uint32, p []byte) uint32 {
	if !hasInstruction {
		return updateTwin(crc, p)
	}
	if len(p) >= handOver {
		return updateLong(crc, p)
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

// update advances crc over p, on amd64 in three streams if it is long.
//
//go:noescape
func update(crc uint32, p []byte) uint32

// Frame returns Words5(a, b, c, d | Update(0, p)<<32, e): the checksum of a frame
// whose content is p, in one call. The high half of d must be zero. p does not escape.
// It is safe for concurrent use.
func Frame(a, b, c, d, e uint64, p []byte) uint32 {
	if !hasInstruction || len(p) >= handOver {
		return Words5(a, b, c, d|uint64(Update(0, p))<<32, e)
	}
	return frame(a, b, c, d, e, p)
}

// frame is Frame by instruction, as update.
//
//go:noescape
func frame(a, b, c, d, e uint64, p []byte) uint32

// words5 is Words5 by instruction.
//
//go:noescape
func words5(a, b, c, d, e uint64) uint32
