package codec

import (
	"time"
	"unicode/utf8"
)

// DecodeMeta decodes metadata; no bytes are the zero Meta. What it returns
// holds copies and never aliases p. Times are in UTC.
//
// The error is ErrMetaTooLarge, or a *InvalidError with the offset in p: p is
// not one valid msgpack value, not a map, or breaks the table of the format.
// What DecodeMeta accepts, Append writes again, in no more bytes.
func DecodeMeta(p []byte) (Meta, error) {
	if len(p) == 0 {
		return Meta{}, nil
	}
	if len(p) > MaxMeta {
		return Meta{}, ErrMetaTooLarge
	}
	if err := Validate(p); err != nil {
		return Meta{}, err
	}
	var m Meta
	w := walker{p: p}
	var seen [lastField + 1]bool
	for range w.metaPairs() {
		key, f := w.key()
		if w.failed() {
			break
		}
		if seen[f] && f != 0 {
			w.fail(fault{at: key.at, reason: f.String() + " comes twice"})
			break
		}
		seen[f] = true
		w.value(&m, key, f)
	}
	if w.failed() {
		return Meta{}, w.err()
	}
	return m, nil
}

// metaPairs enters the metadata map and returns how many pairs it has.
func (w *walker) metaPairs() int {
	h := w.next()
	if h.kind != kindMap {
		w.fail(fault{at: h.at, reason: "metadata is not a map"})
		return 0
	}
	return h.n / 2
}

// key reads the key of a pair of the metadata map: the field, or 0 for a key
// that this version does not know.
func (w *walker) key() (head, Field) {
	h := w.next()
	if h.kind != kindUint && h.kind != kindInt {
		w.fail(fault{at: h.at, reason: "key is not an integer"})
		return h, 0
	}
	if n, ok := w.integer(h); ok && n >= int64(firstField) && n <= int64(lastField) {
		return h, Field(n)
	}
	return h, 0
}

// value reads the value behind a key into m.
func (w *walker) value(m *Meta, key head, f Field) {
	switch f {
	case FieldID:
		m.ID = w.text(f.String())
	case FieldTopic:
		m.Topic = w.text(f.String())
	case FieldKey:
		m.Key = w.bytes(f.String())
	case FieldHeaders:
		m.Headers = w.headers()
	case FieldContentType:
		m.ContentType = w.text(f.String())
	case FieldReplyTo:
		m.ReplyTo = w.text(f.String())
	case FieldCorrelationID:
		m.CorrelationID = w.text(f.String())
	case FieldNotBefore:
		m.NotBefore = w.time(f.String())
	case FieldExpire:
		m.Expire = w.time(f.String())
	default:
		w.skip(1)
		m.Unknown = append(m.Unknown, w.p[key.at:w.off]...)
	}
}

func (w *walker) text(what string) string {
	h := w.next()
	if h.kind != kindStr {
		w.fail(fault{at: h.at, reason: what + " is not a str"})
		return ""
	}
	if !utf8.Valid(w.content(h)) {
		w.fail(fault{at: h.body, reason: what + " is not UTF-8"})
		return ""
	}
	return string(w.content(h))
}

func (w *walker) bytes(what string) []byte {
	h := w.next()
	if h.kind != kindBin {
		w.fail(fault{at: h.at, reason: what + " is not a bin"})
		return nil
	}
	return append([]byte(nil), w.content(h)...) // empty: nil
}

func (w *walker) time(what string) time.Time {
	h := w.next()
	nanos, ok := w.integer(h)
	if !ok {
		w.fail(fault{at: h.at, reason: what + " is not an integer of 64 bits with a sign"})
		return time.Time{}
	}
	return time.Unix(0, nanos).UTC()
}

func (w *walker) headers() map[string]string {
	h := w.next()
	if h.kind != kindMap {
		w.fail(fault{at: h.at, reason: "headers are not a map"})
		return nil
	}
	if h.n == 0 {
		return nil
	}
	headers := make(map[string]string, h.n/2)
	for range h.n / 2 {
		at := w.off
		name := w.text("header name")
		value := w.text("header value")
		if w.failed() {
			return nil
		}
		if _, twice := headers[name]; twice {
			w.fail(fault{at: at, reason: "header name comes twice"})
			return nil
		}
		headers[name] = value
	}
	return headers
}

// Lookup finds one text field, or the key, without decoding the rest and
// without allocating. The value aliases p and must not be changed; false means
// that it is absent or empty, that f is not of these types, or that p is
// faulty at or before it.
//
// Where DecodeMeta accepts p, both say the same. Lookup reads no further than
// the field, so it may find one in bytes that DecodeMeta refuses, and it does
// not check for UTF-8.
func Lookup(p []byte, f Field) (value []byte, ok bool) {
	want := kindStr
	switch f {
	case FieldID, FieldTopic, FieldContentType, FieldReplyTo, FieldCorrelationID:
	case FieldKey:
		want = kindBin
	default:
		return nil, false
	}
	w := walker{p: p}
	h, found := w.find(f)
	if !found || h.kind != want || h.n == 0 {
		return nil, false
	}
	return w.content(h), true
}

// LookupTime is Lookup for FieldNotBefore and FieldExpire. The time is in UTC.
func LookupTime(p []byte, f Field) (time.Time, bool) {
	if f != FieldNotBefore && f != FieldExpire {
		return time.Time{}, false
	}
	w := walker{p: p}
	h, found := w.find(f)
	nanos, ok := w.integer(h)
	if !found || !ok {
		return time.Time{}, false
	}
	return time.Unix(0, nanos).UTC(), true
}

// find goes to the value of a field. A fault on the way is the same as absence.
func (w *walker) find(f Field) (head, bool) {
	for range w.metaPairs() {
		_, g := w.key()
		if w.failed() {
			break
		}
		if g == f {
			h := w.next()
			return h, !w.failed()
		}
		w.skip(1)
	}
	return head{}, false
}
