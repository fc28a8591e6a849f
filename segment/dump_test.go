package segment

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/walq/walq/mmap"
)

// region is an image as a file that was read gives it.
func region(p []byte) *mmap.Region {
	r := mmap.Heap(int64(len(p)))
	copy(r.Bytes(0, r.Len()), p)
	return r
}

// laidIn are the frames of an image.
func laidIn(t *testing.T, p []byte) []Laid {
	t.Helper()
	s, err := FromImage(region(p), true)
	if err != nil {
		t.Fatal(err)
	}
	return slices.Collect(s.Frames())
}

func TestTheFieldsOfTheGoldenSegmentAreShown(t *testing.T) {
	h := goldenHeader
	want := map[string]any{
		"magic": Magic, "version": uint32(Version), "checksum algorithm": uint32(ChecksumCRC32C),
		"incompatible features": "0x0", "read-only features": "0x0", "compatible features": "0x0",
		"segment size": uint64(h.Size), "ordinal": uint64(h.Ordinal), "first": h.First, "epoch": h.Epoch,
		"predecessor's first": h.PrevFirst, "predecessor's end": h.PrevEnd, "durable": Position{6, 0x2000},
		"salt": fmt.Sprintf("%#x", h.Salt), "created": time.Unix(0, h.Created).UTC(), "queue": "00112233-4455-4677-8899-aabbccddeeff",
		"allocated": uint64(goldenSize), "linked": uint64(1), "padded": uint64(2),
	}
	all := Fields(region(golden(t)))
	for _, f := range all {
		if v, ok := want[f.Name]; ok && f.Value != v {
			t.Errorf("%s: got %v, want %v", f.Name, f.Value, v)
		}
		delete(want, f.Name)
		if what := map[bool]string{true: "header", false: "shared"}[f.Offset < headerBytes]; f.What != what {
			t.Errorf("%s is in the area %q, want %q", f.Name, f.What, what)
		}
	}
	if len(want) != 0 {
		t.Errorf("not shown: %v", want)
	}
	for n := 8; n < offIndex; n += 8 { // a file that is cut short is shown as far as it goes
		for _, f := range Fields(region(golden(t)[:n])) {
			if f.Offset >= int64(n) {
				t.Fatalf("of %d bytes, a field at %d is shown", n, f.Offset)
			}
		}
	}
}

func TestTheFramesOfTheGoldenSegmentAreShownAsTheyLie(t *testing.T) {
	all := laidIn(t, golden(t))
	var inner []Frame
	all = slices.DeleteFunc(all, func(l Laid) bool {
		if l.Inner {
			if l.Fault != nil || !l.CRCMatches || !l.Filled {
				t.Errorf("in the batch at %d: %v", l.Offset, l.Fault)
			}
			inner = append(inner, Frame{Seq: l.Seq, Time: l.Time, Count: l.Word.Count(), Kind: l.Kind, Slot: l.Word.Slot(), Meta: l.Meta, Body: l.Body})
		}
		return l.Inner
	})
	if got, want := fmt.Sprint(inner), fmt.Sprint(goldenInner); got != want {
		t.Errorf("in the batch: got %s\nwant %s", got, want)
	}
	if len(all) != len(goldenFrames) {
		t.Fatalf("got %d frames, want %d", len(all), len(goldenFrames))
	}
	for i, l := range all {
		w := l.Word
		got := goldenFrame{l.Offset, l.Seq, w.State(), w.Slot(), w.Count(), w.Length(), l.Kind, l.Time, string(l.Meta), string(l.Body)}
		if got != goldenFrames[i] || l.Fault != nil || l.Filled != (w.State() == Committed) || l.CRCMatches != l.Filled {
			t.Errorf("got %.100v (%v)\nwant %.100v", got, l.Fault, goldenFrames[i])
		}
	}
}

func TestADumpGoesOnBehindABadFrameAndEndsAtABadWord(t *testing.T) {
	whole := len(laidIn(t, golden(t)))
	for _, c := range []struct {
		what  string
		off   int
		shown int
		bad   []int64 // offsets of the frames that are not sound
	}{
		{"a byte of a body", 8192 + FrameHeader, whole, []int64{8192}},
		{"the kind, made one that there is not", 8192 + offKind, whole, []int64{8192}},
		{"the padding", 8192 + FrameHeader + 12, whole, []int64{8192}},
		{"a byte in the first frame of a batch", 8304 + 2*FrameHeader, whole, []int64{8304, 8328}},
		{"the word of the first frame of a batch", 8304 + FrameHeader, whole - 2, []int64{8304, 8328}},
		{"the word of the second frame", 8232, 2, []int64{8232}},
		{"the word of the SEAL", 68608, whole, []int64{68608}},
	} {
		p := golden(t)
		p[c.off] ^= 4
		all := laidIn(t, p)
		var bad []int64
		for _, l := range all {
			if l.Fault != nil {
				bad = append(bad, l.Offset)
				if !errors.Is(l.Fault, ErrCorrupt) {
					t.Errorf("%s: got %v, want ErrCorrupt", c.what, l.Fault)
				}
			}
		}
		if len(all) != c.shown || !slices.Equal(bad, c.bad) {
			t.Errorf("%s: got %d frames, bad at %v; want %d, bad at %v", c.what, len(all), bad, c.shown, c.bad)
		}
	}
}

// Wherever a file ends, the dump shows what is there, and no more.
func TestADumpOfAFileThatIsCutShortEnds(t *testing.T) {
	p := golden(t)
	start := int(DataStart(goldenSize))
	for n := start + FrameHeader; n < 9000; n++ {
		r := region(p[:n])
		s, err := CheckImage(r, r.Len())
		if s == nil || !errors.Is(err, ErrCorrupt) {
			t.Fatalf("%d bytes: got %v, want ErrCorrupt for what was allocated and is not there", n, err)
		}
		for l := range s.Frames() {
			if l.Offset+FrameHeader > int64(n) && l.Word != 0 {
				t.Fatalf("%d bytes: a frame at %d", n, l.Offset)
			}
		}
	}
	if _, err := CheckImage(region(p[:start]), int64(start)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("without room for a frame: got %v, want ErrCorrupt", err)
	}
	if _, err := CheckImage(region(p), int64(len(p))); err != nil {
		t.Errorf("the whole: %v", err)
	}
}
