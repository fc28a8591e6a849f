package wal

import (
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"syscall"

	"github.com/walq/walq/mmap"
	"github.com/walq/walq/segment"
)

// evidence is what verify and repair look at: the files of a queue, read and never
// mapped.
type evidence interface {
	// join gives the whole path of a name in the queue's directory.
	join(names ...string) string
	// control reads the control file, at most a byte more than it should have.
	control() (content []byte, path string, err error)
	// segments lists the log, ascending.
	segments() ([]listed, error)
	// segment reads one of them; the region is the caller's own.
	segment(first uint64) (*mmap.Region, error)
	// header reads at most its first page.
	header(first uint64) ([]byte, error)
	// groupAccess tells by the directory's mode whether its group may use the queue.
	groupAccess() bool
	// users tells whether somebody has the queue open, and when and where this is.
	users() (users, error)
}

type listed struct {
	first uint64
	bytes int64
}

// users is what surrounds the files.
type users struct {
	boot   [16]byte // the machine's run
	locked lockState
	inodes
}

type lockState int

const (
	nobody lockState = iota
	inUse
	noLockFile
)

// onDisk is the real thing.
type onDisk struct {
	dir *mmap.Dir
	// locks, if not nil, are the caller's own. Else the lock file is opened to look.
	locks *mmap.LockFile
}

func (d *onDisk) join(names ...string) string {
	return filepath.Join(append([]string{d.dir.Path()}, names...)...)
}

func (d *onDisk) control() (content []byte, path string, err error) {
	f, err := d.dir.Open(controlName, true)
	if err != nil {
		return nil, d.join(controlName), err
	}
	content = make([]byte, controlBytes+1)
	n, err := f.ReadAt(content, 0)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return content[:n], f.Path(), errors.Join(err, f.Close())
}

func (d *onDisk) log(f func(log *mmap.Dir) error) error {
	log, err := d.dir.OpenDir(logName)
	if err != nil {
		return err
	}
	return joinFirst(f(log), log.Close())
}

func (d *onDisk) segments() (all []listed, err error) {
	err = d.log(func(log *mmap.Dir) error {
		firsts, err := segmentNames(log)
		if err != nil {
			return err
		}
		for _, first := range firsts {
			f, err := log.Open(segment.Name(first), true)
			if errors.Is(err, fs.ErrNotExist) {
				continue // trimmed meanwhile
			}
			if err != nil {
				return err
			}
			size, err := f.Size()
			if err := errors.Join(err, f.Close()); err != nil {
				return err
			}
			all = append(all, listed{first, size})
		}
		return nil
	})
	return all, err
}

func (d *onDisk) segment(first uint64) (image *mmap.Region, err error) {
	err = d.log(func(log *mmap.Dir) error {
		f, err := log.Open(segment.Name(first), true)
		if err != nil {
			return err
		}
		image, err = f.Copy()
		return errors.Join(err, f.Close())
	})
	return image, err
}

func (d *onDisk) header(first uint64) (page []byte, err error) {
	err = d.log(func(log *mmap.Dir) error {
		f, err := log.Open(segment.Name(first), true)
		if err != nil {
			return err
		}
		page = make([]byte, segment.HeaderBytes)
		n, err := f.ReadAt(page, 0)
		if errors.Is(err, io.EOF) {
			err = nil
		}
		page = page[:n]
		return errors.Join(err, f.Close())
	})
	return page, err
}

// misplaced finds what stands where a directory of the queue should be.
func (d *onDisk) misplaced() (faults []Fault) {
	for _, name := range []string{groupsName, wakeName, quarantineName} {
		sub, err := d.dir.OpenDir(name)
		if err == nil {
			err = sub.Close()
		}
		if errors.Is(err, syscall.ENOTDIR) || errors.Is(err, mmap.ErrSymlink) {
			faults = append(faults, Fault{d.join(name), 0, "it is no directory"})
		}
	}
	return faults
}

func (d *onDisk) groupAccess() bool {
	owner, err := d.dir.Owner()
	return err == nil && owner.Mode&0o070 != 0
}

func (d *onDisk) users() (u users, err error) {
	if u.boot, err = d.dir.BootID(); err != nil {
		return u, err
	}
	if ctl, err := d.dir.Open(controlName, true); err == nil {
		id, err := ctl.ID()
		if err = errors.Join(err, ctl.Close()); err != nil {
			return u, err
		}
		u.control = id.Ino
	}
	locks := d.locks
	if locks == nil {
		f, err := d.dir.Open(lockName, true)
		if isNotExist(err) {
			u.locked = noLockFile
			return u, nil
		}
		if err != nil {
			return u, err
		}
		locks = mmap.NewLockFile(f)
		defer func() { err = errors.Join(err, locks.Close()) }()
	}
	id, err := locks.ID()
	if err != nil {
		return u, err
	}
	u.lock = id.Ino
	used, err := locks.HeldByOther(lockSlots, maxSlots)
	if used {
		u.locked = inUse
	}
	return u, err
}
