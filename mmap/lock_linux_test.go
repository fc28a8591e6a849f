//go:build linux && (amd64 || arm64)

package mmap

import (
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/walq/walq/internal/testx"
)

// lockFiles opens the same new file n times.
func lockFiles(t *testing.T, n int) (all []*LockFile) {
	t.Helper()
	d := openDir(t, t.TempDir())
	create(t, d, "lock", nil)
	for range n {
		f, err := d.Open("lock", false)
		if err != nil {
			t.Fatal(err)
		}
		l := NewLockFile(f)
		t.Cleanup(func() { _ = l.Close() }) // some tests close it themselves
		all = append(all, l)
	}
	return all
}

func wantLock(t *testing.T, l *LockFile, at int64, exclusive, want bool) {
	t.Helper()
	if got, err := l.TryLock(at, exclusive); got != want || err != nil {
		t.Errorf("byte %d, exclusive %v: got %v, %v, want %v", at, exclusive, got, err, want)
	}
}

func wantHeld(t *testing.T, l *LockFile, start, n int64, want bool) {
	t.Helper()
	if got, err := l.HeldByOther(start, n); got != want || err != nil {
		t.Errorf("bytes from %d to %d held by another: got %v, %v, want %v", start, start+n, got, err, want)
	}
}

func TestTwoOpensWithinOneProcessExcludeEachOther(t *testing.T) {
	l := lockFiles(t, 2)
	wantLock(t, l[0], 64, true, true)
	wantLock(t, l[1], 64, true, false)
	wantLock(t, l[1], 64, false, false)
	wantLock(t, l[1], 65, true, true) // another byte
	ok(t, func() error { return l[0].Unlock(64) })
	wantLock(t, l[1], 64, true, true)
	wantLock(t, l[0], 64, false, false)
}

func TestSharedLocksGoTogether(t *testing.T) {
	l := lockFiles(t, 3)
	wantLock(t, l[0], 0, false, true)
	wantLock(t, l[1], 0, false, true)
	wantLock(t, l[2], 0, true, false)
	ok(t, func() error { return l[0].Unlock(0) })
	wantLock(t, l[2], 0, true, false)
	ok(t, func() error { return l[1].Unlock(0) })
	wantLock(t, l[2], 0, true, true)
}

func TestALockIsConvertedWithoutLettingItGo(t *testing.T) {
	l := lockFiles(t, 2)
	wantLock(t, l[0], 0, false, true)
	wantLock(t, l[1], 0, false, true)
	wantLock(t, l[0], 0, true, false) // somebody else shares it
	wantLock(t, l[1], 0, true, false) // and the failure kept the shared lock
	ok(t, func() error { return l[1].Unlock(0) })
	wantLock(t, l[0], 0, true, true)
	wantLock(t, l[1], 0, false, false)
	wantLock(t, l[0], 0, false, true) // and back
	wantLock(t, l[1], 0, false, true)
}

func TestAProbeSeesLocksOfOthersOnly(t *testing.T) {
	l := lockFiles(t, 2)
	wantHeld(t, l[0], 64, 1024, false)
	wantLock(t, l[0], 70, true, true)
	wantHeld(t, l[0], 64, 1024, false)
	wantHeld(t, l[1], 64, 1024, true)
	wantHeld(t, l[1], 70, 1, true)
	wantHeld(t, l[1], 64, 6, false)
	wantHeld(t, l[1], 71, 1000, false)
	wantLock(t, l[0], 70, false, true) // shared ones do not count
	wantHeld(t, l[1], 64, 1024, false)
}

func TestAProbeChangesNothing(t *testing.T) {
	l := lockFiles(t, 3)
	wantHeld(t, l[0], 0, 2000, false)
	wantLock(t, l[1], 5, true, true)
	wantHeld(t, l[0], 0, 2000, true)
	wantLock(t, l[2], 6, true, true)
	ok(t, func() error { return l[1].Unlock(5) })
	wantLock(t, l[2], 5, true, true)
}

func TestAProbeWorksOnAFileOpenedForReading(t *testing.T) {
	l := lockFiles(t, 1)
	f, err := openDir(t, filepath.Dir(l[0].Path())).Open("lock", true)
	if err != nil {
		t.Fatal(err)
	}
	reader := NewLockFile(f)
	defer func() { ok(t, reader.Close) }()
	wantHeld(t, reader, 64, 10, false)
	wantLock(t, l[0], 64, true, true)
	wantHeld(t, reader, 64, 10, true)
}

func TestCloseFreesTheLocksOfThisOpenOnly(t *testing.T) {
	l := lockFiles(t, 3)
	wantLock(t, l[0], 1, true, true)
	wantLock(t, l[1], 2, true, true)
	ok(t, l[0].Close)
	wantLock(t, l[2], 1, true, true)
	wantLock(t, l[2], 2, true, false)
}

func TestOfManyWhoTryOneGetsTheLock(t *testing.T) {
	l := lockFiles(t, 8)
	var got atomic.Int32
	var wg sync.WaitGroup
	for _, l := range l {
		wg.Go(func() {
			if ok, err := l.TryLock(99, true); err != nil {
				t.Error(err)
			} else if ok {
				got.Add(1)
			}
		})
	}
	wg.Wait()
	if got.Load() != 1 {
		t.Errorf("%d of them have it, want 1", got.Load())
	}
}

func TestTheKernelFreesTheLocksOfAKilledProcess(t *testing.T) {
	l := lockFiles(t, 1)[0]
	cmd := startLockHolder(t, l.Path())
	wantHeld(t, l, 0, 100, true)
	wantLock(t, l, 7, true, false)
	wantLock(t, l, 8, true, false)
	wantLock(t, l, 8, false, true)
	ok(t, func() error { return l.Unlock(8) })
	if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	wantHeld(t, l, 0, 100, true) // stopped is not dead
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it says that it was killed
	testx.Eventually(t, 10*time.Second, func() bool {
		held, err := l.HeldByOther(0, 100)
		return !held && err == nil
	}, "the locks of a dead process are still held")
	wantLock(t, l, 7, true, true)
	wantLock(t, l, 8, true, true)
}

func TestTheBootIDStaysTheSame(t *testing.T) {
	d, err := OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	a, err := d.BootID()
	b, err2 := d.BootID()
	if a != b || a == [16]byte{} || err != nil || err2 != nil {
		t.Errorf("got %x and %x, %v, %v", a, b, err, err2)
	}
}
