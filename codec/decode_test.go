package codec_test

import (
	"bytes"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/walq/walq/codec"
)

func TestDecodeMetaRefuses(t *testing.T) {
	for _, c := range []struct {
		name, in string
		offset   int
		reason   string
	}{
		{"invalid msgpack", "81 01", 0, "more pairs than bytes follow"},
		{"a byte too many", "80 c0", 1, "bytes follow the value"},
		{"an array", "90", 0, "metadata is not a map"},
		{"nil", "c0", 0, "metadata is not a map"},
		{"a map in an extension", "c7 03 01 810a01", 0, "metadata is not a map"},
		{"a str as key", "82 0a 01 a1 31 01", 3, "key is not an integer"},
		{"a float as key", "81 ca 3f800000 a1 61", 1, "key is not an integer"},
		{"nil as key", "81 c0 01", 1, "key is not an integer"},
		{"an array as key", "81 90 01", 1, "key is not an integer"},
		{"id twice", "82 01 a1 61 01 a1 62", 4, "id comes twice"},
		{"id twice, once in another encoding", "82 01 a1 61 d1 0001 a1 62", 4, "id comes twice"},
		{"expire twice", "82 09 01 09 01", 3, "expire comes twice"},
		{"id as bin", "81 01 c4 01 61", 2, "id is not a str"},
		{"topic as nil", "81 02 c0", 2, "topic is not a str"},
		{"key as str", "81 03 a1 61", 2, "key is not a bin"},
		{"headers as array", "81 04 92 a161 a162", 2, "headers are not a map"},
		{"headers as nil", "81 04 c0", 2, "headers are not a map"},
		{"header name as int", "81 04 81 01 a161", 3, "header name is not a str"},
		{"header value as bin", "81 04 81 a161 c40161", 5, "header value is not a str"},
		{"header twice", "81 04 82 a161 a162 a161 a162", 7, "header name comes twice"},
		{"header name not UTF-8", "81 04 81 a1ff a162", 4, "header name is not UTF-8"},
		{"header value not UTF-8", "81 04 81 a161 a1ff", 6, "header value is not UTF-8"},
		{"content type as int", "81 05 01", 2, "content type is not a str"},
		{"reply-to as map", "81 06 80", 2, "reply-to is not a str"},
		{"correlation id as bool", "81 07 c3", 2, "correlation id is not a str"},
		{"topic not UTF-8", "81 02 a2 61ff", 3, "topic is not UTF-8"},
		{"not-before as str", "81 08 a1 31", 2, "not-before is not an integer"},
		{"not-before as float", "81 08 ca 00000000", 2, "not-before is not an integer"},
		{"not-before as timestamp", "81 08 d6 ff 00000000", 2, "not-before is not an integer"},
		{"expire over int64", "81 09 cf 8000000000000000", 2, "expire is not an integer of 64 bits with a sign"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := codec.DecodeMeta(unhex(t, c.in))
			wantInvalid(t, err, c.offset, c.reason)
			if !reflect.DeepEqual(m, codec.Meta{}) {
				t.Errorf("got %+v beside the error, want the zero Meta", m)
			}
		})
	}
}

func TestDecodeMetaRefusesMoreThanMaxMeta(t *testing.T) {
	p := append(unhex(t, "81 03 c5 fffb"), make([]byte, 0xfffb)...)
	if err := codec.Validate(p); err != nil || len(p) != codec.MaxMeta+1 {
		t.Fatalf("test data: %v, %d bytes", err, len(p))
	}
	if _, err := codec.DecodeMeta(p); !errors.Is(err, codec.ErrMetaTooLarge) {
		t.Errorf("got %v, want %v", err, codec.ErrMetaTooLarge)
	}
}

func TestDecodeMetaRefusesLethalInput(t *testing.T) {
	for name, p := range lethal(t) {
		if _, err := codec.DecodeMeta(p); err == nil {
			t.Errorf("%s: got no error", name)
		}
		if v, ok := codec.Lookup(p, codec.FieldTopic); ok {
			t.Errorf("%s: Lookup found %x", name, v)
		}
	}
}

// A reader takes what a writer need not write: any order, any encoding of an
// integer or a length, empty values.
func TestDecodeMetaReadsLooserWriters(t *testing.T) {
	at := func(ns int64) codec.Meta { return codec.Meta{NotBefore: time.Unix(0, ns).UTC()} }
	for in, want := range map[string]codec.Meta{
		"82 02 a1 74 01 a1 69":       {ID: "i", Topic: "t"},
		"de 0001 02 a1 74":           {Topic: "t"},
		"df 00000001 02 a1 74":       {Topic: "t"},
		"81 cc02 a1 74":              {Topic: "t"},
		"81 cf0000000000000002 a174": {Topic: "t"},
		"81 d002 a1 74":              {Topic: "t"},
		"81 d30000000000000002 a174": {Topic: "t"},
		"81 02 d9 01 74":             {Topic: "t"},
		"81 02 da 0001 74":           {Topic: "t"},
		"81 02 db 00000001 74":       {Topic: "t"},
		"81 03 c5 0001 74":           {Key: []byte("t")},
		"81 03 c6 00000001 74":       {Key: []byte("t")},
		"83 02 a0 03 c400 04 80":     {},
		"81 08 7f":                   at(127),
		"81 08 e0":                   at(-32),
		"81 08 cc ff":                at(255),
		"81 08 cd ffff":              at(65535),
		"81 08 ce ffffffff":          at(1<<32 - 1),
		"81 08 cf 7fffffffffffffff":  at(1<<63 - 1),
		"81 08 d0 80":                at(-128),
		"81 08 d1 8000":              at(-32768),
		"81 08 d2 80000000":          at(-1 << 31),
		"81 08 d3 8000000000000000":  at(-1 << 63),
	} {
		got, err := codec.DecodeMeta(unhex(t, in))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, %v, want %+v", in, got, err, want)
		}
	}
}

// Pairs of later versions survive byte by byte, wherever they lay.
func TestUnknownPairsArePreserved(t *testing.T) {
	pairs := []string{
		"00 c0", "0a a1 78", "e0 92 01 02", "cc ff 81 a161 c3", "cf 8000000000000001 d4 05 00",
		"d3 8000000000000000 cb 3ff0000000000000", "0a da 0001 79", // a key twice, a length longer than need be
	}
	in := "88" + strings.Join(slices.Insert(slices.Clone(pairs), 3, "02 a1 74"), "")
	m, err := codec.DecodeMeta(unhex(t, in))
	if err != nil {
		t.Fatal(err)
	}
	unknown := unhex(t, strings.Join(pairs, ""))
	if m.Topic != "t" || !bytes.Equal(m.Unknown, unknown) {
		t.Errorf("got topic %q, unknown %x, want %q, %x", m.Topic, m.Unknown, "t", unknown)
	}
	got, err := m.Append(nil)
	if want := append(unhex(t, "88 02 a1 74"), unknown...); err != nil || !bytes.Equal(got, want) {
		t.Errorf("got  %x, %v\nwant %x", got, err, want)
	}
}

func TestDecodeMetaCopies(t *testing.T) {
	want := full()
	p, err := want.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := codec.DecodeMeta(p)
	if err != nil {
		t.Fatal(err)
	}
	for i := range p {
		p[i] = 0xc1
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("changed with its input: got %+v, want %+v", got, want)
	}
}

// On arbitrary bytes: whatever DecodeMeta accepts is valid, can be written
// again in no more bytes, and reads the same by way of Lookup.
func TestDecodeMetaOnHostileBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := hostile(t)
		if rapid.Bool().Draw(t, "nearly metadata") {
			p = damaged(t)
		}
		m, err := codec.DecodeMeta(p)
		checkLookup(t, p, m, err)
		if err != nil {
			return
		}
		if len(p) > 0 && codec.Validate(p) != nil {
			t.Fatalf("%x: decoded, but not valid", p)
		}
		again, err := m.Append(nil)
		if err != nil || len(again) > len(p) {
			t.Fatalf("%x: written again as %x, %v", p, again, err)
		}
		if same, err := codec.DecodeMeta(again); err != nil || !reflect.DeepEqual(same, m) {
			t.Fatalf("got %+v, %v, want %+v", same, err, m)
		}
	})
}

// damaged draws metadata with up to two bytes changed.
func damaged(t *rapid.T) []byte {
	m := metas().Draw(t, "meta")
	p, err := m.Append(nil)
	if err != nil || len(p) == 0 {
		return nil
	}
	for range rapid.IntRange(0, 2).Draw(t, "changes") {
		p[rapid.IntRange(0, min(len(p)-1, 40)).Draw(t, "at")] = rapid.Byte().Draw(t, "to")
	}
	return p
}

func checkLookup(t *rapid.T, p []byte, m codec.Meta, err error) {
	for f, want := range map[codec.Field]string{
		codec.FieldID: m.ID, codec.FieldTopic: m.Topic, codec.FieldKey: string(m.Key), codec.FieldHeaders: "",
		codec.FieldContentType: m.ContentType, codec.FieldReplyTo: m.ReplyTo, codec.FieldCorrelationID: m.CorrelationID,
		codec.FieldNotBefore: "", codec.FieldExpire: "", 0: "", 10: "",
	} {
		got, ok := codec.Lookup(p, f) // whatever p is, no panic
		if err == nil && (ok != (want != "") || string(got) != want) {
			t.Fatalf("%x: Lookup(%v) = %q, %v, want %q", p, f, got, ok, want)
		}
	}
	for f, want := range map[codec.Field]time.Time{
		codec.FieldNotBefore: m.NotBefore, codec.FieldExpire: m.Expire, codec.FieldID: {}, 0: {},
	} {
		got, ok := codec.LookupTime(p, f)
		if err == nil && (ok == want.IsZero() || got != want) {
			t.Fatalf("%x: LookupTime(%v) = %v, %v, want %v", p, f, got, ok, want)
		}
	}
}

func TestLookupReadsNoFurtherThanTheField(t *testing.T) {
	for _, c := range []struct {
		name, in string
		ok       bool
	}{
		{"found", "82 01 a1 69 02 a1 74", true},
		{"behind an unknown pair", "82 0a 92 01 02 02 a1 74", true},
		{"before a fault", "82 02 a1 74 01 c1", true},
		{"before bytes that do not belong", "81 02 a1 74 ff", true},
		{"empty", "81 02 a0", false},
		{"behind a fault", "82 01 c1 02 a1 74", false},
		{"behind a key that is no integer", "82 a1 69 01 02 a1 74", false},
		{"of another type", "81 02 c4 01 74", false},
		{"cut short", "81 02 a2 74", false},
		{"missing", "82 0a 01 02", false},
		{"no map", "92 02 a1 74", false},
		{"no bytes", "", false},
		{"a map that claims too much", "df 7fffffff 02 a1 74", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, ok := codec.Lookup(unhex(t, c.in), codec.FieldTopic)
			if ok != c.ok || ok && string(got) != "t" {
				t.Errorf("got %q, %v, want ok=%v", got, ok, c.ok)
			}
		})
	}
}

func TestLookupAliasesButCannotGrow(t *testing.T) {
	p := unhex(t, "82 02 a1 74 01 a1 69")
	got, ok := codec.Lookup(p, codec.FieldTopic)
	if !ok || &got[0] != &p[3] || cap(got) != len(got) {
		t.Errorf("got %q with room for %d, want the byte in place with room for 1", got, cap(got))
	}
}

func TestLookupAllocatesNothing(t *testing.T) {
	m := full()
	p, err := m.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	faulty := append(unhex(t, "82 0a"), bytes.Repeat([]byte{0x91}, 1000)...)
	if n := testing.AllocsPerRun(100, func() {
		_, found := codec.Lookup(p, codec.FieldCorrelationID)
		_, timed := codec.LookupTime(p, codec.FieldExpire)
		_, wrong := codec.Lookup(faulty, codec.FieldTopic)
		if !found || !timed || wrong {
			t.Fatal("wrong answer")
		}
	}); n != 0 {
		t.Errorf("got %v allocations, want 0", n)
	}
}
