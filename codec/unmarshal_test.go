package codec_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"
	"pgregory.net/rapid"

	"github.com/walq/walq/codec"
)

// Each of these ends the process if the library decodes it into a map.
func TestUnmarshalSurvivesLethalInput(t *testing.T) {
	inputs := lethal(t)
	inputs["map of 2^31-1 in an extension"] = unhex(t, "c7 05 01 df7fffffff")
	inputs["map of 2^31-1 in a timestamp of 64 bits"] = unhex(t, "d7 ff df7fffff 00000000")
	inputs["map of 2^31-1 in a timestamp and what follows"] = unhex(t, "92 d6 ff df7fffff ff")
	inputs["nil in an extension, then a map of 2^31-1"] = unhex(t, "92 c7 06 01 c0 df7fffffff 00")
	inputs["nil in a timestamp, then a map of 2^31-1"] = unhex(t, "92 d7 ff c0 df7fffffff 0000 c0")
	deep := append(unhex(t, "c9 001e8483 01 81 a1 61"), bytes.Repeat([]byte{0x91}, 2_000_000)...)
	if err := codec.Validate(deep); err != nil {
		t.Fatalf("the extension is not well formed: %v", err)
	}
	inputs["2 million arrays in an extension"] = deep

	for name, p := range inputs {
		t.Run(name, func(t *testing.T) {
			var m map[string]any
			if codec.Unmarshal(p, &m) == nil {
				t.Error("map: got no error")
			}
			var list []map[string]any
			if codec.Unmarshal(p, &list) == nil {
				t.Error("list of maps: got no error")
			}
		})
	}
}

func TestUnmarshalRefuses(t *testing.T) {
	for _, c := range []struct {
		name, in string
		offset   int
		reason   string
	}{
		{"invalid msgpack", "92 01", 0, "needs 2 bytes"},
		{"another extension", "91 d4 05 00", 1, "extension of type 5 is not a timestamp"},
		{"a timestamp of 5 bytes", "c7 05 ff 0000000000", 0, "timestamp has 5 bytes"},
		{"an empty timestamp", "c7 00 ff", 0, "timestamp has 0 bytes"},
		{"10^9 ns in 64 bits", "d7 ff ee6b2800 00000000", 0, "second or more of nanoseconds"},
		{"10^9 ns in 96 bits", "c7 0c ff 3b9aca00 0000000000000000", 0, "second or more of nanoseconds"},
		{"another extension behind a timestamp that is written anew", "92 d6 ff df000000 d4 05 00", 7, "type 5"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var v any
			wantInvalid(t, codec.Unmarshal(unhex(t, c.in), &v), c.offset, c.reason)
		})
	}
}

func TestUnmarshalPassesOnTheLibrarysErrors(t *testing.T) {
	var n int
	err := codec.Unmarshal(unhex(t, "a1 61"), &n)
	if err == nil || !strings.HasPrefix(err.Error(), "msgpack: ") {
		t.Errorf("got %v, want the library's error", err)
	}
}

// Timestamps keep their instant, also where the encoding's first byte could be
// taken for a map, and are an error where the program expects a map.
func TestUnmarshalKeepsEveryTimestamp(t *testing.T) {
	type event struct {
		Name string
		At   time.Time
		Tags map[string]string
		More []any
	}
	nanos := rapid.Custom(func(t *rapid.T) int64 {
		if rapid.Bool().Draw(t, "first byte like a map") {
			first := rapid.SampledFrom([]int64{0x80, 0x85, 0x8f, 0xc0, 0xde, 0xdf}).Draw(t, "first byte")
			return first<<22 | rapid.Int64Range(0, 1<<22-1).Draw(t, "low bits")
		}
		return rapid.Int64Range(0, 999_999_999).Draw(t, "ns")
	})
	seconds := rapid.OneOf(rapid.Int64Range(0, 1<<34-1), rapid.Int64Range(-1<<40, 1<<40))
	rapid.Check(t, func(t *rapid.T) {
		draw := func() time.Time {
			return time.Unix(seconds.Draw(t, "s"), nanos.Draw(t, "ns")*rapid.Int64Range(0, 1).Draw(t, "with ns"))
		}
		want := event{Name: "e", At: draw(), Tags: map[string]string{"a": "b"}, More: []any{draw(), "x", draw()}}
		p, err := msgpack.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		before := bytes.Clone(p)
		var got event
		if err := codec.Unmarshal(p, &got); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(p, before) {
			t.Fatal("the input was changed")
		}
		if !got.At.Equal(want.At) || got.Name != want.Name || got.Tags["a"] != "b" || len(got.More) != 3 ||
			!got.More[0].(time.Time).Equal(want.More[0].(time.Time)) || !got.More[2].(time.Time).Equal(want.More[2].(time.Time)) {
			t.Fatalf("got %v, want %v", got, want)
		}

		p, err = msgpack.Marshal([]time.Time{want.At, draw()})
		if err != nil {
			t.Fatal(err)
		}
		var maps []map[string]any
		if codec.Unmarshal(p, &maps) == nil {
			t.Fatalf("%x: a timestamp was taken for a map: %v", p, maps)
		}
	})
}

// The library calls IsNil on a struct here.
func TestANilWhereATimeIsExpectedIsAnError(t *testing.T) {
	type moment struct{ At time.Time }
	for name, c := range map[string]struct {
		data string
		into any
	}{
		"in a struct as an array": {"\x91\xc0", &moment{}},
		"in a struct as a map":    {"\x81\xa2At\xc0", &moment{}},
		"in a slice":              {"\x91\xc0", &[]time.Time{}},
		"in a map":                {"\x81\xa2At\xc0", &map[string]time.Time{}},
	} {
		if err := codec.Unmarshal([]byte(c.data), c.into); err == nil {
			t.Errorf("%s: got %v, want an error", name, c.into)
		}
	}
}
