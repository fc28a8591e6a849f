package main

import (
	"math"
	"testing"
	"time"

	"github.com/walq/walq"
)

// FuzzPosition: what --from refuses it refuses with a word about it, and what it
// takes it writes, and takes again as the same.
func FuzzPosition(f *testing.F) {
	for _, text := range []string{
		"oldest", "newest", "0", "1", "18446744073709551615", "18446744073709551616", "-0", "-10", "--1", "+1", "0x10", "",
		"-9223372036854775807", "-9223372036854775808", "2026-03-01T10:00:00Z", "2026-03-01T10:00:00.123456789+01:30",
		"0000-01-01T00:00:00Z", "0000-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00", "9999-12-31T23:59:59.999999999Z", "2026-02-30T10:00:00Z", "OLDEST", " 1", "1\n", "１", "1e3",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var p walq.Position
		if err := p.UnmarshalText([]byte(text)); err != nil {
			if err.Error() == "" || p != (walq.Position{}) {
				t.Fatalf("%q: got %v and error %q", text, p, err)
			}
			return
		}
		written, err := p.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		var again walq.Position
		if err := again.UnmarshalText(written); err != nil || again != p {
			t.Fatalf("%q was written as %q and read as %v, %v; want %v", text, written, again, err, p)
		}
		if twice := again.String(); twice != string(written) {
			t.Fatalf("%q was written as %q, then as %q", text, written, twice)
		}
	})
}

// FuzzSizeAndAge: a size or an age on the command line is refused, or not
// negative, and an age that is written is read again as the same.
func FuzzSizeAndAge(f *testing.F) {
	for _, text := range []string{
		"65536", "64K", "64KiB", "64 MiB", "1g", "8388607T", "8388608T", "9223372036854775807", "9223372036854775808", "-1", "B", "iB", "", "1.5G",
		"7d", "36h", "1h30m", "106751d", "106752d", "-1d", "1e9h", "9223372036854775807ns", "0d", "1d1h", "2562047h47m16.854775807s",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var s size
		if err := s.Set(text); (err != nil && s != 0) || s < 0 {
			t.Fatalf("size %q: got %d, %v", text, s, err)
		}
		_ = s.String()
		if s > 0 && s%1024 == 0 {
			var again size
			if err := again.Set(s.String()); err == nil && again > s {
				t.Fatalf("size %q is written as %q and read as %d, want at most %d", text, s.String(), again, s)
			}
		}
		var a age
		if err := a.Set(text); (err != nil && a != 0) || a < 0 || time.Duration(a) > math.MaxInt64 {
			t.Fatalf("age %q: got %v, %v", text, time.Duration(a), err)
		}
		var again age
		if a > 0 {
			if err := again.Set(a.String()); err != nil || again != a {
				t.Fatalf("age %q is written as %q and read as %v, %v; want %v", text, a.String(), time.Duration(again), err, time.Duration(a))
			}
		}
	})
}
