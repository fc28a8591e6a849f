//go:build walqsteps && !race

package walq

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/walq/walq/group"
	"github.com/walq/walq/internal/step"
	"github.com/walq/walq/internal/testx"
	"github.com/walq/walq/internal/torn"
)

// A tornCrew works on one group, one step at a time, decided by a seed: at every step of a
// protocol another of them may do something, the one at work may die, and the power may be
// cut.
type tornCrew struct {
	t      *testing.T
	seed   uint64
	random *rand.Rand
	dir    string
	disk   *torn.Disk
	times  *fakeTimes
	o      Options
	group  GroupOptions
	hands  []*tornHand
	within int // operations that are under way, one within the other
	acting *tornHand
	resets int  // begun, and ended
	making bool // somebody is in the middle of making a base

	facts tornFacts
	cuts  []tornCut
}

// A tornHand is one process, or the place of one that left or died.
type tornHand struct {
	q    *Queue
	g    *Group
	busy bool
	held []*Delivery
	// acked is what it acknowledged since it opened the group: that is on disk when it
	// leaves.
	acked []Seq
}

// tornFacts are what was promised up to a moment.
type tornFacts struct {
	all   []tornMessage   // whose append returned
	maybe map[string]bool // bodies whose append did not return
}

// A tornMessage is a message, and how far the group is with it.
type tornMessage struct {
	seq  Seq
	body string
	mine bool // the group is to see it

	// delayed: it was sent back for a while. The file of delays keeps it then, and how
	// often it was handed out, and the floor goes past it.
	delayed bool
	ending  int  // acknowledgements that are under way
	acked   bool // one returned
	synced  bool // and it was put on disk since
	below   bool // and so was everything before it
	unsure  bool // who acknowledged it died, or a reset came in between
	repeat  bool // who made a base died after it was finished
}

// mustCome: nobody acknowledged it.
func (m *tornMessage) mustCome() bool {
	return m.mine && !m.acked && !m.synced && !m.unsure && m.ending == 0
}

// mustStay: it is finished for good, after a cut. Whoever dies making a base may have
// forgotten what was finished behind the floor, but nothing below it.
func (m *tornMessage) mustStay(killed, making bool) bool {
	return m.below || !m.repeat && !making && (m.synced || killed && m.acked && !m.unsure)
}

// A tornCut is a power cut, with the facts of its moment.
type tornCut struct {
	cut    *torn.Cut
	at     string
	killed bool // no power cut: every process died, memory stayed
	making bool // somebody was making a base
	facts  tornFacts
}

// errKilled is what a process dies of.
var errKilled = errors.New("killed")

func newCrew(t *testing.T, seed uint64) *tornCrew {
	random := rand.New(rand.NewPCG(seed, 1))
	w := &tornCrew{
		t: t, seed: seed, random: random, dir: filepath.Join(testx.InMemory(t), "q"), times: newFakeTimes(),
		facts: tornFacts{maybe: map[string]bool{}},
		group: GroupOptions{Window: []int{3, 7, 15, 63, 255}[random.IntN(5)], Lease: 2 * time.Second, From: Oldest},
	}
	w.o = Options{Create: &QueueOptions{SegmentSize: 64 << 10}, Durability: []Durability{SyncAlways, SyncNever}[random.IntN(2)], StallTimeout: time.Millisecond}
	if w.chance(0.4) {
		w.group.Topic = "mine"
	}
	return w
}

func (w *tornCrew) chance(p float64) bool { return w.random.Float64() < p }

func (w *tornCrew) must(err error, what string) {
	if err != nil {
		w.t.Fatalf("%s: %v; replay with -torn.seed %d;", what, err, w.seed)
	}
}

// run works on the group for some operations and collects cuts.
func (w *tornCrew) run(operations int) {
	w.must(os.Mkdir(w.dir, 0o700), "make the directory")
	disk, remove, err := torn.New(w.dir, 1)
	w.must(err, "look at the directory")
	w.disk = disk
	defer remove()
	defer hangOnGroupSteps(w.passed)()
	for range 2 + w.random.IntN(2) {
		w.hands = append(w.hands, &tornHand{})
	}
	for range operations {
		w.perform(w.hands[w.random.IntN(len(w.hands))])
	}
	w.cutNow("the end")
	for _, h := range w.hands {
		w.die(h)
	}
}

// hangOnGroupSteps calls f at each step of a group.
func hangOnGroupSteps(f func(step.ID)) (restore func()) {
	var all []func()
	for _, id := range step.IDs() {
		if strings.HasPrefix(id.String(), "Group") {
			all = append(all, step.Set(id, func() error { f(id); return nil }))
		}
	}
	return func() {
		for _, r := range all {
			r()
		}
	}
}

// ofBases are the steps that few operations pass.
func ofBases(id step.ID) bool {
	return strings.HasPrefix(id.String(), "GroupBase") || id == step.GroupRingReset || id == step.GroupFloorSet || id == step.GroupCheckpointReady
}

// often is how much rarer something is to happen at a step that is passed for each entry.
func (w *tornCrew) often(id step.ID) float64 {
	if id == step.GroupBaseEmptied || id == step.GroupBaseMarked {
		return 2 / float64(w.group.Window)
	}
	return 1
}

// perform lets a process do something, until it is done or killed in it.
func (w *tornCrew) perform(h *tornHand) {
	w.acting = h
	defer func() {
		if p := recover(); p == errKilled {
			w.within, w.making = 0, false
			for _, o := range w.hands {
				o.busy = false
			}
			w.die(h)
		} else if p != nil {
			panic(p)
		}
	}()
	w.operate(h)
	w.making = false
}

// passed is called at each step of a group.
func (w *tornCrew) passed(id step.ID) {
	w.disk.Look()
	w.making = w.making || ofBases(id) && id != step.GroupCheckpointReady
	cut, other, kill := 0.03, 0.06, 0.006
	if ofBases(id) {
		cut, other, kill = 0.2, 0.1, 0.03
	}
	if id == step.GroupTempMade || id == step.GroupLinked {
		kill = 0.2 // only the first one comes here
	}
	often := w.often(id)
	if w.chance(cut * often) {
		w.cutNow(id.String())
	}
	if w.within == 1 && w.chance(other*often) {
		w.operate(w.hands[w.random.IntN(len(w.hands))])
		w.disk.Look()
	}
	if w.within == 1 && w.chance(kill*often) {
		for i := range w.facts.all {
			w.facts.all[i].repeat = w.facts.all[i].repeat || w.making && w.facts.all[i].mine
		}
		panic(errKilled)
	}
}

func (w *tornCrew) cutNow(at string) {
	c := tornCut{at: at, making: w.making, facts: tornFacts{slices.Clone(w.facts.all), maps.Clone(w.facts.maybe)}}
	if c.killed = w.chance(0.15); c.killed {
		c.cut = w.disk.Now()
	} else {
		c.cut = w.disk.Cut(w.random)
	}
	w.cuts = append(w.cuts, c)
}

// operate lets a process do something, unless it is doing something already.
func (w *tornCrew) operate(h *tornHand) {
	if h.busy {
		return
	}
	h.busy = true
	w.within++
	defer func() { h.busy = false; w.within-- }()
	if h.g == nil {
		if w.within == 1 {
			w.join(h)
		}
		return
	}
	switch n := w.random.IntN(100); {
	case n < 22:
		w.append(h)
	case n < 50:
		w.receive(h)
	case n < 72:
		w.ack(h, false)
	case n < 80:
		w.ack(h, true)
	case n < 84:
		w.nak(h)
	case n < 88:
		w.tick(h)
	case n < 91:
		w.times.suspend(time.Duration(w.random.IntN(4)) * time.Second)
	case n < 94:
		w.reset(h)
	case n < 97 && w.within == 1:
		w.leave(h)
	case w.within == 1:
		w.die(h)
	}
}

// join opens the queue and the group.
func (w *tornCrew) join(h *tornHand) {
	if h.q == nil {
		q, err := Open(context.Background(), w.dir, w.o)
		w.must(err, "open")
		q.log.WithoutKeeper()
		q.times = w.times
		h.q = q
	}
	g, err := h.q.Group("g", w.group)
	w.must(err, "open the group")
	h.g = g
}

func (w *tornCrew) append(h *tornHand) {
	topic := "mine"
	if w.chance(0.3) {
		topic = "other"
	}
	for range 1 + w.random.IntN(6) {
		body := fmt.Sprint(topic, " ", len(w.facts.all)+len(w.facts.maybe))
		w.facts.maybe[body] = true
		seq, err := h.q.Publish(context.Background(), Draft{Topic: topic, Body: []byte(body)})
		w.must(err, "publish")
		delete(w.facts.maybe, body)
		w.facts.all = append(w.facts.all, tornMessage{seq: seq, body: body, mine: w.group.Topic == "" || w.group.Topic == topic})
	}
}

func (w *tornCrew) find(seq Seq) *tornMessage {
	for i := range w.facts.all {
		if w.facts.all[i].seq == seq {
			return &w.facts.all[i]
		}
	}
	w.t.Fatalf("message %d was never appended; replay with -torn.seed %d;", seq, w.seed)
	return nil
}

// allowed reports whether an error is that another is in the middle of something.
func (w *tornCrew) allowed(err error, what string) bool {
	if w.within > 1 && errors.Is(err, group.ErrBusy) {
		return true
	}
	w.must(err, what)
	return false
}

// tryReceive fails if it takes long: what is there is read in no time.
func tryReceive(g *Group) (*Delivery, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return g.TryReceive(ctx)
}

func (w *tornCrew) receive(h *tornHand) {
	for range 1 + w.random.IntN(8) {
		resets := w.resets
		d, err := tryReceive(h.g)
		if w.allowed(err, "receive") || d == nil {
			return
		}
		m := w.find(d.Seq)
		if string(d.Body) != m.body || !m.mine {
			w.t.Fatalf("message %d is %q, want %q; replay with -torn.seed %d;", d.Seq, d.Body, m.body, w.seed)
		}
		if resets == w.resets && m.mustStay(true, w.making) && m.ending == 0 {
			w.t.Fatalf("message %d was finished and is handed out again; replay with -torn.seed %d;", d.Seq, w.seed)
		}
		h.held = append(h.held, d)
	}
}

// some takes one of the deliveries that the process holds.
func (w *tornCrew) some(h *tornHand) *Delivery {
	if len(h.held) == 0 {
		return nil
	}
	i := w.random.IntN(len(h.held))
	if w.chance(0.5) {
		i = 0
	}
	d := h.held[i]
	h.held = slices.Delete(h.held, i, i+1)
	return d
}

// ack finishes a message, and it may wait until that is on disk: then so is what was
// finished before.
func (w *tornCrew) ack(h *tornHand, sync bool) {
	d := w.some(h)
	if d == nil {
		return
	}
	resets, before := w.resets, w.ackedNow()
	m := w.find(d.Seq)
	m.ending++
	var err error
	if sync {
		err = d.AckSync(context.Background())
	} else {
		err = d.Ack()
	}
	m = w.find(d.Seq) // the list may have grown
	m.ending--
	switch {
	case errors.Is(err, ErrLeaseLost):
		return
	case resets != w.resets:
		m.unsure = true
		return
	}
	m.acked = true
	h.acked = append(h.acked, d.Seq)
	if sync && !w.allowed(err, "acknowledge") {
		w.promote(append(before, d.Seq))
	}
}

func (w *tornCrew) ackedNow() (seqs []Seq) {
	for _, m := range w.facts.all {
		if m.acked && !m.unsure {
			seqs = append(seqs, m.seq)
		}
	}
	return seqs
}

// promote notes that what was acknowledged is on disk.
func (w *tornCrew) promote(seqs []Seq) {
	for _, seq := range seqs {
		w.find(seq).synced = true
	}
	for i := range w.facts.all {
		m := &w.facts.all[i]
		if w.making || m.mine && !m.synced {
			break
		}
		m.below = m.mine
	}
}

func (w *tornCrew) nak(h *tornHand) {
	if d := w.some(h); d != nil {
		delay := time.Duration(w.random.IntN(2)) * time.Second
		m := w.find(d.Seq)
		m.delayed = m.delayed || delay > 0
		err := d.Nak(delay)
		if !errors.Is(err, ErrLeaseLost) {
			w.must(err, "nak")
		}
	}
}

// tick does what is due a second after an acknowledgement.
func (w *tornCrew) tick(h *tornHand) {
	if x, _ := h.g.dirty.(*fakeTimer); x != nil {
		x.Stop()
		x.f()
	}
}

// reset gives the group another place. Until that returns it may be the former one.
func (w *tornCrew) reset(h *tornHand) {
	if len(w.facts.all) == 0 {
		return
	}
	to := w.facts.all[w.random.IntN(len(w.facts.all))].seq
	was := slices.Clone(w.facts.all)
	w.resets++
	for i := range w.facts.all {
		m := &w.facts.all[i]
		switch {
		case m.seq < to:
			m.unsure = true
		case m.acked || m.synced || m.unsure:
			m.acked, m.synced, m.below, m.unsure = false, false, false, true
		}
	}
	err := h.q.ResetGroup(context.Background(), "g", At(to))
	w.resets++
	if w.allowed(err, "reset") {
		w.facts.all = was // it had no lock: nothing happened
		return
	}
	for i := range w.facts.all {
		m := &w.facts.all[i]
		switch {
		case m.seq < to && m.delayed: // a cell that a reset frees is on the disk with the next sync
			m.unsure = true
		case m.seq < to:
			m.synced, m.below, m.unsure, m.repeat = true, true, false, false
		case !m.acked && m.ending == 0: // while the reset was under way
			m.unsure, m.repeat = false, false
		default:
			m.acked, m.synced, m.below, m.unsure = false, false, false, true
		}
	}
}

// leave closes the group, and now and then the queue.
func (w *tornCrew) leave(h *tornHand) {
	resets := w.resets
	before := slices.DeleteFunc(w.ackedNow(), func(seq Seq) bool { return !slices.Contains(h.acked, seq) })
	err := h.g.Close()
	h.g, h.held, h.acked = nil, nil, nil
	if !w.allowed(err, "close the group") && resets == w.resets {
		w.promote(before)
	}
	if w.chance(0.5) {
		w.must(h.q.Close(), "close")
		h.q = nil
	}
}

// die ends a process as the kernel does when it is killed.
func (w *tornCrew) die(h *tornHand) {
	if g := h.g; g != nil {
		if g.dirty != nil {
			g.dirty.Stop()
		}
		g.walk.close()
		w.must(g.file.Close(), "let go of the file")
	}
	if h.q != nil {
		w.must(errors.Join(h.q.bed.close(), h.q.bed.leave(), h.q.log.Abandon()), "let go of the queue")
	}
	for i := range w.facts.all {
		if m := &w.facts.all[i]; m.ending > 0 {
			m.ending, m.unsure = 0, true
		}
	}
	*h = tornHand{}
}
