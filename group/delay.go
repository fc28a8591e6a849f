package group

import (
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"
	"time"

	"github.com/walq/walq/internal/step"
	"github.com/walq/walq/mmap"
)

const delaySuffix = ".dly"

// DelayFileName is the name of a group's delay file.
func DelayFileName(name string) string { return name + delaySuffix }

// Delays is the shared part of a group's delay file: messages that are not due for
// long, and would hold up the floor and fill the window. Each has a cell. See
// docs/adr/0023-the-delay-file.md.
//
// Its methods are safe for concurrent use, except close.
type Delays struct {
	delayIdentity
	f       *mmap.File
	r       *mmap.Region
	locks   *mmap.LockFile
	growing sync.Mutex
	grows   atomic.Int64  // not before then is it tried to grow once more, nanoseconds
	start   atomic.Uint64 // the block in which room was found last
	seen    atomic.Uint64 // so many blocks were there, if the file is opened for reading
}

// lockGrow is the byte of the delay file that is locked, through a descriptor of its
// own, by who makes it longer.
const lockGrow = 0

// delayBlocks is how many blocks a new delay file may have.
var delayBlocks = MaxDelayBlocks

// Delays is the group's delay file; nil if it has none.
//
// Errors: ErrVersion, CorruptError.
func (g *File) Delays() (*Delays, error) {
	if d := g.delays.Load(); d != nil {
		return d, nil
	}
	if g.r.Word(grpDelays).Load() == 0 {
		return nil, nil
	}
	return g.lookForDelays()
}

// lookForDelays opens the delay file if there is one, whatever the group's own file says.
func (g *File) lookForDelays() (*Delays, error) {
	g.opening.Lock()
	defer g.opening.Unlock()
	if d := g.delays.Load(); d != nil {
		return d, nil
	}
	d, err := g.openDelays()
	switch {
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, errOtherGroup):
		if g.r.Word(grpDelays).Load() != 0 {
			if err := g.current(); errors.Is(err, fs.ErrNotExist) {
				return nil, nil // the group was removed: nobody cares
			}
			return nil, &CorruptError{g.Path(), grpDelays, "the file of its delayed messages is missing: " + g.delayPath()}
		}
		return nil, nil
	case err != nil:
		return nil, err
	}
	g.delays.Store(d)
	return d, nil
}

func (g *File) delayPath() string { return g.dir.Join(DelayFileName(g.name)) }

// errOtherGroup: a delay file that a group of the same name left, which was removed.
var errOtherGroup = errors.New("the delay file is another group's")

func (g *File) openDelays() (_ *Delays, err error) {
	d := &Delays{}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.close())
		}
	}()
	readOnly := g.r.ReadOnly()
	if d.f, err = g.dir.Open(DelayFileName(g.name), readOnly); err != nil {
		return nil, err
	}
	page := make([]byte, identityBytes)
	if n, err := d.f.ReadAt(page, 0); n < len(page) {
		return nil, &CorruptError{d.f.Path(), int64(n), fmt.Sprintf("a delay file of %d bytes (%v)", n, err)}
	}
	if d.delayIdentity, err = decodeDelayIdentity(page); err != nil {
		if errors.Is(err, ErrVersion) {
			return nil, fmt.Errorf("%s: %w", d.f.Path(), err)
		}
		return nil, &CorruptError{d.f.Path(), 0, err.Error()}
	}
	if d.Queue != g.Queue || d.Created != g.Created {
		return nil, errOtherGroup
	}
	size, err := d.f.Size()
	if err != nil {
		return nil, err
	}
	if size < d.fileBytes(0) {
		return nil, &CorruptError{d.f.Path(), size, fmt.Sprintf("a delay file of %d bytes", size)}
	}
	if d.r, err = d.f.Map(d.fileBytes(d.delayIdentity.Blocks), readOnly); err != nil {
		return nil, err
	}
	if err := d.clamp(); err != nil {
		return nil, err
	}
	l, err := g.dir.Open(DelayFileName(g.name), readOnly)
	if err != nil {
		return nil, err
	}
	d.locks = mmap.NewLockFile(l)
	return d, nil
}

// clamp makes the number of blocks that of those which are there: a power loss may have
// left the word and not the length of the file. Nothing that was ever on disk as a whole
// is behind it.
func (d *Delays) clamp() error {
	for w := d.r.Word(dlyBlocks); !d.r.ReadOnly(); {
		n := w.Load()
		there, err := d.there() // after n: who makes the file longer raises n last
		if err != nil || n <= there || w.CompareAndSwap(n, there) {
			return err
		}
	}
	return nil
}

// there is how many blocks the file is long enough for.
func (d *Delays) there() (uint64, error) {
	size, err := d.f.Size()
	return uint64(max(size-d.fileBytes(0), 0)) / blockBytes, err
}

// MakeDelays makes the group's delay file, by way of a temporary name that nobody else
// uses, unless it has one. It does not wait: ErrBusy if another one is at it.
//
// Errors: those of Delays; fs.ErrNotExist if the group was removed; mmap.ErrDiskFull.
func (g *File) MakeDelays(temp string, perm fs.FileMode) (d *Delays, err error) {
	if d, err := g.Delays(); err != nil || d != nil && g.r.Word(grpDelays).Load() != 0 {
		return d, err
	}
	err = g.locked(lockDelays, 0, func() error {
		if err := g.current(); err != nil {
			return err
		}
		d, err = g.lookForDelays()
		if d == nil && err == nil {
			// What is there, if anything, is of a group that was removed.
			err = errors.Join(ignoreMissing(g.dir.Unlink(DelayFileName(g.name))), g.createDelays(temp, perm))
			if err == nil {
				d, err = g.lookForDelays()
			}
		}
		if d != nil && err == nil {
			err = g.useDelays()
		}
		return err
	})
	return d, err
}

// useDelays tells all that there is a delay file, before anything is in it. Who linked it
// may have died before that was on disk.
func (g *File) useDelays() error {
	if err := g.dir.Sync(); err != nil {
		return err
	}
	g.r.Word(grpDelays).Store(1)
	return nil
}

// current tells whether the file is still that of the group of its name. Who removes it
// has to hold the lock that the caller holds.
func (g *File) current() error {
	f, err := g.dir.Open(FileName(g.name), true)
	if err != nil {
		return err
	}
	now, err := f.ID()
	own, oerr := g.f.ID()
	if err = errors.Join(err, oerr, f.Close()); err == nil && now != own {
		err = fmt.Errorf("%s was removed, and made anew: %w", g.Path(), fs.ErrNotExist)
	}
	return err
}

func (g *File) createDelays(temp string, perm fs.FileMode) (err error) {
	f, err := g.dir.Create(temp, perm)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close(), ignoreMissing(g.dir.Unlink(temp))) }()
	id := delayIdentity{Queue: g.Queue, Created: g.Created, Blocks: delayBlocks}
	if mmap.HeapFiles() {
		id.Blocks = min(id.Blocks, 64) // the whole of it is memory
	}
	if err := f.Allocate(0, id.fileBytes(0)); err != nil {
		return err
	}
	page := make([]byte, identityBytes)
	encodeDelayIdentity(page, id)
	if _, err := f.WriteAt(page, 0); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	step.At(step.DelayTempMade)
	if err := g.dir.Link(temp, DelayFileName(g.name)); err != nil {
		return err
	}
	step.At(step.DelayLinked)
	return nil
}

// Remove removes the group and its delay file, that one first: as soon as the group's own
// is gone there may be another group of its name, with a delay file. Who dies in between
// leaves a group that cannot be used, and says so, until it is removed. unlink is called
// under the lock that keeps others from making a delay file meanwhile.
func (g *File) Remove(unlink func(name string) error) error {
	return g.locked(lockDelays, lockPatience, func() error {
		if err := g.current(); err != nil {
			return err
		}
		if err := ignoreMissing(unlink(DelayFileName(g.name))); err != nil {
			return err
		}
		step.At(step.DelayUnlinked)
		return unlink(FileName(g.name))
	})
}

// RemoveDamaged is as Remove, for a group that cannot be opened.
func RemoveDamaged(name string) func(unlink func(name string) error) error {
	return func(unlink func(name string) error) error {
		return errors.Join(ignoreMissing(unlink(DelayFileName(name))), unlink(FileName(name)))
	}
}

func (d *Delays) close() error {
	var errs []error
	if d.locks != nil {
		errs = append(errs, d.locks.Close())
	}
	if d.r != nil {
		d.r.Unmap()
	}
	if d.f != nil {
		errs = append(errs, d.f.Close())
	}
	return errors.Join(errs...)
}

// Path is the path of the file.
func (d *Delays) Path() string { return d.f.Path() }

// blocks is how many blocks are in use. Who only reads cannot clamp.
func (d *Delays) blocks() int {
	n := min(d.r.Word(dlyBlocks).Load(), uint64(d.delayIdentity.Blocks))
	if d.r.ReadOnly() && n > d.seen.Load() {
		if there, err := d.there(); err == nil {
			d.seen.Store(there)
		}
		n = min(n, d.seen.Load())
	}
	return int(n)
}

const (
	growAtMost = 64 // blocks at a time, 1 MiB
	growPause  = time.Second
)

// grow makes the file longer. false: it cannot be, or another one is at it. Room is
// allocated before it is used: a store into a mapping must never meet a full disk.
func (d *Delays) grow() (ok bool, err error) {
	now := time.Now().UnixNano()
	if now < d.grows.Load() || !d.growing.TryLock() {
		return false, nil
	}
	defer d.growing.Unlock()
	if ok, err := d.locks.TryLock(lockGrow, true); !ok || err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, d.locks.Unlock(lockGrow)) }()
	n := d.blocks()
	more := min(max(n/4, 1), growAtMost, d.delayIdentity.Blocks-n)
	if more <= 0 {
		return false, nil
	}
	step.At(step.DelayGrowBefore)
	err = step.Err(step.DelayGrowBefore)
	if err == nil {
		err = d.f.Allocate(d.fileBytes(n), blockBytes*int64(more))
	}
	if err != nil {
		d.grows.Store(now + int64(growPause))
		return false, nil // the disk is full, or refuses: the message stays in the window
	}
	step.At(step.DelayGrown)
	d.clearBlocks(n, more)
	d.r.Word(dlyBlocks).Store(uint64(n + more))
	d.start.Store(uint64(n))
	return true, nil
}

// clearBlocks frees all that is in blocks which are not in use yet. A power loss may have
// kept what was in them and not how many they were; what counts of that the ring brought
// again.
func (d *Delays) clearBlocks(first, n int) {
	for c := uint64(first) * cellsPerBlock; c < uint64(first+n)*cellsPerBlock; c++ {
		if w := Word(d.cell(c, cellWord).Load()); w.State() != Finished {
			d.cell(c, cellWord).Store(uint64(finishedWord(w.lap())))
		}
	}
	for b := first; b < first+n; b++ {
		d.freed(uint64(b) * cellsPerBlock)
	}
}

// flush puts the whole file on disk. After a failed sync the kernel takes for clean what
// is not on disk: then everything is made dirty once more.
func (d *Delays) flush() error { return d.flushAll(false) }

func (d *Delays) flushAll(anyway bool) error {
	n := d.fileBytes(d.blocks())
	suspect := d.r.Word(dlySuspect)
	was := suspect.Load()
	if was != 0 || anyway {
		d.r.Touch(0, n)
	}
	err := step.Err(step.DelayFlushBefore)
	if err == nil {
		err = d.r.Flush(0, n)
	}
	if err != nil {
		suspect.Add(1)
		return err
	}
	if was != 0 {
		suspect.CompareAndSwap(was, 0)
	}
	return nil
}

// flushDelays puts the delay file on disk, if there is one, also if only others have put
// something into it. What was moved before is finished in the ring then: not earlier,
// since what is finished there counts after a power loss, and the floor passes it.
func (g *File) flushDelays() error { return g.flushAllDelays(false) }

func (g *File) flushAllDelays(anyway bool) error {
	d, err := g.Delays()
	if d == nil || err != nil {
		return err
	}
	ring := &Ring{r: g.r, entries: uint64(g.Entries)}
	moved := ring.allMoved()
	if err := d.flushAll(anyway); err != nil {
		return err
	}
	step.At(step.DelayFlushed)
	for _, m := range moved {
		ring.at(m.entry, entryWord).CompareAndSwap(uint64(m.word), uint64(finishedWord(m.word.lap())))
	}
	return nil
}

type movedEntry struct {
	entry uint64
	word  Word
}

func (g *Ring) allMoved() (all []movedEntry) {
	for i := range g.entries {
		if w := Word(g.at(i, entryWord).Load()); w.State() == Moved {
			all = append(all, movedEntry{i, w})
		}
	}
	return all
}

// SettleMoved puts the delay file on disk, so that the floor may pass what was moved. It
// does not wait for others who do the same: ErrBusy.
func (g *File) SettleMoved() error {
	return g.locked(lockCheckpoint, 0, g.flushDelays)
}

// SettleMovedAnyway is SettleMoved while another one, who may have been stopped, has the
// lock: else the group would stand still with that one. What the other's sync may fail to
// write, and does not say yet, is written once more.
func (g *File) SettleMovedAnyway() (err error) {
	defer mmap.Recover(mmap.Protect(), &err)
	return g.flushAllDelays(true)
}

// delaysBeforeBase is the delay file, if there is one, ready for another base. There may
// be one that the group's own file does not know of. fresh: the last base was of another
// run of the machine; then nobody knows which cells of what was moved are on disk.
func (g *File) delaysBeforeBase(fresh bool) (*Delays, error) {
	d, err := g.lookForDelays()
	if d == nil || err != nil {
		return nil, err
	}
	if err := g.useDelays(); err != nil || fresh {
		return d, err
	}
	return d, g.flushDelays()
}

// noteForget says, on disk too, that every cell is void once the base of this generation
// is in force. Until then they count.
func (d *Delays) noteForget(generation uint64) error {
	d.r.Word(dlyForget).Store(generation)
	return d.flush()
}

// Void reports whether nobody who goes by the ring's base may use a cell yet: those that
// are there are of before it, and whoever made it is freeing them, or died; see
// EndForget.
func (d *Delays) Void(ring *Ring) bool {
	v := d.r.Word(dlyForget).Load()
	return v != 0 && v == ring.Base.Generation
}

// forgetAll frees every cell.
func (d *Delays) forgetAll(fresh bool) error {
	d.purge(0, nil, true, fresh)
	if err := d.flush(); err != nil {
		return err
	}
	d.r.Word(dlyForget).Store(0)
	d.lookAtAll()
	return nil
}

// endForget does what the maker of a base left undone that was asked for and is in force;
// one that is not is none.
func (d *Delays) endForget(s bases, fresh bool) error {
	switch v := d.r.Word(dlyForget).Load(); {
	case v == 0:
		return nil
	case !s.pending && v == s.newest.Base.Generation:
		return d.forgetAll(fresh)
	}
	d.r.Word(dlyForget).Store(0)
	return nil
}

// EndForget frees the cells that are void, unless somebody is at it.
//
// Errors: ErrBusy.
func (g *File) EndForget(d *Delays) error {
	return g.locked(lockBase, 0, func() error {
		s, err := g.bases()
		if err != nil || s.pending { // who makes the next base does it
			return err
		}
		return d.endForget(s, false)
	})
}
