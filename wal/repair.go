package wal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/walq/walq/internal/step"
	"github.com/walq/walq/mmap"
	"github.com/walq/walq/segment"
)

// Repair mends a queue that nobody has open. First it looks and makes a plan, from
// the same judgements as Verify; only then, if there is anything to do, it writes:
// mended copies beside the originals, the originals' second names in quarantine,
// then the copies in their place, then the control file, and last of all the end of
// a poison. Each step may be cut short by a kill or a power loss: what is left is a
// damaged queue again, or a whole one, and the next repair comes to the same result.

// RepairOptions say how a queue is repaired.
type RepairOptions struct {
	// DryRun: look and tell, write nothing.
	DryRun bool
	// AnyFileSystem: as for opening.
	AnyFileSystem bool
	// Progress, if not nil, is told how many bytes of how many were looked at.
	Progress func(done, total int64)
	// Besides, if not nil, is called once the log is in order, while nobody can open the
	// queue; in a dry run too. Its error is returned.
	Besides func(Scene) error
}

// A RepairReport is what Repair found and did, or in a dry run would do.
type RepairReport struct {
	Lost        uint64      `json:"lost"`     // messages that nobody can read any more
	Messages    uint64      `json:"messages"` // those that can be read
	LostAtLeast bool        `json:"lost_at_least"`
	Ranges      []LostRange `json:"ranges"`
	Repaired    []Fault     `json:"repaired"`    // what was wrong, and is not any more
	Quarantined []string    `json:"quarantined"` // where the originals are
	DryRun      bool        `json:"dry_run"`
}

// Sound reports whether nothing was wrong.
func (r RepairReport) Sound() bool { return len(r.Repaired) == 0 && len(r.Ranges) == 0 }

// A LostRange is a run of sequence numbers whose messages are lost.
type LostRange struct {
	First  uint64 `json:"first"`
	Last   uint64 `json:"last"`
	Path   string `json:"path"`
	Offset int64  `json:"offset"`
	Reason string `json:"reason"`
	// AtLeast: there may have been more behind; sequence numbers jump, so that
	// none of them is used again.
	AtLeast bool `json:"at_least,omitempty"`
}

// ErrInUse: others have the queue open, so it cannot be repaired.
var ErrInUse = errors.New("the queue is in use, and repair must be alone with it")

// An InUseError says who has the queue open.
type InUseError struct {
	Path string
	By   []Participant // as they entered themselves; empty if somebody opens or repairs it at this moment
}

func (e *InUseError) Error() string {
	var who []string
	for _, p := range e.By {
		who = append(who, strings.TrimSpace(fmt.Sprintf("slot %d, process %d %s", p.Slot, p.PID, p.Role)))
	}
	if len(who) == 0 {
		who = []string{"somebody who opens or repairs it at this moment"}
	}
	return fmt.Sprintf("%s: %v: %s", e.Path, ErrInUse, strings.Join(who, "; "))
}

// Is makes errors.Is(err, ErrInUse) true.
func (e *InUseError) Is(target error) bool { return target == ErrInUse }

// ErrBeyondRepair: what is left of the log cannot be made one chain again.
var ErrBeyondRepair = errors.New("this cannot be repaired in place; what is sound can be read with `walq cat`")

// Repair mends the queue at path: what is damaged is replaced by what takes its
// place without a message in it, what is whole stays as it is, and a poison ends.
// Originals of what was changed are kept in the directory quarantine. An
// undamaged queue is not touched. Repair holds the recovery lock all the while; if
// others have the queue open it gives an InUseError and does nothing. Read-only
// handles do not count: they see the former files until they are closed.
//
// It returns what it did also with an error. After an error, or if it was killed,
// it can be called again.
func Repair(ctx context.Context, path string, o RepairOptions) (report RepairReport, err error) {
	report = RepairReport{Ranges: []LostRange{}, Repaired: []Fault{}, Quarantined: []string{}, DryRun: o.DryRun}
	if err := mmap.Supported(); err != nil {
		return report, err
	}
	r := &repairer{ctx: ctx, o: o}
	if r.dir, err = mmap.OpenDir(path); err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	if err := checkPlace(r.dir, o.AnyFileSystem); err != nil {
		return report, err
	}
	if err := r.checkOwners(); err != nil {
		return report, err
	}
	if err := r.lock(); err != nil {
		return report, err
	}
	step.At(step.RepairLocked)
	p, err := makePlan(ctx, &onDisk{dir: r.dir, locks: r.locks}, o.Progress)
	if err != nil {
		return report, err
	}
	if r.madeLock {
		p.repaired(r.dir.Join(lockName), 0, "the lock file is missing")
	}
	p.report.DryRun = o.DryRun
	p.report.Quarantined = r.asideNames(p)
	if o.DryRun || p.report.Sound() {
		err = ctx.Err()
	} else {
		err = r.apply(p)
	}
	if err == nil && o.Besides != nil {
		err = o.Besides(p.scene())
	}
	return p.report, err
}

type repairer struct {
	ctx   context.Context
	o     RepairOptions
	dir   *mmap.Dir
	locks *mmap.LockFile

	madeLock bool // it was missing
}

func (r *repairer) close() error {
	var err error
	if r.locks != nil {
		err = r.locks.Close()
	}
	return errors.Join(err, r.dir.Close())
}

// checkOwners refuses what is no queue, a queue of somebody else, and files that
// are no regular files of its owner. Nothing was written yet.
func (r *repairer) checkOwners() error {
	owner, err := r.dir.Owner()
	if err != nil {
		return err
	}
	group := (&onDisk{dir: r.dir}).groupAccess()
	if !group && owner.UID != uint32(os.Geteuid()) {
		return fmt.Errorf("%s belongs to user %d, you are user %d: %w", r.dir.Path(), owner.UID, os.Geteuid(), ErrOwner)
	}
	check := func(dir *mmap.Dir, name string) error {
		f, err := dir.Open(name, true)
		if isNotExist(err) {
			return nil
		}
		if err != nil {
			return err
		}
		return errors.Join(checkOwner(owner, f, group), f.Close())
	}
	if err := errors.Join(check(r.dir, controlName), check(r.dir, lockName)); err != nil {
		return err
	}
	log, err := r.dir.OpenDir(logName)
	if isNotExist(err) {
		if _, _, cerr := (&onDisk{dir: r.dir}).control(); isNotExist(cerr) {
			return fmt.Errorf("%s: %w: it has neither %s nor %s", r.dir.Path(), ErrNotQueue, controlName, logName)
		}
		return nil
	}
	if err != nil {
		return err
	}
	firsts, err := segmentNames(log)
	for _, first := range firsts {
		err = errors.Join(err, check(log, segment.Name(first)))
	}
	return errors.Join(err, log.Close())
}

// lock makes sure that nobody else is in the queue, and that nobody comes.
func (r *repairer) lock() error {
	f, err := r.dir.Open(lockName, false)
	if isNotExist(err) {
		if r.o.DryRun {
			return nil
		}
		if _, _, cerr := (&onDisk{dir: r.dir}).control(); isNotExist(cerr) {
			return nil // the plan will tell whether there is a queue
		}
		r.madeLock = true
		f, err = r.dir.OpenOrCreate(lockName, permsFor((&onDisk{dir: r.dir}).groupAccess()).file)
	}
	if err != nil {
		return err
	}
	r.locks = mmap.NewLockFile(f)
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		ok, err := r.locks.TryLock(lockRecovery, true)
		if err != nil {
			return err
		}
		// A participant holds its slot, and the recovery byte only in passing.
		used, err := r.locks.HeldByOther(lockSlots, maxSlots)
		if err != nil {
			return err
		}
		if used {
			return r.inUse()
		}
		if ok {
			return nil
		}
		select {
		case <-r.ctx.Done():
			return errors.Join(&InUseError{Path: r.dir.Path()}, r.ctx.Err())
		case <-time.After(pause):
		}
	}
}

// inUse tells who holds a slot.
func (r *repairer) inUse() error {
	e := &InUseError{Path: r.dir.Path()}
	page, _, err := (&onDisk{dir: r.dir}).control()
	page = append(page, make([]byte, controlBytes)...) // it may be short
	for slot := range maxSlots {
		held, herr := r.locks.HeldByOther(lockSlots+int64(slot), 1)
		if err = errors.Join(err, herr); herr != nil || !held {
			continue
		}
		p := page[ctlParticipants+slot*participantSize:]
		e.By = append(e.By, Participant{
			Slot: slot, Alive: true, PID: int(getWord(p[parPID:])), Role: unpackRole(getWord(p[parRole:])),
			Since: time.Unix(0, int64(getWord(p[parSince:]))),
		})
	}
	if err != nil {
		return errors.Join(e, err)
	}
	return e
}
