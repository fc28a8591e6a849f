package wal

import (
	"errors"
	"os"
	"path/filepath"
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
