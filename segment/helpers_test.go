package segment

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/walq/walq/mmap"
)

// header is that of a small segment.
func header(size int64) Header {
	return Header{Size: size, Ordinal: 1, First: 1, Epoch: 1, Salt: 0x0123456789abcdef, Created: 1}
}

// claim claims room for a frame at the first free place from c on.
func claim(t testing.TB, s *Segment, c Cursor, slot, count int, length int64) (Cursor, Word) {
	t.Helper()
	w := MakeWord(Claimed, slot, count, length)
	for {
		at, there, err := s.WalkToFree(c)
		if err != nil || there != 0 {
			t.Fatalf("no free place behind %+v: %v, %v", c, there, err)
		}
		if !s.Fits(at.Off, w.Size()) {
			t.Fatalf("no room for %v at %d", w, at.Off)
		}
		if s.TryClaim(at.Off, w) {
			return at, w
		}
		c = at
	}
}

// put appends a message or a control frame, and returns the place behind it.
func put(t testing.TB, s *Segment, c Cursor, kind uint8, time int64, meta, body []byte) Cursor {
	t.Helper()
	count := 1
	if kind == KindControl {
		count = 0
	}
	at, w := claim(t, s, c, 3, count, int64(len(meta)+len(body)))
	s.Fill(at, w, kind, time, meta, body)
	if !s.Commit(at.Off, w) {
		t.Fatalf("commit at %d failed", at.Off)
	}
	s.Passed(at, at.After(w), time)
	return at.After(w)
}

// putBatch appends a batch.
func putBatch(t testing.TB, s *Segment, c Cursor, time int64, parts []Part) Cursor {
	t.Helper()
	length, count, _ := BatchLength(parts)
	at, w := claim(t, s, c, 4, count, length)
	s.FillBatch(at, w, time, parts)
	if !s.Commit(at.Off, w) {
		t.Fatalf("commit at %d failed", at.Off)
	}
	s.Passed(at, at.After(w), time)
	return at.After(w)
}

// check reads the frame at c like verify does: any wrong byte is an error.
func (s *Segment) checkFrame(c Cursor) (Frame, error) {
	w, err := s.Word(c.Off)
	if err != nil || w.State() != Committed {
		return Frame{}, err
	}
	f, err := s.Frame(c, w)
	if err == nil {
		err = s.CheckPadding(c, w, f)
	}
	return f, err
}

// image is a copy of the bytes of s.
func image(s *Segment) []byte { return bytes.Clone(s.r.Bytes(0, s.r.Len())) }

// fromBytes looks at an image.
func fromBytes(p []byte, readOnly bool) (*Segment, error) {
	r := mmap.Heap(int64(len(p)))
	copy(r.Bytes(0, r.Len()), p)
	return FromImage(r, readOnly)
}

// dump writes the lines of 16 bytes that are not all zero, after the size.
func dump(p []byte) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "size %d\n", len(p))
	for off := 0; off < len(p); off += 16 {
		line := p[off:min(off+16, len(p))]
		if len(bytes.Trim(line, "\x00")) > 0 {
			fmt.Fprintf(&b, "%08x %x\n", off, line)
		}
	}
	return b.Bytes()
}

// undump is the reverse of dump.
func undump(t testing.TB, text []byte) []byte {
	t.Helper()
	var p []byte
	for i, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		at, rest, _ := strings.Cut(line, " ")
		if i == 0 {
			n, err := strconv.Atoi(rest)
			if err != nil {
				t.Fatal(err)
			}
			p = make([]byte, n)
			continue
		}
		off, err := strconv.ParseInt(at, 16, 64)
		if err != nil {
			t.Fatal(err)
		}
		bytes, err := hex.DecodeString(rest)
		if err != nil {
			t.Fatal(err)
		}
		copy(p[off:], bytes)
	}
	return p
}

func golden(t testing.TB) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "v1.seg.hex"))
	if err != nil {
		t.Fatal(err)
	}
	return undump(t, text)
}
