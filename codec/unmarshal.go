package codec

import (
	"fmt"

	"github.com/vmihailenco/msgpack/v5"
)

// The timestamp is the one extension that the msgpack specification defines:
// seconds in 32 bits, or nanoseconds in 30 and seconds in 34 bits, or
// nanoseconds in 32 and seconds in 64 bits.
const (
	extTimestamp = -1

	timestamp32Bytes = 4
	timestamp64Bytes = 8
	timestamp96Bytes = 12
)

// Unmarshal decodes the one msgpack value in p, which may come from outside,
// into v as the msgpack library does. It is the only way by which bytes that
// walq did not make itself may reach the library.
//
// Besides what [Validate] refuses, it refuses every extension but the
// timestamp with a *InvalidError; other errors are the library's. The reason:
// where v wants a map, the library takes the content of any extension for the
// map, content that no validator can know to be msgpack. It then believes the
// counts there, and recurses as deep as they say.
//
// Where the library panics Unmarshal returns an error: at a nil that stands for a
// time.Time within something else, and at a key that Go cannot hash.
func Unmarshal(p []byte, v any) (err error) {
	if err := Validate(p); err != nil {
		return err
	}
	p, err = disarmExtensions(p)
	if err != nil {
		return err
	}
	// The library panics where a nil stands for a time.Time that is part of
	// something else, and at a map key that Go cannot hash.
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("msgpack: cannot decode into %T: %v", v, r)
		}
	}()
	return msgpack.Unmarshal(p, v)
}

// disarmExtensions returns valid msgpack of the same meaning in which no
// extension can be mistaken for a map. Timestamps that could be, which are one
// in 13 of the honest ones in 64 bits, are written in 96 bits, where the first
// byte is at most 0x3b. Without such, p itself is returned.
func disarmExtensions(p []byte) ([]byte, error) {
	var out []byte
	copied := 0 // how much of p is in out
	w := walker{p: p}
	for w.off < len(p) && !w.failed() {
		h := w.next()
		if h.kind != kindExt {
			continue
		}
		seconds, nanos := w.timestamp(h)
		if w.failed() || !looksLikeMap(p[h.body]) {
			continue
		}
		out = append(out, p[copied:h.at]...)
		out = append(out, 0xc7, timestamp96Bytes, 0xff)
		out = appendBigEndian(out, nanos, 4)
		out = appendBigEndian(out, seconds, 8)
		copied = w.off
	}
	if copied == 0 {
		return p, w.err()
	}
	return append(out, p[copied:]...), w.err()
}

// looksLikeMap reports whether a value that begins with this byte is a map, or
// nil, which the library takes for an absent one.
func looksLikeMap(first byte) bool {
	k := formOf(first).kind
	return k == kindMap || k == kindNil
}

// timestamp reads a timestamp extension; any other extension is a fault.
func (w *walker) timestamp(h head) (seconds, nanos uint64) {
	if typ := int8(w.p[h.body-1]); typ != extTimestamp {
		w.fail(fault{at: h.at, reason: fmt.Sprintf("extension of type %d is not a timestamp", typ)})
		return 0, 0
	}
	content := w.content(h)
	switch h.n {
	case timestamp32Bytes:
		return bigEndian(content), 0
	case timestamp64Bytes:
		u := bigEndian(content)
		seconds, nanos = u&(1<<34-1), u>>34
	case timestamp96Bytes:
		nanos, seconds = bigEndian(content[:4]), bigEndian(content[4:])
	default:
		w.fail(fault{at: h.at, reason: fmt.Sprintf("timestamp has %d bytes, not 4, 8 or 12", h.n)})
		return 0, 0
	}
	if nanos >= 1e9 {
		w.fail(fault{at: h.at, reason: "timestamp has a second or more of nanoseconds"})
		return 0, 0
	}
	return seconds, nanos
}
