package crc32c

// slices are the tables of the slicing-by-8 method (Kounavis and Berry, 2005):
// slices[k][b] is the CRC of byte b followed by k zero bytes, so that eight
// look-ups that do not wait for one another take eight bytes at once.
var slices = makeSlices()

func makeSlices() *[8][256]uint32 {
	var t [8][256]uint32
	t[0] = *castagnoli
	for b := range 256 {
		for k := 1; k < len(t); k++ {
			prev := t[k-1][b]
			t[k][b] = t[0][byte(prev)] ^ prev>>8
		}
	}
	return &t
}

// updateTwin is Update in Go, for every length.
func updateTwin(crc uint32, p []byte) uint32 {
	crc = ^crc
	for len(p) >= 8 {
		crc ^= uint32(p[0]) | uint32(p[1])<<8 | uint32(p[2])<<16 | uint32(p[3])<<24
		crc = slices[7][byte(crc)] ^ slices[6][byte(crc>>8)] ^
			slices[5][byte(crc>>16)] ^ slices[4][crc>>24] ^
			slices[3][p[4]] ^ slices[2][p[5]] ^ slices[1][p[6]] ^ slices[0][p[7]]
		p = p[8:]
	}
	for _, b := range p {
		crc = slices[0][byte(crc)^b] ^ crc>>8
	}
	return ^crc
}

// words5Twin is Words5 in Go.
func words5Twin(a, b, c, d, e uint64) uint32 {
	crc := ^uint32(0)
	crc = wordTwin(crc, a)
	crc = wordTwin(crc, b)
	crc = wordTwin(crc, c)
	crc = wordTwin(crc, d)
	crc = wordTwin(crc, e)
	return ^crc
}

// wordTwin advances an inverted crc over the eight bytes of w, lowest first.
func wordTwin(crc uint32, w uint64) uint32 {
	w ^= uint64(crc)
	return slices[7][byte(w)] ^ slices[6][byte(w>>8)] ^
		slices[5][byte(w>>16)] ^ slices[4][byte(w>>24)] ^
		slices[3][byte(w>>32)] ^ slices[2][byte(w>>40)] ^
		slices[1][byte(w>>48)] ^ slices[0][w>>56]
}
