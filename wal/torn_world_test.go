//go:build walqsteps

package wal

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/walq/walq/internal/step"
	"github.com/walq/walq/internal/torn"
	"github.com/walq/walq/segment"
)

// A world is a queue that several handles work on, one step at a time, decided by
// a seed: at every step of a protocol another handle may do something, and power
// may be cut.
type world struct {
	t      *testing.T
	seed   uint64
	random *rand.Rand
	dir    string
	disk   *torn.Disk
	hands  []*hand
	within int // operations that are under way, one within the other
	bodies int

	facts tornFacts
	cuts  []tornCut
}

// A hand is one participant, or the place of one that left or died.
type hand struct {
	l     *Log
	busy  bool
	o     Options
	claim *InPlace
	watch watch
}

// tornFacts are what was promised up to a moment.
type tornFacts struct {
	appended []promise // returned to the caller, and so visible to all
	acked    []promise // and on stable storage
	gone     uint64    // what lies below may have been trimmed
}

type promise struct {
	seq  uint64
	body string
}

// A tornCut is a power cut, with the facts of its moment.
type tornCut struct {
	cut    *torn.Cut
	at     string
	killed bool // no power cut: every process died, memory stayed

	facts           *tornFacts // also of later: what was under way is known by its end
	appended, acked int        // so many of them are of before
	gone            uint64
}

func newWorld(t *testing.T, seed uint64) *world {
	return &world{t: t, seed: seed, random: rand.New(rand.NewPCG(seed, 0)), dir: filepath.Join(tornDir(t), "q")}
}

// tornDir is a directory in memory, if there is one: nothing here needs a disk.
func tornDir(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "walq-torn-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func (w *world) chance(p float64) bool { return w.random.Float64() < p }

// run works on the queue for some operations and collects cuts.
func (w *world) run(operations int) {
	if err := os.Mkdir(w.dir, 0o700); err != nil {
		w.t.Fatal(err)
	}
	var remove func()
	var err error
	w.disk, remove, err = torn.New(w.dir, 1)
	if err != nil {
		w.t.Fatal(err)
	}
	defer remove()
	defer hangOnEveryStep(w.passed)()
	settings := Settings{SegmentSize: segment.MinSize, Durability: Durability(1 + w.random.IntN(3))}
	if w.chance(0.3) {
		settings.MaxBytes = 4 * segment.MinSize
	}
	for range 2 + w.random.IntN(2) {
		o := Options{Create: &settings, StallTimeout: time.Millisecond, Durability: Durability(w.random.IntN(4))}
		if o.Durability == SyncInterval {
			o.Durability = 0
		}
		w.hands = append(w.hands, &hand{o: o})
	}
	for range operations {
		w.operate(w.hands[w.random.IntN(len(w.hands))])
	}
	for _, h := range w.hands {
		w.leave(h)
	}
	w.cutNow("the end")
}

func hangOnEveryStep(f func(step.ID)) (restore func()) {
	var all []func()
	for _, id := range step.IDs() {
		all = append(all, step.Set(id, func() error { f(id); return nil }))
	}
	return func() {
		for _, r := range all {
			r()
		}
	}
}

// passed is called at each step of every protocol.
func (w *world) passed(id step.ID) {
	w.disk.Look()
	if w.chance(0.05) {
		w.cutNow(id.String())
	}
	if w.within == 1 && w.chance(0.05) {
		w.operate(w.hands[w.random.IntN(len(w.hands))])
		w.disk.Look()
	}
}

func (w *world) cutNow(at string) {
	c := w.facts.cut(at)
	if c.killed = w.chance(0.15); c.killed {
		c.cut = w.disk.Now()
	} else {
		c.cut = w.disk.Cut(w.random)
	}
	w.cuts = append(w.cuts, c)
}

// cut is a cut at this moment.
func (f *tornFacts) cut(at string) tornCut {
	return tornCut{at: at, facts: f, appended: len(f.appended), acked: len(f.acked), gone: f.gone}
}

// operate lets a handle do something, unless it is doing something already.
func (w *world) operate(h *hand) {
	if h.busy {
		return
	}
	h.busy = true
	w.within++
	defer func() { h.busy = false; w.within-- }()
	if h.l == nil {
		w.join(h)
		return
	}
	switch n := w.random.IntN(100); {
	case n < 45:
		w.append(h)
	case n < 55:
		w.batch(h)
	case n < 65:
		w.inPlace(h)
	case n < 75:
		before := len(w.facts.appended)
		w.must(h.l.Sync(context.Background()), "sync")
		w.acknowledge(before)
	case n < 85:
		w.tick(h)
	case n < 90 && w.within == 1:
		w.trim(h)
	case n < 93 && w.within == 1:
		w.leave(h)
	case n < 97 && w.within == 1:
		w.die(h)
	}
}

// must fails the world at an error that nothing here explains.
func (w *world) must(err error, what string) {
	if err != nil {
		w.t.Fatalf("seed %d: %s: %v", w.seed, what, err)
	}
}

// join opens the queue. It waits for nobody: another handle may be in the middle
// of opening or closing it.
func (w *world) join(h *hand) {
	if w.within > 1 {
		return
	}
	l, err := Open(context.Background(), w.dir, h.o)
	w.must(err, "open")
	withoutKeeper(l)
	h.l, h.watch = l, watch{}
}

// withoutKeeper keeps the keeper from running beside the world; what it does is an
// operation of its own there.
func withoutKeeper(l *Log) { l.keeper.start.Do(func() { close(l.keeper.gone) }) }

func (w *world) body() []byte {
	w.bodies++
	n := w.random.IntN(400)
	if w.chance(0.3) {
		n = w.random.IntN(12000)
	}
	return fmt.Appendf(nil, "%d %s", w.bodies, bytes.Repeat([]byte{byte('a' + w.bodies%26)}, n))
}

// promised takes down what an append returned.
func (w *world) promised(h *hand, a Appended, bodies ...[]byte) {
	for i, b := range bodies {
		w.facts.appended = append(w.facts.appended, promise{a.Seq + uint64(i), string(b)})
	}
	if h.l.Durability() == SyncAlways || w.chance(0.1) {
		w.must(h.l.WaitAppended(context.Background(), a), "wait until durable")
		for _, p := range w.facts.appended { // and all before it
			if p.seq < a.Seq+uint64(len(bodies)) {
				w.facts.acked = append(w.facts.acked, p)
			}
		}
	}
}

// acknowledge: everything that had been appended is on stable storage.
func (w *world) acknowledge(n int) { w.facts.acked = append(w.facts.acked, w.facts.appended[:n]...) }

func (w *world) append(h *hand) {
	b := w.body()
	a, err := h.l.Append(nil, b)
	w.must(err, "append")
	w.promised(h, a, b)
}

func (w *world) batch(h *hand) {
	var parts []segment.Part
	var bodies [][]byte
	for range 1 + w.random.IntN(4) {
		b := w.body()
		parts, bodies = append(parts, segment.Part{Body: b}), append(bodies, b)
	}
	a, err := h.l.AppendBatch(parts)
	w.must(err, "append a batch")
	w.promised(h, a, bodies...)
}

// inPlace claims room and leaves it so, or ends what was left so.
func (w *world) inPlace(h *hand) {
	if h.claim == nil {
		var err error
		h.claim, err = h.l.ClaimInPlace(nil, 200)
		w.must(err, "claim")
		return
	}
	c := h.claim
	h.claim = nil
	if w.chance(0.3) {
		c.Abort()
		return
	}
	b := w.body()
	b = append(b, make([]byte, 200)...)[:200]
	copy(c.Bytes(), b)
	a, err := c.Commit()
	w.must(err, "commit")
	w.promised(h, a, b)
}

// tick does what the keeper would, as if much time had gone by.
func (w *world) tick(h *hand) {
	h.watch.lastSettle, h.watch.lastControl, h.watch.lastTrim = time.Time{}, time.Time{}, time.Time{}
	h.watch.lastSync = time.Now() // what it would start in the background is an operation of its own
	if s := h.l.Settings(); s.MaxBytes > 0 {
		w.mayGo()
	}
	_, err := h.l.tickGuarded(&h.watch)
	w.must(err, "tick")
	if w.chance(0.3) {
		h.l.prepare(segment.MinSize, 8192)
	}
}

// mayGo: whatever was appended so far may be trimmed from now on.
func (w *world) mayGo() {
	if n := len(w.facts.appended); n > 0 {
		w.facts.gone = max(w.facts.gone, w.facts.appended[n-1].seq)
	}
}

func (w *world) trim(h *hand) {
	if len(w.facts.appended) == 0 {
		return
	}
	before := w.facts.appended[w.random.IntN(len(w.facts.appended))].seq
	w.facts.gone = max(w.facts.gone, before)
	if h.l.Settings().MaxBytes > 0 {
		w.mayGo()
	}
	_, err := h.l.Trim(context.Background(), before)
	w.must(err, "trim")
}

func (w *world) leave(h *hand) {
	if h.l == nil {
		return
	}
	n := len(w.facts.appended)
	alone := !slices.ContainsFunc(w.hands, func(o *hand) bool { return o != h && o.l != nil })
	w.must(h.l.Close(), "close")
	if alone {
		w.acknowledge(n)
	}
	h.l, h.claim = nil, nil
}

func (w *world) die(h *hand) {
	h.l.keeper.start.Do(func() {})
	crash(w.t, h.l)
	h.l, h.claim = nil, nil
}
