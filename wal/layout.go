package wal

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"syscall"

	"github.com/walq/walq/mmap"
	"github.com/walq/walq/segment"
)

// Names within a queue's directory.
const (
	controlName    = "walq.ctl"
	lockName       = "walq.lock"
	logName        = "log"
	groupsName     = "groups"
	wakeName       = "wake"
	quarantineName = "quarantine"
)

// perms are the permissions of what a queue creates.
type perms struct {
	dir, file fs.FileMode
}

func permsFor(groupAccess bool) perms {
	if groupAccess {
		return perms{0o770 | fs.ModeSetgid, 0o660}
	}
	return perms{0o700, 0o600}
}

// files are the open handles on a queue's directory.
type files struct {
	dir    *mmap.Dir // the queue
	log    *mmap.Dir // its segments
	ctl    *control
	locks  *mmap.LockFile
	perms  perms
	bootID [16]byte
}

// inodes are those of the files that were opened.
func (f *files) inodes() (n inodes, err error) {
	lock, err := f.locks.ID()
	ctl, cerr := f.ctl.f.ID()
	return inodes{lock.Ino, ctl.Ino}, errors.Join(err, cerr)
}

func (f *files) close() error {
	var errs []error
	if f.ctl != nil {
		errs = append(errs, f.ctl.close())
	}
	if f.locks != nil {
		errs = append(errs, f.locks.Close())
	}
	for _, d := range []*mmap.Dir{f.log, f.dir} {
		if d != nil {
			errs = append(errs, d.Close())
		}
	}
	return errors.Join(errs...)
}

// checkPlace refuses directories on file systems where the protocols do not
// hold.
func checkPlace(dir *mmap.Dir, anyFileSystem bool) error {
	kind, err := dir.Unreliable()
	if err != nil {
		return err
	}
	if kind != "" && !anyFileSystem {
		return fmt.Errorf("%s is on %s: %w", dir.Path(), kind, ErrFileSystem)
	}
	return nil
}

// checkOwner refuses a file that does not belong to the queue's owner, or,
// where the group has access, to the directory's group.
func checkOwner(dir mmap.Owner, f *mmap.File, group bool) error {
	o, err := f.Owner()
	if err != nil {
		return err
	}
	if o.UID == dir.UID || group && o.GID == dir.GID {
		return nil
	}
	return fmt.Errorf("%s belongs to user %d, the queue's directory to user %d: %w", f.Path(), o.UID, dir.UID, ErrOwner)
}

// segmentNames lists the first sequence numbers of the segments in the
// directory, ascending.
func segmentNames(log *mmap.Dir) ([]uint64, error) {
	names, err := log.Names()
	if err != nil {
		return nil, err
	}
	var firsts []uint64
	for _, name := range names {
		if first, ok := segment.ParseName(name); ok {
			firsts = append(firsts, first)
		}
	}
	slices.Sort(firsts)
	return firsts, nil
}

// tempName names a file under construction after its maker, so that whoever
// takes the slot next knows that nobody needs it any more.
func tempName(slot int, incarnation, n uint64) string {
	return fmt.Sprintf("%s%d.%d", tempPrefix(slot), incarnation, n)
}

func tempPrefix(slot int) string { return fmt.Sprintf("tmp.%d.", slot) }

// removeTemporaries removes what a dead owner of the slot left half made.
func removeTemporaries(log *mmap.Dir, slot int) error {
	names, err := log.Names()
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasPrefix(name, tempPrefix(slot)) {
			err = errors.Join(err, removeTemporary(log, name))
		}
	}
	return err
}

// removeTemporary removes a file under construction. What has such a name and is a
// directory is none of ours, and in nobody's way.
func removeTemporary(log *mmap.Dir, name string) error {
	err := log.Unlink(name)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.EISDIR) {
		return nil
	}
	return err
}
