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
