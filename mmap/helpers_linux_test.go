//go:build linux && (amd64 || arm64)

package mmap

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/walq/walq/internal/testx"
)

// lockHolder is the variable by which the test binary is told to be a process
// that holds a lock until it is killed: the lock file's path.
const lockHolder = "WALQ_TEST_HOLD_LOCK"

func TestMain(m *testing.M) {
	if path := os.Getenv(lockHolder); path != "" {
		holdLock(path)
	}
	os.Exit(m.Run())
}

// holdLock locks byte 7 exclusively, byte 8 shared, says so, and waits for its
// death, or for the test's.
func holdLock(path string) {
	dir, err := OpenDir(filepath.Dir(path))
	if err != nil {
		panic(err)
	}
	f, err := dir.Open(filepath.Base(path), false)
	if err != nil {
		panic(err)
	}
	l := NewLockFile(f)
	for at, exclusive := range map[int64]bool{7: true, 8: false} {
		if ok, err := l.TryLock(at, exclusive); !ok || err != nil {
			panic("cannot lock")
		}
	}
	os.Stdout.WriteString("locked\n")
	os.Stdin.Read(make([]byte, 1)) // ends with the test
	os.Exit(0)
}

// startLockHolder starts such a process and returns when it has the locks.
func startLockHolder(t *testing.T, path string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), lockHolder+"="+path)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stdin.Close() }) // it may be dead already
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := make([]byte, 7)
	if n, err := stdout.Read(said); err != nil || !bytes.Equal(said[:n], []byte("locked\n")) {
		t.Fatalf("the process said %q, %v", said[:n], err)
	}
	return cmd
}

// ok fails the test on an error of a clean-up.
func ok(t testing.TB, f func() error) {
	t.Helper()
	if err := f(); err != nil {
		t.Error(err)
	}
}

func openDir(t testing.TB, path string) *Dir {
	t.Helper()
	d, err := OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ok(t, d.Close) })
	return d
}

// create makes a file with this content.
func create(t testing.TB, d *Dir, name string, content []byte) *File {
	t.Helper()
	f, err := d.Create(name, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ok(t, f.Close) })
	if _, err := f.WriteAt(content, 0); err != nil {
		t.Fatal(err)
	}
	return f
}

// mapFile makes a file of n zero bytes and maps size of them.
func mapFile(t testing.TB, n, size int64) (*File, *Region) {
	t.Helper()
	f := create(t, openDir(t, t.TempDir()), "file", make([]byte, n))
	r, err := f.Map(size, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Unmap)
	return f, r
}

// mount mounts a file system that goes away with the test.
func mount(t *testing.T, kind, options string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		testx.Skip(t, "mounting a file system needs root")
	}
	dir := filepath.Join(t.TempDir(), "mnt")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("walq-test", dir, kind, 0, options); err != nil {
		testx.Skip(t, "cannot mount a file system of kind "+kind+": "+err.Error())
	}
	t.Cleanup(func() { ok(t, func() error { return syscall.Unmount(dir, syscall.MNT_DETACH) }) })
	return dir
}
