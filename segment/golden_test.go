package segment

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

var update = flag.Bool("update", false, "write testdata anew")

const (
	goldenSize = 128 << 10
	goldenTime = int64(1_700_000_000_000_000_000)
)

// goldenHeader has another value in every field.
var goldenHeader = Header{
	Size: goldenSize, Ordinal: 7, First: 1000, Epoch: 2, PrevFirst: 900, PrevEnd: 1000,
	Durable: 6<<32 | 0x2000/8, Salt: 0x0123456789abcdef, Created: goldenTime - 1,
	Queue: [16]byte{0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x46, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff},
}

// The metadata in the golden segment: {1: "a", 2: "orders"} and {2: "orders"}.
var (
	metaBoth  = []byte("\x82\x01\xa1a\x02\xa6orders")
	metaTopic = []byte("\x81\x02\xa6orders")
)

var goldenParts = []Part{
	{Meta: metaTopic, Body: []byte("one")},
	{Body: []byte("ack"), Control: true},
	{Body: []byte("two!")},
}

// goldenSegment makes the segment that the golden file holds: one frame of
// every kind, large enough that a stride of the sparse index is crossed.
func goldenSegment(t testing.TB) *Segment {
	s := OnHeap(goldenHeader)
	c := put(t, s, s.Start(), KindMessage, goldenTime, nil, []byte("hello, world"))
	c = put(t, s, c, KindMessage, goldenTime+1, metaBoth, []byte("second"))
	c = put(t, s, c, KindMessage, goldenTime+2, nil, nil)
	c = putBatch(t, s, c, goldenTime+3, goldenParts)
	at, w := claim(t, s, c, 5, 2, 64)
	if !s.TryPad(at.Off, w) {
		t.Fatal("pad failed")
	}
	c = put(t, s, at.After(w), KindControl, goldenTime+4, nil, []byte("control"))
	c = put(t, s, c, KindMessage, goldenTime+5, nil, make([]byte, 60_000))
	c = put(t, s, c, KindMessage, goldenTime+6, nil, []byte("last"))
	if !s.TrySeal(c.Off, 3) {
		t.Fatal("seal failed")
	}
	s.SetLinked()
	return s
}

func TestTheGoldenSegmentIsMadeAgainByteForByte(t *testing.T) {
	p := image(goldenSegment(t))
	path := filepath.Join("testdata", "v1.seg.hex")
	if *update {
		if err := os.WriteFile(path, dump(p), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want := golden(t)
	if len(p) != len(want) {
		t.Fatalf("got %d bytes, want %d", len(p), len(want))
	}
	for i := range p {
		if p[i] != want[i] {
			t.Fatalf("at offset %d: got %02x, want %02x; a change of the format needs a new golden file beside this one", i, p[i], want[i])
		}
	}
}

// goldenFrame is what stands at an offset of the golden segment.
type goldenFrame struct {
	off    int64
	seq    uint64
	state  State
	slot   int
	count  int
	length int64
	kind   uint8 // of committed frames, like all that follows
	time   int64
	meta   string
	body   string
}

var goldenFrames = []goldenFrame{
	{8192, 1000, Committed, 3, 1, 12, KindMessage, goldenTime, "", "hello, world"},
	{8232, 1001, Committed, 3, 1, 18, KindMessage, goldenTime + 1, string(metaBoth), "second"},
	{8280, 1002, Committed, 3, 1, 0, KindMessage, goldenTime + 2, "", ""},
	{8304, 1003, Committed, 4, 2, 104, KindBatch, goldenTime + 3, "", ""},
	{8432, 1005, Pad, 5, 2, 64, 0, 0, "", ""},
	{8520, 1007, Committed, 3, 0, 7, KindControl, goldenTime + 4, "", "control"},
	{8552, 1007, Committed, 3, 1, 60_000, KindMessage, goldenTime + 5, "", string(make([]byte, 60_000))},
	{68576, 1008, Committed, 3, 1, 4, KindMessage, goldenTime + 6, "", "last"},
	{68608, 1009, Seal, 3, 0, 0, 0, 0, "", ""},
}

var goldenInner = []Frame{
	{Seq: 1003, Time: goldenTime + 3, Count: 1, Kind: KindMessage, Slot: 4, Meta: metaTopic, Body: []byte("one")},
	{Seq: 1004, Time: goldenTime + 3, Count: 0, Kind: KindControl, Slot: 4, Meta: []byte{}, Body: []byte("ack")},
	{Seq: 1004, Time: goldenTime + 3, Count: 1, Kind: KindMessage, Slot: 4, Meta: []byte{}, Body: []byte("two!")},
}

func TestTheGoldenSegmentIsReadFieldByField(t *testing.T) {
	s, err := fromBytes(golden(t), false)
	if err != nil {
		t.Fatal(err)
	}
	if s.Header != goldenHeader {
		t.Errorf("header: got %+v, want %+v", s.Header, goldenHeader)
	}
	c := s.Start()
	for _, want := range goldenFrames {
		w, err := s.Word(c.Off)
		got := goldenFrame{off: c.Off, seq: c.Seq, state: w.State(), slot: w.Slot(), count: w.Count(), length: w.Length()}
		if err == nil && w.State() == Committed {
			var f Frame
			f, err = s.checkFrame(c)
			got.kind, got.time, got.meta = f.Kind, f.Time, string(f.Meta)
			if f.Kind == KindBatch {
				goldenBatch(t, f, s.Salt)
			} else {
				got.body = string(f.Body)
			}
			if f.Flags != 0 || f.Slot != w.Slot() || f.Count != w.Count() || f.Seq != c.Seq {
				t.Errorf("frame at %d: got %+v", c.Off, f)
			}
		}
		if err != nil || got != want {
			t.Fatalf("got %.100v (%v)\nwant %.100v", got, err, want)
		}
		c = c.After(w)
	}
}

func goldenBatch(t *testing.T, f Frame, salt uint64) {
	t.Helper()
	var got []Frame
	for in := f.Inner(salt); ; got = append(got, *in.Frame()) {
		if reason := in.Next(); reason != "" {
			t.Fatal(reason)
		}
		if in.Done() {
			break
		}
	}
	if !reflect.DeepEqual(got, goldenInner) {
		t.Errorf("in the batch: got %+v\nwant %+v", got, goldenInner)
	}
}

func TestTheGoldenSegmentsSharedWordsAreRead(t *testing.T) {
	s, err := fromBytes(golden(t), true)
	if err != nil {
		t.Fatal(err)
	}
	behind := Cursor{68576, 1008} // the frame that crossed 64 KiB
	if got := s.Tail(); got != behind {
		t.Errorf("tail hint: got %+v, want %+v", got, behind)
	}
	if got := s.Near(1008); got != behind {
		t.Errorf("sparse index: got %+v, want %+v", got, behind)
	}
	if _, maxTime, ok := s.entry(1); !ok || maxTime != goldenTime+5 {
		t.Errorf("time in the sparse index: got %d, %v, want %d", maxTime, ok, goldenTime+5)
	}
	if got := s.allocated().Load(); got != goldenSize {
		t.Errorf("allocated: got %d, want %d", got, goldenSize)
	}
	if !s.Linked() || s.Padded() != 2 {
		t.Errorf("linked %v, padded %d, want true, 2", s.Linked(), s.Padded())
	}
}

func TestADumpIsReadBack(t *testing.T) {
	p := make([]byte, 100)
	p[0], p[17], p[99] = 1, 2, 3
	if got := undump(t, dump(p)); !bytes.Equal(got, p) {
		t.Errorf("got %x, want %x", got, p)
	}
}
