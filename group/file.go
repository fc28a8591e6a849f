package group

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/walq/walq/internal/step"
	"github.com/walq/walq/mmap"
)

const suffix = ".grp"

// Lock bytes of a group's own file. A descriptor of its own holds them; the kernel
// frees them when its process dies.
const (
	lockBase       = 0 // who makes another base
	lockCheckpoint = 1 // who writes a checkpoint, or settings
	lockDelays     = 2 // who makes the delay file, or removes the group
)

// A CorruptError says which bytes of a group's file are wrong.
type CorruptError struct {
	Path   string
	Offset int64
	Reason string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("%s is corrupt at offset %d: %s", e.Path, e.Offset, e.Reason)
}

// CheckName tells whether a group can be called so: it is a file's name.
func CheckName(name string) error {
	const allowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"
	if name == "" || len(name) > 100 || strings.Trim(name, allowed) != "" || name[0] == '.' || name[0] == '-' {
		return fmt.Errorf("%q is no name of a group: want 1 to 100 letters, digits, dots, dashes and underscores, the first a letter or digit", name)
	}
	return nil
}

// FileName is the name of a group's file.
func FileName(name string) string { return name + suffix }

// ParseFileName gives the group that a file is named by.
func ParseFileName(file string) (name string, ok bool) {
	name, ok = strings.CutSuffix(file, suffix)
	return name, ok && CheckName(name) == nil
}

// A File is an open group file. Its methods are safe for concurrent use, except Close.
type File struct {
	Identity
	f     *mmap.File
	r     *mmap.Region
	locks *mmap.LockFile
	mine  [3]sync.Mutex // locks of one descriptor do not exclude its own goroutines

	name    string
	dir     *mmap.Dir
	opening sync.Mutex // of the delay file
	delays  atomic.Pointer[Delays]
}

// Create makes the file of a group in dir, by way of a temporary name that nobody else
// uses, and on disk when it returns. fs.ErrExist: there is such a group.
func Create(dir *mmap.Dir, name, temp string, perm fs.FileMode, id Identity, s Settings, b Base) (err error) {
	if err := errors.Join(CheckName(name), id.Check(), s.Check()); err != nil {
		return err
	}
	f, err := dir.Create(temp, perm)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close(), ignoreMissing(dir.Unlink(temp))) }()
	size := FileBytes(id.Entries)
	if err := f.Allocate(0, size); err != nil {
		return err
	}
	p := make([]byte, grpRing)
	encodeIdentity(p[:identityBytes], id)
	encodeSettings(p[grpSettings:grpSettings+settingsBytes], 1, s)
	b.Generation = 1
	b.Ordinal = uint64(id.Entries)
	encodeBase(p[grpBase:grpBase+recordBytes], b)
	putWord(p[grpFloor:], b.Ordinal)
	putWord(p[grpPassed:], b.Generation<<passedBits)
	putWord(p[grpGeneration:], b.Generation)
	if _, err := f.WriteAt(p, 0); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	step.At(step.GroupTempMade)
	if err := dir.Link(temp, FileName(name)); err != nil {
		return err
	}
	step.At(step.GroupLinked)
	return dir.Sync()
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Open opens the file of the group. Errors: fs.ErrNotExist, ErrVersion, CorruptError.
func Open(dir *mmap.Dir, name string, readOnly bool) (_ *File, err error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	g := &File{name: name}
	defer func() {
		if err != nil {
			err = errors.Join(err, g.Close())
		}
	}()
	if g.dir, err = dir.Again(); err != nil {
		return nil, err
	}
	if g.f, err = dir.Open(FileName(name), readOnly); err != nil {
		return nil, err
	}
	size, err := g.f.Size()
	if err != nil {
		return nil, err
	}
	page := make([]byte, identityBytes)
	if size < FileBytes(MinEntries) {
		return nil, &CorruptError{g.f.Path(), size, fmt.Sprintf("a group's file of %d bytes", size)}
	}
	if _, err := g.f.ReadAt(page, 0); err != nil {
		return nil, err
	}
	if g.Identity, err = decodeIdentity(page); err != nil {
		if errors.Is(err, ErrVersion) {
			return nil, fmt.Errorf("%s: %w", g.f.Path(), err)
		}
		return nil, &CorruptError{g.f.Path(), 0, err.Error()}
	}
	if want := FileBytes(g.Entries); size != want {
		return nil, &CorruptError{g.f.Path(), size, fmt.Sprintf("it has %d bytes, want %d", size, want)}
	}
	if !readOnly { // whoever made the file may have died, or be stopped, before its name was on disk
		if err := dir.Sync(); err != nil {
			return nil, err
		}
	}
	if g.r, err = g.f.Map(size, readOnly); err != nil {
		return nil, err
	}
	l, err := dir.Open(FileName(name), readOnly)
	if err != nil {
		return nil, err
	}
	g.locks = mmap.NewLockFile(l)
	return g, nil
}

// Path is the path of the file.
func (g *File) Path() string { return g.f.Path() }

// Close unmaps the file. Nobody may use the group any more.
func (g *File) Close() error {
	var errs []error
	if d := g.delays.Load(); d != nil {
		errs = append(errs, d.close())
	}
	if g.dir != nil {
		errs = append(errs, g.dir.Close())
	}
	if g.locks != nil {
		errs = append(errs, g.locks.Close())
	}
	if g.r != nil {
		g.r.Unmap()
	}
	if g.f != nil {
		errs = append(errs, g.f.Close())
	}
	return errors.Join(errs...)
}

// DefaultSettings are those of a group of which nothing else was said.
func DefaultSettings() Settings {
	return Settings{Lease: 30 * time.Second, BackOff: []time.Duration{0, time.Second, 5 * time.Second, 30 * time.Second}}
}

// Settings reads the settings.
func (g *File) Settings() (s Settings, err error) {
	defer mmap.Recover(mmap.Protect(), &err)
	rec, _, _, err := newestRecord(load(g.r, grpSettings, 2*settingsSpacing), settingsBytes, settingsSpacing)
	if err == nil {
		s, err = decodeSettings(rec)
	}
	if err != nil {
		return s, &CorruptError{g.Path(), grpSettings, err.Error()}
	}
	return s, nil
}

// SetSettings changes the settings, on disk when it returns.
func (g *File) SetSettings(s Settings) (err error) {
	if err := s.Check(); err != nil {
		return err
	}
	return g.locked(lockCheckpoint, lockPatience, func() error {
		both := load(g.r, grpSettings, 2*settingsSpacing)
		_, generation, next, err := newestRecord(both, settingsBytes, settingsSpacing)
		if err != nil {
			return &CorruptError{g.Path(), grpSettings, err.Error()}
		}
		encodeSettings(next, generation+1, s)
		store(g.r, grpSettings, both)
		return g.r.Flush(grpSettings, 2*settingsSpacing)
	})
}

// ErrBusy: somebody has held a lock of the group's file for too long.
var ErrBusy = errors.New("another process holds the group's file locked; it may have been stopped")

// lockPatience is how long one who holds a lock is waited for: it needs it for a sync or
// two, but may be stopped meanwhile.
var lockPatience = 2 * time.Second // tests have less

// locked runs f under a lock of the file. patience bounds the wait for others who hold
// it; then the error is ErrBusy.
func (g *File) locked(at int64, patience time.Duration, f func() error) (err error) {
	defer mmap.Recover(mmap.Protect(), &err)
	for begun, pause := time.Now(), 50*time.Microsecond; ; pause = min(2*pause, 5*time.Millisecond) {
		ok, err := g.tryLock(at)
		if err != nil {
			return err
		}
		if ok {
			break
		}
		if time.Since(begun) >= patience {
			return fmt.Errorf("%s: %w", g.Path(), ErrBusy)
		}
		time.Sleep(pause)
	}
	defer func() {
		err = errors.Join(err, g.locks.Unlock(at))
		g.mine[at].Unlock()
	}()
	return f()
}

func (g *File) tryLock(at int64) (bool, error) {
	if !g.mine[at].TryLock() {
		return false, nil
	}
	ok, err := g.locks.TryLock(at, true)
	if !ok || err != nil {
		g.mine[at].Unlock()
	}
	return ok && err == nil, err
}

// Checkpoint puts on disk what is finished now, and that all messages below seq are.
// patience is how long others are waited for who do the same.
//
// Errors: ErrBusy; ErrStale if another base counts by now.
func (g *File) Checkpoint(ring *Ring, seq uint64, patience time.Duration) error {
	return g.locked(lockCheckpoint, patience, func() error {
		if ring.Generation() != ring.Base.Generation {
			return ErrStale
		}
		if err := g.flushDelays(); err != nil {
			return err
		}
		// With the records: the one that counts now is on disk before the other is
		// replaced, whatever became of those who wrote it. See Needed.
		if !mmap.HeapFiles() {
			g.r.Touch(grpSettings, grpFloor-grpSettings)
		}
		if err := g.r.Flush(grpSettings, g.r.Len()-grpSettings); err != nil {
			return err
		}
		step.At(step.GroupCheckpointReady)
		if b, err := g.newestBase(); err != nil || b.Generation != ring.Base.Generation {
			return errors.Join(ErrStale, err) // the ring may have been half of one base and half of another
		}
		both := load(g.r, grpCheckpoint, 2*recordSpacing)
		last, generation, next, err := newestRecord(both, recordBytes, recordSpacing)
		if err == nil {
			if was, base := decodeCheckpoint(last); base == ring.Base.Generation {
				seq = max(seq, was) // the caller was stopped since it looked, and others were not
			}
		}
		encodeCheckpoint(next, generation+1, seq, ring.Base.Generation)
		store(g.r, grpCheckpoint, both)
		step.At(step.CheckpointWritten)
		return g.r.Flush(grpCheckpoint, 2*recordSpacing)
	})
}

// Settle puts on disk what the file holds, when nobody is making another base: whoever
// died doing so left what can be read. patience is how long that is waited for.
//
// Errors: ErrBusy.
func (g *File) Settle(patience time.Duration) error {
	return g.locked(lockBase, patience, func() error {
		return errors.Join(g.flushDelays(), g.r.Flush(grpFloor, g.r.Len()-grpFloor))
	})
}

// ErrStale: what is known of the group is of a base that counts no more.
var ErrStale = errors.New("the group was given another base")
