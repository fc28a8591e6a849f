package segment

import (
	"math/bits"

	"github.com/walq/walq/internal/crc32c"
)

// inverse gives, for each bit of the difference between two frame checksums that
// differ in the low half of the sequence number alone, the difference between the
// numbers. A CRC of 32 bits tells any 32 adjacent bits apart, so there is one.
var inverse = makeInverse()

func makeInverse() (inv [32]uint32) {
	// Gauss: rows[i] is what flipping bit i of the number does to the checksum.
	var rows, ids [32]uint32
	none := crc32c.Words5(0, 0, 0, 0, 0)
	for i := range rows {
		rows[i], ids[i] = crc32c.Words5(0, 1<<i, 0, 0, 0)^none, 1<<i
	}
	for bit := range 32 {
		for i := bit; i < 32; i++ {
			if rows[i]>>bit&1 == 1 {
				rows[bit], rows[i], ids[bit], ids[i] = rows[i], rows[bit], ids[i], ids[bit]
				break
			}
		}
		for i := range rows {
			if i != bit && rows[i]>>bit&1 == 1 {
				rows[i] ^= rows[bit]
				ids[i] ^= ids[bit]
			}
		}
	}
	return ids
}

// invert gives the difference of the numbers that makes this difference of the
// checksums.
func invert(difference uint32) (number uint32) {
	for d := difference; d != 0; d &= d - 1 {
		number ^= inverse[bits.TrailingZeros32(d)]
	}
	return number
}
