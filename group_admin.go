package walq

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/walq/walq/group"
	"github.com/walq/walq/wal"
)

// Looking after a group, without being one of its consumers.

// PauseGroup keeps the group from handing out messages, or lets it go on. What was
// handed out can be finished meanwhile. It is on disk when PauseGroup returns.
//
// Errors: fs.ErrNotExist if there is no such group, ErrReadOnly, ErrClosed,
// ErrCorrupt.
func (q *Queue) PauseGroup(name string, paused bool) error {
	return q.onGroup(name, func(g *Group) error {
		ring, err := g.anyRing()
		if err != nil {
			return err
		}
		g.setPaused(ring, paused)
		seq, err := startOf(ring)
		if err != nil {
			return err
		}
		if err := g.file.Checkpoint(ring, seq, syncPatience); err != nil {
			return err
		}
		g.advance(ring) // over what was moved, and is on disk now
		return nil
	})
}

// ResetGroup gives the group another place in the log: what is behind it is handed out
// next, once more or for the first time, and what is before it counts as finished.
// Consumers that are at work notice it with their next message. Leases that are under
// way are lost: to finish such a message gives ErrLeaseLost. It is on disk when
// ResetGroup returns.
//
// Errors: those of PauseGroup, and ctx.Err() if ctx was over before anything was done.
func (q *Queue) ResetGroup(ctx context.Context, name string, to Position) error {
	return q.onGroup(name, func(g *Group) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		g.o.From = to
		err := q.log.WhileNobodyTrims(keepPatience, func() error { // so that it is still there
			b, err := g.firstBase()
			if err != nil {
				return err
			}
			return g.file.Rebase(func(group.Before) (group.Base, bool, error) { return b, true, nil }, nil)
		})
		g.callAll()
		q.log.Wake(wal.WaitSpace)
		return err
	})
}

// RemoveGroup removes the group and what it knows: a group of the same name begins
// anew. It refuses if a living participant other than q holds a lease.
//
// Consumers that have the group open get no more messages, and no error: the group is
// paused for them for good. What they were handed they can finish, and nobody cares.
// They have to open the group again, which makes another one.
//
// Errors are as of PauseGroup. The file of a group that is damaged is removed whoever
// uses it.
func (q *Queue) RemoveGroup(name string) error {
	err := q.onGroup(name, func(g *Group) error {
		ring, err := g.anyRing()
		if err != nil {
			return err
		}
		// First: so that nobody takes a lease between our look and the end.
		was := ring.Paused()
		g.setPaused(ring, true)
		if err = g.unused(ring); err == nil {
			err = q.unlinkGroup(name, g.file.Remove)
		}
		if err != nil {
			g.setPaused(ring, was)
		}
		return err
	})
	if errors.Is(err, ErrCorrupt) {
		if uerr := q.unlinkGroup(name, group.RemoveDamaged(name)); uerr != nil {
			return errors.Join(err, groupError(name, uerr))
		}
		return nil
	}
	return err
}

// Behind says where in the log a Position is now, as the number that a message there
// has at least, and counts the messages from there on. It reads headers, and at most
// one message.
func (q *Queue) Behind(p Position) (from Seq, n uint64, err error) {
	if q.log.Closed() {
		return 0, 0, fmt.Errorf("walq: %w", ErrClosed)
	}
	b, err := (&Group{q: q, o: GroupOptions{From: p}}).firstBase()
	if err == nil {
		n, err = q.log.CountFrom(b.Seq)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("walq: position %v: %w", p, err)
	}
	return Seq(b.Seq), n, nil
}

// onGroup calls f with a group that is there, whose consumer we are not.
func (q *Queue) onGroup(name string, f func(*Group) error) (err error) {
	if err := group.CheckName(name); err != nil {
		return fmt.Errorf("walq: group: %w", err)
	}
	switch {
	case q.log.Closed():
		return groupError(name, ErrClosed)
	case q.log.Slot() < 0:
		return groupError(name, ErrReadOnly)
	}
	file, err := q.openGroup(name)
	if err != nil {
		return groupError(name, err)
	}
	g := &Group{
		q: q, name: name, file: file, topics: filterFor(file.Topic),
		owner: group.Owner{Slot: q.log.Slot(), Incarnation: q.log.Incarnation()},
	}
	defer func() { // whatever f does
		if err = errors.Join(err, file.Close()); err != nil {
			err = groupError(name, err)
		}
	}()
	return group.Guarded(func() error { return f(g) })
}

// openGroup opens the file of a group of this queue.
func (q *Queue) openGroup(name string) (*group.File, error) {
	dir, err := q.log.OpenGroups()
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	f, err := group.Open(dir, name, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is none: %w", fs.ErrNotExist)
	}
	if err == nil && f.Queue != q.log.Queue() {
		err = errors.Join(fmt.Errorf("%s belongs to another queue, %v", f.Path(), UUID(f.Queue)), f.Close())
	}
	return f, err
}

// unlinkGroup removes the files of a group, on disk when it returns.
func (q *Queue) unlinkGroup(name string, remove func(unlink func(file string) error) error) error {
	dir, err := q.log.OpenGroups()
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := remove(dir.Unlink); err != nil {
		return err
	}
	q.log.Wake(wal.WaitSpace)
	return dir.Sync()
}

// anyRing is the ring as it counts now. As for who joins the group, what is of a former
// run of the machine does not.
func (g *Group) anyRing() (*group.Ring, error) {
	for begun := time.Now(); ; {
		ring, ok, err := g.file.Ring()
		if ok && err == nil {
			ok, err = g.current(ring.Base)
		}
		if ok || err != nil {
			return ring, err
		}
		if err := g.rebase(); err != nil {
			return nil, err
		}
		if time.Since(begun) > joinPatience {
			return nil, errors.New("the group gets one base after the other")
		}
	}
}

func (g *Group) setPaused(ring *group.Ring, paused bool) {
	ring.SetPaused(paused)
	g.callAll()
}

// callAll has the consumers look, here and elsewhere.
func (g *Group) callAll() {
	g.q.bed.rouse()
	g.q.log.Wake(wal.WaitGroup)
}

// unused tells whether the group can go: nobody alive but ourselves holds a lease.
func (g *Group) unused(ring *group.Ring) error {
	g.scan.alive = map[group.Owner]bool{}
	floor := ring.Floor()
	for n := floor; n < floor+ring.Window(); n++ {
		look, ok := ring.Look(n)
		if !ok || look.Word.State() != group.Leased || look.Word.OwnedBy(g.owner) {
			continue
		}
		if died, err := g.died(look.Word); err != nil {
			return err
		} else if !died {
			return fmt.Errorf("the participant in slot %d is at work on a message; end it first, or wait", look.Word.Slot())
		}
	}
	return g.delayedUnused()
}
