//go:build !amd64 && !arm64

package crc32c

// Update returns crc advanced over p, as hash/crc32.Update does with the
// Castagnoli table. It neither allocates nor retains p, and p does not escape.
// It is safe for concurrent use.
//
// Long inputs stay here too: without a line of assembly there is no way to
// hand p to hash/crc32 that keeps it from escaping.
func Update(crc uint32, p []byte) uint32 { return updateTwin(crc, p) }

// Words5 returns the CRC of the 40 bytes that are the five words in little
// endian order, as hash/crc32.Checksum does with the Castagnoli table. It is
// safe for concurrent use.
func Words5(a, b, c, d, e uint64) uint32 { return words5Twin(a, b, c, d, e) }

// Frame returns Words5(a, b, c, d | Update(0, p)<<32, e): the checksum of a frame
// whose content is p. The high half of d must be zero. It is safe for concurrent use.
func Frame(a, b, c, d, e uint64, p []byte) uint32 {
	return Words5(a, b, c, d|uint64(Update(0, p))<<32, e)
}
