package codec

import (
	"errors"
	"math"
	"slices"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/vmihailenco/msgpack/v5"
)

// MaxMeta is the most bytes that metadata may take: a frame keeps the length
// in 16 bits.
const MaxMeta = math.MaxUint16

var (
	// ErrMetaTooLarge: the metadata takes more than MaxMeta bytes.
	ErrMetaTooLarge = errors.New("codec: metadata is larger than 65535 bytes")
	// ErrMetaText: a text field, a header's name or its value is not UTF-8.
	ErrMetaText = errors.New("codec: text in metadata is not UTF-8 (the key may hold any bytes)")
	// ErrMetaTime: NotBefore or Expire is not between the years 1678 and 2262,
	// which is what an int64 of nanoseconds can say.
	ErrMetaTime = errors.New("codec: time in metadata is not between the years 1678 and 2262")
)

// Field is a key of the metadata map. The package comment has the table.
type Field uint8

// The known keys.
const (
	FieldID            Field = 1
	FieldTopic         Field = 2
	FieldKey           Field = 3
	FieldHeaders       Field = 4
	FieldContentType   Field = 5
	FieldReplyTo       Field = 6
	FieldCorrelationID Field = 7
	FieldNotBefore     Field = 8
	FieldExpire        Field = 9
)

const firstField, lastField = FieldID, FieldExpire

var fieldNames = [...]string{
	FieldID: "id", FieldTopic: "topic", FieldKey: "key", FieldHeaders: "headers",
	FieldContentType: "content type", FieldReplyTo: "reply-to", FieldCorrelationID: "correlation id",
	FieldNotBefore: "not-before", FieldExpire: "expire",
}

// String is the field's name in the table of the format.
func (f Field) String() string {
	if f < firstField || f > lastField {
		return "unknown field"
	}
	return fieldNames[f]
}

// Meta is the metadata of a message. The zero value is a message without any;
// an empty field is the same as an absent one.
type Meta struct {
	ID, Topic                           string
	Key                                 []byte // any bytes
	Headers                             map[string]string
	ContentType, ReplyTo, CorrelationID string
	NotBefore, Expire                   time.Time // zero: none; only the instant is kept
	// Unknown holds the pairs whose keys this version does not know, key and
	// value encoded, one behind the other, so that a message passed on keeps
	// what a later version put there.
	Unknown []byte
}

// Empty reports whether m says nothing, and so takes no bytes.
func (m *Meta) Empty() bool {
	return m.knownPairs() == 0 && len(m.Unknown) == 0
}

// knownPairs is how many pairs the known fields make.
func (m *Meta) knownPairs() int {
	n := 0
	for _, present := range [...]bool{
		m.ID != "", m.Topic != "", len(m.Key) > 0, len(m.Headers) > 0,
		m.ContentType != "", m.ReplyTo != "", m.CorrelationID != "",
		!m.NotBefore.IsZero(), !m.Expire.IsZero(),
	} {
		if present {
			n++
		}
	}
	return n
}

// Append appends the encoded metadata to dst and returns the result, as the
// built-in append does. An empty m appends nothing. Equal metadata gives equal
// bytes. Nothing of m is kept, and m is not changed.
//
// The error is ErrMetaTooLarge, ErrMetaText or ErrMetaTime, or, if Unknown is
// not a run of well-formed pairs with unknown integer keys, a *InvalidError
// whose offset counts within Unknown. With an error dst comes back as it was.
//
// Text must be UTF-8 because it is shown, compared and written as JSON by
// programs in any language: what one of them would have to mangle is better
// refused where it is made.
func (m *Meta) Append(dst []byte) ([]byte, error) {
	pairs := m.knownPairs()
	if pairs == 0 && len(m.Unknown) == 0 {
		return dst, nil
	}
	if err := m.check(); err != nil {
		return dst, err
	}
	unknown, err := countUnknown(m.Unknown)
	if err != nil {
		return dst, err
	}
	w := metaWriters.Get().(*metaWriter)
	defer w.release()
	w.buf = dst
	w.meta(m, pairs+unknown)
	if w.err != nil {
		return dst, w.err
	}
	if len(w.buf)-len(dst) > MaxMeta {
		return dst, ErrMetaTooLarge
	}
	return w.buf, nil
}

// check refuses what cannot be written. The size is taken without the few
// bytes of framing: it keeps a huge header from being copied only to be
// refused.
func (m *Meta) check() error {
	size := len(m.Key) + len(m.Unknown)
	text := true
	for _, s := range [...]string{m.ID, m.Topic, m.ContentType, m.ReplyTo, m.CorrelationID} {
		size += len(s)
		text = text && utf8.ValidString(s)
	}
	for name, value := range m.Headers {
		size += len(name) + len(value)
		text = text && utf8.ValidString(name) && utf8.ValidString(value)
	}
	switch {
	case size > MaxMeta:
		return ErrMetaTooLarge
	case !text:
		return ErrMetaText
	case !inRange(m.NotBefore) || !inRange(m.Expire):
		return ErrMetaTime
	}
	return nil
}

var (
	earliest = time.Unix(0, math.MinInt64)
	latest   = time.Unix(0, math.MaxInt64)
)

func inRange(t time.Time) bool {
	return t.IsZero() || !t.Before(earliest) && !t.After(latest)
}

// countUnknown counts the pairs in Meta.Unknown, which may come from the
// application and is checked like any bytes from outside.
func countUnknown(p []byte) (int, error) {
	w := walker{p: p}
	n := 0
	for ; w.off < len(p) && !w.failed(); n++ {
		if key, f := w.key(); f != 0 {
			w.fail(fault{at: key.at, reason: "the key of a known field is among the unknown"})
		}
		w.skip(1)
	}
	return n, w.err()
}

// metaWriters keeps encoders between calls, so that Append allocates nothing
// of its own.
var metaWriters = sync.Pool{New: func() any {
	w := new(metaWriter)
	w.enc = msgpack.NewEncoder(w)
	return w
}}

// metaWriter is the encoder together with the slice that it appends to.
type metaWriter struct {
	enc   *msgpack.Encoder
	buf   []byte
	names []string // of headers, while they are sorted
	err   error    // the first that the encoder reported
}

func (w *metaWriter) Write(p []byte) (int, error) {
	w.buf = append(w.buf, p...)
	return len(p), nil
}

func (w *metaWriter) WriteByte(b byte) error {
	w.buf = append(w.buf, b)
	return nil
}

// release gives w back, without the caller's memory.
func (w *metaWriter) release() {
	clear(w.names)
	w.buf, w.names, w.err = nil, w.names[:0], nil
	metaWriters.Put(w)
}

// keep remembers the first error. The encoder only passes on those of its
// writer, and ours has none.
func (w *metaWriter) keep(err error) {
	if w.err == nil {
		w.err = err
	}
}

func (w *metaWriter) meta(m *Meta, pairs int) {
	w.keep(w.enc.EncodeMapLen(pairs))
	w.text(FieldID, m.ID)
	w.text(FieldTopic, m.Topic)
	if len(m.Key) > 0 {
		w.field(FieldKey)
		w.keep(w.enc.EncodeBytes(m.Key))
	}
	if len(m.Headers) > 0 {
		w.field(FieldHeaders)
		w.headers(m.Headers)
	}
	w.text(FieldContentType, m.ContentType)
	w.text(FieldReplyTo, m.ReplyTo)
	w.text(FieldCorrelationID, m.CorrelationID)
	w.time(FieldNotBefore, m.NotBefore)
	w.time(FieldExpire, m.Expire)
	w.buf = append(w.buf, m.Unknown...)
}

func (w *metaWriter) field(f Field) { w.keep(w.enc.EncodeUint(uint64(f))) }

func (w *metaWriter) text(f Field, s string) {
	if s != "" {
		w.field(f)
		w.keep(w.enc.EncodeString(s))
	}
}

func (w *metaWriter) time(f Field, t time.Time) {
	if !t.IsZero() {
		w.field(f)
		w.keep(w.enc.EncodeInt(t.UnixNano()))
	}
}

func (w *metaWriter) headers(headers map[string]string) {
	for name := range headers {
		w.names = append(w.names, name)
	}
	slices.Sort(w.names)
	w.keep(w.enc.EncodeMapLen(len(w.names)))
	for _, name := range w.names {
		w.keep(w.enc.EncodeString(name))
		w.keep(w.enc.EncodeString(headers[name]))
	}
}
