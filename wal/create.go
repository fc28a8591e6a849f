package wal

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/walq/walq/mmap"
	"github.com/walq/walq/segment"
)

// openFiles opens the directory, the control file and the lock file, and makes
// a queue if there is none and the options ask for it.
func (l *Log) openFiles(ctx context.Context, path string) (err error) {
	create := l.o.Create != nil && !l.o.ReadOnly
	if create {
		if err := l.o.Create.Check(); err != nil {
			return err
		}
		if err := makeDir(path, permsFor(l.o.Create.GroupAccess)); err != nil {
			return err
		}
	}
	if l.dir, err = mmap.OpenDir(path); err != nil {
		return err
	}
	if l.bootID, err = l.dir.BootID(); err != nil {
		return err
	}
	if err := checkPlace(l.dir, l.o.AnyFileSystem); err != nil {
		return err
	}
	l.ctl, err = openControl(l.dir, l.o.ReadOnly)
	if errors.Is(err, fs.ErrNotExist) && create {
		if err = createQueue(ctx, l.dir, *l.o.Create); err == nil {
			l.ctl, err = openControl(l.dir, false)
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w: it has no control file %s", l.dir.Path(), ErrNotQueue, controlName)
	}
	if err != nil {
		return err
	}
	if l.settings, err = l.ctl.settings(); err != nil {
		return err
	}
	l.perms = permsFor(l.settings.GroupAccess)
	return l.openRest()
}

func (l *Log) openRest() error {
	owner, err := l.dir.Owner()
	if err != nil {
		return err
	}
	if !l.o.ReadOnly && !l.settings.GroupAccess && owner.UID != uint32(os.Geteuid()) {
		return fmt.Errorf("%s belongs to user %d, you are user %d: %w", l.dir.Path(), owner.UID, os.Geteuid(), ErrOwner)
	}
	if err := checkOwner(owner, l.ctl.f, l.settings.GroupAccess); err != nil {
		return err
	}
	lock, err := l.dir.Open(lockName, l.o.ReadOnly)
	if err != nil {
		return err
	}
	l.locks = mmap.NewLockFile(lock)
	if err := checkOwner(owner, lock, l.settings.GroupAccess); err != nil {
		return err
	}
	l.log, err = l.dir.OpenDir(logName)
	return err
}

func makeDir(path string, p perms) error {
	err := os.Mkdir(path, p.dir.Perm())
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("%w (%w)", mmap.ErrDiskFull, err)
	}
	if err != nil {
		return err
	}
	dir, err := mmap.OpenDir(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Chmod(p.dir), syncParent(dir), dir.Close())
}

// syncParent makes the name of the queue's directory durable.
func syncParent(dir *mmap.Dir) error {
	parent, err := mmap.OpenDir(filepath.Dir(dir.Path()))
	if err != nil {
		return nil // a parent that may not be read cannot be synced either
	}
	return errors.Join(parent.Sync(), parent.Close())
}

// createQueue makes a queue in dir unless another process just did. The control
// file is linked last: where it is, the queue is whole. A creator that died
// leaves a first segment without frames at most, which the next one replaces.
func createQueue(ctx context.Context, dir *mmap.Dir, s Settings) (err error) {
	p := permsFor(s.GroupAccess)
	if err := checkEmpty(dir); err != nil {
		return err
	}
	lf, err := dir.OpenOrCreate(lockName, p.file)
	if err != nil {
		return err
	}
	locks := mmap.NewLockFile(lf)
	defer func() { err = errors.Join(err, locks.Close()) }()
	if err := lockWait(ctx, locks, lockRecovery, true); err != nil {
		return err
	}
	switch ctl, err := dir.Open(controlName, true); {
	case err == nil:
		return ctl.Close() // another process was faster
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	for _, name := range []string{logName, groupsName, wakeName, quarantineName} {
		if err := dir.Mkdir(name, p.dir); err != nil {
			return err
		}
	}
	log, err := dir.OpenDir(logName)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	if err := clearHalfMade(log); err != nil {
		return err
	}
	var queue [16]byte
	if _, err := crand.Read(queue[:]); err != nil {
		return err
	}
	queue[6], queue[8] = queue[6]&0x0f|0x40, queue[8]&0x3f|0x80 // a UUID of version 4
	first := segment.Header{Size: s.SegmentSize, Ordinal: 1, First: 1, Epoch: 1, Queue: queue, Created: time.Now().UnixNano()}
	if err := makeFirst(log, p, first); err != nil {
		return err
	}
	// What the queue needs beside the control file is on disk before that has its
	// name: a power loss keeps names in any mixture.
	if err := dir.Sync(); err != nil {
		return err
	}
	return makeControl(dir, p, s, first)
}

// checkEmpty refuses to make a queue among foreign files.
func checkEmpty(dir *mmap.Dir) error {
	names, err := dir.Names()
	if err != nil {
		return err
	}
	for _, name := range names {
		switch name {
		case lockName, logName, groupsName, wakeName, quarantineName, controlName, controlTemp:
		default:
			return fmt.Errorf("%s: %w, and no place to make one: it holds %q", dir.Path(), ErrNotQueue, name)
		}
	}
	return nil
}

const controlTemp = "walq.ctl.tmp"

// clearHalfMade removes what a creator left that died before the control file
// had its name. It never removes a message: a log that holds any is a queue
// that lost its control file.
func clearHalfMade(log *mmap.Dir) error {
	names, err := log.Names()
	if err != nil {
		return err
	}
	for _, name := range names {
		if first, ok := segment.ParseName(name); ok {
			empty := false
			if s, err := segment.Open(log, name, true); err == nil {
				err := s.UseFileSize() // the allocated word proves nothing
				w, werr := s.Word(s.Start().Off)
				empty = err == nil && werr == nil && w == 0
				if err := s.Close(); err != nil {
					return err
				}
			}
			if first != 1 || !empty {
				return &CorruptError{Path: log.Join(name), Reason: "the log holds messages, but the queue has no control file"}
			}
		}
		if err := log.Unlink(name); err != nil {
			return err
		}
	}
	return nil
}

func makeFirst(log *mmap.Dir, p perms, h segment.Header) error {
	temp := tempName(0, 0, 0)
	s, err := segment.Create(log, temp, p.file, h.Size, 0)
	if err != nil {
		return err
	}
	h.Salt = newSalt()
	s.SetHeader(h)
	s.SetLinked() // true before anyone can see it: the control file comes after the directory sync
	err = s.FlushShared()
	if err == nil {
		err = s.File().Sync()
	}
	if err == nil {
		err = log.Link(temp, segment.Name(h.First))
	}
	return errors.Join(err, s.Close(), log.Unlink(temp), log.Sync())
}

func makeControl(dir *mmap.Dir, p perms, s Settings, first segment.Header) error {
	if err := dir.Unlink(controlTemp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := dir.Create(controlTemp, p.file)
	if err != nil {
		return err
	}
	id := identity{queue: first.Queue, created: first.Created}
	start := makePosition(first.Ordinal, segment.DataStart(first.Size))
	// No boot id yet, and clean: the first opener writes its own.
	page := encodeControl(id, s, boot{epoch: first.Epoch, clean: true}, start, first.First)
	err = f.Allocate(0, controlBytes)
	if err == nil {
		_, err = f.WriteAt(page, 0)
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = dir.Link(controlTemp, controlName)
	}
	return errors.Join(err, f.Close(), dir.Unlink(controlTemp), dir.Sync())
}

// newSalt makes the random number that enters every checksum of a segment, so
// that no bytes of an older one can ever pass for a frame of it.
func newSalt() uint64 {
	return rand.Uint64()
}

// lockWait takes a lock, waiting for whoever has it as long as ctx allows.
func lockWait(ctx context.Context, locks *mmap.LockFile, at int64, exclusive bool) error {
	for pause := 100 * time.Microsecond; ; pause = min(2*pause, 10*time.Millisecond) {
		ok, err := locks.TryLock(at, exclusive)
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for another process that holds the lock byte %d of %s: %w", at, locks.Path(), ctx.Err())
		case <-time.After(pause):
		}
	}
}
