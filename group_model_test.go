package walq_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/walq/walq"
)

// A groupModel is what a group must do, and the consumers that do it: handles of one
// queue, of which some come and go.
type groupModel struct {
	q         *walq.Queue
	o         walq.GroupOptions
	consumers []*walq.Group
	held      map[walq.Seq]*walq.Delivery
	holder    map[walq.Seq]int // which consumer
	attempts  map[walq.Seq]int
	left      map[walq.Seq]string // not finished
	keys      map[walq.Seq]string
}

// first reports whether the message may be handed out as far as its key goes: all before
// it that have its key are finished.
func (m *groupModel) first(seq walq.Seq) bool {
	if m.o.OrderedByKey && m.keys[seq] != "" {
		for other := range m.left {
			if other < seq && m.keys[other] == m.keys[seq] {
				return false
			}
		}
	}
	return true
}

// free is how many messages may be handed out, if there is room in the window.
func (m *groupModel) free() (n int) {
	for seq := range m.left {
		if m.held[seq] == nil && m.first(seq) {
			n++
		}
	}
	return n
}

func (m *groupModel) consumer(t *rapid.T) (int, *walq.Group) {
	i := rapid.IntRange(0, len(m.consumers)-1).Draw(t, "consumer")
	if m.consumers[i] == nil {
		g, err := m.q.Group("g", m.o)
		if err != nil {
			t.Fatal(err)
		}
		m.consumers[i] = g
	}
	return i, m.consumers[i]
}

func (m *groupModel) publish(t *rapid.T) {
	for range rapid.IntRange(1, 9).Draw(t, "messages") {
		topic := rapid.SampledFrom([]string{"wanted", "other"}).Draw(t, "topic")
		body := fmt.Sprint(topic, " ", len(m.attempts))
		key := rapid.SampledFrom([]string{"", "a", "b", "c"}).Draw(t, "key")
		seq, err := m.q.Publish(context.Background(), walq.Draft{Topic: topic, Key: []byte(key), Body: []byte(body)})
		if err != nil {
			t.Fatal(err)
		}
		if m.o.Topic == "" || topic == m.o.Topic {
			m.left[seq] = body
		}
		m.attempts[seq], m.keys[seq] = 0, key
	}
}

func (m *groupModel) receive(t *rapid.T) {
	i, g := m.consumer(t)
	d, err := g.TryReceive(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	window := m.o.Window
	if d == nil {
		if free := m.free(); free > 0 && window == 0 {
			t.Fatalf("nothing to receive, but %d messages are free", free)
		}
		return
	}
	if !m.first(d.Seq) {
		t.Fatalf("message %d was handed out before another one of its key %q was finished", d.Seq, m.keys[d.Seq])
	}
	if window > 0 && len(m.held) >= window {
		t.Fatalf("message %d was handed out, the %d-th in a window of %d", d.Seq, len(m.held)+1, window)
	}
	m.attempts[d.Seq]++
	if body, ok := m.left[d.Seq]; !ok || body != string(d.Body) {
		t.Fatalf("got message %d %q, want %q (%v)", d.Seq, d.Body, body, ok)
	}
	if other := m.held[d.Seq]; other != nil {
		t.Fatalf("message %d was handed out twice", d.Seq)
	}
	if d.Attempt() != m.attempts[d.Seq] {
		t.Fatalf("message %d: attempt %d, want %d", d.Seq, d.Attempt(), m.attempts[d.Seq])
	}
	m.held[d.Seq], m.holder[d.Seq] = d, i
}

// some is one of the deliveries that are held, nil if there are none.
func (m *groupModel) some(t *rapid.T) *walq.Delivery {
	if len(m.held) == 0 {
		return nil
	}
	seqs := slices.Sorted(maps.Keys(m.held))
	d := m.held[seqs[rapid.IntRange(0, len(seqs)-1).Draw(t, "delivery")]]
	delete(m.held, d.Seq)
	return d
}

func (m *groupModel) ack(t *rapid.T) {
	d := m.some(t)
	if d == nil {
		return
	}
	end := d.Ack
	if rapid.IntRange(0, 9).Draw(t, "sync") == 0 {
		end = func() error { return d.AckSync(context.Background()) }
	}
	if err := end(); err != nil {
		t.Fatalf("message %d: %v", d.Seq, err)
	}
	delete(m.left, d.Seq)
	if err := d.Ack(); !errors.Is(err, walq.ErrLeaseLost) {
		t.Fatalf("message %d is finished once more: %v", d.Seq, err)
	}
}

func (m *groupModel) nak(t *rapid.T) {
	if d := m.some(t); d != nil {
		if err := d.Nak(0); err != nil {
			t.Fatalf("message %d: %v", d.Seq, err)
		}
	}
}

func (m *groupModel) extend(t *rapid.T) {
	if d := m.some(t); d != nil {
		if err := d.Extend(time.Hour); err != nil {
			t.Fatalf("message %d: %v", d.Seq, err)
		}
		m.held[d.Seq] = d
	}
}

// leave closes a consumer: what it held is free again.
func (m *groupModel) leave(t *rapid.T) {
	i := rapid.IntRange(0, len(m.consumers)-1).Draw(t, "consumer")
	if m.consumers[i] == nil {
		return
	}
	if err := m.consumers[i].Close(); err != nil {
		t.Fatal(err)
	}
	m.consumers[i] = nil
	for seq, d := range m.held {
		if m.holder[seq] == i {
			delete(m.held, seq)
			if err := d.Ack(); !errors.Is(err, walq.ErrClosed) {
				t.Fatalf("message %d of a closed group: %v", seq, err)
			}
		}
	}
}

func TestAGroupDoesWhatItsModelDoes(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		o := walq.GroupOptions{
			Window: rapid.SampledFrom([]int{0, 1, 3, 7}).Draw(rt, "window"),
			Topic:  rapid.SampledFrom([]string{"", "wanted"}).Draw(rt, "topic of the group"),
		}
		o.OrderedByKey = rapid.Bool().Draw(rt, "ordered by key")
		q := create(t, newDir(t), walq.Options{Durability: walq.SyncNever})
		m := &groupModel{
			q: q, o: o, consumers: make([]*walq.Group, 3), held: map[walq.Seq]*walq.Delivery{},
			holder: map[walq.Seq]int{}, attempts: map[walq.Seq]int{}, left: map[walq.Seq]string{}, keys: map[walq.Seq]string{},
		}
		_, _ = m.consumer(rt)
		rt.Repeat(map[string]func(*rapid.T){
			"publish": m.publish, "receive": m.receive, "receive too": m.receive, "ack": m.ack, "nak": m.nak, "extend": m.extend, "leave": m.leave,
		})
		for i := range m.consumers {
			if g := m.consumers[i]; g != nil {
				if err := g.Close(); err != nil {
					rt.Fatal(err)
				}
			}
		}
		g, err := q.Group("g", o)
		if err != nil {
			rt.Fatal(err)
		}
		for {
			d, err := g.TryReceive(context.Background())
			if err != nil {
				rt.Fatal(err)
			}
			if d == nil {
				break
			}
			if m.left[d.Seq] != string(d.Body) {
				rt.Fatalf("at the end: got %d %q, want %q", d.Seq, d.Body, m.left[d.Seq])
			}
			delete(m.left, d.Seq)
			if err := d.Ack(); err != nil {
				rt.Fatal(err)
			}
		}
		if len(m.left) > 0 {
			rt.Fatalf("%d messages were never finished: %v", len(m.left), m.left)
		}
		closeQueue(t, q)
	})
}

// Many goroutines of several handles share the work; under the race detector too.
func TestConsumersShareTheWork(t *testing.T) {
	const count, handles, each = 3000, 3, 2
	q := create(t, newDir(t), walq.Options{Durability: walq.SyncNever})
	var mu sync.Mutex
	done, by := map[walq.Seq]int{}, map[int]int{}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var all sync.WaitGroup
	for i := range handles {
		g := newGroup(t, q, "g", walq.GroupOptions{Window: 100, Handlers: each})
		all.Go(func() {
			if err := g.Consume(ctx, func(_ context.Context, d *walq.Delivery) error {
				time.Sleep(100 * time.Microsecond) // else one does all before the others are awake
				mu.Lock()
				defer mu.Unlock()
				done[d.Seq]++
				by[i]++
				if len(done) == count {
					cancel()
				}
				return nil
			}); err != nil {
				t.Error(err)
			}
		})
	}
	for i := range count {
		appendText(t, q, fmt.Sprint("message ", i))
	}
	all.Wait()
	if len(done) != count {
		t.Errorf("%d messages were worked on, want %d", len(done), count)
	}
	for seq, n := range done {
		if n != 1 {
			t.Errorf("message %d was worked on %d times", seq, n)
		}
	}
	for i := range handles {
		if by[i] < count/handles/20 {
			t.Errorf("consumer %d did %d of %d: it starves", i, by[i], count)
		}
	}
}

func TestAGroupThatWasOvertakenByTrimmingSaysSoOnce(t *testing.T) {
	dir := newDir(t)
	q := open(t, dir, walq.Options{Create: &walq.QueueOptions{SegmentSize: smallest, MaxBytes: 2 * smallest, Durability: walq.SyncNever}})
	g := newGroup(t, q, "g", walq.GroupOptions{MayLose: true})
	appendText(t, q, "first")
	held := receive(t, g)
	for range 400 {
		if _, err := q.Append(t.Context(), make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := q.Trim(t.Context()); err != nil { // the keeper may have done it already
		t.Fatal(err)
	}
	gaps, last := 0, held.Seq
	for {
		d, err := g.TryReceive(t.Context())
		if gap := new(walq.GapError); errors.As(err, &gap) {
			gaps, last = gaps+1, max(last, walq.Seq(gap.To)-1)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if d == nil {
			break
		}
		if d.Seq != last+1 {
			t.Errorf("got message %d after %d", d.Seq, last)
		}
		last = d.Seq
		ack(t, d)
	}
	if gaps != 1 || last != 401 {
		t.Errorf("got %d gaps, the last message is %d, want 1 and 401", gaps, last)
	}
	if err := held.Ack(); !errors.Is(err, walq.ErrLeaseLost) {
		t.Errorf("what was trimmed while it was worked on: %v", err)
	}
}
