package codec

// kind is a family of msgpack encodings.
type kind uint8

const (
	kindReserved kind = iota // 0xc1, which no value may begin with
	kindNil
	kindBool
	kindUint
	kindInt
	kindFloat
	kindStr
	kindBin
	kindExt
	kindArray
	kindMap
)

// form says how a value goes on behind its first byte. Either countBytes is
// above 0 and a big-endian length or count of that many bytes follows, or the
// length or count is fixed. For arrays it counts elements, for maps pairs, for
// the others bytes.
type form struct {
	kind       kind
	countBytes uint8
	fixed      uint8
}

// formOf reads the first byte of a value: the table "Overview" of the msgpack
// specification.
func formOf(first byte) form {
	switch {
	case first <= 0x7f: // positive fixint: the byte is the value
		return form{kind: kindUint}
	case first <= 0x8f:
		return form{kind: kindMap, fixed: first & 0x0f}
	case first <= 0x9f:
		return form{kind: kindArray, fixed: first & 0x0f}
	case first <= 0xbf:
		return form{kind: kindStr, fixed: first & 0x1f}
	case first <= 0xdf:
		return formsFromC0[first-0xc0]
	default: // negative fixint: the byte is the value
		return form{kind: kindInt}
	}
}

var formsFromC0 = [0x20]form{
	0xc0 - 0xc0: {kind: kindNil},
	0xc1 - 0xc0: {kind: kindReserved},
	0xc2 - 0xc0: {kind: kindBool},
	0xc3 - 0xc0: {kind: kindBool},
	0xc4 - 0xc0: {kind: kindBin, countBytes: 1},
	0xc5 - 0xc0: {kind: kindBin, countBytes: 2},
	0xc6 - 0xc0: {kind: kindBin, countBytes: 4},
	0xc7 - 0xc0: {kind: kindExt, countBytes: 1},
	0xc8 - 0xc0: {kind: kindExt, countBytes: 2},
	0xc9 - 0xc0: {kind: kindExt, countBytes: 4},
	0xca - 0xc0: {kind: kindFloat, fixed: 4},
	0xcb - 0xc0: {kind: kindFloat, fixed: 8},
	0xcc - 0xc0: {kind: kindUint, fixed: 1},
	0xcd - 0xc0: {kind: kindUint, fixed: 2},
	0xce - 0xc0: {kind: kindUint, fixed: 4},
	0xcf - 0xc0: {kind: kindUint, fixed: 8},
	0xd0 - 0xc0: {kind: kindInt, fixed: 1},
	0xd1 - 0xc0: {kind: kindInt, fixed: 2},
	0xd2 - 0xc0: {kind: kindInt, fixed: 4},
	0xd3 - 0xc0: {kind: kindInt, fixed: 8},
	0xd4 - 0xc0: {kind: kindExt, fixed: 1},
	0xd5 - 0xc0: {kind: kindExt, fixed: 2},
	0xd6 - 0xc0: {kind: kindExt, fixed: 4},
	0xd7 - 0xc0: {kind: kindExt, fixed: 8},
	0xd8 - 0xc0: {kind: kindExt, fixed: 16},
	0xd9 - 0xc0: {kind: kindStr, countBytes: 1},
	0xda - 0xc0: {kind: kindStr, countBytes: 2},
	0xdb - 0xc0: {kind: kindStr, countBytes: 4},
	0xdc - 0xc0: {kind: kindArray, countBytes: 2},
	0xdd - 0xc0: {kind: kindArray, countBytes: 4},
	0xde - 0xc0: {kind: kindMap, countBytes: 2},
	0xdf - 0xc0: {kind: kindMap, countBytes: 4},
}

// head is a value up to its content, as it lies in the walked bytes.
type head struct {
	kind kind
	at   int // offset of the value's first byte
	body int // offset of its content, behind the type byte of an extension
	n    int // bytes of content; of an array or a map: the values in it, two per pair
}

func (h head) container() bool { return h.kind == kindArray || h.kind == kindMap }

// walker reads untrusted msgpack from front to back. It neither allocates nor
// recurses, and does at most one step per byte. After the first fault it
// stands still, and all its answers are zero.
type walker struct {
	p     []byte
	off   int
	fault fault
}

// fault is an InvalidError in the making: Lookup, which only needs to know
// that there is one, does not pay for its text.
type fault struct {
	at         int
	reason     string // empty: no fault
	need, room uint64 // where a declared size is at fault; otherwise 0
}

func (w *walker) failed() bool { return w.fault.reason != "" }

func (w *walker) fail(f fault) {
	if !w.failed() {
		w.fault = f
	}
}

// next reads the head of the value at the walker. It goes on behind the value,
// or, of an array or a map, to the first value in it.
//
// The content of what next returns lies within the bytes, and an array or a
// map claims no more values than bytes follow, so n is safe as a bound.
func (w *walker) next() head {
	if w.failed() {
		return head{}
	}
	at := w.off
	if at >= len(w.p) {
		w.fail(fault{at: at, reason: reasonMissing})
		return head{}
	}
	f := formOf(w.p[at])
	body := at + 1
	if f.kind == kindReserved {
		w.fail(fault{at: at, reason: reasonReserved})
		return head{}
	}
	count := uint64(f.fixed)
	if size := int(f.countBytes); size > 0 {
		if room := len(w.p) - body; size > room {
			w.fail(fault{at: at, reason: reasonCutShort, need: uint64(size), room: uint64(room)})
			return head{}
		}
		count = bigEndian(w.p[body : body+size])
		body += size
	}
	reason := reasonCutShort
	switch f.kind {
	case kindMap:
		count *= 2 // a key and a value; at most 2^33, far from overflow
		reason = reasonMapCount
	case kindArray:
		reason = reasonArrayCount
	case kindExt:
		count++ // the extension's type comes before its content
	}
	if room := uint64(len(w.p) - body); count > room {
		w.fail(fault{at: at, reason: reason, need: count, room: room})
		return head{}
	}
	h := head{kind: f.kind, at: at, body: body, n: int(count)}
	switch {
	case f.kind == kindExt:
		h.body, h.n = h.body+1, h.n-1
		w.off = h.body + h.n
	case h.container():
		w.off = body
	default:
		w.off = body + h.n
	}
	return h
}

// skip goes behind the value at the walker, which lies inside depth arrays and
// maps, and checks all of it.
func (w *walker) skip(depth int) {
	if h := w.next(); h.container() {
		w.skipWithin(h, depth)
	}
}

// skipWithin goes behind the array or map whose head was just read.
func (w *walker) skipWithin(h head, depth int) {
	var open [MaxDepth]int // by depth: how many values are still to come there
	owed := 0              // the sum of open
	bottom := depth
	for {
		if h.container() {
			if depth == MaxDepth {
				w.fail(fault{at: h.at, reason: reasonDepth})
				return
			}
			// Each count fits what is left, but only their sum bounds what a
			// decoder that believes them allocates: nested maps that each
			// claim all the rest would cost it MaxDepth times over.
			owed += h.n
			if room := len(w.p) - w.off; owed > room {
				w.fail(fault{at: h.at, reason: reasonSum, need: uint64(owed), room: uint64(room)})
				return
			}
			open[depth] = h.n
			depth++
		}
		for depth > bottom && open[depth-1] == 0 {
			depth--
		}
		if depth == bottom {
			return
		}
		open[depth-1]--
		owed--
		if h = w.next(); w.failed() {
			return
		}
	}
}

// content is the content of a str, bin or ext. It aliases the walked bytes and
// cannot be appended to in place.
func (w *walker) content(h head) []byte {
	end := h.body + h.n
	return w.p[h.body:end:end]
}

// integer is the value of an integer of any encoding; false if h is none or
// does not fit an int64.
func (w *walker) integer(h head) (int64, bool) {
	switch {
	case h.kind == kindUint && h.n == 0:
		return int64(w.p[h.at]), true
	case h.kind == kindUint:
		u := bigEndian(w.p[h.body : h.body+h.n])
		return int64(u), u < 1<<63
	case h.kind == kindInt && h.n == 0:
		return int64(int8(w.p[h.at])), true
	case h.kind == kindInt:
		unused := 64 - 8*h.n
		return int64(bigEndian(w.p[h.body:h.body+h.n])<<unused) >> unused, true
	default:
		return 0, false
	}
}

// bigEndian and appendBigEndian are the one place that knows msgpack's byte
// order.
func bigEndian(p []byte) uint64 {
	var u uint64
	for _, b := range p {
		u = u<<8 | uint64(b)
	}
	return u
}

// appendBigEndian appends the low size bytes of u.
func appendBigEndian(dst []byte, u uint64, size int) []byte {
	for i := size - 1; i >= 0; i-- {
		dst = append(dst, byte(u>>(8*i)))
	}
	return dst
}
