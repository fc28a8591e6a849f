//go:build walqsteps

package wal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/walq/walq/internal/step"
	"github.com/walq/walq/internal/testx"
	"github.com/walq/walq/internal/torn"
	"github.com/walq/walq/mmap"
	"github.com/walq/walq/segment"
)

// A world is a queue that several handles work on, one step at a time, decided by
// a seed: at every step of a protocol another handle may do something, the process
// may be killed, and power may be cut.
type world struct {
	t      *testing.T
	seed   uint64
	random *rand.Rand
	dir    string
	disk   *torn.Disk
	hands  []*hand
	within int   // operations that are under way, one within the other
	acting *hand // whose the outermost of them is
	killed chan struct{}
	broken bool // a sync failed: whatever says so is right
	bodies int
	big    float64 // probability of a body that takes a good part of a segment
	syncs  float64 // probability that somebody asks for a sync

	facts tornFacts
	cuts  []tornCut
}

// A hand is one participant, or the place of one that left or died.
type hand struct {
	l     *Log
	busy  bool
	dead  bool // killed in the middle of something
	o     Options
	claim *InPlace
	watch watch
}

// tornFacts are what was promised up to a moment.
type tornFacts struct {
	appended []promise       // returned to the caller, and so visible to all
	acked    []promise       // and on stable storage
	gone     uint64          // what lies below may have been trimmed
	together [][]string      // bodies that are there all or none
	maybe    map[string]bool // bodies whose append never returned
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
	random := rand.New(rand.NewPCG(seed, 0))
	return &world{
		t: t, seed: seed, random: random, dir: filepath.Join(testx.InMemory(t), "q"),
		facts: tornFacts{maybe: map[string]bool{}},
		big:   []float64{0.05, 0.3, 0.8}[random.IntN(3)],
		syncs: []float64{0.02, 0.2, 0.8}[random.IntN(3)],
	}
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
		settings.SegmentSize = []int64{2, 4}[w.random.IntN(2)] * segment.MinSize // files that grow
	}
	if w.chance(0.3) {
		settings.MaxBytes = 4 * segment.MinSize
	}
	for range 2 + w.random.IntN(2) {
		o := Options{Create: &settings, StallTimeout: time.Millisecond}
		if w.chance(0.3) {
			o.Durability = []Durability{SyncAlways, SyncNever}[w.random.IntN(2)]
		}
		w.hands = append(w.hands, &hand{o: o})
	}
	if w.chance(0.2) {
		w.breakSyncs(w.random.IntN(60))
	}
	for range operations {
		w.perform(w.hands[w.random.IntN(len(w.hands))])
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

// perform lets a handle do something, until it is done or killed in it.
func (w *world) perform(h *hand) {
	w.acting, w.killed = h, make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.operate(h)
	}()
	select {
	case <-done:
	case <-w.killed:
		w.within = 0
		bury(w.t, h)
	}
	if w.t.Failed() {
		w.t.FailNow()
	}
}

// kill ends the process that is acting, in the middle of what it does: its
// goroutine never goes on, and the kernel frees its locks. Nobody is killed in the
// middle of opening: there is no handle yet.
func (w *world) kill() {
	if w.acting.l != nil {
		w.acting.dead = true
		killedWithin.Store(true)
		close(w.killed)
		neverAgain()
	}
}

// neverAgain is where killed goroutines stay.
func neverAgain() { select {} }

// bury gives back what the kernel would of a process that was killed.
func bury(t *testing.T, h *hand) {
	l := h.l
	for p := range l.pending.open {
		p.own.s = nil // else the garbage collector would end it
	}
	for _, s := range l.table.open {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if p := l.keeper.prepared; p != nil {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := l.files.close(); err != nil {
		t.Error(err)
	}
	*h = hand{o: h.o}
}

// breakSyncs makes the n-th sync from now on fail, and drop what it should have
// written. Who asked for it may be killed before it can say so.
func (w *world) breakSyncs(n int) {
	w.disk.FailSyncs(func(o mmap.DiskOp) (error, func()) {
		if n--; n != -1 {
			return nil, nil
		}
		w.broken = true
		return syscall.EIO, func() {
			if w.within == 1 && w.chance(0.3) {
				w.kill()
			}
		}
	})
}

// passed is called at each step of every protocol.
func (w *world) passed(id step.ID) {
	w.disk.Look()
	if w.chance(0.04) {
		w.cutNow(id.String())
	}
	if seldom(id) && w.chance(0.3) {
		for range 4 {
			w.cutNow(id.String())
		}
	}
	if w.within == 1 && w.chance(0.05) {
		w.operate(w.hands[w.random.IntN(len(w.hands))])
		w.disk.Look()
	}
	if w.within == 1 && w.chance(0.01) {
		w.kill()
	}
}

// seldom are the steps that hardly any operation passes.
func seldom(id step.ID) bool {
	return id >= step.RecoverLocked && id <= step.TrimUnlinked
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
	defer func() { h.busy = false; w.within-- }() // never, of the killed
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
	case n < 72 && !w.chance(w.syncs):
		w.append(h)
	case n < 72:
		before := len(w.facts.appended)
		if w.done(h.l.Sync(context.Background()), "sync") {
			w.acknowledge(before)
		}
	case n < 80:
		w.tick(h)
	case n < 90:
		w.trim(h)
	case n < 92 && w.within == 1:
		w.leave(h)
	case n < 94 && w.within == 1:
		w.die(h)
	}
}

// must fails the world at an error that nothing here explains.
func (w *world) must(err error, what string) {
	if err != nil {
		w.t.Fatalf("seed %d: %s: %v", w.seed, what, err)
	}
}

// done reports whether something went well; it may fail where a sync failed.
func (w *world) done(err error, what string) bool {
	if w.broken && (errors.Is(err, ErrPoisoned) || errors.Is(err, syscall.EIO)) {
		return false
	}
	w.must(err, what)
	return true
}

// join opens the queue. It waits for nobody: another handle may be in the middle
// of opening or closing it.
func (w *world) join(h *hand) {
	if w.within > 1 {
		return
	}
	l, err := Open(context.Background(), w.dir, h.o)
	if !w.done(err, "open") {
		return
	}
	withoutKeeper(l)
	h.l, h.watch = l, watch{}
}

// withoutKeeper keeps the keeper from running beside the world; what it does is an
// operation of its own there.
func withoutKeeper(l *Log) { l.keeper.start.Do(func() { close(l.keeper.gone) }) }

func (w *world) body() []byte {
	w.bodies++
	n := w.random.IntN(400)
	if w.chance(w.big) {
		n = w.random.IntN(12000)
	}
	b := fmt.Appendf(nil, "%d %s", w.bodies, bytes.Repeat([]byte{byte('a' + w.bodies%26)}, n))
	w.facts.maybe[string(b)] = true
	return b
}

// promised takes down what an append returned.
func (w *world) promised(h *hand, a Appended, bodies ...[]byte) {
	for i, b := range bodies {
		w.facts.appended = append(w.facts.appended, promise{a.Seq + uint64(i), string(b)})
		delete(w.facts.maybe, string(b))
	}
	if h.l.Durability() == SyncAlways || w.chance(w.syncs/2) {
		if !w.done(h.l.WaitAppended(context.Background(), a), "wait until durable") {
			return
		}
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
	if w.done(err, "append") {
		w.promised(h, a, b)
	}
}

func (w *world) batch(h *hand) {
	var parts []segment.Part
	var bodies [][]byte
	for range 1 + w.random.IntN(4) {
		b := w.body()
		parts, bodies = append(parts, segment.Part{Body: b}), append(bodies, b)
	}
	var texts []string
	for _, b := range bodies {
		texts = append(texts, string(b))
	}
	w.facts.together = append(w.facts.together, texts)
	a, err := h.l.AppendBatch(parts)
	if w.done(err, "append a batch") {
		w.promised(h, a, bodies...)
	}
}

// inPlace claims room and leaves it so, or ends what was left so.
func (w *world) inPlace(h *hand) {
	if h.claim == nil {
		var err error
		h.claim, err = h.l.ClaimInPlace(nil, 200)
		w.done(err, "claim")
		return
	}
	c := h.claim
	h.claim = nil
	if w.chance(0.3) {
		c.Abort()
		return
	}
	w.bodies++
	b := fmt.Appendf(nil, "%d %0220d", w.bodies, 0)[:200]
	w.facts.maybe[string(b)] = true
	copy(c.Bytes(), b)
	a, err := c.Commit()
	if w.done(err, "commit") {
		w.promised(h, a, b)
	}
}

// tick does what the keeper would, as if much time had gone by.
func (w *world) tick(h *hand) {
	if h.l.tail.Load() == nil {
		return // the keeper begins with the first append
	}
	h.watch.lastSettle, h.watch.lastControl, h.watch.lastTrim = time.Time{}, time.Time{}, time.Time{}
	h.watch.lastSync = time.Now() // what it would start in the background is an operation of its own
	if s := h.l.Settings(); s.MaxBytes > 0 {
		w.mayGo()
	}
	_, err := h.l.tickGuarded(&h.watch)
	w.done(err, "tick")
	if w.chance(0.3) {
		h.l.prepare(h.l.Settings().SegmentSize, 8192)
	}
}

// mayGo: whatever was appended so far may be trimmed from now on.
func (w *world) mayGo() {
	if n := len(w.facts.appended); n > 0 {
		w.facts.gone = max(w.facts.gone, w.facts.appended[n-1].seq)
	}
}

func (w *world) trim(h *hand) {
	if len(w.facts.appended) == 0 || w.within > 1 { // who is acting may have the lock
		return
	}
	n := len(w.facts.appended)
	before := w.facts.appended[n-1-w.random.IntN(n)/2].seq
	w.facts.gone = max(w.facts.gone, before)
	if h.l.Settings().MaxBytes > 0 {
		w.mayGo()
	}
	_, err := h.l.Trim(context.Background(), before)
	w.done(err, "trim")
}

func (w *world) leave(h *hand) {
	if h.l == nil {
		return
	}
	n := len(w.facts.appended)
	alone := !slices.ContainsFunc(w.hands, func(o *hand) bool { return o != h && o.l != nil })
	h.l.releaseLeaving(&h.watch)
	if w.done(h.l.Close(), "close") && alone && !w.broken {
		w.acknowledge(n)
	}
	h.l, h.claim = nil, nil
}

func (w *world) die(h *hand) {
	h.l.releaseLeaving(&h.watch)
	crash(w.t, h.l)
	h.l, h.claim = nil, nil
}
