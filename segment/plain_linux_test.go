package segment

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"
)

// fenced copies p to where memory ends: what is read behind it faults.
func fenced(t *testing.T, p []byte) []byte {
	t.Helper()
	page := unix.Getpagesize()
	whole := (len(p) + page - 1) / page * page
	mem, err := unix.Mmap(-1, 0, whole+page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Munmap(mem); err != nil {
			t.Error(err)
		}
	})
	if err := unix.Mprotect(mem[whole:], unix.PROT_NONE); err != nil {
		t.Fatal(err)
	}
	at := mem[whole-len(p) : whole : whole]
	copy(at, p)
	return at
}

// judged is checkBatch by its judge alone.
func judged(f *Frame, salt uint64) (at int64, reason string) {
	seq := f.Seq
	for at < int64(len(f.Body)) {
		_, w, _, reason := checkInner(f.Body[at:], seq, salt)
		if reason != "" {
			return at, reason
		}
		at, seq = at+w.Size(), seq+uint64(w.Count())
	}
	if seq-f.Seq != uint64(f.Count) {
		return 0, anotherNumber
	}
	return 0, ""
}

// randomBatch is a batch of messages of all lengths, some with metadata, and of control
// frames.
func randomBatch(t *testing.T, random *rand.Rand, most int) Frame {
	t.Helper()
	s := OnHeap(header(MinSize))
	var parts []Part
	for range 1 + random.IntN(most) {
		p := Part{Control: random.IntN(8) == 0, Body: randomBytes(random, random.IntN(plainBytes+40))}
		if random.IntN(3) == 0 {
			p.Meta = randomBytes(random, random.IntN(40))
		}
		parts = append(parts, p)
	}
	c := s.Start()
	putBatch(t, s, c, 12345, parts)
	w, err := s.Word(c.Off)
	if err != nil {
		t.Fatal(err)
	}
	var f Frame
	if err := s.ReadOuter(&f, c, w); err != nil {
		t.Fatal(err)
	}
	f.Body = fenced(t, bytes.Clone(f.Body))
	return f
}

func randomBytes(random *rand.Rand, n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(random.Uint32())
	}
	return p
}

// forge changes what one frame of a batch says of itself, and makes its checksum right.
func forge(random *rand.Rand, f *Frame, salt uint64) {
	at, seq := int64(0), f.Seq
	for range random.IntN(20) {
		if w := getWord(f.Body[at:]); at+w.Size() < int64(len(f.Body)) {
			at, seq = at+w.Size(), seq+uint64(w.Count())
		}
	}
	p := f.Body[at:]
	w, h := getWord(p), getHeader(p)
	content := p[FrameHeader : FrameHeader+w.Length()]
	metaLen, kind := h.metaLen(), h.kind()
	switch random.IntN(4) {
	case 0:
		w = makeWord(State(random.IntN(16)), w.Slot(), w.Count(), w.Length())
	case 1:
		w = makeWord(w.State(), w.Slot(), random.IntN(3), w.Length())
	case 2:
		kind = uint8(random.IntN(256))
	case 3:
		metaLen = len(content) + random.IntN(3) - 1
	}
	putWord(p, w)
	h = makeHeader(kind, metaLen, h.time)
	h.put(p, h.checksumOver(salt, seq, w, content))
}

// The short way through a batch says of it what the judge of frames says, whatever was
// changed in it, and looks at nothing behind it.
func TestABatchIsJudgedAlikeManyFramesAtOnceOrOneByOne(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	reasons := map[string]int{}
	for range 60 {
		f := randomBatch(t, random, 60)
		whole := bytes.Clone(f.Body)
		s := &Segment{Header: Header{Salt: header(MinSize).Salt}}
		for round := range 80 {
			g := f
			copy(f.Body, whole)
			switch {
			case round == 0:
			case round < 40: // any bit
				f.Body[random.IntN(len(f.Body))] ^= 1 << random.IntN(8)
			case round < 60:
				forge(random, &f, s.Salt)
			case round < 75: // cut off
				g.Body = fenced(t, whole[:random.IntN(len(whole)+1)])
			case round < 78:
				g.Seq++
			default:
				g.Count++
			}
			at, reason := s.checkBatch(&g)
			wantAt, want := judged(&g, s.Salt)
			if at != wantAt || reason != want {
				t.Fatalf("at %d %q, want %d %q", at, reason, wantAt, want)
			}
			reasons[reason]++
		}
	}
	if len(reasons) < 6 || reasons[""] < 60 {
		t.Errorf("the batches were judged in so many ways: %v", reasons)
	}
}
