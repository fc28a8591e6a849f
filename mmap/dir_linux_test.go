//go:build linux && (amd64 || arm64)

package mmap

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// opens are all ways to a file of a name.
func opens(d *Dir) map[string]func(string) (*File, error) {
	return map[string]func(string) (*File, error){
		"open":           func(name string) (*File, error) { return d.Open(name, false) },
		"open to read":   func(name string) (*File, error) { return d.Open(name, true) },
		"create":         func(name string) (*File, error) { return d.Create(name, 0o600) },
		"open or create": func(name string) (*File, error) { return d.OpenOrCreate(name, 0o600) },
	}
}

func TestWhatIsNoRegularFileIsRefused(t *testing.T) {
	path := t.TempDir()
	d := openDir(t, path)
	create(t, d, "file", []byte("precious"))
	in := func(name string) string { return filepath.Join(path, name) }
	if err := errors.Join(
		os.Symlink("file", in("link")), os.Symlink("nowhere", in("dangling")), os.Symlink(".", in("dirlink")),
		os.Mkdir(in("dir"), 0o700), syscall.Mkfifo(in("fifo"), 0o600),
	); err != nil {
		t.Fatal(err)
	}
	socket, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { ok(t, func() error { return syscall.Close(socket) }) }()
	if err := syscall.Bind(socket, &syscall.SockaddrUnix{Name: in("socket")}); err != nil {
		t.Fatal(err)
	}
	for how, open := range opens(d) {
		for _, name := range []string{"link", "dangling", "dirlink", "dir", "fifo", "socket"} {
			f, err := open(name) // must not wait for a fifo's other end
			if err == nil {
				ok(t, f.Close)
				t.Errorf("%s: a %s was opened", how, name)
				continue
			}
			var path *PathError
			if !errors.As(err, &path) || path.Path != in(name) {
				t.Errorf("%s: %s: the error has no path: %v", how, name, err)
			}
			symlink := name == "link" || name == "dangling" || name == "dirlink"
			if symlink && how != "create" && !errors.Is(err, ErrSymlink) {
				t.Errorf("%s: %s: got %v, want ErrSymlink", how, name, err)
			}
			if name == "fifo" && how != "create" && !errors.Is(err, ErrNotRegular) {
				t.Errorf("%s: %s: got %v, want ErrNotRegular", how, name, err)
			}
		}
	}
	if _, err := os.Lstat(in("nowhere")); err == nil {
		t.Error("a file was made through a link")
	}
}

func TestADirectoryIsNotOpenedThroughALink(t *testing.T) {
	path := t.TempDir()
	d := openDir(t, path)
	if err := errors.Join(d.Mkdir("dir", 0o700), os.Symlink("dir", filepath.Join(path, "link"))); err != nil {
		t.Fatal(err)
	}
	create(t, d, "file", nil)
	if sub, err := d.OpenDir("link"); !errors.Is(err, ErrSymlink) {
		t.Errorf("a link: got %v, %v, want ErrSymlink", sub, err)
	}
	if sub, err := d.OpenDir("file"); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("a file: got %v, %v, want ENOTDIR", sub, err)
	}
	if sub, err := d.OpenDir("none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing: got %v, %v, want ErrNotExist", sub, err)
	}
	sub, err := d.OpenDir("dir")
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(path, "dir"); sub.Path() != want || sub.Join("x") != filepath.Join(want, "x") {
		t.Errorf("path %s, joined %s", sub.Path(), sub.Join("x"))
	}
	ok(t, sub.Close)
}

func TestANameHasOneComponent(t *testing.T) {
	outer := t.TempDir()
	if err := os.Mkdir(filepath.Join(outer, "d"), 0o700); err != nil {
		t.Fatal(err)
	}
	d := openDir(t, filepath.Join(outer, "d"))
	create(t, d, "file", nil)
	for _, name := range []string{"", ".", "..", "../x", "a/b", "/etc/passwd", "x/", "/", "a\x00b"} {
		for how, open := range opens(d) {
			if f, err := open(name); err == nil {
				ok(t, f.Close)
				t.Errorf("%s: %q was opened", how, name)
			}
		}
		for how, f := range map[string]func() error{
			"mkdir":       func() error { return d.Mkdir(name, 0o700) },
			"unlink":      func() error { return d.Unlink(name) },
			"link from":   func() error { return d.Link(name, "new") },
			"link to":     func() error { return d.Link("file", name) },
			"rename from": func() error { return d.Rename(name, d, "new") },
			"rename to":   func() error { return d.Rename("file", d, name) },
			"open dir":    func() error { _, err := d.OpenDir(name); return err },
		} {
			if f() == nil {
				t.Errorf("%s: %q was accepted", how, name)
			}
		}
	}
	entries, err := os.ReadDir(outer)
	if len(entries) != 1 || err != nil {
		t.Errorf("the directory above now holds %v, %v", entries, err)
	}
	if names, err := d.Names(); !slices.Equal(names, []string{"file"}) || err != nil {
		t.Errorf("the directory holds %q, %v", names, err)
	}
}

// TestPermissionsAreExact sets a umask, which is the process's: nothing else
// runs meanwhile.
func TestPermissionsAreExact(t *testing.T) {
	path := t.TempDir()
	d := openDir(t, path)
	for _, umask := range []int{0, 0o022, 0o077, 0o777} {
		before := syscall.Umask(umask)
		for _, perm := range []fs.FileMode{0o600, 0o660, 0o644} {
			for how, open := range map[string]func() (*File, error){
				"create":         func() (*File, error) { return d.Create("file", perm) },
				"open or create": func() (*File, error) { return d.OpenOrCreate("file", perm) },
			} {
				f, err := open()
				if err != nil {
					t.Fatal(err)
				}
				if o, err := f.Owner(); o.Mode != perm || err != nil {
					t.Errorf("umask %03o, %s: got %v, %v, want %v", umask, how, o.Mode, err, perm)
				}
				if err := errors.Join(f.Close(), d.Unlink("file")); err != nil {
					t.Fatal(err)
				}
			}
		}
		for _, perm := range []fs.FileMode{0o700, 0o770 | fs.ModeSetgid} {
			ok(t, func() error { return d.Mkdir("dir", perm) })
			info, err := os.Stat(filepath.Join(path, "dir"))
			if err != nil || info.Mode() != perm|fs.ModeDir {
				t.Errorf("umask %03o, mkdir: got %v, %v, want %v", umask, info.Mode(), err, perm|fs.ModeDir)
			}
			ok(t, func() error { return os.Remove(filepath.Join(path, "dir")) })
		}
		syscall.Umask(before)
	}
}

func TestWhatIsThereKeepsItsContentAndPermissions(t *testing.T) {
	d := openDir(t, t.TempDir())
	create(t, d, "file", []byte("content"))
	f, err := d.OpenOrCreate("file", 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { ok(t, f.Close) }()
	size, err1 := f.Size()
	o, err2 := f.Owner()
	if size != 7 || o.Mode != 0o600 || err1 != nil || err2 != nil {
		t.Errorf("size %d, mode %v, %v, %v", size, o.Mode, err1, err2)
	}
	if _, err := d.Create("file", 0o600); !errors.Is(err, fs.ErrExist) {
		t.Errorf("create: got %v, want ErrExist", err)
	}
	if _, err := d.Open("none", false); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("open: got %v, want ErrNotExist", err)
	}
	ok(t, func() error { return d.Mkdir("dir", 0o700) })
	ok(t, func() error { return d.Mkdir("dir", 0o750) })
	sub, err := d.OpenDir("dir")
	if err != nil {
		t.Fatal(err)
	}
	if o, err := sub.Owner(); o.Mode != 0o700 || o.UID != uint32(os.Geteuid()) || err != nil {
		t.Errorf("a directory that was there: got %+v, %v", o, err)
	}
	ok(t, sub.Close)
}

func TestOfManyWhoLinkOneNameOneSucceeds(t *testing.T) {
	d := openDir(t, t.TempDir())
	names := []string{"a", "b", "c", "d", "e", "f"}
	for _, name := range names {
		create(t, d, name, []byte(name))
	}
	var linked atomic.Int32
	var wg sync.WaitGroup
	for _, name := range names {
		wg.Go(func() {
			err := d.Link(name, "final")
			if err == nil {
				linked.Add(1)
			} else if !errors.Is(err, fs.ErrExist) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if linked.Load() != 1 {
		t.Errorf("%d succeeded, want 1", linked.Load())
	}
	if err := d.Link("none", "other"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of nothing: got %v", err)
	}
}

func TestRenameMovesBetweenDirectories(t *testing.T) {
	d := openDir(t, t.TempDir())
	ok(t, func() error { return d.Mkdir("other", 0o700) })
	to, err := d.OpenDir("other")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { ok(t, to.Close) }()
	create(t, d, "a", []byte("new"))
	create(t, to, "b", []byte("old"))
	if err := errors.Join(d.Rename("a", to, "b"), d.Sync(), to.Sync()); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(to.Join("b")); string(got) != "new" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if names, err := d.Names(); !slices.Equal(names, []string{"other"}) || err != nil {
		t.Errorf("left: %q, %v", names, err)
	}
}

func TestListingsAtOnceAreEachWhole(t *testing.T) {
	d := openDir(t, t.TempDir())
	for i := range 100 {
		create(t, d, string(rune('a'+i%26))+string(rune('a'+i/26)), nil)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 20 {
				if names, err := d.Names(); len(names) != 100 || err != nil {
					t.Errorf("got %d names, %v, want 100", len(names), err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestALocalFileSystemIsReliable(t *testing.T) {
	if kind, err := openDir(t, mount(t, "tmpfs", "size=1m")).Unreliable(); kind != "" || err != nil {
		t.Errorf("tmpfs: got %q, %v", kind, err)
	}
}

func TestAnOverlayIsNot(t *testing.T) {
	base := mount(t, "tmpfs", "size=1m")
	for _, name := range []string{"lower", "upper", "work"} {
		if err := os.Mkdir(filepath.Join(base, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	options := "lowerdir=" + base + "/lower,upperdir=" + base + "/upper,workdir=" + base + "/work"
	d, err := OpenDir(mount(t, "overlay", options))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { ok(t, d.Close) }() // before the file system goes away
	if kind, err := d.Unreliable(); kind != "overlayfs" || err != nil {
		t.Errorf("got %q, %v, want overlayfs", kind, err)
	}
}
