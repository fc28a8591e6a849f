package crc32c

import "golang.org/x/sys/cpu"

var (
	// hasInstruction says that CRC32 exists (SSE 4.2: x86-64-v2, every server and
	// desktop processor since about 2011).
	hasInstruction = cpu.X86.HasSSE42
	// hasFold says that what several streams have summed can be put together
	// (nearly every processor that has CRC32).
	hasFold = cpu.X86.HasPCLMULQDQ
)

const (
	// longBytes is the length from which CopyFrame leaves the sum to a second pass, which
	// has three streams.
	longBytes = 504
	// streamsBytes is the length from which three streams are faster than one, each of whose
	// steps waits three cycles for the one before it; see BenchmarkThreshold.
	streamsBytes = 240
	// mostWords is how long a stream may be in a round: what comes next is prefetched
	// meanwhile, and is not to be more than the processor asks memory for at a time.
	mostWords = 128
)

// folds[n] moves a sum behind n more words: carry-less multiplied with it, as a word of
// input, a sum gives what it would be after n words of zeros. It is x to the power of
// 64n - 33, for the product is one bit to the left of a word and is summed as one.
var folds = makeFolds()

func makeFolds() (f [2*mostWords + 1]uint32) {
	f[1] = timesX(1<<31, 31)
	for n := 2; n < len(f); n++ {
		f[n] = timesX(f[n-1], 64)
	}
	return f
}

// timesX multiplies p with x to the power of n. The highest bit is the lowest power.
func timesX(p uint32, n int) uint32 {
	for range n {
		p = p>>1 ^ castagnoliBits*(p&1)
	}
	return p
}

// castagnoliBits is the polynomial without its highest power.
const castagnoliBits = 0x82f63b78

// updateLong is update in pieces.
func updateLong(crc uint32, p []byte) uint32 {
	for len(p) > chunkBytes {
		crc = update(crc, p[:chunkBytes])
		p = p[chunkBytes:]
	}
	return update(crc, p)
}

// handOver is from where on updateLong is called.
const handOver = chunkBytes + 1
