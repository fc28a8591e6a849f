package sock

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func newDir(t *testing.T) (*Dir, string) {
	t.Helper()
	path := t.TempDir()
	d, err := OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d, path
}

func bind(t *testing.T, d *Dir, name string) *Socket {
	t.Helper()
	s, err := d.Bind(name, 0o640)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newWaker(t *testing.T, d *Dir) *Waker {
	t.Helper()
	w, err := d.NewWaker()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func wantWoken(t *testing.T, s *Socket, limit time.Duration, want bool) {
	t.Helper()
	woken, err := s.Wait(limit)
	if err != nil || woken != want {
		t.Errorf("woken %v, %v, want %v", woken, err, want)
	}
}

func TestAWakeUpEndsAWaitAndManyCountAsOne(t *testing.T) {
	d, path := newDir(t)
	s, w := bind(t, d, "s"), newWaker(t, d)
	if info, err := os.Stat(filepath.Join(path, "s")); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, %v, want 0640", info.Mode(), err)
	}
	wantWoken(t, s, 0, false)
	for range 1000 { // more than its queue holds: none blocks, none fails
		if err := w.Wake("s"); err != nil {
			t.Fatal(err)
		}
	}
	wantWoken(t, s, time.Minute, true)
	wantWoken(t, s, time.Millisecond, false)
	sent := make(chan error)
	go func() { sent <- s.Wake() }()
	wantWoken(t, s, time.Minute, true)
	if err := <-sent; err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := w.Wake("s"); !errors.Is(err, ErrGone) {
		t.Errorf("got %v, want ErrGone", err)
	}
}

func TestASocketWhoseOwnerDiedIsGoneAndIsReplaced(t *testing.T) {
	d, path := newDir(t)
	dead := bind(t, d, "s")
	if err := os.Link(filepath.Join(path, "s"), filepath.Join(path, "left")); err != nil {
		t.Fatal(err)
	}
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(path, "left"), filepath.Join(path, "s")); err != nil {
		t.Fatal(err)
	}
	w := newWaker(t, d)
	if err := w.Wake("s"); !errors.Is(err, ErrGone) {
		t.Errorf("got %v, want ErrGone", err)
	}
	s := bind(t, d, "s")
	if err := w.Wake("s"); err != nil {
		t.Error(err)
	}
	wantWoken(t, s, time.Minute, true)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(filepath.Join(path, "s")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the name is left: %v", err)
	}
}

// What lies unread in sockets counts against who sent it. Far more of them than
// its buffer is good for are stopped, or read no more.
func TestThoseWhoNeverReceiveKeepNobodyFromBeingWoken(t *testing.T) {
	d, _ := newDir(t)
	w := newWaker(t, d)
	const many = 600
	for i := range many {
		s := bind(t, d, fmt.Sprint("idle", i))
		defer func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}()
		if err := w.Wake(fmt.Sprint("idle", i)); err != nil {
			t.Fatal(err)
		}
	}
	s := bind(t, d, "s")
	if err := w.Wake("s"); err != nil {
		t.Error(err)
	}
	wantWoken(t, s, 0, true)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestOnlyADirectoryHoldsSockets(t *testing.T) {
	_, path := newDir(t)
	if err := os.Symlink(path, filepath.Join(path, "link")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"none", "link"} {
		if _, err := OpenDir(filepath.Join(path, name)); err == nil {
			t.Errorf("opened %s", name)
		}
	}
}
