package walq

import (
	"bytes"
	"time"

	"github.com/walq/walq/codec"
	"github.com/walq/walq/wal"
)

// A Message is one message of a queue. How long its memory is valid depends on
// who gave it: see Reader.Next and Reader.View. Clone keeps it for good.
//
// The metadata is decoded when it is asked for; a reader that does not look at
// it pays nothing.
type Message struct {
	Seq  Seq
	Time time.Time // when it was appended, wall clock to about 2 ms
	Body []byte

	// at points to the metadata, nil if there is none. It is a pointer because Go passes
	// nine words in registers and not one more: with a slice, all ten would be stored, and
	// loaded again before they have left the processor's store buffer.
	at *[]byte
}

// set makes m the message w, whose memory it shares, w itself included. Field by field,
// and in place: a struct that was just written is copied slowly.
func (m *Message) set(w *wal.Message) {
	m.Seq, m.Time, m.Body, m.at = Seq(w.Seq), time.Unix(0, w.Time), w.Body, nil
	if len(w.Meta) > 0 {
		m.at = &w.Meta
	}
}

// meta is the encoded metadata.
func (m Message) meta() []byte {
	if m.at == nil {
		return nil
	}
	return *m.at
}

// lookup copies one field out of the metadata, empty if it has none.
func (m Message) lookup(f codec.Field) string {
	v, _ := codec.Lookup(m.meta(), f)
	return string(v)
}

// ID is the message's identifier, empty if it has none.
func (m Message) ID() string { return m.lookup(codec.FieldID) }

// Topic is the stream that the message belongs to, empty if none.
func (m Message) Topic() string { return m.lookup(codec.FieldTopic) }

// ContentType is the media type of the body, empty if it was not given.
func (m Message) ContentType() string { return m.lookup(codec.FieldContentType) }

// ReplyTo tells where an answer is awaited, empty if nowhere.
func (m Message) ReplyTo() string { return m.lookup(codec.FieldReplyTo) }

// CorrelationID ties an answer to its question.
func (m Message) CorrelationID() string { return m.lookup(codec.FieldCorrelationID) }

// Key is what the message is about, nil if it has none. The slice aliases the
// message.
func (m Message) Key() []byte {
	v, _ := codec.Lookup(m.meta(), codec.FieldKey)
	return v
}

// NotBefore is the earliest time to work on the message, zero if any.
func (m Message) NotBefore() time.Time {
	t, _ := codec.LookupTime(m.meta(), codec.FieldNotBefore)
	return t
}

// Expire is when the message is of no more use, zero if never.
func (m Message) Expire() time.Time {
	t, _ := codec.LookupTime(m.meta(), codec.FieldExpire)
	return t
}

// Headers decodes all headers, nil if there are none. The error says what is
// wrong with metadata that was not written by walq.
func (m Message) Headers() (map[string]string, error) {
	if len(m.meta()) == 0 {
		return nil, nil
	}
	d, err := codec.DecodeMeta(m.meta())
	return d.Headers, err
}

// Header is one header, empty if there is none of that name.
func (m Message) Header(name string) string {
	h, err := m.Headers()
	if err != nil {
		return ""
	}
	return h[name]
}

// Metadata is the encoded metadata, a msgpack map or empty. The slice aliases
// the message.
func (m Message) Metadata() []byte { return m.meta() }

// Clone gives a copy whose memory is nobody else's.
func (m Message) Clone() Message {
	m.Body = bytes.Clone(m.Body)
	if m.at != nil {
		meta := bytes.Clone(*m.at)
		m.at = &meta
	}
	return m
}
