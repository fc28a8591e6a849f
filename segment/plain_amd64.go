package segment

import "github.com/walq/walq/internal/crc32c"

// hasPlainFrames says that the processor has what plainFrames needs.
var hasPlainFrames = crc32c.HasInstruction()

// plainFrames verifies the frames of plain messages with which body begins, a part of a
// batch's content, of which the first message has the number seq. It stops before the first
// frame that is not sound, or not whole within body, or not for it: something else than a
// message, or one of plainBytes or more, which is summed faster otherwise. It returns how
// many bytes it verified, and the next message's number.
//
//go:noescape
func plainFrames(body []byte, seq, salt uint64) (at int64, next uint64)

// fetchLines asks for the cache lines of p, and waits for nothing.
//
//go:noescape
func fetchLines(p []byte)
