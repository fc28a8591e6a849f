package wal

import (
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/walq/walq/internal/testx"
)

// A seek may begin where the reader stands. From wherever that is, within a batch too, it
// comes to what a reader that never moved comes to.
func TestASeekFromAnywhereComesToTheSameMessage(t *testing.T) {
	l := create(t, newQueue(t), Options{Durability: SyncNever})
	random := rand.New(rand.NewPCG(testx.Seed(t), 0))
	var bodies []string // in the order of the log
	var seqs []uint64
	add := func(first uint64, parts []Part) {
		for i, p := range parts {
			bodies, seqs = append(bodies, string(p.Body)), append(seqs, first+uint64(i))
		}
	}
	for len(seqs) < 3000 {
		body := make([]byte, 20+random.IntN(300))
		copy(body, strconv.Itoa(len(seqs)))
		switch random.IntN(10) {
		case 0:
			parts := make([]Part, 1+random.IntN(20))
			for i := range parts {
				parts[i].Body = []byte(strconv.Itoa(len(seqs) + i))
			}
			a, err := l.AppendBatch(parts)
			if err != nil {
				t.Fatal(err)
			}
			add(a.Seq, parts)
		case 1: // a gap
			c, err := l.ClaimInPlace(nil, 50)
			if err != nil {
				t.Fatal(err)
			}
			c.Abort()
		default:
			add(appendText(t, l, string(body)).Seq, []Part{{Body: body}})
		}
	}
	r, err := l.NewReader(false)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for i := range 3000 {
		to := random.IntN(len(seqs))
		if i%2 == 0 { // near to where it stands, mostly
			to = min(max(0, int(r.Seq())+random.IntN(40)-20), len(seqs)-1)
		}
		seq := seqs[to]
		if random.IntN(5) == 0 && to > 0 { // the gap before it, if there is one
			seq = seqs[to-1] + 1
		}
		if err := r.SeekSeq(seq); err != nil {
			t.Fatal(err)
		}
		for n := range random.IntN(4) {
			if to+n == len(seqs) {
				break
			}
			if random.IntN(2) == 0 {
				if ok, err := r.View(func(m Message) error {
					if m.Seq != seqs[to+n] || string(m.Body) != bodies[to+n] {
						t.Errorf("seek to %d: got message %d %.10q, want %d %.10q", seq, m.Seq, m.Body, seqs[to+n], bodies[to+n])
					}
					return nil
				}); !ok || err != nil {
					t.Fatal(ok, err)
				}
			} else if m := next(t, r); m.Seq != seqs[to+n] || string(m.Body) != bodies[to+n] {
				t.Errorf("seek to %d: got message %d %.10q, want %d %.10q", seq, m.Seq, m.Body, seqs[to+n], bodies[to+n])
			}
		}
		if t.Failed() {
			t.FailNow()
		}
	}
}

// Some numbers have no message, many in a row sometimes: what is far behind the end by its
// number may be near by its place among the messages.
func TestTheLastMessagesAreCountedBackFromAnyDistance(t *testing.T) {
	l := open(t, newQueue(t), Options{Create: &Settings{SegmentSize: 1 << 20, Durability: SyncNever}})
	random := rand.New(rand.NewPCG(testx.Seed(t), 0))
	var seqs []uint64
	r, err := l.NewReader(false)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	wantLast := func(n int) {
		t.Helper()
		if err := r.SeekLast(uint64(n)); err != nil {
			t.Fatal(err)
		}
		m, ok, err := r.Next()
		if want := seqs[max(len(seqs)-n, 0):]; err != nil || ok != (len(want) > 0) || ok && m.Seq != want[0] {
			t.Fatalf("the last %d: got message %d, %v, %v; want the first of %d", n, m.Seq, ok, err, want[:min(len(want), 1)])
		}
	}
	for round := range 40 {
		for range random.IntN(300) {
			seqs = append(seqs, appendText(t, l, string(make([]byte, random.IntN(1000)))).Seq)
		}
		switch random.IntN(3) {
		case 0: // only numbers
			for range random.IntN(400) {
				c, err := l.ClaimInPlace(nil, random.IntN(500))
				if err != nil {
					t.Fatal(err)
				}
				c.Abort()
			}
		case 1:
			parts := make([]Part, 1+random.IntN(200))
			for i := range parts {
				parts[i].Body = make([]byte, random.IntN(400))
			}
			a, err := l.AppendBatch(parts)
			if err != nil {
				t.Fatal(err)
			}
			for i := range parts {
				seqs = append(seqs, a.Seq+uint64(i))
			}
		}
		for n := range 4 {
			wantLast(n)
		}
		for range 20 {
			wantLast(random.IntN(len(seqs) + 10))
		}
		if round == 20 {
			if err := l.settle(new(observer), 1<<19); err != nil { // and the rest is behind
				t.Fatal(err)
			}
		}
	}
	if last := tailOf(t, l).Ordinal; last < 3 {
		t.Errorf("all lies in %d segments", last)
	}
}
