//go:build !race

package crc32c

// CopyFrame copies src to the front of dst, fills dst up with zeros to the next multiple
// of eight bytes, and returns Frame(a, b, c, d, e) of what it stored. The high half of d
// must be zero. src is read once: whoever changes it meanwhile changes what is stored and
// summed alike. dst and src must not overlap, and neither escapes. It panics if dst is
// too short. It is safe for concurrent use.
//
// It is assembly from the first instruction on, because handing over so many arguments
// once more costs as much as copying fifty bytes.
//
//go:noescape
func CopyFrame(dst, src []byte, a, b, c, d, e uint64) uint32
