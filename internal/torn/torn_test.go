//go:build walqsteps

package torn

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/walq/walq/mmap"
)

// A place is a directory with a disk beneath it.
type place struct {
	t    *testing.T
	dir  *mmap.Dir
	disk *Disk
}

func newPlace(t *testing.T, files map[string]string) *place {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(root, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	disk, remove, err := New(root, 7)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(remove)
	dir, err := mmap.OpenDir(root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := dir.Close(); err != nil {
			t.Error(err)
		}
	})
	return &place{t, dir, disk}
}

func (p *place) create(name string, size int64) (*mmap.File, *mmap.Region) {
	p.t.Helper()
	f, err := p.dir.Create(name, 0o600)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		if err := f.Close(); err != nil {
			p.t.Error(err)
		}
	})
	if err := f.Allocate(0, size); err != nil {
		p.t.Fatal(err)
	}
	r, err := f.Map(size, false)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(r.Unmap)
	return f, r
}

func (p *place) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// outcomes makes many cuts and gives what show makes of them.
func (p *place) outcomes(show func(files map[string][]byte) string) map[string]int {
	random := rand.New(rand.NewPCG(1, 2))
	seen := map[string]int{}
	for range 3000 {
		seen[show(p.disk.Cut(random).Files())]++
	}
	return seen
}

func (p *place) want(what string, got map[string]int, want ...string) {
	p.t.Helper()
	for _, w := range want {
		if got[w] == 0 {
			p.t.Errorf("%s: %q never occurs", what, w)
		}
		delete(got, w)
	}
	if len(got) > 0 {
		p.t.Errorf("%s: these must not occur: %v", what, got)
	}
}

func TestAFileThatIsNotSyncedMayBeThereWithoutItsBytes(t *testing.T) {
	p := newPlace(t, nil)
	_, r := p.create("f", 4096)
	copy(r.Bytes(0, 1), "x")
	p.want("f", p.outcomes(func(files map[string][]byte) string {
		c, ok := files["f"]
		switch {
		case !ok:
			return "no name"
		case len(c) == 0:
			return "no size"
		}
		return string(c[:1])
	}), "no name", "no size", "\x00", "x")
}

// Two sectors that were written one after the other, each with a value in between.
func TestSectorsAreOldNewOrInBetweenEachForItself(t *testing.T) {
	p := newPlace(t, nil)
	f, r := p.create("f", 8192)
	p.must(f.Sync())
	p.must(p.dir.Sync())
	for _, v := range []string{"1", "2"} {
		copy(r.Bytes(0, 1), v)
		p.disk.Look()
		copy(r.Bytes(512, 1), v)
		p.disk.Look()
	}
	show := func(files map[string][]byte) string {
		return string(bytes.ReplaceAll([]byte{files["f"][0], files["f"][512]}, []byte{0}, []byte{'0'}))
	}
	p.want("both", p.outcomes(show), "00", "01", "02", "10", "11", "12", "20", "21", "22")
	p.must(r.Flush(0, 1))
	p.want("after a flush of their page", p.outcomes(show), "22")
}

func TestAFlushTakesItsPagesOnly(t *testing.T) {
	p := newPlace(t, nil)
	f, r := p.create("f", 8192)
	p.must(f.Sync())
	p.must(p.dir.Sync())
	copy(r.Bytes(0, 1), "a")
	copy(r.Bytes(4096, 1), "b")
	p.must(r.Flush(0, 1))
	p.want("the other page", p.outcomes(func(files map[string][]byte) string {
		return string(files["f"][0]) + string(files["f"][4096])
	}), "a\x00", "ab")
}

func TestNamesStayAsTheyWereUntilTheirDirectoryIsSynced(t *testing.T) {
	p := newPlace(t, map[string]string{"a": "A", "b": "B"})
	show := func(files map[string][]byte) string {
		s := ""
		for _, name := range []string{"a", "b", "c"} {
			if c, ok := files[name]; ok {
				s += name + string(c)
			}
		}
		return s
	}
	p.must(p.dir.Rename("a", p.dir, "c"))
	p.must(p.dir.Unlink("b"))
	p.want("a moved, b removed", p.outcomes(show), "aAbB", "bBcA", "aA", "cA")
	p.must(p.dir.Sync())
	p.want("after the sync", p.outcomes(show), "cA")
	p.must(p.dir.Link("c", "b"))
	p.want("linked", p.outcomes(show), "cA", "bAcA")
}

// As Linux does: the pages are clean after the failure, and the next sync succeeds
// without having written them.
func TestWhatASyncFailedToWriteStaysLostUntilItIsDirtyAgain(t *testing.T) {
	p := newPlace(t, nil)
	f, r := p.create("f", 8192)
	p.must(f.Sync())
	p.must(p.dir.Sync())
	copy(r.Bytes(0, 1), "x")
	broken := errors.New("broken")
	told := 0
	p.disk.FailSyncs(func(o mmap.DiskOp) (error, func()) { return broken, func() { told++ } })
	if err := r.Flush(0, 1); !errors.Is(err, broken) || told != 1 {
		t.Errorf("got %v, %d told, want the injected error", err, told)
	}
	p.disk.FailSyncs(nil)
	show := func(files map[string][]byte) string { return string(files["f"][:1]) }
	p.must(r.Flush(0, 1))
	p.want("a sync after the failure", p.outcomes(show), "\x00", "x")
	r.Touch(4096, 1)
	p.must(r.Flush(0, 1))
	p.want("another page was touched", p.outcomes(show), "\x00", "x")
	r.Touch(0, 1)
	p.must(r.Flush(0, 1))
	p.want("its page was touched", p.outcomes(show), "x")
}

func TestWhatIsThereAtFirstIsOnTheDisk(t *testing.T) {
	p := newPlace(t, map[string]string{"a": "A"})
	p.want("a", p.outcomes(func(files map[string][]byte) string { return string(files["a"]) }), "A")
	if id, err := p.dir.BootID(); err != nil || id[0] != 7 {
		t.Errorf("boot id %x, %v, want the disk's", id, err)
	}
}

func TestACutIsWrittenAsItIs(t *testing.T) {
	p := newPlace(t, map[string]string{"a": "A"})
	p.must(p.dir.Mkdir("d", 0o700))
	p.must(p.dir.Sync())
	to := filepath.Join(t.TempDir(), "copy")
	p.must(p.disk.Now().Write(to))
	if c, err := os.ReadFile(filepath.Join(to, "a")); err != nil || string(c) != "A" {
		t.Errorf("a: got %q, %v", c, err)
	}
	if info, err := os.Stat(filepath.Join(to, "d")); err != nil || !info.IsDir() {
		t.Errorf("d: got %v, %v", info, err)
	}
}
