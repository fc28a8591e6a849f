package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/walq/walq/internal/testx"
	"github.com/walq/walq/mmap"
)

func encoded(h Header) []byte {
	page := make([]byte, headerBytes)
	encodeHeader(page, h)
	return page
}

// resum puts the right checksum on a changed header.
func resum(page []byte) {
	binary.LittleEndian.PutUint32(page[offChecksum:], castagnoli(page[:offChecksum]))
}

func TestAHeaderKeepsItsFields(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := Header{
			Size:    pageBytes * rapid.Int64Range(MinSize/pageBytes, MaxSize/pageBytes).Draw(t, "size"),
			Ordinal: rapid.Uint32().Draw(t, "ordinal"), First: rapid.Uint64().Draw(t, "first"),
			Epoch: rapid.Uint64().Draw(t, "epoch"), PrevFirst: rapid.Uint64().Draw(t, "prev first"),
			PrevEnd: rapid.Uint64().Draw(t, "prev end"), Durable: rapid.Uint64().Draw(t, "durable"),
			Salt: rapid.Uint64().Draw(t, "salt"), Created: rapid.Int64().Draw(t, "created"),
		}
		copy(h.Queue[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "queue"))
		got, err := DecodeHeader(encoded(h), false)
		if err != nil || got != h {
			t.Fatalf("got %+v, %v, want %+v", got, err, h)
		}
	})
}

// TestEachFieldOfAHeaderHasItsOwnError changes one field at a time. With the
// checksum made right again the error must be that of the field itself: a check
// that only the checksum hides is dead code.
func TestEachFieldOfAHeaderHasItsOwnError(t *testing.T) {
	const sum = "checksum is"
	cases := []struct {
		field    string
		off      int
		size     int
		value    uint64
		stale    string // the error while the checksum is the old one
		summed   string // with the right one; empty: none
		newer    bool   // both Is ErrVersion
		readable bool   // no error for who only reads
	}{
		{"magic", offMagic, 8, 0x1122334455667788, "magic bytes", "magic bytes", false, false},
		{"newer version", offVersion, 4, Version + 1, "segment version 2", "segment version 2", true, false},
		{"far newer version", offVersion, 4, math.MaxUint32, "segment version", "segment version", true, false},
		{"version 0", offVersion, 4, 0, sum, "segment version 0", false, false},
		{"algorithm", offAlgorithm, 4, 2, sum, "checksum algorithm 2", true, false},
		{"incompatible", offIncompatible, 8, 1 << 63, sum, "incompatible features", true, false},
		{"read-only", offReadCompat, 8, 1, sum, "allow reading only", true, true},
		{"compatible", offCompatible, 8, math.MaxUint64, sum, "", false, false},
		{"size too small", offSize, 8, MinSize - pageBytes, sum, "segment size", false, false},
		{"size too large", offSize, 8, MaxSize + pageBytes, sum, "segment size", false, false},
		{"size odd", offSize, 8, MinSize + 8, sum, "segment size", false, false},
		{"size zero", offSize, 8, 0, sum, "segment size", false, false},
		{"size negative", offSize, 8, 1<<63 | MinSize, sum, "segment size", false, false},
		{"ordinal", offOrdinal, 8, 1 << 32, sum, "segment ordinal", false, false},
		{"first", offFirst, 8, 77, sum, "", false, false},
		{"epoch", offEpoch, 8, 77, sum, "", false, false},
		{"predecessor's first", offPrevFirst, 8, 77, sum, "", false, false},
		{"predecessor's end", offPrevEnd, 8, 77, sum, "", false, false},
		{"durable", offDurable, 8, 77, sum, "", false, false},
		{"salt", offSalt, 8, 77, sum, "", false, false},
		{"created", offCreated, 8, 77, sum, "", false, false},
		{"queue", offQueue + 8, 8, 77, sum, "", false, false},
		{"reserved", offQueue + 16, 8, 77, sum, "", false, false},
		{"reserved, last", offChecksum - 8, 8, 77, sum, "", false, false},
		{"checksum", offChecksum, 4, 77, sum, "", false, false},
	}
	for _, c := range cases {
		t.Run(c.field, func(t *testing.T) {
			page := encoded(goldenHeader)
			var value [8]byte
			binary.LittleEndian.PutUint64(value[:], c.value)
			copy(page[c.off:c.off+c.size], value[:])
			for _, readOnly := range []bool{false, true} {
				_, err := DecodeHeader(page, readOnly)
				if err == nil || !strings.Contains(err.Error(), c.stale) || errors.Is(err, ErrVersion) != (c.newer && c.stale != sum) {
					t.Errorf("read-only %v, old checksum: got %v, want %q", readOnly, err, c.stale)
				}
			}
			resum(page)
			for _, readOnly := range []bool{false, true} {
				_, err := DecodeHeader(page, readOnly)
				want := c.summed != "" && (!readOnly || !c.readable)
				switch {
				case !want && err != nil:
					t.Errorf("read-only %v: got %v, want no error", readOnly, err)
				case want && (err == nil || !strings.Contains(err.Error(), c.summed) || errors.Is(err, ErrVersion) != c.newer):
					t.Errorf("read-only %v: got %v, want %q, newer %v", readOnly, err, c.summed, c.newer)
				}
			}
		})
	}
}

func TestAnyFlippedBitOfAHeaderIsFound(t *testing.T) {
	page := encoded(goldenHeader)
	for bit := range 8 * (offChecksum + 4) { // what is behind the checksum is reserved
		page[bit/8] ^= 1 << (bit % 8)
		if _, err := DecodeHeader(page, true); err == nil {
			t.Errorf("bit %d of byte %d: no error", bit%8, bit/8)
		}
		page[bit/8] ^= 1 << (bit % 8)
	}
}

func TestTheHeaderErrorNamesTheFile(t *testing.T) {
	good := image(OnHeap(header(MinSize)))
	newer, bad := image(OnHeap(header(MinSize))), image(OnHeap(header(MinSize)))
	newer[offVersion]++
	bad[offSalt]++
	for what, c := range map[string]struct {
		image []byte
		want  error
	}{
		"a newer version": {newer, ErrVersion},
		"a wrong byte":    {bad, ErrCorrupt},
		"half a header":   {good[:headerBytes-1], ErrCorrupt},
		"no data":         {good[:DataStart(MinSize)+SealBytes-1], ErrCorrupt},
		"too much":        {append(image(OnHeap(header(MinSize))), 0), ErrCorrupt},
	} {
		if _, err := fromBytes(c.image, true); !errors.Is(err, c.want) || !strings.Contains(err.Error(), "heap") {
			t.Errorf("%s, in memory: got %v, want %v with the path", what, err, c.want)
		}
		if err := openBytes(t, c.image); !errors.Is(err, c.want) || !strings.Contains(err.Error(), Name(1)) {
			t.Errorf("%s, as a file: got %v, want %v with the path", what, err, c.want)
		}
	}
	if err := openBytes(t, good); err != nil {
		t.Errorf("a good one: %v", err)
	}
	if _, err := fromBytes(good[:DataStart(MinSize)+SealBytes], true); err != nil {
		t.Errorf("one that is cut behind its first word: %v", err)
	}
}

// openBytes makes a file of p and opens it as a segment.
func openBytes(t *testing.T, p []byte) error {
	t.Helper()
	dir := openDir(t, t.TempDir())
	f, err := dir.Create(Name(1), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(p, 0); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	before := mmap.Mappings()
	s, err := Open(dir, Name(1), true)
	if err == nil {
		err = s.Close()
	}
	if n := mmap.Mappings() - before; n != 0 {
		t.Errorf("%d mappings left", n)
	}
	return err
}

func openDir(t testing.TB, path string) *mmap.Dir {
	t.Helper()
	if mmap.Supported() != nil {
		testx.Skip(t, "files are mapped on 64-bit linux only")
	}
	dir, err := mmap.OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := dir.Close(); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestTheDataBeginsBehindTheIndex(t *testing.T) {
	for _, c := range []struct{ size, want int64 }{
		{64 << 10, 8192}, {128 << 10, 8192}, {14 << 20, 8192}, {16 << 20, 12288}, {64 << 20, 24576}, {1 << 30, 270336},
	} {
		if got := DataStart(c.size); got != c.want {
			t.Errorf("size %d: got %d, want %d", c.size, got, c.want)
		}
		if end := DataStart(c.size) + FrameHeader + MaxContent(c.size) + SealBytes; end > c.size {
			t.Errorf("size %d: the largest frame ends at %d", c.size, end)
		}
	}
}

func TestNamesAreReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		first := rapid.Uint64().Draw(t, "first")
		name := Name(first)
		if got, ok := ParseName(name); !ok || got != first || len(name) != 24 {
			t.Fatalf("%s: got %d, %v, want %d", name, got, ok, first)
		}
	})
}

func TestWhatIsNoNameOfASegment(t *testing.T) {
	for _, name := range []string{
		"", ".", "..", ".seg", "1.seg", "0000000000000000001.seg", "000000000000000000001.seg",
		"18446744073709551616.seg", "99999999999999999999.seg", "-0000000000000000001.seg", "+0000000000000000001.seg",
		" 0000000000000000001.seg", "0000000000000000000a.seg", "00000000000000000001.SEG", "00000000000000000001.seg ",
		"00000000000000000001.sег", "0000000000000000000١.seg", "00000000000000000001xseg", "00000000000000000001.seg.1",
		"tmp.0.1.1", "../0000000000000001.seg", "\x00000000000000000001.seg", strings.Repeat("0", 1<<16),
	} {
		if first, ok := ParseName(name); ok {
			t.Errorf("%.40q is taken for %d", name, first)
		}
	}
}

func TestNamesSortLikeNumbers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.Uint64().Draw(t, "a"), rapid.Uint64().Draw(t, "b")
		if (Name(a) < Name(b)) != (a < b) {
			t.Fatal(fmt.Sprint(Name(a), " and ", Name(b)))
		}
	})
}
