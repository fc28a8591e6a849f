package wal

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/walq/walq/segment"
)

// readToError reads until an error and returns how many messages came before it.
func readToError(t *testing.T, l *Log) (n int, err error) {
	t.Helper()
	r, err := l.NewReader(false)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for {
		_, ok, err := r.Next()
		if err != nil {
			_, _, again := r.Next()
			if again == nil || again.Error() != err.Error() {
				t.Errorf("the next call says %v, want the same error", again)
			}
			return n, err
		}
		if !ok {
			return n, nil
		}
		n++
	}
}

// Who writes into a batch that is being read, so that the body of a message reads as more
// messages, gets none of them a number that another message has.
func TestABatchThatIsChangedGivesNoMoreMessagesThanItHasNumbers(t *testing.T) {
	l := create(t, newQueue(t), Options{Durability: SyncNever})
	inner := make([]byte, segment.FrameHeader)
	for i, w := 0, segment.MakeWord(segment.Committed, 0, 1, 0); i < 8; i++ {
		inner[i] = byte(w >> (8 * i))
	}
	inner[12] = segment.KindMessage
	short := []byte("8 bytes.")
	bodies := [][]byte{short, slices.Concat(inner, inner), short, short}
	parts := make([]segment.Part, len(bodies))
	for i := range parts {
		parts[i].Body = bodies[i]
	}
	last, err := l.AppendBatch(parts)
	if err != nil {
		t.Fatal(err)
	}
	for name, next := range map[string]func(*Reader) (uint64, bool, error){
		"Next": func(r *Reader) (uint64, bool, error) { m, ok, err := r.Next(); return m.Seq, ok, err },
		"View": func(r *Reader) (seq uint64, ok bool, err error) {
			ok, err = r.View(func(m Message) error { seq = m.Seq; return nil })
			return seq, ok, err
		},
	} {
		r, err := l.NewReader(false)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok, err := next(r); !ok || err != nil {
			t.Fatalf("%s: got %v, %v", name, ok, err)
		}
		second := tailOf(t, l).Region().Bytes(last.End.off()-2*32-72, 8)
		before := slices.Clone(second)
		copy(second, inner)
		n := 1
		for seq := uint64(0); ; n++ {
			at, ok, err := next(r)
			if err != nil || !ok {
				if !errors.Is(err, ErrCorrupt) {
					t.Errorf("%s: ends with %v, %v, want a corrupt batch", name, ok, err)
				}
				break
			}
			if at <= seq {
				t.Errorf("%s: message %d follows %d", name, at, seq)
			}
			seq = at
		}
		if n != len(bodies) {
			t.Errorf("%s: got %d messages, want %d", name, n, len(bodies))
		}
		copy(second, before)
		r.Close()
	}
}

// A word that rots to zero looks like the end of the log.
func TestAFreeWordBelowTheDurablePositionIsNotTakenForTheEnd(t *testing.T) {
	for _, readOnly := range []bool{false, true} {
		dir := newQueue(t)
		l := create(t, dir, Options{})
		appendDurable(t, l, "one")
		second := appendDurable(t, l, "two")
		appendDurable(t, l, "three")
		closeLog(t, l)
		at := second.End.off() - segment.FrameHeader - 8
		damage(t, filepath.Join(dir, logName, segment.Name(1)), func(b []byte) []byte { clear(b[at : at+8]); return b })
		l = open(t, dir, Options{ReadOnly: readOnly})
		n, err := readToError(t, l)
		var c *CorruptError
		if n != 1 || !errors.As(err, &c) || c.Offset != at {
			t.Errorf("read-only %v: %d messages, then %v, want 1 and what is wrong at %d", readOnly, n, err, at)
		}
		closeLog(t, l)
	}
}

func TestASegmentThatIsMissingInTheMiddleIsNotTakenForTheEnd(t *testing.T) {
	dir := newQueue(t)
	l := create(t, dir, Options{})
	fillSegments(t, l, 3)
	closeLog(t, l)
	names, err := filepath.Glob(filepath.Join(dir, logName, "*.seg"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(names[1]); err != nil {
		t.Fatal(err)
	}
	l = open(t, dir, Options{})
	_, err = readToError(t, l)
	if c := new(CorruptError); !errors.As(err, &c) || c.Path != names[1] {
		t.Errorf("got %v, want that %s is missing", err, names[1])
	}
}

func TestAFileInPlaceOfADirectoryIsAFault(t *testing.T) {
	for _, name := range []string{groupsName, wakeName, quarantineName} {
		dir := newQueue(t)
		closeLog(t, create(t, dir, Options{}))
		at := filepath.Join(dir, name)
		if err := errors.Join(os.Remove(at), os.WriteFile(at, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
		rep, err := Verify(t.Context(), dir, nil)
		if err != nil || len(rep.Faults) != 1 || rep.Faults[0].Path != at {
			t.Errorf("%s: got %+v, %v, want that it is no directory", name, rep.Faults, err)
		}
	}
}
