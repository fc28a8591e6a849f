package group

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
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
	return g.locked(lockCheckpoint, func() error {
		_, generation, next, err := newestRecord(g.r.Bytes(grpSettings, 2*settingsSpacing), settingsBytes, settingsSpacing)
		if err != nil {
			return &CorruptError{g.Path(), grpSettings, err.Error()}
		}
		encodeSettings(next, generation+1, s)
		return g.r.Flush(grpSettings, 2*settingsSpacing)
	})
}

// locked runs f under a lock of the file, waiting for others who hold it. They hold it
// for a sync or two; one that was stopped meanwhile holds us up.
func (g *File) locked(at int64, f func() error) (err error) {
	defer mmap.Recover(mmap.Protect(), &err)
	for pause := 50 * time.Microsecond; ; pause = min(2*pause, 5*time.Millisecond) {
		ok, err := g.locks.TryLock(at, true)
		if err != nil {
			return err
		}
		if ok {
			break
		}
		time.Sleep(pause)
	}
	defer func() { err = errors.Join(err, g.locks.Unlock(at)) }()
	return f()
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

// FinishedSeqs are the messages that are finished above the floor of the newest base,
// and from is a sequence number below which all are. After a power loss the file may
// be of different moments; what it says here was so at one of them.
func (g *File) FinishedSeqs() (from uint64, seqs map[uint64]bool, b Base, err error) {
	defer mmap.Recover(mmap.Protect(), &err)
	if b, err = g.newestBase(); err != nil {
		return 0, nil, b, err
	}
	from = b.Seq
	if rec, _, _, err := newestRecord(g.r.Bytes(grpCheckpoint, 2*recordSpacing), recordBytes, recordSpacing); err == nil {
		if seq, base := decodeCheckpoint(rec); base == b.Generation {
			from = max(from, seq)
		}
	}
	ring := Ring{g.r, uint64(g.Entries), b}
	seqs = map[uint64]bool{}
	for i := range uint64(g.Entries) {
		w, v := Word(ring.at(i, entryWord).Load()), ring.at(i, entrySeq).Load()
		behind := (w.lap() - ring.lap(b.Ordinal)) & (1<<lapBits - 1)
		if w.State() == Finished && behind < 1<<(lapBits-1) && v>>distBits == w.lap() {
			seqs[b.Seq+v&maxDistance] = true
		}
	}
	return from, seqs, b, nil
}

// Rebase gives the group another base, which begins at b.Seq; its ordinal and
// generation follow from the file. choose is called under the lock, so that what was
// known before can be looked at again; it returns false if nothing is to be done.
// finished are messages behind it that need not be delivered. What is in the file is
// on disk when it returns.
func (g *File) Rebase(choose func() (b Base, finished []Mark, ok bool, err error)) error {
	return g.locked(lockBase, func() error {
		b, finished, ok, err := choose()
		if err != nil || !ok {
			return err
		}
		return g.rebase(b, finished)
	})
}

func (g *File) rebase(b Base, finished []Mark) error {
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
		if done = ring.reset(near, top); !done {
			continue
		}
		for _, m := range finished {
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
	if _, newest, _, err := newestRecord(both, recordBytes, recordSpacing); err == nil && newest > counts {
		counts = newest - 1
	}
	b.Generation = counts + 1
	at := 0
	if first := both[:recordBytes]; generationOf(first) == counts {
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
func (g *Ring) reset(near, top uint64) bool {
	empty := uint64(finishedWord((top + 2) & (1<<lapBits - 1)))
	for i := range g.entries {
		for w := g.at(i, entryWord); ; {
			old := w.Load()
			if old != empty && g.fullLap(Word(old), near) > top {
				return false
			}
			if w.CompareAndSwap(old, empty) {
				break
			}
		}
	}
	return true
}

// Checkpoint puts on disk what is finished now, and that all messages below seq are.
func (g *File) Checkpoint(ring *Ring, seq uint64) error {
	return g.locked(lockCheckpoint, func() error {
		if ring.Generation() != ring.Base.Generation {
			return nil
		}
		if err := g.r.Flush(grpFloor, g.r.Len()-grpFloor); err != nil {
			return err
		}
		_, generation, next, _ := newestRecord(g.r.Bytes(grpCheckpoint, 2*recordSpacing), recordBytes, recordSpacing)
		encodeCheckpoint(next, generation+1, seq, ring.Base.Generation)
		return g.r.Flush(grpCheckpoint, 2*recordSpacing)
	})
}
