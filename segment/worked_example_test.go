package segment

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/walq/walq/internal/testx"
)

func castagnoli(p []byte) uint32 { return crc32.Checksum(p, crc32.MakeTable(crc32.Castagnoli)) }

// blocks are the hex dumps behind a heading of the document, offsets left out.
func blocks(t *testing.T, heading string) (all [][]byte) {
	t.Helper()
	_, section, ok := strings.Cut(testx.FormatDocument(t), "\n## "+heading+"\n")
	if !ok {
		t.Fatalf("no heading %q", heading)
	}
	for i, text := range strings.Split(section, "```") {
		if i%2 == 0 {
			continue
		}
		var p []byte
		for line := range strings.Lines(text) {
			for _, field := range strings.Fields(line) {
				if len(field) == 2 {
					b, err := hex.DecodeString(field)
					if err != nil {
						t.Fatal(err)
					}
					p = append(p, b...)
				}
			}
		}
		all = append(all, p)
	}
	return all
}

func TestTheWorkedExampleIsInTheGoldenFile(t *testing.T) {
	dumps := blocks(t, "Worked example")
	if len(dumps) != 2 || len(dumps[0]) != 40 || len(dumps[1]) != 40 {
		t.Fatalf("got %d dumps: %x", len(dumps), dumps)
	}
	frame := golden(t)[8192:8232]
	if !bytes.Equal(dumps[0], frame) {
		t.Errorf("the document has %x, the golden file %x", dumps[0], frame)
	}
	le := binary.LittleEndian
	w := Word(le.Uint64(frame))
	for name, want := range map[string]uint64{
		"salt of the segment": goldenHeader.Salt,
		"sequence number":     goldenHeader.First,
		"time":                le.Uint64(frame[16:]),
		"length":              uint64(w.Length()),
		"count":               uint64(w.Count()),
		"slot":                uint64(w.Slot()),
		"word":                uint64(w),
		"CRC of the content":  uint64(castagnoli(frame[24:36])),
		"CRC of the frame":    uint64(castagnoli(dumps[1])),
	} {
		got := ""
		for _, r := range readTables(testx.FormatDocument(t))["example"] {
			if r["value"] == name {
				got = r["hexadecimal"]
			}
		}
		if v, err := strconv.ParseUint(got, 0, 64); err != nil || v != want {
			t.Errorf("%s: the document has %q, want %#x", name, got, want)
		}
	}
	if got := le.Uint32(frame[8:]); got != castagnoli(dumps[1]) {
		t.Errorf("CRC in the frame: got %#x, want that of the five words, %#x", got, castagnoli(dumps[1]))
	}
	if want := "`0x" + strconv.FormatUint(uint64(w.with(Claimed)), 16) + "`"; !strings.Contains(testx.FormatDocument(t), want) {
		t.Errorf("the claimed word %s is not in the document", want)
	}
}

// TestTheChecksumIsTheOneInTheDocument builds the five words from the table.
func TestTheChecksumIsTheOneInTheDocument(t *testing.T) {
	s := OnHeap(header(MinSize))
	put(t, s, s.Start(), KindMessage, -2, []byte("meta"), []byte("a body"))
	p := s.r.Bytes(s.start, 24+10)
	p[offFlags] = 0x5a // no writer sets it, the checksum covers it
	w := Word(s.r.Word(s.start).Load())
	h := getHeader(p)
	want := h.checksum(s.Salt, s.First, w, castagnoli(p[24:]))
	values := map[string]uint64{
		"salt of the segment": s.Salt, "sequence number of the frame": s.First,
		"length": 10, "count": 1, "kind": KindMessage, "flags": 0x5a, "metadata length": 4,
		"CRC of the content": uint64(castagnoli(p[24:])), "time": 1<<64 - 2,
	}
	var words [5]uint64
	rows := readTables(testx.FormatDocument(t))["checksum words"]
	if len(rows) != len(values) {
		t.Errorf("%d rows, want %d", len(rows), len(values))
	}
	for _, r := range rows {
		name, _, _ := strings.Cut(r["value"], ":")
		name, _, _ = strings.Cut(name, ";")
		v, ok := values[name]
		first, width := span(r["bits"])
		i, err := strconv.Atoi(r["word"])
		if !ok || err != nil || width < 64 && v>>width != 0 {
			t.Fatalf("row %v", r)
		}
		words[i] |= v << first
	}
	var all []byte
	for _, word := range words {
		all = binary.LittleEndian.AppendUint64(all, word)
	}
	if got := castagnoli(all); got != want {
		t.Errorf("by the document %08x, by the code %08x", got, want)
	}
}

func TestTheCRCIsTheOneInTheDocument(t *testing.T) {
	if want := "`" + strconv.FormatUint(uint64(castagnoli([]byte("123456789"))), 16) + "`"; !strings.Contains(testx.FormatDocument(t), want) {
		t.Errorf("%s is not in the document", want)
	}
}

func TestTheTableOfMetadataIsTheCodecs(t *testing.T) {
	source, err := os.ReadFile(filepath.Join("..", "codec", "doc.go"))
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for line := range strings.Lines(string(source)) {
		if row, ok := strings.CutPrefix(strings.TrimSpace(line), "//\t"); ok && strings.HasPrefix(row, "|") {
			want = append(want, row)
		}
	}
	if len(want) < 5 || !strings.Contains(testx.FormatDocument(t), "\n"+strings.Join(want, "\n")+"\n") {
		t.Errorf("the table of metadata is not that of codec/doc.go:\n%s", strings.Join(want, "\n"))
	}
}
