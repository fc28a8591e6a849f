package group

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/walq/walq/mmap"
)

func TestACheckpointPutsTheDelayFileOnDiskFirst(t *testing.T) {
	c := newCounter(t, 8, 1)
	c.move(c.look.Now + 5000)
	c.d.r.Word(dlySuspect).Store(2) // a sync failed
	if err := c.file.Checkpoint(c.ring, 2, time.Second); err != nil {
		t.Fatal(err)
	}
	if v := c.d.r.Word(dlySuspect).Load(); v != 0 {
		t.Errorf("the file is suspect after a sync of all of it: %d", v)
	}
	// Of a process that has not opened the delay file, too.
	other, err := mmap.OpenDir(filepath.Dir(c.file.Path()))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	f, err := Open(other, "g", false)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Checkpoint(c.ring, 2, time.Second); err != nil || f.delays.Load() == nil {
		t.Errorf("a checkpoint without the delay file: %v", err)
	}
}

func TestADelayFileOfARemovedGroupIsReplaced(t *testing.T) {
	c := newCounter(t, 8, 1)
	c.move(c.look.Now + 5000)
	path := filepath.Dir(c.file.Path())
	dir, err := mmap.OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if err := os.Remove(filepath.Join(path, FileName("g"))); err != nil {
		t.Fatal(err)
	}
	if err := Create(dir, "g", "tmp", 0o600, Identity{Entries: 8, Created: 5}, Settings{Lease: time.Second}, Base{Seq: 1}); err != nil {
		t.Fatal(err)
	}
	// The removed one may not replace what is the new one's.
	c.file.r.Word(grpDelays).Store(0)
	c.file.delays.Store(nil)
	if d, err := c.file.MakeDelays("tmp.2", 0o600); d != nil || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the removed group made one: %v", err)
	}
	c.file.delays.Store(c.d) // so that it is closed
	f, err := Open(dir, "g", false)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if d, err := f.Delays(); d != nil || err != nil {
		t.Errorf("the new group has the old one's: %v", err)
	}
	d, err := f.MakeDelays("tmp.3", 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, n := d.DelayedFrom(); n != 0 || d.Created != 5 {
		t.Errorf("it has %d messages of the old one", n)
	}
	if err := f.Remove(func(name string) error { return dir.Unlink(name) }); err != nil {
		t.Fatal(err)
	}
	if names, err := dir.Names(); err != nil || len(names) != 0 {
		t.Errorf("left: %v, %v", names, err)
	}
}

func TestAMissingDelayFileIsSaid(t *testing.T) {
	c := newCounter(t, 8, 1)
	c.move(c.look.Now + 5000)
	path := filepath.Dir(c.file.Path())
	if err := os.Remove(filepath.Join(path, DelayFileName("g"))); err != nil {
		t.Fatal(err)
	}
	dir, err := mmap.OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	f, err := Open(dir, "g", false)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if bad := new(CorruptError); !errors.As(func() error { _, err := f.Delays(); return err }(), &bad) {
		t.Error("nothing is said")
	}
}

func TestAClockThatIsSetBackHasEverythingLookedAt(t *testing.T) {
	c := newCounter(t, 8, 1)
	c.d.CheckClock(c.look.Now, c.look.Boot)
	c.move(c.look.Now + 1000)
	c.look.Now += 1000
	if _, _, ok := c.next(); !ok {
		t.Fatal("nothing is due")
	}
	c.dead[c.owner] = true
	c.look.Now -= 3_600_000 // by an hour: nobody would see the death for so long
	c.owner.Slot++
	c.look.Boot += 100
	if _, _, ok := c.next(); ok {
		t.Fatal("the bound is not a time of the wall clock any more")
	}
	c.d.CheckClock(c.look.Now, c.look.Boot)
	if l, _, ok := c.next(); !ok || l.Word.Deaths() != 1 {
		t.Errorf("the death is not seen: %v", ok)
	}
}
