package walq

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"sync"
	"time"

	"github.com/walq/walq/group"
	"github.com/walq/walq/wal"
)

// What groups need is not trimmed by the queue's limits, unless they may lose messages.
// Whoever trims asks here, under the trim lock. It counts what is on disk of a group: that
// is where it goes on after a power loss. See docs/adr/0024-retention-by-groups.md.

// keepPatience is how long one who fixes a place in the log for a group waits for others
// who trim, and may have been stopped in it.
const keepPatience = 2 * time.Second

// renewPatience is how long who trims waits for another one's checkpoint of a group: longer
// than one takes, or an append would be told that the queue is full when it is not; and not
// long, since that one may have been stopped.
const renewPatience = 50 * time.Millisecond

// A keepWarner says now and then that a group cannot be asked, and so keeps everything.
type keepWarner struct {
	mu   sync.Mutex
	last time.Time
}

const warnAgain = time.Minute

func (w *keepWarner) warn(q *Queue, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if q.logger == nil || !w.last.IsZero() && time.Since(w.last) < warnAgain {
		return
	}
	w.last = time.Now()
	q.logger.Warn("walq: the limits of the queue remove nothing: it is not known what a group needs", "queue", q.Path(), "err", err)
}

// hold is what groups need of the log. As of wal.Log.SetHolds, numbers of below and more
// need not be exact.
func (q *Queue) hold(below uint64) wal.Hold {
	dir, err := q.log.OpenGroups()
	if errors.Is(err, fs.ErrNotExist) {
		return wal.NoHold
	}
	if err != nil {
		return q.holdAll("groups", err)
	}
	defer dir.Close()
	files, err := dir.Names()
	if err != nil {
		return q.holdAll("groups", err)
	}
	least := wal.NoHold
	for _, file := range files {
		name, ok := group.ParseFileName(file)
		if !ok {
			continue
		}
		var seq uint64
		for _, toLook := range []bool{true, false} {
			var f *group.File
			if f, err = group.Open(dir, name, toLook); err == nil {
				seq, err = q.neededBy(name, f, !toLook)
			}
			if seq >= below || err != nil || q.log.Slot() < 0 {
				break
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			continue // it was removed meanwhile
		}
		if err != nil {
			return q.holdAll("group "+name, groupError(name, err))
		}
		if seq < least.From {
			least = wal.Hold{From: seq, By: "group " + name}
		}
	}
	return least
}

// holdAll is the answer where a group cannot be asked: whatever it needs is kept.
func (q *Queue) holdAll(by string, err error) wal.Hold {
	q.warner.warn(q, err)
	return wal.Hold{By: fmt.Sprintf("%s, of which that is not known (%v),", by, err)}
}

// neededBy is the sequence number from which on a group needs messages, and closes its
// file. renew: first what was finished since the last checkpoint is put on disk.
func (q *Queue) neededBy(name string, f *group.File, renew bool) (seq uint64, err error) {
	defer func() { err = errors.Join(err, f.Close()) }()
	if f.Queue != q.log.Queue() {
		return 0, fmt.Errorf("%s belongs to another queue, %v", f.Path(), UUID(f.Queue))
	}
	s, err := f.Settings()
	if err != nil {
		return 0, err
	}
	if s.MayLose {
		return math.MaxUint64, nil
	}
	if !renew {
		return f.Needed(q.log.BootID())
	}
	was, err := f.Needed(q.log.BootID())
	if err != nil {
		return 0, err
	}
	d, err := f.Delays()
	if err != nil {
		return 0, err
	}
	if d != nil {
		// No checkpoint helps then, and each append to a full queue would sync for nothing.
		if delayed, n := d.DelayedFrom(); n > 0 && delayed <= was {
			return was, nil
		}
	}
	g := &Group{q: q, name: name, file: f}
	made := uint64(0) // the checkpoint that this makes
	err = group.Guarded(func() error {
		ring, ok, err := f.Ring()
		if ok && err == nil {
			ok, err = g.current(ring.Base)
		}
		if !ok || err != nil {
			return err // of a former run: it goes on from where it was
		}
		g.advance(ring)
		_, now, ok := ring.Start()
		if !ok || now <= was {
			return nil
		}
		switch err := f.Checkpoint(ring, now, renewPatience); {
		case err == nil:
			made = now
			g.advance(ring) // over what was moved, and is on disk now
		case !errors.Is(err, group.ErrBusy) && !errors.Is(err, group.ErrStale):
			return err
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	if d, err = f.Delays(); err != nil { // there may be one by now
		return 0, err
	}
	if d != nil {
		if delayed, n := d.DelayedFrom(); n > 0 {
			made = min(made, delayed)
		}
	}
	return max(was, made), nil
}

// SetGroupMayLose says whether limits may remove messages that the group has not
// finished: see GroupOptions.MayLose. It counts at once, for everyone, and is on disk when
// SetGroupMayLose returns.
//
// Errors are as of PauseGroup.
func (q *Queue) SetGroupMayLose(name string, mayLose bool) error {
	return q.onGroup(name, func(g *Group) error {
		// Once it returns nothing goes any more that the group must keep.
		err := q.log.WhileNobodyTrims(keepPatience, func() error {
			s, err := g.file.Settings()
			if err != nil || s.MayLose == mayLose {
				return err
			}
			s.MayLose = mayLose
			return g.file.SetSettings(s)
		})
		q.log.Wake(wal.WaitSpace)
		return err
	})
}

// roomEvery is how often the appends that wait for room are woken at most by a Group: most
// of what is finished makes none, and they look by themselves.
const roomEvery = 5 * time.Millisecond

// tellRoom wakes the appends that wait for room, since there may be some.
func (g *Group) tellRoom() {
	now, told := int64(time.Since(processBegan)), g.roomTold.Load()
	if told == 0 || now-told >= int64(roomEvery) {
		g.roomTold.Store(now)
		g.q.log.Wake(wal.WaitSpace)
	}
}
