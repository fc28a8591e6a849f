package limits

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// syncRoom is how far a loop of syncs writes before it begins again: far enough
// that one write does not meet the block of the last ones.
const syncRoom = 16 << 20

// Sync is a bare loop: it overwrites the next size bytes of a file in dir that is
// allocated and written already, and waits for fdatasync, for the time d at most
// and as often as samples has room. The samples are in nanoseconds.
func Sync(ctx context.Context, dir string, size int, d time.Duration, samples []int64) (_ []int64, err error) {
	f, err := os.CreateTemp(dir, "limit-sync-*")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	if err := fill(ctx, f, syncRoom); err != nil {
		return nil, err
	}
	body, at, n, began := make([]byte, size), int64(0), 0, time.Now()
	for last := began; n < len(samples); {
		if at+int64(size) > syncRoom {
			at = 0
		}
		if _, err := f.WriteAt(body, at); err != nil {
			return nil, err
		}
		if err := datasync(f); err != nil {
			return nil, err
		}
		at += int64(size)
		now := time.Now()
		samples[n] = now.Sub(last).Nanoseconds()
		n++
		if last = now; now.Sub(began) > d || ctx.Err() != nil {
			break
		}
	}
	return samples[:n], ctx.Err()
}

// fill writes n bytes and syncs them.
func fill(ctx context.Context, f *os.File, n int64) error {
	buf := make([]byte, 1<<20)
	for i := range buf {
		buf[i] = byte(i*7 + i>>8) // no disk takes it for zeros
	}
	for done := int64(0); done < n && ctx.Err() == nil; done += int64(len(buf)) {
		if _, err := f.Write(buf[:min(int64(len(buf)), n-done)]); err != nil {
			return err
		}
	}
	return errors.Join(ctx.Err(), datasync(f))
}

func datasync(f *os.File) error {
	for {
		if err := syscall.Fdatasync(int(f.Fd())); err != syscall.EINTR {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}

// Disk is the rate in bytes per second at which a new file of n bytes in dir is
// written and synced, and then, out of the page cache, read again.
func Disk(ctx context.Context, dir string, n int64) (write, read float64, err error) {
	f, err := os.CreateTemp(dir, "limit-disk-*")
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	began := time.Now()
	if err := fill(ctx, f, n); err != nil {
		return 0, 0, err
	}
	write = float64(n) / time.Since(began).Seconds()
	if err := Uncache(f.Name()); err != nil {
		return 0, 0, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return 0, 0, err
	}
	buf, began := make([]byte, 1<<20), time.Now()
	for err == nil && ctx.Err() == nil {
		_, err = f.Read(buf)
	}
	if err != io.EOF {
		return 0, 0, errors.Join(err, ctx.Err())
	}
	return write, float64(n) / time.Since(began).Seconds(), nil
}

// dontNeed is POSIX_FADV_DONTNEED.
const dontNeed = 4

// Uncache syncs the regular files at and below path and asks the kernel to drop
// them from the page cache. Pages that somebody has mapped stay, and so do all
// pages of a file system that lives in memory.
func Uncache(path string) error {
	return filepath.WalkDir(path, func(name string, entry os.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := datasync(f); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if _, _, errno := syscall.Syscall6(syscall.SYS_FADVISE64, f.Fd(), 0, 0, dontNeed, 0, 0); errno != 0 {
			return fmt.Errorf("fadvise %s: %w", name, errno)
		}
		return nil
	})
}
