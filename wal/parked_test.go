package wal

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/walq/walq/internal/testx"
	"github.com/walq/walq/mmap"
	"github.com/walq/walq/segment"
)

// A parkingLot is a queue of several small segments, and a handle that looks into them.
type parkingLot struct {
	dir    string
	l      *Log
	r      *Reader
	firsts []uint64 // of the segments
}

func newParkingLot(t *testing.T, segments uint32, o Options) *parkingLot {
	t.Helper()
	p := &parkingLot{dir: newQueue(t)}
	w := open(t, p.dir, Options{Create: &Settings{SegmentSize: segment.MinSize, Durability: SyncNever}})
	fillSegments(t, w, segments-1)
	closeLog(t, w)
	p.l = open(t, p.dir, o)
	var err error
	if p.r, err = p.l.NewReader(false); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.r.Close)
	if p.firsts, err = segmentNames(p.l.log); err != nil {
		t.Fatal(err)
	}
	return p
}

// look reads the first message of a segment.
func (p *parkingLot) look(first uint64) error {
	if err := p.r.SeekSeq(first); err != nil {
		return err
	}
	m, ok, err := p.r.Next()
	if err == nil && (!ok || m.Seq != first || len(m.Body) != 10000) {
		err = fmt.Errorf("got message %d of %d B, %v", m.Seq, len(m.Body), ok)
	}
	return err
}

func (p *parkingLot) mustLook(t *testing.T, first uint64) *seg {
	t.Helper()
	if err := p.look(first); err != nil {
		t.Fatal(err)
	}
	return p.r.s
}

// parked are the first sequence numbers of what is.
func (p *parkingLot) parked() (firsts []uint64) {
	p.l.table.mu.Lock()
	defer p.l.table.mu.Unlock()
	var bytes int64
	for _, s := range p.l.table.parked.list {
		firsts = append(firsts, s.First)
		if bytes += s.Size; s.refs != 0 || p.l.table.open[s.First] != s {
			firsts = append(firsts, 0) // never one's own
		}
	}
	if bytes != p.l.table.parked.bytes {
		firsts = append(firsts, 0)
	}
	return firsts
}

func wantParked(t *testing.T, p *parkingLot, want ...uint64) {
	t.Helper()
	if got := p.parked(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("parked are %v, want %v", got, want)
	}
}

func TestASeekComesBackToASegmentThatStayedMapped(t *testing.T) {
	for _, readOnly := range []bool{false, true} {
		p := newParkingLot(t, 4, Options{ReadOnly: readOnly})
		a := p.mustLook(t, p.firsts[0])
		p.mustLook(t, p.firsts[1])
		wantParked(t, p, p.firsts[0])
		if a.File() != nil {
			t.Error("a parked segment has a descriptor")
		}
		if again := p.mustLook(t, p.firsts[0]); again != a {
			t.Error("a segment that was parked was opened again")
		}
		wantParked(t, p, p.firsts[1])
		p.r.Close()
		wantParked(t, p, p.firsts[1], p.firsts[0])
	}
}

// Whoever reads a segment to its end does not come back soon, and all of its pages are
// mapped by then.
func TestASegmentThatWasReadToItsEndIsNotParked(t *testing.T) {
	p := newParkingLot(t, 4, Options{})
	for {
		if _, ok, err := p.r.Next(); err != nil {
			t.Fatal(err)
		} else if !ok {
			break
		}
	}
	wantParked(t, p)
}

// The last segment may grow; what is known of its file would soon be wrong.
func TestASegmentThatIsNotSealedIsNotParked(t *testing.T) {
	p := newParkingLot(t, 4, Options{})
	p.mustLook(t, p.firsts[3])
	p.mustLook(t, p.firsts[1])
	p.mustLook(t, p.firsts[0])
	wantParked(t, p, p.firsts[1])
}

func TestNoMoreIsParkedThanTheBoundsAllow(t *testing.T) {
	p := newParkingLot(t, 7, Options{})
	if b := p.l.table.parked; b.most != maxParked || b.mostBytes != maxParkedBytes {
		t.Errorf("the bounds are %d and %d bytes", b.most, b.mostBytes)
	}
	lookAtAll := func() {
		for _, first := range p.firsts[:6] {
			p.mustLook(t, first)
		}
	}
	p.l.table.parked.most = 3
	lookAtAll()
	wantParked(t, p, p.firsts[2:5]...)
	p.l.table.parked.most, p.l.table.parked.mostBytes = maxParked, 2*segment.MinSize
	lookAtAll()
	wantParked(t, p, p.firsts[3:5]...)
	p.l.table.parked.mostBytes = segment.MinSize - 1
	lookAtAll()
	if len(p.parked()) > 2 { // those that nobody came to meanwhile
		t.Errorf("a segment was parked that is larger than all that may be: %v", p.parked())
	}
}

func TestWhatIsParkedGoesWhenNobodyComesBack(t *testing.T) {
	p := newParkingLot(t, 4, Options{})
	p.mustLook(t, p.firsts[0])
	p.mustLook(t, p.firsts[1])
	p.l.table.dropIdle()
	wantParked(t, p, p.firsts[0])
	p.mustLook(t, p.firsts[2])
	p.l.table.dropIdle()
	wantParked(t, p, p.firsts[1])
	testx.Eventually(t, 30*time.Second, func() bool { return len(p.parked()) == 0 }, "a segment is parked for ever")
	p.l.table.mu.Lock()
	defer p.l.table.mu.Unlock()
	if p.l.table.parked.timer != nil || len(p.l.table.open) != 1 {
		t.Errorf("a clock ticks for nothing, or %d segments are open", len(p.l.table.open))
	}
}

func TestNothingStaysParkedWhenTheHandleIsClosed(t *testing.T) {
	before := mmap.Mappings()
	p := newParkingLot(t, 4, Options{})
	for _, first := range p.firsts[:3] {
		p.mustLook(t, first)
	}
	closeLog(t, p.l)
	wantParked(t, p)
	p.r.Close() // after the handle
	wantParked(t, p)
	if n := mmap.Mappings(); n > before || p.l.table.parked.timer != nil {
		t.Errorf("%d mappings more than before", n-before)
	}
}

// What an outsider, a recovery or a repair does to a file is met as by a handle that
// never had it open.
func TestAParkedSegmentIsBelievedOnlyWhileItsNameLeadsToIt(t *testing.T) {
	swap := func(path string, change func(image []byte)) error {
		image, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		change(image)
		return errors.Join(os.WriteFile(path+".new", image, 0o600), os.Rename(path+".new", path))
	}
	for _, outsider := range []struct {
		name string
		does func(path string) error
	}{
		{"removes it", os.Remove},
		{"moves it away", func(path string) error { return os.Rename(path, path+".away") }},
		{"replaces it by a copy", func(path string) error { return swap(path, func([]byte) {}) }},
		{"replaces it by a damaged copy", func(path string) error {
			return swap(path, func(b []byte) { b[segment.DataStart(segment.MinSize)+100]++ })
		}},
		{"replaces it by one with a damaged header", func(path string) error { return swap(path, func(b []byte) { b[40]++ }) }},
		{"cuts it short", func(path string) error { return os.Truncate(path, 8192) }},
		{"replaces it by a directory", func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) }},
	} {
		t.Run(outsider.name, func(t *testing.T) {
			p := newParkingLot(t, 4, Options{})
			first := p.firsts[1]
			a := p.mustLook(t, first)
			p.mustLook(t, p.firsts[2])
			if err := outsider.does(segmentFile(t, p.dir, 1)); err != nil {
				t.Fatal(err)
			}
			fresh := &parkingLot{l: open(t, p.dir, Options{})}
			var err error
			if fresh.r, err = fresh.l.NewReader(false); err != nil {
				t.Fatal(err)
			}
			defer fresh.r.Close()
			want, got := fresh.look(first), p.look(first)
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("got %v\nwant %v", got, want)
			}
			if p.r.s == a {
				t.Error("what the name does not lead to any more was handed out")
			}
			if err := p.look(p.firsts[2]); err != nil {
				t.Errorf("and then another segment: %v", err)
			}
		})
	}
}

func TestATrimmedSegmentIsNotKeptByBeingParked(t *testing.T) {
	p := newParkingLot(t, 6, Options{})
	for _, first := range p.firsts[:4] {
		p.mustLook(t, first)
	}
	if n := trim(t, p.l, p.firsts[2]); n != 2 {
		t.Fatalf("trimmed %d segments, want 2", n)
	}
	wantParked(t, p, p.firsts[2])
	trim(t, open(t, p.dir, Options{}), p.firsts[3])
	for i, first := range p.firsts[:3] {
		var gap *GapError
		if err := p.look(first); !errors.As(err, &gap) || gap.From != first || gap.To != p.firsts[3] {
			t.Errorf("segment %d: got %v, want the gap to %d", i, err, p.firsts[3])
		}
	}
}

// Before the cut a segment ends for this handle where its file does.
func TestNothingIsParkedWhileTheLogAwaitsItsCut(t *testing.T) {
	p := newParkingLot(t, 4, Options{})
	p.r.Close()
	crash(t, p.l)
	powerLoss(t, p.dir)
	p.l = open(t, p.dir, Options{ReadOnly: true})
	var err error
	if p.r, err = p.l.NewReader(false); err != nil {
		t.Fatal(err)
	}
	p.mustLook(t, p.firsts[0])
	p.mustLook(t, p.firsts[1])
	wantParked(t, p)
}

func TestReadersOfOneHandleParkSideBySide(t *testing.T) {
	p := newParkingLot(t, 8, Options{})
	p.l.table.parked.most = 3
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(uint64(i), 0))
			q := &parkingLot{l: p.l}
			var err error
			if q.r, err = p.l.NewReader(false); err != nil {
				t.Error(err)
				return
			}
			defer q.r.Close()
			for range 300 {
				if err := q.look(p.firsts[2+random.IntN(6)]); err != nil {
					t.Error(err)
					return
				}
				switch random.IntN(50) {
				case 0:
					p.l.table.dropIdle()
				case 1:
					if _, err := p.l.Trim(t.Context(), p.firsts[1+random.IntN(2)]); err != nil {
						t.Error(err)
					}
				case 2:
					if _, err := p.l.Stats(); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	if got := p.parked(); len(got) > 3 {
		t.Errorf("parked are %v", got)
	}
}
