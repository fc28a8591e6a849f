//go:build !amd64 || race

package crc32c

// CopyFrame copies src to the front of dst, fills dst up with zeros to the next multiple
// of eight bytes, and returns Frame(a, b, c, d, e) of what it stored. The high half of d
// must be zero. dst and src must not overlap, and neither escapes. It panics if dst is
// too short.
//
// The race detector sees the copy.
func CopyFrame(dst, src []byte, a, b, c, d, e uint64) uint32 {
	return copyThenSum(dst, src, a, b, c, d, e)
}
