//go:build !race

package fuzz

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/walq/walq/segment"
)

var segmentPattern = regexp.MustCompile(`^[0-9]{20}\.seg$`)

// FuzzNames: the name of a segment is read as the format says and in no other way,
// and a file of any name in any of a queue's directories keeps nobody from opening
// the queue, changes none of its messages, and is removed only if its name is that
// of a file under construction, or of a socket.
func FuzzNames(f *testing.F) {
	for i, name := range []string{
		"00000000000000000001.seg", "00000000000000000100.seg", "18446744073709551615.seg", "18446744073709551616.seg", "0000000000000000000１.seg",
		"00000000000000000001.SEG", "+0000000000000000001.seg", "1.seg", ".seg", "tmp.recovery", "tmp.0.1.2", "tmp.1.", "tmp.10.3.4", "tmp", "tmp.\xff",
		"0000.sock", "1023.sock", "99999.sock", "-001.sock", "stranger", "\n", strings.Repeat("n", 255), "..seg", "00000000000000000001.seg.1",
	} {
		for n := range 3 { // each in three of the places
			f.Add(byte((i+5*n)%(4*lefts)), name)
		}
		f.Add(byte(leftPowerCut), name)
	}
	f.Fuzz(func(t *testing.T, where byte, name string) {
		first, ok := segment.ParseName(name)
		n, err := strconv.ParseUint(strings.TrimSuffix(name, ".seg"), 10, 64)
		if want := segmentPattern.MatchString(name) && err == nil; ok != want || ok && (first != n || segment.Name(first) != name) {
			t.Fatalf("%q: got %d, %v; want %d, %v", name, first, ok, n, want)
		}
		if name == "" || name == "." || name == ".." || len(name) > 255 || strings.ContainsAny(name, "/\x00") {
			return
		}
		left, place := int(where)%lefts, [...]string{"log", "wake", "quarantine", "groups"}[int(where)/lefts%4]
		d := maps.Clone(golden[left])
		at := place + "/" + name
		if _, taken := d[at]; taken {
			return
		}
		d[at] = file{data: []byte("a stranger's")}
		wantStrangerLeft(t, byte(left), d, at, ok)
	})
}

// wantStrangerLeft opens the queue and fails unless its messages are read, and
// the file at is still there or was one that may go.
func wantStrangerLeft(t *testing.T, left byte, d directory, at string, isSegment bool) {
	path := filepath.Join(t.TempDir(), "q")
	d.write(t, path)
	within(t, "opening", func() {
		tr := &trial{T: t, mode: left, own: map[uint64]string{}}
		got, _, opened := tr.useOnce(path)
		if place := filepath.Dir(at); isSegment && place == "log" {
			wantGolden(t, "beside a segment of strangers", got, nil)
			return
		}
		if !opened || got.err != nil || len(got.all) != segments*perMessages-segments {
			t.Fatalf("beside %q: opened %v (%v), %v", at, opened, tr.refused, got)
		}
		wantGolden(t, "beside a stranger", got, nil)
		mayGo := strings.HasPrefix(at, "log/tmp.") || strings.HasPrefix(at, "wake/")
		if p, err := os.ReadFile(filepath.Join(path, at)); !mayGo && (err != nil || string(p) != "a stranger's") {
			t.Fatalf("%q is gone or changed: %q, %v", at, p, err)
		}
	})
}
