package codec_test

import (
	"bytes"
	"errors"
	"math"
	"os"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"
	"pgregory.net/rapid"

	"github.com/walq/walq/codec"
)

// full sets every field.
func full() codec.Meta {
	return codec.Meta{
		ID: "i", Topic: "orders", Key: []byte{0xff, 0x00},
		Headers:     map[string]string{"b": "2", "a": "1"},
		ContentType: "text/x", ReplyTo: "r", CorrelationID: "c",
		NotBefore: time.Unix(0, 1_700_000_000_000_000_000).UTC(),
		Expire:    time.Unix(0, -1).UTC(),
		Unknown:   []byte{0x0a, 0xc3, 0xff, 0x91, 0x01},
	}
}

func TestAppendWritesTheFormat(t *testing.T) {
	m := full()
	got, err := m.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	want := unhex(t, "8b"+
		"01 a1 69"+
		"02 a6 6f7264657273"+
		"03 c4 02 ff00"+
		"04 82 a161 a131 a162 a132"+ // sorted by name
		"05 a6 746578742f78"+
		"06 a1 72"+
		"07 a1 63"+
		"08 cf 17979cfe362a0000"+
		"09 ff"+
		"0a c3 ff 91 01") // unknown pairs last, as they were
	if !bytes.Equal(got, want) {
		t.Errorf("got  %x\nwant %x", got, want)
	}
}

// The table that is copied into the format's document names each constant.
func TestDocumentedTableIsTheCode(t *testing.T) {
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile(`(?m)^//\t\| (\d) +\| ([^|]+?) +\| ([^|]+?) +\|`).FindAllSubmatch(doc, -1)
	if len(rows) != int(codec.FieldExpire) {
		t.Fatalf("got %d rows, want %d", len(rows), codec.FieldExpire)
	}
	m := full()
	m.Unknown = nil
	p, err := m.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	fields := readWithLibrary(t, p)
	types := map[string]any{"str": "", "bin": []byte(nil), "int": int64(0), "map of str to str": map[string]any(nil)}
	for i, row := range rows {
		key, _ := strconv.Atoi(string(row[1]))
		if key != i+1 || codec.Field(key).String() != string(row[2]) {
			t.Errorf("row %d: got key %d, %q, want %q", i+1, key, row[2], codec.Field(i+1))
		}
		if got, want := reflect.TypeOf(fields[int64(key)]), reflect.TypeOf(types[string(row[3])]); got != want {
			t.Errorf("%s: written as %v, documented as %s", row[2], got, row[3])
		}
	}
	if got := codec.Field(0).String() + codec.Field(10).String(); got != "unknown fieldunknown field" {
		t.Errorf("got %q for fields outside the table", got)
	}
}

// readWithLibrary reads metadata as any other msgpack program would.
func readWithLibrary(t interface{ Fatal(...any) }, p []byte) map[int64]any {
	d := msgpack.NewDecoder(bytes.NewReader(p))
	n, err := d.DecodeMapLen()
	if err != nil {
		t.Fatal(err)
	}
	fields := make(map[int64]any)
	for range n {
		key, err := d.DecodeInt64()
		if err != nil {
			t.Fatal(err)
		}
		value, err := d.DecodeInterfaceLoose()
		if key == int64(codec.FieldKey) {
			value = []byte(value.(string)) // loosely, a bin is a string too
		}
		if u, ok := value.(uint64); ok {
			value = int64(u)
		}
		if err != nil {
			t.Fatal(err)
		}
		fields[key] = value
	}
	return fields
}

func TestEmptyMetaTakesNoBytes(t *testing.T) {
	empty := []codec.Meta{{}, {Key: []byte{}, Headers: map[string]string{}, Unknown: []byte{}}}
	for _, m := range empty {
		if !m.Empty() {
			t.Errorf("%+v is not Empty", m)
		}
		got, err := m.Append([]byte("before"))
		if err != nil || string(got) != "before" {
			t.Errorf("got %q, %v, want %q", got, err, "before")
		}
	}
	for _, p := range [][]byte{nil, {}, {0x80}} {
		m, err := codec.DecodeMeta(p)
		if err != nil || !reflect.DeepEqual(m, codec.Meta{}) {
			t.Errorf("DecodeMeta(%x) = %+v, %v, want the zero Meta", p, m, err)
		}
	}
}

// Each field alone makes the metadata not empty, and comes back alone.
func TestEachFieldStandsAlone(t *testing.T) {
	all := reflect.ValueOf(full())
	for i := range all.NumField() {
		var m codec.Meta
		reflect.ValueOf(&m).Elem().Field(i).Set(all.Field(i))
		name := all.Type().Field(i).Name
		if m.Empty() {
			t.Errorf("%s alone counts as empty", name)
		}
		p, err := m.Append(nil)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := codec.DecodeMeta(p)
		if err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("%s: got %+v, %v, want %+v", name, got, err, m)
		}
	}
}

func metas() *rapid.Generator[codec.Meta] {
	return rapid.Custom(func(t *rapid.T) codec.Meta {
		text := rapid.StringN(-1, 80, 300)
		instant := rapid.Custom(func(t *rapid.T) time.Time {
			if rapid.Bool().Draw(t, "none") {
				return time.Time{}
			}
			return time.Unix(0, rapid.Int64().Draw(t, "ns")).UTC()
		})
		m := codec.Meta{
			ID: text.Draw(t, "id"), Topic: text.Draw(t, "topic"),
			ContentType: text.Draw(t, "content type"), ReplyTo: text.Draw(t, "reply-to"),
			CorrelationID: text.Draw(t, "correlation id"),
			NotBefore:     instant.Draw(t, "not-before"), Expire: instant.Draw(t, "expire"),
		}
		if key := rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "key"); len(key) > 0 {
			m.Key = key
		}
		if headers := rapid.MapOfN(text, text, 0, 20).Draw(t, "headers"); len(headers) > 0 {
			m.Headers = headers
		}
		for range rapid.IntRange(0, 3).Draw(t, "unknown pairs") {
			key, _ := msgpack.Marshal(rapid.OneOf(rapid.Int64Max(0), rapid.Int64Min(10)).Draw(t, "unknown key"))
			value, err := msgpack.Marshal(anyValue(2).Draw(t, "unknown value"))
			if err != nil {
				t.Fatal(err)
			}
			m.Unknown = append(append(m.Unknown, key...), value...)
		}
		return m
	})
}

func TestMetaRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := metas().Draw(t, "meta")
		before := []byte("before")
		p, err := want.Append(before)
		if errors.Is(err, codec.ErrMetaTooLarge) {
			t.Skip("too large") // rapid draws another one
		}
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(p, before) {
			t.Fatalf("got %q, want it to begin with %q", p, before)
		}
		p = p[len(before):]
		if want.Empty() != (len(p) == 0) {
			t.Fatalf("Empty() is %v, but it takes %d bytes", want.Empty(), len(p))
		}
		got, err := codec.DecodeMeta(p)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("got  %+v, %v\nwant %+v", got, err, want)
		}
		again, err := got.Append(nil) // got's header map has an order of its own
		if err != nil || !bytes.Equal(again, p) {
			t.Fatalf("got %x, %v the second time, want %x", again, err, p)
		}
		if len(p) > 0 {
			if err := codec.Validate(p); err != nil {
				t.Fatalf("Append wrote what Validate refuses: %v", err)
			}
			want.Unknown = nil
			checkWithLibrary(t, want)
		}
	})
}

// checkWithLibrary checks that the library reads what Append writes.
func checkWithLibrary(t *rapid.T, m codec.Meta) {
	if m.Empty() {
		return
	}
	p, err := m.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	want := make(map[int64]any)
	for f, s := range map[int64]string{1: m.ID, 2: m.Topic, 5: m.ContentType, 6: m.ReplyTo, 7: m.CorrelationID} {
		if s != "" {
			want[f] = s
		}
	}
	if m.Key != nil {
		want[3] = m.Key
	}
	if m.Headers != nil {
		headers := make(map[string]any)
		for name, value := range m.Headers {
			headers[name] = value
		}
		want[4] = headers
	}
	for f, instant := range map[int64]time.Time{8: m.NotBefore, 9: m.Expire} {
		if !instant.IsZero() {
			want[f] = instant.UnixNano()
		}
	}
	if got := readWithLibrary(t, p); !reflect.DeepEqual(got, want) {
		t.Fatalf("the library reads %v\nwant %v", got, want)
	}
}

func TestAppendRefuses(t *testing.T) {
	second := time.Second
	tooEarly, tooLate := time.Unix(0, math.MinInt64).Add(-1), time.Unix(0, math.MaxInt64).Add(1)
	for _, c := range []struct {
		name string
		meta codec.Meta
		want error
	}{
		{"huge id", codec.Meta{ID: strings.Repeat("x", codec.MaxMeta+1)}, codec.ErrMetaTooLarge},
		{"huge key", codec.Meta{Key: make([]byte, codec.MaxMeta+1)}, codec.ErrMetaTooLarge},
		{"huge header", codec.Meta{Headers: map[string]string{"h": strings.Repeat("x", codec.MaxMeta)}}, codec.ErrMetaTooLarge},
		{"huge unknown", codec.Meta{Unknown: make([]byte, codec.MaxMeta+1)}, codec.ErrMetaTooLarge},
		{"too large by its framing", codec.Meta{Topic: strings.Repeat("x", codec.MaxMeta-4)}, codec.ErrMetaTooLarge},
		{"id", codec.Meta{ID: "\xff"}, codec.ErrMetaText},
		{"topic", codec.Meta{Topic: "\xff"}, codec.ErrMetaText},
		{"content type", codec.Meta{ContentType: "\xff"}, codec.ErrMetaText},
		{"reply-to", codec.Meta{ReplyTo: "\xff"}, codec.ErrMetaText},
		{"correlation id", codec.Meta{CorrelationID: "\xff"}, codec.ErrMetaText},
		{"header name", codec.Meta{Headers: map[string]string{"\xff": ""}}, codec.ErrMetaText},
		{"header value", codec.Meta{Headers: map[string]string{"": "\xff"}}, codec.ErrMetaText},
		{"not-before a ns too early", codec.Meta{NotBefore: tooEarly}, codec.ErrMetaTime},
		{"not-before a ns too late", codec.Meta{NotBefore: tooLate}, codec.ErrMetaTime},
		{"expire too early", codec.Meta{Expire: tooEarly.Add(-second)}, codec.ErrMetaTime},
		{"expire too late", codec.Meta{Expire: tooLate.Add(second)}, codec.ErrMetaTime},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := c.meta.Append([]byte("before"))
			if !errors.Is(err, c.want) {
				t.Errorf("got error %v, want %v", err, c.want)
			}
			if string(got) != "before" {
				t.Errorf("got %d bytes, want %q as it was", len(got), "before")
			}
		})
	}
}

func TestAppendRefusesMalformedUnknown(t *testing.T) {
	for _, c := range []struct {
		name, unknown string
		offset        int
		reason        string
	}{
		{"a key without value", "0a", 1, "a value is missing"},
		{"a value cut short", "0a 01 0b a2 61", 3, "cut short"},
		{"a key that is no integer", "0a 01 a1 61 01", 2, "key is not an integer"},
		{"a known key", "0a 01 02 a1 61", 2, "known field is among the unknown"},
		{"a known key in another encoding", "cd 0002 a1 61", 0, "known field is among the unknown"},
		{"nested too deep for the map around it", "0a" + strings.Repeat("91", codec.MaxDepth-1) + "90", codec.MaxDepth, "nested too deep"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := codec.Meta{Topic: "t", Unknown: unhex(t, c.unknown)}
			got, err := m.Append([]byte("before"))
			wantInvalid(t, err, c.offset, c.reason)
			if string(got) != "before" {
				t.Errorf("got %q, want %q", got, "before")
			}
		})
	}
}

func TestMetadataAtTheLimits(t *testing.T) {
	const framing = 1 + 1 + 3 // map, key, str 16
	for name, m := range map[string]codec.Meta{
		"MaxMeta bytes":     {Topic: strings.Repeat("x", codec.MaxMeta-framing)},
		"the earliest time": {NotBefore: time.Unix(0, math.MinInt64).UTC()},
		"the latest time":   {Expire: time.Unix(0, math.MaxInt64).UTC()},
		"the epoch":         {Expire: time.Unix(0, 0).UTC()},
		"the deepest value": {Unknown: unhex(t, "0a"+strings.Repeat("91", codec.MaxDepth-2)+"90")},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := m.Append([]byte("before")) // which does not count
			if err != nil {
				t.Fatal(err)
			}
			if got, err := codec.DecodeMeta(p[len("before"):]); err != nil || !reflect.DeepEqual(got, m) {
				t.Errorf("got %+v, %v, want %+v", got, err, m)
			}
		})
	}
}

func TestAppendKeepsTheInstantOnly(t *testing.T) {
	at := time.Date(2030, 1, 2, 3, 4, 5, 6, time.FixedZone("there", 3600))
	m := codec.Meta{NotBefore: at}
	p, err := m.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := codec.DecodeMeta(p)
	if err != nil || !got.NotBefore.Equal(at) || got.NotBefore.Location() != time.UTC {
		t.Errorf("got %v, %v, want %v in UTC", got.NotBefore, err, at)
	}
}
