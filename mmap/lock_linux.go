//go:build linux && (amd64 || arm64)

package mmap

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// A LockFile holds byte-range locks of an open file description (OFD locks):
// they belong to this one open of the file, not to the process, and the kernel
// frees them when it is closed or the process dies, whatever way it dies and in
// whatever pid namespace it lives. The descriptor is used for nothing else, and
// the file is never mapped: closing some other descriptor of the same file
// would not free the locks, but a shared one would blur who holds them.
//
// Locks of one LockFile do not exclude each other; a mutex keeps its callers
// apart, and callers track what they hold themselves.
type LockFile struct {
	mu sync.Mutex
	f  *File
}

// unlocks tells the race detector, which does not know file locks, that what was done
// under one was done before what is done under the next, by another open of the file in
// this process: in heap-backed files it looks at that.
var unlocks atomic.Uint64

// NewLockFile takes over f, which must not be used for anything else.
func NewLockFile(f *File) *LockFile { return &LockFile{f: f} }

// Close frees every lock.
func (l *LockFile) Close() error { return l.f.Close() }

// Path names the lock file.
func (l *LockFile) Path() string { return l.f.path }

func (l *LockFile) set(kind int16, start int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	lk := unix.Flock_t{Type: kind, Whence: io.SeekStart, Start: start, Len: 1}
	return eintr(func() error { return unix.FcntlFlock(uintptr(l.f.fd), unix.F_OFD_SETLK, &lk) })
}

// TryLock takes the lock on one byte, exclusive or shared, and reports whether
// it did. It never waits. A lock held already is converted in one step.
func (l *LockFile) TryLock(at int64, exclusive bool) (bool, error) {
	kind := int16(unix.F_RDLCK)
	if exclusive {
		kind = unix.F_WRLCK
	}
	err := l.set(kind, at)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return false, nil
	}
	unlocks.Load()
	return err == nil, l.f.fail("lock", err)
}

// ID identifies the file that is locked.
func (l *LockFile) ID() (FileID, error) { return l.f.ID() }

// Unlock frees the lock on one byte.
func (l *LockFile) Unlock(at int64) error {
	unlocks.Add(1)
	return l.f.fail("unlock", l.set(unix.F_UNLCK, at))
}

// HeldByOther reports whether any byte of [start, start+n) is locked
// exclusively by another open of the file. Own locks are never reported.
func (l *LockFile) HeldByOther(start, n int64) (bool, error) {
	lk := unix.Flock_t{Type: unix.F_RDLCK, Whence: io.SeekStart, Start: start, Len: n}
	err := eintr(func() error { return unix.FcntlFlock(uintptr(l.f.fd), unix.F_OFD_GETLK, &lk) })
	if err != nil {
		return false, l.f.fail("probe lock of", err)
	}
	return lk.Type != unix.F_UNLCK, nil
}

// BootID identifies the run of the kernel that has the directory open.
func (d *Dir) BootID() ([16]byte, error) {
	var id [16]byte
	if diskSeam {
		if disk := diskBeneath(d.path); disk != nil {
			return disk.BootID(), nil
		}
	}
	text, err := readLine("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return id, fmt.Errorf("mmap: cannot tell one boot from another: %w", err)
	}
	raw, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(string(text)), "-", ""))
	if err != nil || len(raw) != len(id) {
		return id, fmt.Errorf("mmap: boot id %q is not a UUID", text)
	}
	return [16]byte(raw), nil
}

// readLine reads a short file of the kernel. os.ReadFile asks the netpoller first, which in
// a new process has to be set up for that.
func readLine(path string) ([]byte, error) {
	fd := -1
	err := eintr(func() (err error) { fd, err = unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0); return })
	if err != nil {
		return nil, &PathError{"open", path, err}
	}
	buf, n := make([]byte, 128), 0
	err = eintr(func() (err error) { n, err = unix.Read(fd, buf); return })
	if err = errors.Join(err, unix.Close(fd)); err != nil {
		return nil, &PathError{"read", path, err}
	}
	return buf[:n], nil
}

// Supported is nil where walq can run.
func Supported() error { return nil }
