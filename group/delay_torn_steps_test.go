//go:build walqsteps && !race

package group

import (
	"errors"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/walq/walq/internal/step"
	"github.com/walq/walq/internal/torn"
	"github.com/walq/walq/mmap"
)

// A tornWorld is a consumer with a delay file on a disk that can be cut, and what it has
// done.
type tornWorld struct {
	t      *testing.T
	random *rand.Rand
	disk   *torn.Disk
	k      *counter
	last   uint64          // the newest message that was claimed
	acked  map[uint64]bool // finished
	synced map[uint64]bool // and on disk
	held   []Lease         // of the ring
	inHand []Lease         // of cells
	seqs   map[uint64]uint64
	steps  int // until the process dies
}

func newTornWorld(t *testing.T, seed uint64) *tornWorld {
	t.Helper()
	root := t.TempDir()
	disk, remove, err := torn.New(root, 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(remove)
	dir, err := mmap.OpenDir(root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	id := Identity{Entries: 8, Created: 1_000_000_000_000}
	if err := Create(dir, "g", "tmp", 0o600, id, Settings{Lease: time.Second}, Base{Seq: 1, Boot: [16]byte{1}}); err != nil {
		t.Fatal(err)
	}
	w := &tornWorld{
		t: t, disk: disk, random: rand.New(rand.NewPCG(seed, 1)), acked: map[uint64]bool{}, synced: map[uint64]bool{},
		seqs: map[uint64]uint64{}, steps: 1 << 30,
	}
	for _, id := range step.IDs() {
		if name := id.String(); strings.HasPrefix(name, "Delay") || strings.HasPrefix(name, "Group") {
			t.Cleanup(step.Set(id, w.passed))
		}
	}
	w.k = openCounter(t, dir)
	w.steps = 20 + w.random.IntN(600)
	return w
}

var errTornDead = errors.New("dead")

// passed is called at every step: the disk may have had what is in memory then.
func (w *tornWorld) passed() error {
	w.disk.Look()
	if w.steps--; w.steps == 0 {
		panic(errTornDead)
	}
	return nil
}

// work does something at random until the process dies.
func (w *tornWorld) work() {
	defer func() {
		if p := recover(); p != errTornDead {
			panic(p)
		}
	}()
	for {
		switch w.random.IntN(9) {
		case 0, 1, 2:
			w.claim()
		case 3:
			w.finish()
		case 4, 5:
			w.move()
		case 6, 7:
			w.fromCell()
		default:
			w.checkpoint()
		}
	}
}

func (w *tornWorld) claim() {
	n := w.k.ring.Base.Ordinal + w.last
	w.last++ // before it is claimed: it may be, and not be known
	l, out := w.k.ring.Claim(n, w.last, w.k.owner, 1000)
	if out == Claimed {
		w.seqs[l.Ordinal] = w.last
		w.held = append(w.held, l)
	} else if w.last--; w.random.IntN(2) == 0 {
		if err := w.k.file.SettleMoved(); err != nil {
			w.t.Fatal(err)
		}
	}
	w.k.ring.Advance()
}

// one takes one of the leases away.
func (w *tornWorld) one(from *[]Lease) (l Lease, ok bool) {
	if len(*from) == 0 {
		return l, false
	}
	i := w.random.IntN(len(*from))
	l = (*from)[i]
	*from = slices.Delete(*from, i, i+1)
	return l, true
}

func (w *tornWorld) finish() {
	if l, ok := w.one(&w.held); ok {
		w.acked[w.seqs[l.Ordinal]] = true // before it says so: it may be so, and not be known
		if !w.k.ring.Finish(&l) {
			w.t.Fatal("the lease is lost")
		}
	}
}

func (w *tornWorld) move() {
	if l, ok := w.one(&w.held); ok {
		due := w.k.look.Now + w.random.Int64N(100)
		if _, err := w.k.d.Move(w.k.ring, &l, w.seqs[l.Ordinal], w.k.owner, false, due, w.k.look.Now); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *tornWorld) fromCell() {
	w.k.look.Now += w.random.Int64N(50)
	if l, seq, ok := w.k.next(); ok {
		w.seqs[1<<40|l.Ordinal] = seq
		w.inHand = append(w.inHand, l)
	}
	l, ok := w.one(&w.inHand)
	switch {
	case !ok:
	case w.random.IntN(3) == 0:
		w.k.d.SendBack(&l, w.k.look.Now+20)
	default:
		w.acked[w.seqs[1<<40|l.Ordinal]] = true
		if !w.k.d.Finish(w.k.ring, &l) {
			w.t.Fatal("the lease of a cell is lost")
		}
	}
}

func (w *tornWorld) checkpoint() {
	acked := maps.Clone(w.acked)
	w.k.ring.Advance()
	_, seq, ok := w.k.ring.Start()
	if !ok {
		w.t.Fatal("the ring does not say where it is")
	}
	if err := w.k.file.Checkpoint(w.k.ring, seq, time.Second); err != nil {
		w.t.Fatal(err)
	}
	w.synced = acked
}

// judge looks at what a power loss left: each message that was not finished comes, by
// the ring or from a cell and not by both, and none that was on disk as finished.
func (w *tornWorld) judge(path string) {
	t := w.t
	dir, err := mmap.OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	f, err := Open(dir, "g", false)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rebase := func() error {
		return f.Rebase(func(was Before) (Base, bool, error) {
			return Base{Seq: was.From, Boot: [16]byte{2}}, true, nil
		}, marksBySeq)
	}
	died := w.random.IntN(3) == 0
	if died { // the first who makes a base
		w.steps = 1 + w.random.IntN(12)
		func() {
			defer func() {
				if p := recover(); p != nil && p != errTornDead {
					panic(p)
				}
			}()
			if err := rebase(); err != nil {
				t.Fatal(err)
			}
		}()
		f.Close()
		if f, err = Open(dir, "g", false); err != nil {
			t.Fatal(err)
		}
	}
	w.steps = 1 << 30
	if err := rebase(); err != nil {
		t.Fatal(err)
	}
	ring, ok, err := f.Ring()
	if !ok || err != nil {
		t.Fatal(ok, err)
	}
	comes := map[uint64]int{}
	floor := ring.Advance()
	for n, seq := ring.Base.Ordinal, ring.Base.Seq; seq <= w.last; n, seq = n+1, seq+1 {
		if look, ok := ring.Look(n); n >= floor && (!ok || look.Word.State() != Finished) {
			comes[seq]++
		}
	}
	d, err := f.Delays()
	if err != nil {
		t.Fatal(err)
	}
	if d != nil {
		look := &Looker{
			Ring: ring, Now: 1 << 40, Left: func(uint64, Word) int64 { return 0 },
			Dead: func(Word) (bool, error) { return false, nil },
		}
		for {
			found, ok, _, err := d.Next(look)
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				break
			}
			l, seq, ok, err := d.Take(&found, Owner{2, 2}, 1<<40)
			if !ok || err != nil {
				t.Fatal(ok, err)
			}
			comes[seq]++
			d.Finish(ring, &l)
		}
	}
	for seq := uint64(1); seq <= w.last; seq++ {
		switch n := comes[seq]; {
		case n == 0 && !w.acked[seq]:
			t.Errorf("message %d of %d is lost; counting begins at %d", seq, w.last, ring.Base.Seq)
		case n > 1:
			t.Errorf("message %d comes %d times", seq, n)
		case n > 0 && w.synced[seq] && !died && seq+8 > w.last+1: // its entry is still its own, and was not emptied
			t.Errorf("message %d comes again, which was finished on disk", seq)
		}
	}
}

// At any step the power may go, and anything that was not synced be on disk or not, or be
// as it was in between.
func TestNoPowerCutCostsADelayedMessage(t *testing.T) {
	worlds := uint64(60)
	if os.Getenv("WALQ_STORM") != "" {
		worlds = 1000
	}
	moved := 0
	for seed := range worlds {
		w := newTornWorld(t, seed)
		w.work()
		if _, n := w.k.d.DelayedFrom(); n > 0 {
			moved++
		}
		for cut := range 4 {
			image := filepath.Join(t.TempDir(), "image")
			if err := w.disk.Cut(rand.New(rand.NewPCG(seed, uint64(cut)))).Write(image); err != nil {
				t.Fatal(err)
			}
			if w.judge(image); t.Failed() {
				t.Fatalf("in world %d, cut %d", seed, cut)
			}
		}
	}
	if moved < int(worlds)/2 {
		t.Errorf("only in %d of %d worlds something was delayed: this shows little", moved, worlds)
	}
}
