package wal

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/walq/walq/segment"
)

// restBodies are messages of all lengths, and numbered. With long one is so long that its
// batch is not believed.
func restBodies(random *rand.Rand, n int, long bool) (parts []segment.Part) {
	for i := range n {
		p := segment.Part{Body: fmt.Appendf(nil, "%d %0*d", i, random.IntN(300), 0)}
		if random.IntN(3) == 0 {
			p.Meta = fmt.Appendf(nil, "%0*d", 1+random.IntN(30), i)
		}
		if long && i == n/2 {
			p.Body = append(p.Body, make([]byte, believedBytes)...)
		}
		parts = append(parts, p)
	}
	return parts
}

// restLog holds parts, each one by itself, or in batches of one to 40.
func restLog(t *testing.T, parts []segment.Part, batches bool, seed uint64) *Log {
	t.Helper()
	size := int64(segment.MinSize) // so that there are several
	for _, p := range parts {
		if len(p.Body) >= believedBytes {
			size = 1 << 20
		}
	}
	l := open(t, newQueue(t), Options{Create: &Settings{SegmentSize: size, Durability: SyncNever}})
	t.Cleanup(func() { closeLog(t, l) })
	random := rand.New(rand.NewPCG(seed, 7))
	for len(parts) > 0 {
		n := min(1+random.IntN(40), len(parts))
		if !batches {
			for _, p := range parts[:n] {
				if _, err := l.Append(p.Meta, p.Body); err != nil {
					t.Fatal(err)
				}
			}
		} else if _, err := l.AppendBatch(parts[:n]); err != nil {
			t.Fatal(err)
		}
		parts = parts[n:]
	}
	return l
}

// restTrace is what a random program sees that shows, leaves, fails, panics, and uses the
// reader meanwhile, and how many it was told that it was shown.
func restTrace(t *testing.T, l *Log, n int, seed uint64) (lines []string) {
	t.Helper()
	random := rand.New(rand.NewPCG(seed, 9))
	r, err := l.NewReader(false)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	first := r.Seq()
	note := func(what string, m *Message) {
		lines = append(lines, fmt.Sprintf("%s %d %q %.40q %d", what, m.Seq-first, m.Meta, m.Body, len(m.Body)))
	}
	errFn := errors.New("fn")
	left, used := uint64(0), false
	var show func(depth int) func(*Message) (Verdict, error)
	use := func(depth int) {
		used = true
		var err error
		switch random.IntN(6) {
		case 0:
			err = r.SeekSeq(first + uint64(random.IntN(n)))
		case 1:
			err = r.SeekLast(uint64(random.IntN(n)))
		case 2:
			m, ok, nextErr := r.Next()
			if err = nextErr; ok {
				note("next", &m)
			}
		case 3:
			_, err = r.View(func(m Message) error { note("view", &m); return nil })
		default:
			var shown int
			shown, err = r.ViewRun(1+random.IntN(30), false, show(depth+1))
			lines = append(lines, fmt.Sprint("nested ", shown, err))
			if errors.Is(err, errFn) {
				err = nil
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	show = func(depth int) func(*Message) (Verdict, error) {
		return func(m *Message) (Verdict, error) {
			note(fmt.Sprint("shown ", depth), m)
			if depth == 0 {
				if left != 0 && left != m.Seq {
					t.Fatalf("message %d was left, %d comes", left-first, m.Seq-first)
				}
				left, used = 0, false
			}
			if depth < 3 && random.IntN(12) == 0 {
				before := fmt.Sprintf("%d %d %q %q", m.Seq, m.Time, m.Meta, m.Body)
				use(depth)
				if after := fmt.Sprintf("%d %d %q %q", m.Seq, m.Time, m.Meta, m.Body); after != before {
					t.Fatalf("shown %.80s, and meanwhile it became %.80s", before, after)
				}
			}
			switch k := random.IntN(60); {
			case k == 0:
				return Enough, nil
			case k == 1:
				return More, errFn
			case k == 2:
				panic("fn")
			case k < 6 && depth == 0 && !used:
				left = m.Seq
				return Leave, nil
			case k < 8 && depth == 0 && !used:
				return Leave, errFn // which is not left
			}
			return More, nil
		}
	}
	for range 60 {
		func() {
			defer func() {
				if p := recover(); p != nil && p != "fn" {
					panic(p)
				}
			}()
			shown, err := r.ViewRun(1+random.IntN(50), false, show(0))
			lines = append(lines, fmt.Sprint("run ", shown, err))
			if left == 0 && random.IntN(4) == 0 {
				use(2)
			}
		}()
		if left == 0 && random.IntN(10) == 0 {
			if err := r.SeekSeq(first + uint64(random.IntN(n/2))); err != nil {
				t.Fatal(err)
			}
		}
	}
	return lines
}

// Whatever a function does that ViewRun calls, it sees of messages in batches, which are
// shown in a loop of their own, what it sees of the same messages one by one.
func TestViewRunShowsABatchAsItShowsSingleMessages(t *testing.T) {
	const n = 700
	for seed := range uint64(4) {
		parts := restBodies(rand.New(rand.NewPCG(seed, 8)), n, seed == 3)
		single, batches := restLog(t, parts, false, seed), restLog(t, parts, true, seed)
		for program := range uint64(60) {
			want, got := restTrace(t, single, n, program), restTrace(t, batches, n, program)
			for i := range max(len(want), len(got)) {
				if i >= len(want) || i >= len(got) || want[i] != got[i] {
					from := max(i-5, 0)
					t.Fatalf("log %d, program %d: single\n%q\nbatches\n%q", seed, program, want[from:min(i+2, len(want))], got[from:min(i+2, len(got))])
				}
			}
		}
	}
}

// After fn moved the reader there is nothing that could be left: it is the last one.
func TestALeaveBehindAMoveLeavesNothing(t *testing.T) {
	l := create(t, newQueue(t), Options{Durability: SyncNever})
	first := appendText(t, l, "0")
	var parts []segment.Part
	for i := 1; i < 10; i++ {
		parts = append(parts, segment.Part{Body: fmt.Append(nil, i)})
	}
	if _, err := l.AppendBatch(parts); err != nil {
		t.Fatal(err)
	}
	for at := range 4 {
		for _, copied := range []bool{false, true} {
			r, err := l.NewReader(false)
			if err != nil {
				t.Fatal(err)
			}
			if copied {
				for range 3 {
					if _, ok, err := r.Next(); !ok || err != nil {
						t.Fatal(ok, err)
					}
				}
			}
			i := 0
			shown, err := r.ViewRun(100, false, func(*Message) (Verdict, error) {
				if i++; i <= at {
					return More, nil
				}
				return Leave, r.SeekSeq(first.Seq + 7)
			})
			if shown != at+1 || err != nil {
				t.Errorf("%d shown, %v, want %d", shown, err, at+1)
			}
			if _, err := r.ViewRun(1, false, func(m *Message) (Verdict, error) {
				if string(m.Body) != "7" {
					t.Errorf("behind the seek comes %q, want 7", m.Body)
				}
				return Leave, nil
			}); err != nil {
				t.Error(err)
			}
			r.Close()
			if shown, err := r.ViewRun(1, false, func(m *Message) (Verdict, error) {
				t.Error("a closed reader shows what was left")
				return More, nil
			}); shown != 0 || !errors.Is(err, ErrClosed) {
				t.Errorf("a closed reader: %d, %v", shown, err)
			}
		}
	}
}
