package codec_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"runtime"
	"strings"
	"testing"

	"github.com/vmihailenco/msgpack/v5"
	"pgregory.net/rapid"

	"github.com/walq/walq/codec"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	p, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatalf("test data %q: %v", s, err)
	}
	return p
}

// wantInvalid checks that err is a *InvalidError with this offset, and with
// this text somewhere in its reason.
func wantInvalid(t *testing.T, err error, offset int, reason string) {
	t.Helper()
	var inv *codec.InvalidError
	if !errors.As(err, &inv) {
		t.Fatalf("got error %v, want *InvalidError %q", err, reason)
	}
	if inv.Offset != offset || !strings.Contains(inv.Reason, reason) {
		t.Errorf("got byte %d: %q, want byte %d: ...%q...", inv.Offset, inv.Reason, offset, reason)
	}
}

// lethal is input that ends a process when the library decodes it.
func lethal(t testing.TB) map[string][]byte {
	return map[string][]byte{
		"array of 2^31-1":     unhex(t, "dd7fffffff"),
		"map of 2^31-1":       unhex(t, "df7fffffff"),
		"bin of 2^31-1 bytes": unhex(t, "c67fffffff"),
		"2 million arrays":    bytes.Repeat([]byte{0x91}, 2_000_000),
		"2 million maps":      bytes.Repeat([]byte{0x81, 0x01}, 1_000_000),
	}
}

func TestValidateRefuses(t *testing.T) {
	deep := func(levels int, then string) string { return strings.Repeat("91", levels) + then }
	for _, c := range []struct {
		name, in string
		offset   int
		reason   string
	}{
		{"nothing", "", 0, "a value is missing"},
		{"reserved byte", "c1", 0, "0xc1 is reserved"},
		{"reserved byte within", "92 01 c1", 2, "0xc1 is reserved"},
		{"a byte too many", "01 02", 1, "bytes follow the value"},
		{"a byte behind a map", "81 01 02 c0", 3, "bytes follow the value"},
		{"array of 2^31-1", "dd 7fffffff", 0, "more elements than bytes follow: needs 2147483647 bytes, has 0"},
		{"map of 2^31-1", "df 7fffffff", 0, "more pairs than bytes follow: needs 4294967294 bytes, has 0"},
		{"map of 2^32-1", "df ffffffff", 0, "needs 8589934590 bytes"},
		{"bin of 2^31-1", "c6 7fffffff", 0, "cut short: needs 2147483647 bytes, has 0"},
		{"str of 2^32-1", "db ffffffff", 0, "cut short: needs 4294967295 bytes, has 0"},
		{"ext of 2^32-1", "c9 ffffffff 01", 0, "cut short: needs 4294967296 bytes, has 1"},
		{"array one short", "93 01 02", 0, "needs 3 bytes, has 2"},
		{"map one short", "82 01 02 03", 0, "needs 4 bytes, has 3"},
		{"element missing, its bytes taken by a sibling", "92 a1 78", 3, "a value is missing"},
		{"nested arrays that each claim the rest", "93 93 c0 c0 c0", 1, "together declare more than bytes follow: needs 5 bytes, has 3"},
		{"fixstr cut", "a3 61 62", 0, "cut short: needs 3 bytes, has 2"},
		{"length cut", "da 00", 0, "cut short: needs 2 bytes, has 1"},
		{"number cut", "91 cf 00000000 000000", 1, "cut short: needs 8 bytes, has 7"},
		{"extension without type", "c7 00", 0, "cut short: needs 1 bytes, has 0"},
		{"too deep", deep(codec.MaxDepth, "90"), codec.MaxDepth, "nested too deep: more than 32"},
		{"too deep, with a bottom", deep(codec.MaxDepth+1, "c0"), codec.MaxDepth, "nested too deep"},
	} {
		t.Run(c.name, func(t *testing.T) {
			wantInvalid(t, codec.Validate(unhex(t, c.in)), c.offset, c.reason)
		})
	}
}

func TestValidateAccepts(t *testing.T) {
	for _, in := range []string{
		"c0", "c2", "c3", "00", "7f", "e0", "ff",
		"90", "80", "a0", "c400", "c70001", "d40100", "ca00000000",
		"dc0000", "dd00000000", "de0000", "df00000000",
		"82 01 91 c0 02 81 a1 61 c4 02 ffff",
		"a2 ff fe", // not UTF-8
		strings.Repeat("91", codec.MaxDepth-1) + "90",
		strings.Repeat("91", codec.MaxDepth) + "c0",
		strings.Repeat("92 90", codec.MaxDepth-1) + "c0", // depth falls and rises again
	} {
		if err := codec.Validate(unhex(t, in)); err != nil {
			t.Errorf("Validate(%s) = %v, want nil", in, err)
		}
	}
}

// Lethal input is refused at once: the error is all that is allocated.
func TestValidateTakesNoMemoryForLethalInput(t *testing.T) {
	const errorBytes = 1024
	for name, p := range lethal(t) {
		t.Run(name, func(t *testing.T) {
			if n := testing.AllocsPerRun(10, func() { _ = codec.Validate(p) }); n > 6 {
				t.Errorf("got %v allocations, want at most 6 for the error", n)
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			err := codec.Validate(p)
			runtime.ReadMemStats(&after)
			if err == nil {
				t.Fatal("got no error")
			}
			if n := after.TotalAlloc - before.TotalAlloc; n > errorBytes {
				t.Errorf("got %d bytes allocated, want at most %d", n, errorBytes)
			}
		})
	}
}

func TestValidateAllocatesNothing(t *testing.T) {
	p := unhex(t, "83 01 a1 61 02 93 c0 c2 81 00 01 03 c4 02 ffff")
	if n := testing.AllocsPerRun(100, func() {
		if codec.Validate(p) != nil {
			t.Fatal("refused")
		}
	}); n != 0 {
		t.Errorf("got %v allocations, want 0", n)
	}
}

// skipLength is the library's word on how long the value at the start of p is.
func skipLength(p []byte) (int, error) {
	r := bytes.NewReader(p)
	if err := msgpack.NewDecoder(r).Skip(); err != nil {
		return 0, err
	}
	return len(p) - r.Len(), nil
}

// Every first byte, with every length byte small, ends where the library says.
func TestValidateMeasuresEachEncodingLikeTheLibrary(t *testing.T) {
	for first := range 256 {
		for last := range byte(5) { // bytes of a length: 0, ..., 0, last
			for lengthBytes := range 5 {
				p := make([]byte, 64)
				p[0] = byte(first)
				p[lengthBytes] |= last
				n, libErr := skipLength(p)
				if libErr != nil {
					if codec.Validate(p) == nil {
						t.Errorf("%x: accepted, but the library says %v", p, libErr)
					}
					continue
				}
				if err := codec.Validate(p[:n]); err != nil {
					t.Errorf("%x: got %v, want nil", p[:n], err)
				}
				if codec.Validate(p[:n-1]) == nil || codec.Validate(p[:n+1]) == nil {
					t.Errorf("%x: accepted with a byte less or more", p[:n])
				}
			}
		}
	}
}

// On anything too short to nest too deep, Validate and the library's Skip
// agree whether it is one whole value.
func TestValidateAgreesWithTheLibrary(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := hostile(t)
		n, libErr := skipLength(p)
		want := libErr == nil && n == len(p)
		if err := codec.Validate(p); (err == nil) != want {
			t.Fatalf("%x: got %v, want accepted=%v (library: %d bytes, %v)", p, err, want, n, libErr)
		}
		if want {
			var v any
			_ = msgpack.Unmarshal(p, &v) // types it cannot read are errors; it must not panic
		}
	})
}

// hostile draws at most MaxDepth bytes in which msgpack's structure is likely.
func hostile(t *rapid.T) []byte {
	likely := rapid.SampledFrom([]byte{
		0x00, 0x01, 0x02, 0x7f, 0x80, 0x81, 0x82, 0x90, 0x91, 0x93, 0xa0, 0xa1, 0xa3,
		0xc0, 0xc1, 0xc4, 0xc5, 0xc7, 0xc8, 0xcb, 0xcc, 0xcf, 0xd0, 0xd3, 0xd4, 0xd7,
		0xd9, 0xda, 0xdc, 0xdd, 0xde, 0xdf, 0xe0, 0xff,
	})
	b := rapid.OneOf(likely, likely, rapid.Byte())
	return rapid.SliceOfN(b, 0, codec.MaxDepth).Draw(t, "bytes")
}

// What the library writes is valid; less or more of it is not.
func TestValidateAcceptsWhatTheLibraryWrites(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, err := msgpack.Marshal(anyValue(4).Draw(t, "value"))
		if err != nil {
			t.Fatal(err)
		}
		if err := codec.Validate(p); err != nil {
			t.Fatalf("%x: got %v, want nil", p, err)
		}
		cut := rapid.IntRange(0, len(p)-1).Draw(t, "cut")
		if codec.Validate(p[:cut]) == nil {
			t.Fatalf("%x: accepted when cut to %d bytes", p, cut)
		}
		if codec.Validate(append(p, 0xc0)) == nil {
			t.Fatalf("%x: accepted with a value behind it", p)
		}
	})
}

func anyValue(depth int) *rapid.Generator[any] {
	kinds := []*rapid.Generator[any]{
		rapid.Int64().AsAny(), rapid.Uint64().AsAny(), rapid.Uint16().AsAny(), rapid.Int8().AsAny(),
		rapid.Float64().AsAny(), rapid.Float32().AsAny(), rapid.Bool().AsAny(),
		rapid.String().AsAny(), rapid.SliceOfN(rapid.Byte(), 0, 300).AsAny(), rapid.Just[any](nil),
	}
	if depth > 0 {
		inner := rapid.Deferred(func() *rapid.Generator[any] { return anyValue(depth - 1) })
		kinds = append(kinds,
			rapid.SliceOfN(inner, 0, 20).AsAny(),
			rapid.MapOfN(rapid.String(), inner, 0, 20).AsAny(),
		)
	}
	return rapid.OneOf(kinds...)
}

func TestInvalidErrorSaysWhereAndWhy(t *testing.T) {
	err := codec.Validate(unhex(t, "92 01 dd 7fffffff"))
	const want = "codec: invalid msgpack at byte 2: array declares more elements than bytes follow: needs 2147483647 bytes, has 0"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}
