package walq_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/walq/walq"
)

// numbered appends n messages, the numbers from 0 on.
func numbered(t testing.TB, q *walq.Queue, n int) {
	t.Helper()
	for i := range n {
		appendText(t, q, fmt.Sprint(i))
	}
}

// A consumer that read ahead, and then does nothing, keeps nothing from others but what it
// was handed; and those get all the rest in order.
func TestReadingAheadKeepsNothingFromOthers(t *testing.T) {
	dir := newDir(t)
	q := create(t, dir, walq.Options{Durability: walq.SyncNever})
	other := open(t, dir, walq.Options{})
	const n, had = 600, 200
	numbered(t, q, n)
	a := newGroup(t, q, "g", walq.GroupOptions{})
	for i := range had {
		d := receive(t, a)
		if string(d.Body) != fmt.Sprint(i) {
			t.Fatalf("message %d is %q", i, d.Body)
		}
		if i != had-1 {
			ack(t, d)
		}
	}
	b := newGroup(t, other, "g", walq.GroupOptions{})
	for i, body := range drain(t, b) {
		if body != fmt.Sprint(had+i) {
			t.Fatalf("the other consumer got %q, want %d", body, had+i)
		}
	}
	if d, err := a.TryReceive(t.Context()); d != nil || err != nil {
		t.Fatalf("got %v, %v, want nothing: all is with the other one, or was handed out", d, err)
	}
}

// Consumers that read the same messages ahead hand out each once, and each consumer's are
// in order.
func TestConsumersThatReadTheSameAheadHandOutEachOnce(t *testing.T) {
	dir := newDir(t)
	const n = 3000
	random := rand.New(rand.NewPCG(7, 7))
	q := create(t, dir, walq.Options{Durability: walq.SyncNever})
	numbered(t, q, n)
	groups := []*walq.Group{newGroup(t, q, "g", walq.GroupOptions{})}
	for range 3 {
		groups = append(groups, newGroup(t, open(t, dir, walq.Options{}), "g", walq.GroupOptions{}))
	}
	seen, last := map[string]bool{}, map[*walq.Group]walq.Seq{}
	for idle := 0; idle < len(groups); {
		g := groups[random.IntN(len(groups))]
		if idle > 0 {
			g = groups[idle]
		}
		for range 1 + random.IntN(20) {
			d, err := g.TryReceive(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if d == nil {
				idle++
				break
			}
			idle = 0
			if seen[string(d.Body)] {
				t.Fatalf("message %s was handed out twice", d.Body)
			}
			if d.Seq < last[g] {
				t.Fatalf("message %d was handed out behind message %d", d.Seq, last[g])
			}
			seen[string(d.Body)], last[g] = true, d.Seq
			ack(t, d)
		}
	}
	if len(seen) != n {
		t.Errorf("%d messages were handed out, want %d", len(seen), n)
	}
}

// What a consumer got is its own for good, whatever the sizes, and whatever comes later.
func TestADeliveryOwnsWhatItHolds(t *testing.T) {
	q := create(t, newDir(t), walq.Options{Durability: walq.SyncNever})
	random := rand.New(rand.NewPCG(8, 8))
	const n = 2000
	sizes := []int{0, 1, 100, 1000, 1024, 1025, 5000, 20_000}
	draft := func(i int) (d walq.Draft) {
		size := sizes[i*i%len(sizes)]
		if i%50 < 40 {
			size = i % 200
		}
		d.Body = bytes.Repeat([]byte{byte(i)}, size)
		if i%3 == 0 {
			d.Key, d.Topic = []byte(fmt.Sprint("k", i)), "t"
		}
		return d
	}
	for i := 0; i < n; {
		var batch []walq.Draft
		for range 1 + random.IntN(100) {
			if i < n {
				batch = append(batch, draft(i))
				i++
			}
		}
		if _, err := q.Publish(t.Context(), batch...); err != nil {
			t.Fatal(err)
		}
	}
	for _, topic := range []string{"", "t"} {
		g := newGroup(t, q, "g"+topic, walq.GroupOptions{Topic: topic})
		var all []*walq.Delivery
		for i := 0; i < n; i++ {
			if topic != "" && i%3 != 0 {
				continue
			}
			d := receive(t, g)
			ack(t, d)
			_ = append(d.Body, "this must not be another's"...)
			_ = append(d.Metadata(), "nor this"...)
			all = append(all, d)
		}
		for i, d := range all {
			if topic != "" {
				i *= 3
			}
			want := draft(i)
			if !bytes.Equal(d.Body, want.Body) || !bytes.Equal(d.Key(), want.Key) || d.Topic() != want.Topic || d.Attempt() != 1 ||
				time.Since(d.Time).Abs() > time.Minute {
				t.Fatalf("message %d came as %d bytes, key %q, topic %q, attempt %d, of %v", i, len(d.Body), d.Key(), d.Topic(), d.Attempt(), d.Time)
			}
		}
	}
}

// What was read ahead of a damaged frame is handed out before the error.
func TestWhatIsReadAheadOfDamageIsHandedOut(t *testing.T) {
	dir := newDir(t)
	q := create(t, dir, walq.Options{Durability: walq.SyncNever})
	const n = 100
	numbered(t, q, n)
	appendText(t, q, "this one is damaged")
	closeQueue(t, q)
	damage(t, segmentFile(t, dir, 0), func(p []byte) { p[bytes.Index(p, []byte("this one"))] ^= 1 })
	g := newGroup(t, open(t, dir, walq.Options{}), "g", walq.GroupOptions{})
	for i := range n {
		d := receive(t, g)
		if string(d.Body) != fmt.Sprint(i) {
			t.Fatalf("message %d is %q", i, d.Body)
		}
		ack(t, d)
	}
	for range 3 {
		_, err := g.TryReceive(t.Context())
		wantIs(t, "behind it", err, walq.ErrCorrupt)
	}
}

// A run that is read ahead may begin with what others have: what is behind it comes whole,
// and in order, however much that is.
func TestWhatIsReadAheadBehindWhatOthersHaveComesWhole(t *testing.T) {
	for _, had := range []int{1, 4, 7, 30, 100, 200} {
		dir := newDir(t)
		q := create(t, dir, walq.Options{Durability: walq.SyncNever})
		numbered(t, q, 400)
		a, b := newGroup(t, q, "g", walq.GroupOptions{}), newGroup(t, open(t, dir, walq.Options{}), "g", walq.GroupOptions{})
		for i := range 5 { // b has bytes of its own by then
			if d := receive(t, b); string(d.Body) != fmt.Sprint(i) {
				t.Fatalf("message %d is %q", i, d.Body)
			}
		}
		for i := range had {
			if d := receive(t, a); string(d.Body) != fmt.Sprint(5+i) {
				t.Fatalf("message %d is %q", 5+i, d.Body)
			}
		}
		for i, body := range drain(t, b) {
			if body != fmt.Sprint(5+had+i) {
				t.Fatalf("with %d at another's, the next is %q, want %d", had, body, 5+had+i)
			}
		}
	}
}

// What is below the floor is stepped over in runs, and counted.
func TestWhatIsBelowTheFloorIsSteppedOverAndCounted(t *testing.T) {
	dir := newDir(t)
	q := create(t, dir, walq.Options{Durability: walq.SyncNever})
	a, b := newGroup(t, q, "g", walq.GroupOptions{}), newGroup(t, open(t, dir, walq.Options{}), "g", walq.GroupOptions{})
	for _, n := range []int{1, 63, 64, 65, 130, 400, 700} {
		numbered(t, q, n)
		if got := len(drain(t, a)); got != n {
			t.Fatalf("one consumer got %d messages, want %d", got, n)
		}
		appendText(t, q, fmt.Sprint("after ", n))
		d := receive(t, b)
		if string(d.Body) != fmt.Sprint("after ", n) {
			t.Fatalf("got %q, want the one behind %d that another one finished", d.Body, n)
		}
		ack(t, d)
	}
}
