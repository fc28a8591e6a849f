package fuzz

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/walq/walq/codec"
)

// metadataSeeds are one well-formed sample, and what ends a process that
// gives it to a decoder which believes it.
func metadataSeeds(f *testing.F) {
	m := codec.Meta{
		ID: "i", Topic: "orders", Key: []byte{0xff, 0x00}, Headers: map[string]string{"a": "1", "b": "2"},
		ContentType: "text/x", ReplyTo: "r", CorrelationID: "c",
		NotBefore: time.Unix(1_700_000_000, 0), Expire: time.Unix(0, -1),
		Unknown: []byte{0x0a, 0xc3, 0xff, 0x91, 0x01},
	}
	p, err := m.Append(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(p)
	f.Add(bytes.Repeat([]byte{0x91}, 2_000_000))
	f.Add(bytes.Repeat([]byte{0x81, 0x01}, 100))
	for _, s := range []string{
		"", "80", "c1", "dd7fffffff", "df7fffffff", "c67fffffff", "c9ffffffff01",
		"8102a26f6b", "8202a1740ac3", "8108cf8000000000000000", "8201a16101a162",
		"c70501df7fffffff", "d7ffdf7fffff00000000", "92d6ffdf7fffffff", "92c70601c0df7fffffff00",
		strings.Repeat("91", codec.MaxDepth) + "c0",
	} {
		p, err := hex.DecodeString(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(p)
	}
}

// FuzzMetadata: on any bytes, Validate, DecodeMeta and Lookup end without
// panic, what is decoded is valid and no larger than what it came from, and
// encoding and decoding it again changes nothing.
func FuzzMetadata(f *testing.F) {
	metadataSeeds(f)
	f.Fuzz(func(t *testing.T, p []byte) {
		before := bytes.Clone(p)
		invalid := codec.Validate(p)
		found, times := make(map[codec.Field]string), make(map[codec.Field]time.Time)
		for field := codec.Field(0); field <= codec.FieldExpire+1; field++ {
			value, ok := codec.Lookup(p, field)
			if ok != (len(value) > 0) {
				t.Errorf("Lookup(%v) = %x, %v", field, value, ok)
			}
			found[field] = string(value)
			times[field], _ = codec.LookupTime(p, field)
		}
		m, err := codec.DecodeMeta(p)
		if !bytes.Equal(p, before) {
			t.Fatal("the input was changed")
		}
		if err != nil {
			return
		}
		if len(p) > 0 && invalid != nil {
			t.Fatalf("decoded, but Validate says %v", invalid)
		}
		if found[codec.FieldID] != m.ID || found[codec.FieldTopic] != m.Topic || found[codec.FieldKey] != string(m.Key) ||
			found[codec.FieldContentType] != m.ContentType || found[codec.FieldReplyTo] != m.ReplyTo ||
			found[codec.FieldCorrelationID] != m.CorrelationID {
			t.Fatalf("Lookup finds %v in %+v", found, m)
		}
		if times[codec.FieldNotBefore] != m.NotBefore || times[codec.FieldExpire] != m.Expire {
			t.Fatalf("LookupTime finds %v in %+v", times, m)
		}
		wantAsTheLibrary(t, p, m)
		once, err := m.Append(nil)
		if err != nil || len(once) > len(p) {
			t.Fatalf("encoded again: %x, %v", once, err)
		}
		again, err := codec.DecodeMeta(once)
		if err != nil || !reflect.DeepEqual(again, m) {
			t.Fatalf("decoded again: %+v, %v\nwant %+v", again, err, m)
		}
		if twice, err := again.Append(nil); err != nil || !bytes.Equal(twice, once) {
			t.Fatalf("encoded a third time: %x, %v, want %x", twice, err, once)
		}
	})
}

// wantAsTheLibrary reads what DecodeMeta accepted with the msgpack library and
// fails unless both see the same.
func wantAsTheLibrary(t *testing.T, p []byte, m codec.Meta) {
	if len(p) == 0 {
		return
	}
	d := msgpack.NewDecoder(bytes.NewReader(p))
	pairs, err := d.DecodeMapLen()
	for range max(pairs, 0) {
		key, kerr := d.DecodeInterface() // an integer of any width
		err = errors.Join(err, kerr)
		var got, want any
		var verr error
		switch fmt.Sprint(key) {
		case "1":
			want = m.ID
			got, verr = d.DecodeString()
		case "2":
			want = m.Topic
			got, verr = d.DecodeString()
		case "3":
			want = string(m.Key)
			var key []byte
			key, verr = d.DecodeBytes()
			got = string(key)
		case "8":
			want = m.NotBefore.UnixNano()
			got, verr = d.DecodeInt64()
		case "9":
			want = m.Expire.UnixNano()
			got, verr = d.DecodeInt64()
		default:
			verr = d.Skip()
		}
		if err = errors.Join(err, verr); err != nil || got != want {
			t.Fatalf("the library reads field %v as %v, %v; DecodeMeta as %v", key, got, err, want)
		}
	}
	if _, rest := d.PeekCode(); err != nil || rest != io.EOF {
		t.Fatalf("the library ends with %v, and then finds %v", err, rest)
	}
}

// FuzzValidate: what Validate accepts, the msgpack library steps over as one
// value, of the same length.
func FuzzValidate(f *testing.F) {
	metadataSeeds(f)
	f.Fuzz(func(t *testing.T, p []byte) {
		if codec.Validate(p) != nil {
			return
		}
		in := bytes.NewReader(p)
		if err := msgpack.NewDecoder(in).Skip(); err != nil || in.Len() != 0 {
			t.Fatalf("the library steps over %d of %d bytes: %v", len(p)-in.Len(), len(p), err)
		}
	})
}

// FuzzUnmarshal: on any bytes, the msgpack library, reached by way of
// Unmarshal, ends without panic and within the memory of its input's size,
// whatever kind of value the program expects.
func FuzzUnmarshal(f *testing.F) {
	metadataSeeds(f)
	f.Fuzz(func(t *testing.T, p []byte) {
		type record struct {
			Name  string
			At    time.Time
			Pairs map[string]any
			Next  *struct{ List []map[string]string }
			Any   any
		}
		for _, v := range []any{
			new(any), new(map[string]any), new([]map[string]any), new(map[string]string), new([]any),
			new(record), new([]record), new(time.Time), new(map[string]record), new([]byte), new(int64),
		} {
			if err := codec.Unmarshal(p, v); err == nil && codec.Validate(p) != nil {
				t.Fatalf("%T: decoded, but not valid", v)
			}
			if plain, ok := v.(*int64); ok { // what holds no extension is the library's business alone
				want := new(int64)
				if werr := msgpack.Unmarshal(p, want); codec.Validate(p) == nil && werr == nil && *plain != *want {
					t.Fatalf("%x is %d, the library reads %d", p, *plain, *want)
				}
			}
		}
	})
}
