package wal

import (
	"errors"
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/walq/walq/segment"
)

// A run shows the same messages as View, one that was left again, and an error behind them.
func TestViewRunShowsEachMessageUntilItIsTaken(t *testing.T) {
	dir := newQueue(t)
	l := create(t, dir, Options{Durability: SyncNever})
	const n = 40
	var first, last Appended
	for i := range n / 2 {
		last = appendText(t, l, strconv.Itoa(i))
		if i == 0 {
			first = last
		}
	}
	var batch []segment.Part
	for i := n / 2; i < n; i++ {
		batch = append(batch, segment.Part{Body: []byte(strconv.Itoa(i))})
	}
	if _, err := l.AppendBatch(batch); err != nil {
		t.Fatal(err)
	}
	last = appendText(t, l, "damaged")
	r, err := l.NewReader(false)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	tailOf(t, l).Region().Bytes(last.End.off()-8, 1)[0] ^= 1
	random := rand.New(rand.NewPCG(1, 2))
	for range 2 {
		for i := 0; i < n; {
			before, left := i, false
			shown, err := r.ViewRun(7, false, func(m *Message) (Verdict, error) {
				if string(m.Body) != strconv.Itoa(i) || left {
					t.Fatalf("message %d is %q", i, m.Body)
				}
				switch random.IntN(5) {
				case 0:
					left = true
					return Leave, nil
				case 1:
					i++
					return Enough, nil
				}
				i++
				return More, nil
			})
			if shown != i-before || shown > 7 || err != nil && (i < n || !errors.Is(err, ErrCorrupt)) {
				t.Fatalf("got %d, %v, want %d", shown, err, i-before)
			}
		}
		if _, err := r.ViewRun(1, false, func(*Message) (Verdict, error) { return More, nil }); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("got %v, want a corrupt message", err)
		}
		if err := r.SeekSeq(first.Seq); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.ViewRun(1, false, func(*Message) (Verdict, error) { return Leave, nil }); err != nil {
		t.Fatal(err)
	}
	if err := r.SeekSeq(first.Seq + 3); err != nil {
		t.Fatal(err)
	}
	if _, err := r.ViewRun(1, false, func(m *Message) (Verdict, error) {
		if string(m.Body) != "3" {
			t.Errorf("behind a seek comes %q, want 3", m.Body)
		}
		return More, nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.ViewRun(1, false, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}
