package wal

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/walq/walq/internal/crc32c"
	"github.com/walq/walq/internal/step"
	"github.com/walq/walq/mmap"
	"github.com/walq/walq/segment"
)

// Carrying a plan out. The originals are never written: a mended copy takes the
// place of each by a rename, after the original got its second name in quarantine.
// Only the control file is mended in place, because whoever waits to open the queue
// has it mapped already; a copy of what it was goes to quarantine first.

const (
	repairPrefix = "tmp.repair." // of copies that are not in place yet
	repairLink   = "tmp.repair"  // second name of an original on its way to quarantine
)

// asideNames tells where the originals will be.
func (r *repairer) asideNames(p *plan) []string {
	names := []string{}
	for _, c := range p.changes {
		if !c.made {
			if name, err := r.asideName(segment.Name(c.first)); err == nil {
				names = append(names, r.dir.Join(quarantineName+"/"+name))
			}
		}
	}
	if name := p.controlAside(); name != "" {
		names = append(names, r.dir.Join(quarantineName+"/"+name))
	}
	return names
}

// asideName is the same at each repair of the same file, so that one that is
// repeated keeps one original.
func (r *repairer) asideName(name string) (string, error) {
	var id mmap.FileID
	err := (&onDisk{dir: r.dir}).log(func(log *mmap.Dir) error {
		f, err := log.Open(name, true)
		if err != nil {
			return err
		}
		id, err = f.ID()
		return errors.Join(err, f.Close())
	})
	return fmt.Sprintf("%s.%d", name, id.Ino), err
}

// controlAside is empty if the control file is not changed.
func (p *plan) controlAside() string {
	if p.original == nil || string(p.original) == string(p.page) {
		return ""
	}
	return fmt.Sprintf("%s.%08x", controlName, crc32c.Update(0, p.original))
}

func (r *repairer) apply(p *plan) (err error) {
	perms := permsFor(p.settings.GroupAccess)
	for _, name := range []string{logName, quarantineName, groupsName, wakeName} {
		if err := r.dir.Mkdir(name, perms.dir); err != nil {
			return err
		}
	}
	log, err := r.dir.OpenDir(logName)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	aside, err := r.dir.OpenDir(quarantineName)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, aside.Close()) }()
	a := &applying{repairer: r, p: p, log: log, aside: aside, perms: perms}
	if err := a.clear(); err != nil {
		return err
	}
	for _, stage := range []func() error{a.copies, a.keep, a.replace, a.control} {
		if err := r.ctx.Err(); err != nil {
			return err // between stages everything is as good as before
		}
		if err := stage(); err != nil {
			return err
		}
	}
	return nil
}

type applying struct {
	*repairer
	p          *plan
	log, aside *mmap.Dir
	perms      perms
}

// clear removes what an earlier repair left that did not come to its end.
func (a *applying) clear() error {
	names, err := a.log.Names()
	for _, name := range names {
		if strings.HasPrefix(name, repairPrefix) || name == repairLink {
			err = errors.Join(err, a.log.Unlink(name))
		}
	}
	return err
}

func tempFor(c *change) string { return repairPrefix + segment.Name(c.first) }

// copies writes all that will be in the log, and syncs it.
func (a *applying) copies() error {
	for _, c := range a.p.changes {
		if err := a.ctx.Err(); err != nil {
			return errors.Join(err, a.clear())
		}
		if c.gone {
			continue
		}
		if err := a.copy(c); err != nil {
			return errors.Join(err, a.clear())
		}
		step.At(step.RepairCopied)
	}
	return nil
}

func (a *applying) copy(c *change) (err error) {
	content := c.content
	if content == nil {
		image, err := (&onDisk{dir: a.dir}).segment(c.from)
		if err != nil {
			return err
		}
		content = make([]byte, c.bytes)
		copy(content, image.Bytes(0, image.Len()))
		for _, f := range c.fixes {
			copy(content[f.Offset:], f.Data)
		}
	}
	f, err := a.log.Create(tempFor(c), a.perms.file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := f.Allocate(0, int64(len(content))); err != nil {
		return err
	}
	if _, err := f.WriteAt(content, 0); err != nil {
		return err
	}
	return f.Sync()
}

// keep gives every original a second name in quarantine.
func (a *applying) keep() error {
	for _, c := range a.p.changes {
		if c.made {
			continue
		}
		if err := a.keepOne(segment.Name(c.first)); err != nil {
			return err
		}
		step.At(step.RepairKept)
	}
	if name := a.p.controlAside(); name != "" {
		if err := a.keepControl(name); err != nil {
			return err
		}
	}
	if err := errors.Join(a.aside.Sync(), a.log.Sync(), a.dir.Sync()); err != nil {
		return err
	}
	step.At(step.RepairQuarantined)
	return nil
}

func (a *applying) keepOne(name string) error {
	to, err := a.asideName(name)
	if err != nil {
		return err
	}
	switch same, err := a.sameFile(name, to); {
	case err != nil:
		return err
	case same:
		return nil // an earlier repair came as far
	}
	if err := a.log.Link(name, repairLink); err != nil {
		return err
	}
	return a.log.Rename(repairLink, a.aside, to)
}

// sameFile reports whether the original is in quarantine already. Another file of
// that name there gets out of the way: nothing in quarantine is ever replaced.
func (a *applying) sameFile(name, to string) (bool, error) {
	there, err := a.aside.Open(to, true)
	if isNotExist(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	here, err := a.log.Open(name, true)
	if err != nil {
		return false, errors.Join(err, there.Close())
	}
	one, err1 := here.ID()
	two, err2 := there.ID()
	err = errors.Join(err1, err2, here.Close(), there.Close())
	if err != nil || one == two {
		return true, err
	}
	return false, a.aside.Rename(to, a.aside, fmt.Sprintf("%s.%d", to, time.Now().UnixNano()))
}

// keepControl keeps a copy of the control file. A torn one of an earlier repair is
// written again.
func (a *applying) keepControl(name string) error {
	if err := a.aside.Unlink(name); err != nil && !isNotExist(err) {
		return err
	}
	f, err := a.aside.Create(name, a.perms.file)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(a.p.original, 0)
	return errors.Join(err, f.Sync(), f.Close())
}

// replace puts the mended copies in their places.
func (a *applying) replace() error {
	for _, c := range a.p.changes {
		name := segment.Name(c.first)
		var err error
		if c.gone {
			if !a.replaced(c.first) {
				err = a.log.Unlink(name)
			}
		} else {
			err = a.log.Rename(tempFor(c), a.log, name)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		step.At(step.RepairRenamed)
	}
	if a.p.syncAll {
		if err := a.syncLog(); err != nil {
			return err
		}
	}
	if err := a.log.Sync(); err != nil {
		return err
	}
	step.At(step.RepairLogSynced)
	return nil
}

// replaced reports whether something else takes the place of a file that goes.
func (a *applying) replaced(first uint64) bool {
	for _, c := range a.p.changes {
		if c.first == first && !c.gone {
			return true
		}
	}
	return false
}

// syncLog makes true that everything in the log is on disk.
func (a *applying) syncLog() error {
	for _, pc := range a.p.pieces {
		f, err := a.log.Open(segment.Name(pc.first), false)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// control mends the control file, and ends the poison last of all.
func (a *applying) control() error {
	if len(a.p.original) != controlBytes {
		return a.newControl()
	}
	f, err := a.dir.Open(controlName, false)
	if err != nil {
		return err
	}
	poison := [8]byte(a.p.original[ctlPoison:])
	page := append([]byte(nil), a.p.page...)
	copy(page[ctlPoison:], poison[:])
	if err := a.writeChanged(f, page); err != nil {
		return errors.Join(err, f.Close())
	}
	step.At(step.RepairControlWritten)
	err = f.Sync()
	step.At(step.RepairControlSynced)
	if err == nil && [8]byte(a.p.page[ctlPoison:]) != poison {
		_, err = f.WriteAt(a.p.page[ctlPoison:ctlPoison+8], ctlPoison)
		step.At(step.RepairPoisonCleared)
		err = errors.Join(err, f.Sync())
	}
	return errors.Join(err, f.Close())
}

// writeChanged writes what differs, word by word: the file may be mapped by those
// who only read.
func (a *applying) writeChanged(f *mmap.File, page []byte) error {
	for off := 0; off < len(page); off += 8 {
		if [8]byte(page[off:]) != [8]byte(a.p.original[off:]) {
			if _, err := f.WriteAt(page[off:off+8], int64(off)); err != nil {
				return err
			}
		}
	}
	return nil
}

// newControl replaces a control file that nobody can have mapped, since it is
// missing or has the wrong size.
func (a *applying) newControl() error {
	if err := a.dir.Unlink(controlTemp); err != nil && !isNotExist(err) {
		return err
	}
	f, err := a.dir.Create(controlTemp, a.perms.file)
	if err != nil {
		return err
	}
	err = f.Allocate(0, controlBytes)
	if err == nil {
		_, err = f.WriteAt(a.p.page, 0)
	}
	step.At(step.RepairControlWritten)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	step.At(step.RepairControlSynced)
	return errors.Join(a.dir.Rename(controlTemp, a.dir, controlName), a.dir.Sync())
}
