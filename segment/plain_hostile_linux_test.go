//go:build !race

// What changes a batch while it is read is a race.

package segment

import (
	"bytes"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// manyFrames are the frames of n messages of up to most bytes, as in a batch.
func manyFrames(random *rand.Rand, seq, salt uint64, n, most int) (body []byte) {
	for i := range n {
		body = append(body, oneFrame(random, seq+uint64(i), salt, random.IntN(most+1))...)
	}
	return body
}

// oneFrame is a sound frame of a message of so many bytes, some of them metadata.
func oneFrame(random *rand.Rand, seq, salt uint64, length int) []byte {
	w := makeWord(Committed, random.IntN(MaxSlots), 1, int64(length))
	p := make([]byte, w.Size())
	content := p[FrameHeader : FrameHeader+length]
	copy(content, randomBytes(random, length))
	h := makeHeader(KindMessage, random.IntN(length+1), int64(random.Uint64()))
	putWord(p, w)
	h.put(p, h.checksumOver(salt, seq, w, content))
	return p
}

// Every length is judged right, and a byte short of it nothing behind is looked at.
func TestPlainFramesAtEveryLength(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	for length := range plainBytes + 20 {
		p := fenced(t, oneFrame(random, 1<<63+7, 9, length))
		want := int64(len(p))
		if length >= plainBytes || !hasPlainFrames { // it leaves them to others
			want = 0
		}
		if at, next := plainFrames(p, 1<<63+7, 9); at != want || next-(1<<63+7) != uint64(min(want, 1)) {
			t.Errorf("length %d: %d bytes and up to %d", length, at, next)
		}
		for _, short := range []int{1, 8, FrameHeader - 1, FrameHeader, len(p) - 1, len(p)} {
			cut := fenced(t, p[:len(p)-min(short, len(p))])
			if at, _ := plainFrames(cut, 1<<63+7, 9); at != 0 {
				t.Errorf("length %d, %d bytes short: %d bytes are sound", length, short, at)
			}
		}
		for at := range FrameHeader + length { // all that it covers
			p[at] ^= 1 << (at % 8)
			if n, _ := plainFrames(p, 1<<63+7, 9); n != 0 {
				t.Errorf("length %d: byte %d is wrong", length, at)
			}
			p[at] ^= 1 << (at % 8)
		}
	}
}

// A batch longer than what is verified at one go, with frames across each of its ends.
func TestABatchLongerThanOneCallIsJudgedAlike(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 8))
	s := &Segment{Header: Header{Salt: 99}}
	for _, most := range []int{0, 8, 100, plainBytes - 1, plainBytes + 10} {
		f := Frame{Seq: 1 << 40, Count: 4000}
		whole := manyFrames(random, f.Seq, s.Salt, f.Count, most)
		f.Body = fenced(t, whole)
		for round := range 40 {
			copy(f.Body, whole)
			if round > 0 {
				f.Body[random.IntN(len(whole))] ^= 1 << random.IntN(8)
			}
			at, reason := s.checkBatch(&f)
			if wantAt, want := judged(&f, s.Salt); at != wantAt || reason != want || round == 0 && want != "" {
				t.Fatalf("up to %d bytes: at %d %q, want %d %q", most, at, reason, wantAt, want)
			}
		}
	}
}

// Whatever is written into a batch while it is verified and shown, nothing behind it is
// looked at, and no more messages are shown than it has numbers.
func TestABatchThatChangesMeanwhileIsReadWithinItsBounds(t *testing.T) {
	random := rand.New(rand.NewPCG(9, 10))
	const n = 3
	whole := manyFrames(random, 5, 6, n, 20)
	last := 0
	for range n - 1 {
		last += int(getWord(whole[last:]).Size())
	}
	w := getWord(whole[last:])
	s := &Segment{Header: Header{Salt: 6}}
	f := Frame{Seq: 5, Count: n, Body: fenced(t, whole)}
	var quit sync.WaitGroup
	stop := make(chan struct{})
	quit.Add(1)
	go func() {
		defer quit.Done()
		random := rand.New(rand.NewPCG(11, 12))
		for {
			select {
			case <-stop:
				copy(f.Body, whole)
				return
			default:
			}
			// The last frame's length and metadata grow and shrink: it ends where memory does.
			for range 20 {
				putWord(f.Body[last:], makeWord(Committed, 0, 1, int64(random.IntN(plainBytes))))
				f.Body[last+offMetaLen]++
				putWord(f.Body[last:], w)
				f.Body[last+offMetaLen]--
			}
		}
	}()
	for range 300_000 {
		_, _ = s.checkBatch(&f)
		in := f.Inner(s.Salt)
		in.Believe()
		sum, shown := byte(0), 0
		for {
			_, meta, body, ok := in.ReadMessage()
			if !ok {
				break
			}
			shown++
			for _, b := range meta {
				sum += b
			}
			for _, b := range body {
				sum += b
			}
		}
		if shown > n {
			t.Fatalf("%d messages are shown of %d", shown, n)
		}
	}
	close(stop)
	quit.Wait()
	if !bytes.Equal(f.Body, whole) {
		t.Error("the writer did not put back what it changed")
	}
	if at, reason := s.checkBatch(&f); reason != "" {
		t.Errorf("at %d: %s", at, reason)
	}
}

// A batch was verified, and then its first frame became longer: the next would begin where
// not even a header has room.
func TestABatchThatGrewAFrameEndsWhereNoHeaderHasRoom(t *testing.T) {
	random := rand.New(rand.NewPCG(15, 16))
	for _, left := range []int64{0, 8, 16} {
		f := Frame{Seq: 5, Count: 2, Body: fenced(t, manyFrames(random, 5, 6, 2, 100))}
		s := &Segment{Header: Header{Salt: 6}}
		if at, reason := s.checkBatch(&f); reason != "" {
			t.Fatalf("at %d: %s", at, reason)
		}
		in := f.Inner(s.Salt)
		in.Believe()
		putWord(f.Body, makeWord(Committed, 0, 1, int64(len(f.Body))-FrameHeader-left))
		for i, want := range []bool{true, false} {
			if _, _, _, ok := in.ReadMessage(); ok != want {
				t.Errorf("%d bytes left, message %d: got %v, want %v", left, i, ok, want)
			}
		}
	}
}

// A fault in the middle of a batch is a panic that can be recovered, at any depth of the
// stack, with the collector at work.
func TestAFaultWithinABatchCanBeRecovered(t *testing.T) {
	random := rand.New(rand.NewPCG(13, 14))
	page := unix.Getpagesize()
	mem, err := unix.Mmap(-1, 0, 2*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Munmap(mem); err != nil {
			t.Error(err)
		}
	}()
	copy(mem, manyFrames(random, 1, 2, page/FrameHeader, plainBytes-1)[:page])
	if err := unix.Mprotect(mem[page:], unix.PROT_NONE); err != nil {
		t.Fatal(err)
	}
	s := &Segment{Header: Header{Salt: 2}}
	f := Frame{Seq: 1, Count: page, Body: mem}
	for depth := range 120 {
		done := make(chan bool)
		go func() { done <- faultsAt(depth, s, &f) }() // with a new stack
		if !<-done {
			t.Errorf("depth %d: no fault", depth)
		}
	}
}

//go:noinline
func faultsAt(depth int, s *Segment, f *Frame) (faulted bool) {
	var room [100]byte
	if depth > 0 {
		room[depth%100] = 1
		return faultsAt(depth-1, s, f) && room[depth%100] == 1
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		_, faulted = recover().(interface{ Addr() uintptr })
		runtime.GC()
	}()
	_, _ = s.checkBatch(f)
	return false
}

// What is asked for ahead of time is within the batch, and not much at one go.
func TestLinesAreAskedForAheadInBounds(t *testing.T) {
	for _, n := range []int{0, 100, fetchAhead, fetchAhead + 1, 1 << 20} {
		rest := make([]byte, n, n+1)
		for _, size := range []int64{512, 4096, 1 << 20, MaxLength + FrameHeader} {
			if got := len(linesAhead(rest, size)); got > max(n-fetchAhead, 0) || got > plainChunk {
				t.Errorf("%d bytes are asked for during a frame of %d in front of %d", got, size, n)
			}
		}
	}
}
