package history

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// write records a little and returns where.
func write(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a")
	r, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	long := bytes.Repeat([]byte("x"), 3000)
	r.Append([]byte("one")).Acked(1, Now())
	r.Append([]byte("two")).Refused("a whim")
	reads := r.Start(0, true)
	reads.Got(Now(), Now(), 1, []byte("one"), 1)
	reads.Gap(2, 5)
	r.StartAnywhere(false)
	r.Append([]byte("three"), long)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestALogIsReadAsItWasWritten(t *testing.T) {
	l, err := Load(write(t))
	if err != nil {
		t.Fatal(err)
	}
	want := []Kind{Invoked, Acked, Invoked, Refused, Started, Got, Gap, Started, Invoked}
	if l.Name != "a" || len(l.Events) != len(want) {
		t.Fatalf("got %q with %d events, want a with %d", l.Name, len(l.Events), len(want))
	}
	last := int64(0)
	for i, e := range l.Events {
		if e.Kind != want[i] {
			t.Errorf("event %d: got %s, want %s", i, e.Kind, want[i])
		}
		if e.At < last {
			t.Errorf("event %d: got time %d behind %d", i, e.At, last)
		}
		last = e.At
	}
	if wrong := Check([]Log{l}, Final{First: 5}); len(wrong) != 0 {
		t.Errorf("got %q, want nothing wrong", wrong)
	}
}

func TestALogSurvivesTheDeathOfItsWriterAtAnyByte(t *testing.T) {
	whole, err := os.ReadFile(write(t))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "b")
	for n := range whole {
		if err := os.WriteFile(path, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := Load(path)
		if want := bytes.Count(whole[:n], []byte("\n")); err != nil || len(l.Events) != want {
			t.Fatalf("%d bytes: got %d events and %v, want %d", n, len(l.Events), err, want)
		}
	}
	if err := os.WriteFile(path, append([]byte("{\n"), whole...), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadAll(filepath.Dir(path)); err == nil {
		t.Error("a broken line in the middle: got no error")
	}
}

func TestATornBodyHasAnotherLabel(t *testing.T) {
	body := bytes.Repeat([]byte("walq"), 50)
	for i := range body {
		torn := bytes.Clone(body)
		torn[i] ^= 1
		if Label(torn) == Label(body) || Label(body[:i]) == Label(body) {
			t.Fatalf("a body that is torn at %d has the same label", i)
		}
	}
}

func TestARecorderTellsWhatItCouldNotWrite(t *testing.T) {
	r, err := Create(filepath.Join(t.TempDir(), "a"))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.f.Close(); err != nil {
		t.Fatal(err)
	}
	r.Append([]byte("one"))
	if err := r.Close(); err == nil {
		t.Error("got no error")
	}
}
