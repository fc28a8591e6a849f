package segment

import (
	"encoding/binary"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/walq/walq/internal/testx"
)

func TestAPaddedClaimCannotBeCommitted(t *testing.T) {
	s := OnHeap(header(MinSize))
	at, w := claim(t, s, s.Start(), 1, 3, 100)
	s.Fill(at, w, KindMessage, 1, nil, make([]byte, 100))
	if !s.TryPad(at.Off, w) {
		t.Fatal("cannot pad")
	}
	if s.Commit(at.Off, w) {
		t.Error("the padded claim was committed")
	}
	if s.TryPad(at.Off, w) {
		t.Error("it was padded twice")
	}
	if got := s.Padded(); got != 3 {
		t.Errorf("padded: got %d, want 3", got)
	}
	if got, _ := s.Word(at.Off); got != w.with(Pad) {
		t.Errorf("got %v, want the claim as a PAD", got)
	}
}

func TestACommittedFrameCannotBePadded(t *testing.T) {
	s := OnHeap(header(MinSize))
	at, w := claim(t, s, s.Start(), 1, 1, 0)
	s.Fill(at, w, KindMessage, 1, nil, nil)
	if !s.Commit(at.Off, w) || s.Commit(at.Off, w) {
		t.Fatal("a claim is committed once")
	}
	for _, as := range []Word{w, w.with(Committed), w.with(Pad), 0} {
		if s.TryPad(at.Off, as) {
			t.Errorf("padded as %v", as)
		}
	}
	if s.Padded() != 0 {
		t.Errorf("padded: got %d, want 0", s.Padded())
	}
}

func TestTakenRoomIsNeitherClaimedNorSealed(t *testing.T) {
	s := OnHeap(header(MinSize))
	at, w := claim(t, s, s.Start(), 1, 1, 8)
	for _, state := range []State{Claimed, Committed, Pad} {
		s.r.Word(at.Off).Store(uint64(w.with(state)))
		if s.TryClaim(at.Off, w) || s.TrySeal(at.Off, 1) {
			t.Errorf("%v was overwritten", state)
		}
	}
	next := at.After(w)
	if !s.TrySeal(next.Off, 1) || s.TrySeal(next.Off, 2) || s.TryClaim(next.Off, w) {
		t.Error("behind the SEAL something was written")
	}
	s.ForceSealJump(next.Off)
	if got, _ := s.Word(next.Off); got != MakeWord(SealJump, 0, 0, 0) {
		t.Errorf("recovery's SEAL_JUMP: got %v", got)
	}
}

// A crowd works on one segment until it is full: writers that commit or give
// up, one observer that revokes claims it sees, readers that follow.
type crowd struct {
	s     *Segment
	ids   atomic.Uint64
	mu    sync.Mutex
	ended map[uint64]Cursor // where the committed messages are, by id
}

const crowdSeed = 16 // bytes of a body before its filling

// body makes the body with an id: every byte follows from it.
func crowdBody(id uint64, n int) []byte {
	p := make([]byte, crowdSeed+n)
	binary.LittleEndian.PutUint64(p, id)
	binary.LittleEndian.PutUint64(p[8:], uint64(n))
	for i := range n {
		p[crowdSeed+i] = byte(id) ^ byte(i)
	}
	return p
}

func intact(p []byte) (id uint64, ok bool) {
	if len(p) < crowdSeed || binary.LittleEndian.Uint64(p[8:]) != uint64(len(p)-crowdSeed) {
		return 0, false
	}
	id = binary.LittleEndian.Uint64(p)
	for i, b := range p[crowdSeed:] {
		if b != byte(id)^byte(i) {
			return id, false
		}
	}
	return id, true
}

// write appends until the segment is sealed.
func (cr *crowd) write(rng *rand.Rand, slot int) {
	s, c := cr.s, cr.s.Tail()
	for {
		parts := make([]Part, 1+rng.IntN(4)*rng.IntN(2))
		ids := make([]uint64, len(parts))
		for i := range parts {
			ids[i] = cr.ids.Add(1)
			parts[i].Body = crowdBody(ids[i], rng.IntN(300))
		}
		length, count, _ := BatchLength(parts)
		if len(parts) == 1 {
			length, count = int64(len(parts[0].Body)), 1
		}
		w := MakeWord(Claimed, slot, count, length)
		for {
			var there Word
			var err error
			if c, there, err = s.WalkToFree(c); err != nil || there.Sealed() {
				return
			}
			if !s.Fits(c.Off, w.Size()) {
				s.TrySeal(c.Off, slot)
			} else if s.TryClaim(c.Off, w) {
				break
			}
		}
		if len(parts) == 1 {
			s.Fill(c, w, KindMessage, 1, nil, parts[0].Body)
		} else {
			s.FillBatch(c, w, 1, parts)
		}
		if rng.IntN(10) == 0 {
			s.TryPad(c.Off, w)
		} else if s.Commit(c.Off, w) {
			s.Passed(c, c.After(w), 1)
			cr.mu.Lock()
			for i, id := range ids {
				cr.ended[id] = Cursor{c.Off, c.Seq + uint64(i)}
			}
			cr.mu.Unlock()
		}
		c = c.After(w)
	}
}

// fence revokes some of the claims that it meets.
func (cr *crowd) fence(rng *rand.Rand) (revoked int) {
	for c := cr.s.Start(); ; {
		next, w, err := cr.s.Walk(c)
		if err != nil || w.Sealed() {
			return revoked
		}
		if w.State() == Claimed && rng.IntN(50) == 0 && cr.s.TryPad(next.Off, w) {
			revoked++
		}
		c = next
	}
}

// read follows the log to its SEAL and returns the messages by id, and how many
// sequence numbers went to PADs.
func (cr *crowd) read(t *testing.T) (got map[uint64]Cursor, padded uint64) {
	s, c := cr.s, cr.s.Start()
	got = map[uint64]Cursor{}
	take := func(f Frame, off int64) {
		id, ok := intact(f.Body)
		if _, twice := got[id]; !ok || twice {
			t.Errorf("message %d at %d: intact %v, twice %v", id, off, ok, twice)
		}
		got[id] = Cursor{off, f.Seq}
	}
	for {
		w, err := s.Word(c.Off)
		if err != nil {
			t.Error(err)
			return got, padded
		}
		switch w.State() {
		case Committed:
			f, err := s.Frame(c, w)
			if err != nil {
				t.Error(err)
				return got, padded
			}
			if f.Kind == KindBatch {
				in := f.Inner(s.Salt)
				for in.Next() == "" && !in.Done() {
					take(*in.Frame(), c.Off)
				}
			} else {
				take(f, c.Off)
			}
		case Pad:
			padded += uint64(w.Count())
		case Seal:
			return got, padded
		default:
			runtime.Gosched()
			continue // free or claimed: look again
		}
		c = c.After(w)
	}
}

func TestACrowdOfWritersDeliversEachMessageOnceAndIntact(t *testing.T) {
	seed := testx.Seed(t)
	cr := &crowd{s: OnHeap(header(512 << 10)), ended: map[uint64]Cursor{}}
	var writers, others sync.WaitGroup
	const readers = 2
	got, padded := make([]map[uint64]Cursor, readers), make([]uint64, readers)
	revoked := 0
	for i := range readers {
		others.Go(func() { got[i], padded[i] = cr.read(t) })
	}
	others.Go(func() { revoked = cr.fence(rand.New(rand.NewPCG(seed, 100))) })
	for slot := range 6 {
		writers.Go(func() { cr.write(rand.New(rand.NewPCG(seed, uint64(slot))), slot) })
	}
	writers.Wait()
	others.Wait()

	for i := range readers {
		if len(got[i]) != len(cr.ended) {
			t.Errorf("reader %d: got %d messages, want %d", i, len(got[i]), len(cr.ended))
		}
		for id, want := range cr.ended {
			if at, ok := got[i][id]; !ok || at != want {
				t.Fatalf("reader %d: message %d is at %+v (found: %v), want %+v", i, id, at, ok, want)
			}
		}
		if padded[i] != cr.s.Padded() {
			t.Errorf("reader %d: %d numbers went to PADs, the segment says %d", i, padded[i], cr.s.Padded())
		}
	}
	end, _, err := cr.s.Walk(cr.s.Start())
	if total := uint64(len(cr.ended)) + padded[0]; err != nil || end.Seq != cr.s.First+total {
		t.Errorf("the walk ends at %d, %v, want %d: the numbers are not dense", end.Seq, err, cr.s.First+total)
	}
	t.Logf("%d messages, %d numbers padded, %d claims revoked", len(cr.ended), padded[0], revoked)
	if len(cr.ended) < 500 {
		t.Errorf("only %d messages", len(cr.ended))
	}
}
