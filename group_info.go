package walq

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/walq/walq/group"
	"github.com/walq/walq/wal"
)

// GroupInfo is a look at a group while others use it: each figure was true at some
// moment, not all of them at the same.
type GroupInfo struct {
	Name   string `json:"name"`
	Topic  string `json:"topic"`  // empty: all messages
	Window int    `json:"window"` // so many messages may be in flight
	// OrderedByKey: the messages of one key are handed out in order, one at a time.
	OrderedByKey bool `json:"ordered_by_key"`
	// Floor is a sequence number below which the group has finished everything.
	Floor Seq `json:"floor"`
	// Lag is how many messages the group has not finished. They are counted, not
	// computed from sequence numbers, but not read: of a group with a topic it is an
	// upper bound, since the messages of other topics count as long as no consumer
	// has gone past them.
	Lag          uint64 `json:"lag"`
	InFlight     uint64 `json:"in_flight"`     // handed out, or sent back, and not finished
	Delayed      uint64 `json:"delayed"`       // of the lag, not due for long, and not in the window
	Finished     uint64 `json:"finished"`      // since the group was made
	Redelivered  uint64 `json:"redelivered"`   // handed out once more
	DeadLettered uint64 `json:"dead_lettered"` // given up
	Paused       bool   `json:"paused"`        // nothing is handed out
	MayLose      bool   `json:"may_lose"`      // limits may remove what is not finished
	// HeldBytes is the size of the files that the group needs, as is known on disk; they
	// are not trimmed. 0 if it may lose messages.
	HeldBytes int64 `json:"held_bytes"`
	// OldestUnfinishedSeconds is the age of the oldest message that is not finished;
	// 0 if there is none, or it cannot be read. With a topic it may be that of an
	// earlier message of another one.
	OldestUnfinishedSeconds float64 `json:"oldest_unfinished_s"`
}

// Groups looks at the groups of the queue, in the order of their names. It opens their
// files for reading only, and reads one message of each. Of a group that cannot be
// looked at it says so in the error, and gives the others.
func (q *Queue) Groups() ([]GroupInfo, error) {
	if q.log.Closed() {
		return nil, fmt.Errorf("walq: groups: %w", ErrClosed)
	}
	dir, err := q.log.OpenGroups()
	if err != nil {
		return nil, fmt.Errorf("walq: groups: %w", err)
	}
	defer dir.Close()
	files, err := dir.Names()
	if err != nil {
		return nil, fmt.Errorf("walq: groups: %w", err)
	}
	slices.Sort(files)
	var all []GroupInfo
	var errs []error
	for _, file := range files {
		name, ok := group.ParseFileName(file)
		if !ok {
			continue
		}
		f, err := group.Open(dir, name, true)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it was removed meanwhile
		}
		var info GroupInfo
		if err == nil {
			info, err = q.groupInfo(name, f)
		}
		if err != nil {
			errs = append(errs, groupError(name, err))
			continue
		}
		all = append(all, info)
	}
	return all, errors.Join(errs...)
}

// groupError wraps an error about a group once, and makes those of its file the
// queue's own.
func groupError(name string, err error) error {
	if c := new(group.CorruptError); errors.As(err, &c) {
		err = &CorruptError{Path: c.Path, Offset: c.Offset, Reason: c.Reason}
	} else if errors.Is(err, group.ErrVersion) {
		err = fmt.Errorf("%w: %w", ErrVersion, err)
	}
	return fmt.Errorf("walq: group %s: %w", name, err)
}

// groupInfo looks at a group, and closes its file.
func (q *Queue) groupInfo(name string, f *group.File) (info GroupInfo, err error) {
	defer func() { err = errors.Join(err, f.Close()) }()
	if f.Queue != q.log.Queue() {
		return info, fmt.Errorf("%s belongs to another queue, %v", f.Path(), UUID(f.Queue))
	}
	// A Group that is not adopted: it has the methods that are needed.
	g := &Group{q: q, name: name, file: f, topics: filterFor(f.Topic)}
	s, err := f.Settings()
	if err != nil {
		return info, err
	}
	info = GroupInfo{Name: name, Topic: f.Topic, Window: f.Entries - 1, MayLose: s.MayLose, OrderedByKey: f.ByKey}
	err = group.Guarded(func() error { return g.look(&info) })
	if err == nil && !info.MayLose {
		var need uint64
		if need, err = f.Needed(q.log.BootID()); err == nil {
			info.HeldBytes, err = q.log.BytesFrom(need)
		}
	}
	return info, err
}

// look fills in what changes of a group.
func (g *Group) look(info *GroupInfo) error {
	p, err := g.progress(info)
	if err != nil {
		return err
	}
	behind, err := g.q.log.CountFrom(p.from)
	if err != nil {
		return err
	}
	info.Floor = Seq(p.from)
	if p.delayedFrom != 0 {
		info.Floor = min(info.Floor, Seq(p.delayedFrom))
	}
	info.Lag = behind - min(p.finished, behind) + info.Delayed
	if info.Lag > 0 {
		info.OldestUnfinishedSeconds = g.oldestUnfinished(p).Seconds()
	}
	return nil
}

// A progress is how far a group is in the log.
type progress struct {
	from     uint64 // all messages below this sequence number are finished
	finished uint64 // and so many behind it
	// done reports whether the message of this number, the n-th of the group from
	// there on, is finished.
	done func(n, seq uint64) bool
	// delayedFrom is the least number of a delayed message, 0 if there is none.
	delayedFrom uint64
}

// delayedOf counts the delayed messages that count, and gives the first of them.
func (g *Group) delayedOf(info *GroupInfo, count func(seq uint64) bool) (from uint64, err error) {
	cells, err := g.file.Delays()
	if cells == nil || err != nil {
		return 0, err
	}
	cells.Each(func(seq uint64) {
		if !count(seq) {
			return
		}
		if info.Delayed++; info.Delayed == 1 || seq < from {
			from = seq
		}
	})
	return from, nil
}

// progress looks at the ring, or if it is of a former run of the machine, or between
// two bases, at what counts of it.
func (g *Group) progress(info *GroupInfo) (p progress, err error) {
	if ring, ok, err := g.file.Ring(); ok && err == nil {
		c := ring.Counts()
		info.Finished, info.Redelivered, info.DeadLettered = c.Finished, c.Redelivered, c.DeadLettered
		info.Paused = ring.Paused()
	}
	ring, floor, from, err := g.startNow()
	if err != nil {
		return p, err
	}
	if ring == nil {
		was, err := g.file.Before()
		for s := range was.Finished {
			if s < was.From {
				delete(was.Finished, s)
			}
		}
		if err == nil { // what else is delayed there the next base brings by the ring
			p.delayedFrom, err = g.delayedOf(info, func(seq uint64) bool { return seq < was.From || was.Finished[seq] })
		}
		p.from, p.finished = was.From, uint64(len(was.Finished))
		p.done = func(_, seq uint64) bool { return was.Finished[seq] }
		return p, err
	}
	p = progress{from: from, done: func(n, _ uint64) bool {
		look, ok := ring.Look(floor + n)
		return ok && look.Word.State().Done()
	}}
	if p.delayedFrom, err = g.delayedOf(info, func(uint64) bool { return true }); err != nil {
		return p, err
	}
	for n := range ring.Entries() {
		switch look, ok := ring.Look(floor + n); {
		case !ok:
		case look.Word.State().Done():
			p.finished++
		default:
			info.InFlight++
		}
	}
	return p, nil
}

// startNow is the ring and where the group is in it; no ring if none counts now.
func (g *Group) startNow() (ring *group.Ring, n, seq uint64, err error) {
	for range 10_000 {
		ring, ok, err := g.file.Ring()
		if ok && err == nil {
			ok, err = g.current(ring.Base)
		}
		if !ok || err != nil {
			return nil, 0, 0, err
		}
		if n, seq, ok := ring.Start(); ok {
			n, seq = ring.Reach(n, seq)
			return ring, n, seq, nil
		}
		time.Sleep(10 * time.Microsecond)
	}
	return nil, 0, 0, &CorruptError{Path: g.file.Path(), Reason: "the floor does not go with the entry before it"}
}

// lookAhead is how many messages of other topics are read to find the oldest of the
// group's own.
const lookAhead = 1000

// oldestUnfinished is the age of the oldest message that is not finished, 0 if it is
// not found.
func (g *Group) oldestUnfinished(p progress) time.Duration {
	r, err := g.q.log.NewReader(false)
	if err != nil {
		return 0
	}
	defer r.Close()
	var at int64
	var own, others uint64
	if p.delayedFrom != 0 && p.delayedFrom < p.from {
		p.from, p.done = p.delayedFrom, func(uint64, uint64) bool { return false }
	}
	if err := r.SeekSeq(p.from); err != nil {
		return 0
	}
	for found := false; !found && others < lookAhead; {
		ok, err := r.ViewSoon(false, func(m *wal.Message) error {
			at = m.Time
			if !g.topics.want(m.Meta) {
				others++
				return nil
			}
			found = !p.done(own, m.Seq)
			own++
			return nil
		})
		if errors.Is(err, ErrTrimmed) {
			continue
		}
		if !ok || err != nil {
			return 0
		}
	}
	now, _ := g.q.times.now()
	return max(now.Sub(time.Unix(0, at)), 0)
}
