package walq

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/walq/walq/internal/history"
	"github.com/walq/walq/internal/testx"
)

// A groupPlay is a short history of a group: several consumers, each a participant of
// the queue, by clocks that are set.
type groupPlay struct {
	t     *testing.T
	f     *fakeTimes
	dir   string
	o     GroupOptions
	keys  int // so many keys in turn
	order atomic.Int64
	names atomic.Int64 // of deliveries
	// passing lets time pass: one at a time.
	passing sync.Mutex

	mu    sync.Mutex // over calls
	calls []history.GroupCall

	again, lost int // handed out again; leases
}

const playLease = 10 * time.Second

func (p *groupPlay) open() *Queue {
	q, err := Open(p.t.Context(), p.dir, Options{Create: &QueueOptions{SegmentSize: 64 << 10}, Durability: SyncNever})
	if err != nil {
		p.t.Error(err)
		return nil
	}
	q.times = p.f
	return q
}

// call notes what f was asked and answered.
func (p *groupPlay) call(c history.GroupCall, f func(c *history.GroupCall) error) {
	c.From, c.Call = p.f.ran(), p.order.Add(1)
	err := f(&c)
	c.Return, c.To = p.order.Add(1), p.f.ran()
	if c.Lost = errors.Is(err, ErrLeaseLost); err != nil && !c.Lost {
		p.t.Errorf("%v: %v", c, err)
	}
	if c.Seq == 0 {
		return // nothing was received
	}
	if c.Kind == history.GroupReceived && c.To-c.From >= shyLease {
		c.Lease = shyLease // it was stopped before it said when the lease ends
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls = append(p.calls, c)
}

func (p *groupPlay) publish(q *Queue, i int) {
	key := fmt.Sprint(i % p.keys)
	p.call(history.GroupCall{Client: -1, Kind: history.GroupAppended}, func(c *history.GroupCall) error {
		seq, err := q.Publish(p.t.Context(), Draft{Key: []byte(key)})
		c.Seq = uint64(seq)
		return err
	})
}

func (p *groupPlay) pass(d time.Duration) {
	p.passing.Lock()
	defer p.passing.Unlock()
	p.f.pass(d)
}

// An actor is one consumer, which comes and goes.
type actor struct {
	*groupPlay
	id     int
	random *rand.Rand
	q      *Queue
	g      *Group
	held   []named // received, and perhaps ended
}

type named struct {
	*Delivery
	name int
}

func (a *actor) come() bool {
	if a.g != nil {
		return true
	}
	if a.q = a.open(); a.q == nil {
		return false
	}
	var err error
	if a.g, err = a.q.Group("g", a.o); err != nil {
		a.t.Error(err)
		return false
	}
	return true
}

// go away, in order or by dying: then nothing is given back.
func (a *actor) leave(dies bool) {
	c := history.GroupCall{Client: a.id, Kind: history.GroupGone, From: a.f.ran(), Call: a.order.Add(1)}
	if dies {
		a.die()
	}
	if err := a.q.Close(); err != nil {
		a.t.Error(err)
	}
	c.Return, c.To = a.order.Add(1), a.f.ran()
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, d := range a.held {
		c.Seq, c.Delivery = uint64(d.Seq), d.name
		a.calls = append(a.calls, c)
	}
	a.q, a.g, a.held = nil, nil, nil
}

// die leaves the group as a process does that is killed, but for the memory.
func (a *actor) die() {
	g := a.g
	g.mu.Lock()
	g.closed = true
	if g.dirty != nil {
		g.dirty.Stop()
	}
	for len(g.held) > 0 {
		g.held[0].over() // nobody looks at them any more
	}
	g.walk.close()
	g.mu.Unlock()
	g.syncing.Wait()
	a.q.disown(g)
	if err := g.file.Close(); err != nil {
		a.t.Error(err)
	}
}

func (a *actor) receive() (got bool) {
	a.call(history.GroupCall{Client: a.id, Kind: history.GroupReceived, Lease: playLease}, func(c *history.GroupCall) error {
		d, err := a.g.TryReceive(a.t.Context())
		if d != nil {
			c.Seq, c.Attempt, c.Delivery = uint64(d.Seq), d.Attempt(), int(a.names.Add(1))
			a.held = append(a.held, named{d, c.Delivery})
		}
		got = d != nil
		return err
	})
	return got
}

// end ends or extends one of the deliveries, which may have ended before.
func (a *actor) end(i int, kind history.GroupKind, by time.Duration) {
	d := a.held[i]
	c := history.GroupCall{Client: a.id, Kind: kind, Seq: uint64(d.Seq), Delivery: d.name}
	a.call(c, func(c *history.GroupCall) error {
		switch kind {
		case history.GroupSentBack:
			c.Delay = by
			return d.Nak(by)
		case history.GroupExtended:
			c.Lease = by
			return d.Extend(by)
		}
		if a.random.IntN(4) == 0 {
			return d.Term("")
		}
		return d.Ack()
	})
	if kind != history.GroupExtended && a.random.IntN(3) > 0 { // else it is tried again
		a.held = slices.Delete(a.held, i, i+1)
	}
}

// act does something.
func (a *actor) act() {
	if !a.come() {
		return
	}
	some := func(most time.Duration) time.Duration { return time.Duration(a.random.Int64N(int64(most))) }
	switch n := a.random.IntN(40); {
	case n < 14 || len(a.held) == 0:
		a.receive()
	case n < 24:
		a.end(a.random.IntN(len(a.held)), history.GroupFinished, 0)
	case n < 28:
		a.end(a.random.IntN(len(a.held)), history.GroupSentBack, 0)
	case n < 30:
		a.end(a.random.IntN(len(a.held)), history.GroupSentBack, some(2*playLease)+time.Millisecond)
	case n < 33:
		a.end(a.random.IntN(len(a.held)), history.GroupExtended, some(2*playLease)+time.Millisecond)
	case n < 38:
		a.pass(some(playLease))
	default:
		a.leave(n == 39)
	}
}

// play plays a history and judges it.
func (p *groupPlay) play(seed uint64, messages, acts int) {
	producer := p.open()
	if producer == nil {
		return
	}
	defer producer.Close()
	var all sync.WaitGroup
	all.Go(func() {
		for i := range messages {
			p.publish(producer, i)
			time.Sleep(time.Duration(i%3) * 50 * time.Microsecond)
		}
	})
	actors := make([]*actor, 3)
	for i := range actors {
		a := &actor{groupPlay: p, id: i, random: rand.New(rand.NewPCG(seed, uint64(i)))}
		actors[i] = a
		all.Go(func() {
			for range acts {
				a.act()
			}
		})
	}
	all.Wait()
	p.finishAll(actors)
	p.judge()
}

// finishAll lets a new consumer finish what is left, once all leases and delays are over.
func (p *groupPlay) finishAll(actors []*actor) {
	last := &actor{groupPlay: p, id: len(actors), random: rand.New(rand.NewPCG(1, 1))}
	if !last.come() {
		return
	}
	for range 3 {
		p.pass(time.Hour)
		for last.receive() {
			last.end(len(last.held)-1, history.GroupFinished, 0)
		}
	}
	for _, a := range append(actors, last) {
		if a.g != nil {
			a.leave(false)
		}
	}
}

func (p *groupPlay) judge() {
	lanes := map[uint64][]uint64{}
	var seqs []uint64
	for _, c := range p.calls {
		if c.Kind == history.GroupAppended {
			seqs = append(seqs, c.Seq)
		}
	}
	slices.Sort(seqs)
	for i, seq := range seqs {
		lane := seq // each has its own
		switch {
		case p.o.Ordered:
			lane = 0
		case p.o.OrderedByKey:
			lane = uint64(i % p.keys)
		}
		lanes[lane] = append(lanes[lane], seq)
		p.calls = append(p.calls, history.GroupCall{Client: -2, Kind: history.GroupDone, Seq: seq, Call: math.MaxInt64 - 1, Return: math.MaxInt64})
	}
	all := [][]uint64{}
	for _, lane := range lanes {
		all = append(all, lane)
	}
	slices.SortFunc(all, func(a, b []uint64) int { return cmp.Compare(a[0], b[0]) })
	if err := history.GroupLinear(all, p.calls, time.Minute); err != nil {
		p.t.Error(err)
	}
	for _, c := range p.calls {
		if c.Lost {
			p.lost++
		}
		if c.Attempt > 1 {
			p.again++
		}
	}
}

// groupPlays are the kinds of groups of which histories are played.
var groupPlays = map[string]struct {
	o        GroupOptions
	messages int
}{
	"plain":          {GroupOptions{}, 30},
	"a small window": {GroupOptions{Window: 3}, 30},
	"ordered":        {GroupOptions{Ordered: true}, 12},
	"ordered by key": {GroupOptions{OrderedByKey: true, Window: 7}, 24},
}

func playGroups(t *testing.T, rounds int) {
	seed := testx.Seed(t)
	for name, c := range groupPlays {
		t.Run(name, func(t *testing.T) {
			calls, again, lost := 0, 0, 0
			for round := range rounds {
				c.o.Lease = playLease
				p := &groupPlay{t: t, f: newFakeTimes(), dir: t.TempDir() + "/q", o: c.o, keys: 3}
				p.play(seed+uint64(round), c.messages, 100)
				if t.Failed() {
					t.Fatalf("round %d", round)
				}
				calls, again, lost = calls+len(p.calls), again+p.again, lost+p.lost
			}
			t.Logf("%d calls, %d messages handed out again, %d leases lost", calls, again, lost)
			if again == 0 || lost == 0 {
				t.Error("this showed nothing")
			}
		})
	}
}

// Handles of one process are participants like those of several.
func TestWhatConsumersOfAGroupSeeHasOneOrder(t *testing.T) { playGroups(t, 3) }
