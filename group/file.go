package group

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"strings"
	"sync"
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
	mine  [2]sync.Mutex // locks of one descriptor do not exclude its own goroutines
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
	g := &File{}
	defer func() {
		if err != nil {
			err = errors.Join(err, g.Close())
		}
	}()
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

// Settings reads the settings.
func (g *File) Settings() (s Settings, err error) {
	defer mmap.Recover(mmap.Protect(), &err)
	rec, _, _, err := newestRecord(g.r.Bytes(grpSettings, 2*settingsSpacing), settingsBytes, settingsSpacing)
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
		_, generation, next, err := newestRecord(g.r.Bytes(grpSettings, 2*settingsSpacing), settingsBytes, settingsSpacing)
		if err != nil {
			return &CorruptError{g.Path(), grpSettings, err.Error()}
		}
		encodeSettings(next, generation+1, s)
		return g.r.Flush(grpSettings, 2*settingsSpacing)
	})
}

// ErrBusy: somebody has held a lock of the group's file for too long.
var ErrBusy = errors.New("another process holds the group's file locked; it may have been stopped")

// lockPatience is how long one who holds a lock is waited for: it needs it for a sync or
// two, but may be stopped meanwhile.
const lockPatience = 2 * time.Second

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

// newestBase is the newest record of a base, which counts unless it is newer than the
// generation.
func (g *File) newestBase() (Base, error) {
	rec, _, _, err := newestRecord(g.r.Bytes(grpBase, 2*recordSpacing), recordBytes, recordSpacing)
	if err != nil {
		return Base{}, &CorruptError{g.Path(), grpBase, err.Error()}
	}
	return decodeBase(rec), nil
}

// Ring is the ring as the base sees it that counts now. ok is false if somebody is
// making another base, or died doing so: that has to be done again.
func (g *File) Ring() (ring *Ring, ok bool, err error) {
	defer mmap.Recover(mmap.Protect(), &err)
	generation := g.r.Word(grpGeneration).Load()
	b, err := g.newestBase()
	if err != nil || b.Generation != generation {
		return nil, false, err
	}
	return &Ring{g.r, uint64(g.Entries), b}, true, nil
}

// A Mark says that the message behind the base by so many ordinals is finished.
type Mark struct {
	Behind int
	Seq    uint64
}

// A Before is what is finished by the base that counted last.
type Before struct {
	Base     Base
	From     uint64          // a sequence number below which all is finished
	Finished map[uint64]bool // and these behind it
}

// Before tells what is finished. After a power loss the file may be of different
// moments; what it says here was so at one of them.
func (g *File) Before() (was Before, err error) {
	defer mmap.Recover(mmap.Protect(), &err)
	if was.Base, err = g.newestBase(); err != nil {
		return was, err
	}
	was.From = was.Base.Seq
	if rec, _, _, err := newestRecord(g.r.Bytes(grpCheckpoint, 2*recordSpacing), recordBytes, recordSpacing); err == nil {
		if seq, base := decodeCheckpoint(rec); base == was.Base.Generation {
			was.From = max(was.From, seq)
		}
	}
	was.Finished = map[uint64]bool{}
	ring := g.countedBy()
	for i := range ring.entries {
		ring.noteFinished(i, Word(ring.at(i, entryWord).Load()), was.Finished)
	}
	return was, nil
}

// countedBy is the ring by the base that its entries were claimed in: the newest one,
// or that before it if somebody died who was making the newest.
func (g *File) countedBy() *Ring {
	both, counts := g.r.Bytes(grpBase, 2*recordSpacing), g.r.Word(grpGeneration).Load()
	newest, _ := g.newestBase()
	for i := range 2 {
		rec := bytes.Clone(both[i*recordSpacing : i*recordSpacing+recordBytes])
		if b := decodeBase(rec); validRecord(rec) && b.Generation == counts {
			newest = b
		}
	}
	return &Ring{g.r, uint64(g.Entries), newest}
}

// noteFinished notes the message of an entry whose word is w, if it is finished, of the
// ring's base.
func (g *Ring) noteFinished(i uint64, w Word, finished map[uint64]bool) {
	v := g.at(i, entrySeq).Load()
	behind := (w.lap() - g.lap(g.Base.Ordinal)) & (1<<lapBits - 1)
	if w.State() == Finished && behind < 1<<(lapBits-1) && v>>distBits == w.lap() {
		finished[g.Base.Seq+v&maxDistance] = true
	}
}

// Rebase gives the group another base, which begins at b.Seq; its ordinal and
// generation follow from the file. choose is called under the lock, so that what was
// known before can be looked at again; it returns false if nothing is to be done. marks
// says which of the messages behind the base need not be delivered, of those that were
// finished, also by who went on until the ring was emptied; nil: none. What is in the
// file is on disk when it returns.
//
// Errors: ErrBusy, and those of the functions.
func (g *File) Rebase(choose func(Before) (b Base, ok bool, err error), marks func(b Base, finished map[uint64]bool) ([]Mark, error)) error {
	return g.locked(lockBase, lockPatience, func() error {
		was, err := g.Before()
		if err != nil {
			return err
		}
		b, ok, err := choose(was)
		if err != nil || !ok {
			return err
		}
		return g.rebase(b, was.Finished, marks)
	})
}

func (g *File) rebase(b Base, finished map[uint64]bool, marks func(Base, map[uint64]bool) ([]Mark, error)) error {
	old := g.countedBy()
	ring := &Ring{r: g.r, entries: uint64(g.Entries)}
	for done := false; !done; {
		near := ring.Floor() / ring.entries
		top := ring.topLap(near)
		b.Ordinal = (top + 3) * ring.entries
		if err := g.writeBase(&b); err != nil {
			return err
		}
		ring.Base = b
		step.At(step.GroupBaseWritten)
		done = ring.reset(near, top, func(i uint64, w Word) { old.noteFinished(i, w, finished) })
	}
	if marks != nil {
		all, err := marks(b, finished)
		if err != nil {
			return err
		}
		for _, m := range all {
			if n := b.Ordinal + uint64(m.Behind); uint64(m.Behind) < ring.Window() && ring.Fits(m.Seq) {
				ring.at(n, entrySeq).Store(ring.seqWord(n, m.Seq))
				ring.at(n, entryWord).Store(uint64(finishedWord(ring.lap(n))))
			}
		}
	}
	step.At(step.GroupRingReset)
	ring.word(grpPassed).Store(b.Generation << passedBits)
	ring.word(grpFloor).Store(b.Ordinal)
	step.At(step.GroupFloorSet)
	ring.word(grpGeneration).Store(b.Generation)
	ring.word(grpRetry).Add(1)
	step.At(step.GroupBaseCounts)
	return g.r.Flush(grpFloor, g.r.Len()-grpFloor)
}

// writeBase writes the record of the base after the one that counts, on disk too, in
// the place of whatever there was of one: who made that did not come to its end.
func (g *File) writeBase(b *Base) error {
	both := g.r.Bytes(grpBase, 2*recordSpacing)
	counts := g.r.Word(grpGeneration).Load()
	if _, newest, _, err := newestRecord(both, recordBytes, recordSpacing); err == nil && newest != counts {
		counts = newest - 1 // what is behind it was never in force, or is of another moment
	}
	if counts >= math.MaxUint64-2 {
		return &CorruptError{g.Path(), grpGeneration, fmt.Sprintf("generation %d of the base", counts)}
	}
	b.Generation = counts + 1
	at := 0
	if first := both[:recordBytes]; validRecord(first) && decodeBase(first).Generation == counts {
		at = recordSpacing
	}
	encodeBase(both[at:at+recordBytes], *b)
	return g.r.Flush(grpBase, 2*recordSpacing)
}

// topLap is the highest lap of any entry, not modulo anything; near is one of about
// now.
func (g *Ring) topLap(near uint64) uint64 {
	top := near
	for i := range g.entries {
		top = max(top, g.fullLap(Word(g.at(i, entryWord).Load()), near))
	}
	return top
}

// fullLap is the lap of a word, which is near another one.
func (g *Ring) fullLap(w Word, near uint64) uint64 {
	ahead := (w.lap() - near) & (1<<lapBits - 1)
	if ahead >= 1<<(lapBits-1) { // behind
		return near - min(near, 1<<lapBits-ahead)
	}
	return near + ahead
}

// reset makes every entry finished, of the lap before the base's ordinal, two above
// top. false: somebody who counts by the old base went on meanwhile, to laps that are
// too near; then it has to be tried again from a higher one.
func (g *Ring) reset(near, top uint64, was func(i uint64, w Word)) bool {
	empty := uint64(finishedWord((top + 2) & (1<<lapBits - 1)))
	for i := range g.entries {
		for w := g.at(i, entryWord); ; {
			old := w.Load()
			if old != empty && g.fullLap(Word(old), near) > top {
				return false
			}
			if w.CompareAndSwap(old, empty) {
				was(i, Word(old))
				break
			}
		}
	}
	return true
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
		if err := g.r.Flush(grpFloor, g.r.Len()-grpFloor); err != nil {
			return err
		}
		_, generation, next, _ := newestRecord(g.r.Bytes(grpCheckpoint, 2*recordSpacing), recordBytes, recordSpacing)
		encodeCheckpoint(next, generation+1, seq, ring.Base.Generation)
		return g.r.Flush(grpCheckpoint, 2*recordSpacing)
	})
}

// ErrStale: what is known of the group is of a base that counts no more.
var ErrStale = errors.New("the group was given another base")
