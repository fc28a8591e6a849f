package main

import (
	"time"
	"unicode/utf8"

	"github.com/walq/walq"
)

// shown is a message as JSON. What is not UTF-8 does not fit a JSON string, so it
// goes in base64 under another name.
type shown struct {
	Seq           walq.Seq          `json:"seq"`
	Time          time.Time         `json:"time"`
	Topic         string            `json:"topic,omitempty"`
	Key           string            `json:"key,omitempty"`
	KeyBase64     []byte            `json:"key_base64,omitempty"`
	ID            string            `json:"id,omitempty"`
	Headers       map[string]string `json:"headers,omitempty"`
	ContentType   string            `json:"content_type,omitempty"`
	ReplyTo       string            `json:"reply_to,omitempty"`
	CorrelationID string            `json:"correlation_id,omitempty"`
	NotBefore     time.Time         `json:"not_before,omitzero"`
	Expire        time.Time         `json:"expire,omitzero"`
	Body          *string           `json:"body,omitempty"`
	BodyBase64    []byte            `json:"body_base64,omitempty"`
}

// show fills in what can be shown, and says if something cannot.
func show(m walq.Message) (shown, error) {
	s := shown{Seq: m.Seq, Time: m.Time}
	if utf8.Valid(m.Body) {
		body := string(m.Body)
		s.Body = &body
	} else {
		s.BodyBase64 = m.Body
	}
	if len(m.Metadata()) == 0 {
		return s, nil
	}
	s.Topic, s.ID, s.ContentType, s.ReplyTo, s.CorrelationID = m.Topic(), m.ID(), m.ContentType(), m.ReplyTo(), m.CorrelationID()
	s.NotBefore, s.Expire = m.NotBefore(), m.Expire()
	if key := m.Key(); utf8.Valid(key) {
		s.Key = string(key)
	} else {
		s.KeyBase64 = key
	}
	var err error
	s.Headers, err = m.Headers()
	return s, err
}
