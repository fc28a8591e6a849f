package walq

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/walq/walq/group"
	"github.com/walq/walq/wal"
)

// A Group is a named set of consumers, in any processes, that share the work: each
// message of the queue goes to one of them, and to another one if that one's process
// dies, if it sends the message back, or if it does not finish it within its lease.
// Different groups do not disturb each other: each sees every message. Delivery is at
// least once.
//
// A Group is safe for concurrent use. Close it when you are done; closing the queue
// closes it too.
type Group struct {
	q        *Queue
	name     string
	o        GroupOptions
	file     *group.File
	settings group.Settings
	owner    group.Owner
	topics   topicFilter
	dead     deadLetters

	mu      sync.Mutex
	closed  bool
	walk    walk
	scan    scan
	delayed delayedScan
	held    []*Delivery // handed out by this Group, not finished
	clock   groupClock
	gap     *GapError // to be told once
	refused refusal
	room    deliveryRoom
	// roomTold is when tellRoom woke somebody last, in nanoseconds since the process began:
	// not under mu, since who puts the group's state on disk has it not.
	roomTold atomic.Int64
	// syncing are those who use the file without mu.
	syncing sync.WaitGroup
	dirty   timer // a checkpoint is due
}

// A walk counts the group's messages along the log.
type walk struct {
	ring  *group.Ring // nil: join first
	from  *lessor     // of the leases of that ring
	r     *wal.Reader
	again *wal.Reader // for what is handed out once more
	first uint64      // the ordinal where counting began
	at    uint64      // the next one
	seqs  []uint64    // of ordinals from first to at, by ordinal modulo the ring's entries
	keys  *keyLines   // nil if the group is not ordered by key
	ahead ahead
}

func (w *walk) seq(n uint64) *uint64 { return &w.seqs[n&(w.ring.Entries()-1)] }

// Group opens the group, and makes it if there is none. Its name is one to 100 letters,
// digits, dots, dashes and underscores.
func (q *Queue) Group(name string, o GroupOptions) (_ *Group, err error) {
	if err := errors.Join(group.CheckName(name), o.check()); err != nil {
		return nil, fmt.Errorf("walq: group: %w", err)
	}
	if q.log.Slot() < 0 {
		return nil, fmt.Errorf("walq: group %s: %w", name, ErrReadOnly)
	}
	if o.DeadLetter != "" {
		if o.DeadLetter, err = filepath.Abs(o.DeadLetter); err != nil {
			return nil, fmt.Errorf("walq: group %s: %w", name, err)
		}
	}
	g := &Group{
		q: q, name: name, o: o, clock: groupClock{times: q.times},
		owner: group.Owner{Slot: q.log.Slot(), Incarnation: q.log.Incarnation()},
	}
	if err := g.open(); err != nil {
		return nil, groupError(name, err)
	}
	g.topics = filterFor(g.file.Topic)
	g.dead = newDeadLetters(g.settings.DeadLetter, q.logger)
	if !q.adopt(g) {
		return nil, errors.Join(ErrClosed, g.file.Close())
	}
	return g, nil
}

// open opens the group's file, and makes it if it is not there.
func (g *Group) open() error {
	dir, err := g.q.log.OpenGroups()
	if err != nil {
		return err
	}
	defer dir.Close()
	for g.file == nil {
		g.file, err = group.Open(dir, g.name, false)
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
		s := g.o.settings()
		if err := checkLimits(s); err != nil {
			return err
		}
		// From here on what it needs is kept.
		err = g.q.log.WhileNobodyTrims(keepPatience, func() error {
			b, err := g.firstBase()
			if err != nil {
				return err
			}
			now, _ := g.q.times.now()
			id := group.Identity{Queue: g.q.log.Queue(), Created: now.UnixNano(), Entries: g.o.entries(), Topic: g.o.Topic, ByKey: g.o.OrderedByKey}
			return group.Create(dir, g.name, g.q.log.TempName(), g.q.log.FilePerm(), id, s, b)
		})
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	if err != nil {
		return err
	}
	if err := g.take(); err != nil {
		return errors.Join(err, g.file.Close())
	}
	return nil
}

func checkLimits(s group.Settings) error {
	if s.DeadLetter == "" && s.MaxDeliver+s.MaxDeaths > 0 {
		return errors.New("MaxDeliver and MaxDeaths need DeadLetter, the queue where messages go that reach them")
	}
	return nil
}

// take takes what the group was made with, and changes what is to be changed.
func (g *Group) take() (err error) {
	if g.file.Queue != g.q.log.Queue() {
		return fmt.Errorf("%s belongs to another queue, %v", g.file.Path(), UUID(g.file.Queue))
	}
	if err := g.o.fits(g.file.Identity); err != nil {
		return err
	}
	if g.settings, err = g.file.Settings(); err != nil {
		return err
	}
	if g.o.change(&g.settings) {
		if err := checkLimits(g.settings); err != nil {
			return err
		}
		return g.file.SetSettings(g.settings)
	}
	return nil
}

// firstBase is where a new group begins.
func (g *Group) firstBase() (b group.Base, err error) {
	if b.Epoch, err = g.q.log.Epoch(); err != nil {
		return b, err
	}
	b.Boot = g.q.log.BootID()
	r, err := g.q.Reader(g.o.From, ReaderOptions{})
	if err != nil {
		return b, err
	}
	defer r.Close()
	if g.o.From.kind == atLast || g.o.From.kind == atTime { // which message that is shows when it is read
		m, ok, err := r.TryNext()
		if err == nil && ok {
			b.Seq = uint64(m.Seq)
			return b, nil
		}
		if err != nil {
			return b, err
		}
	}
	b.Seq = r.r.Seq()
	return b, nil
}

// Name is the group's name.
func (g *Group) Name() string { return g.name }

// Close gives back what was handed out and not finished, so that another consumer gets
// it at once, and puts on disk what is finished. It does not wait for anybody who works
// on a message, but, for some seconds at most, for dead letters that are on their way;
// calls that wait for a message return ErrClosed, as do later calls.
func (g *Group) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return ErrClosed
	}
	g.closed = true
	if g.dirty != nil {
		g.dirty.Stop()
	}
	err := group.Guarded(func() error {
		for len(g.held) > 0 {
			d := g.held[len(g.held)-1]
			d.sendBack(0)
			d.over()
		}
		return nil
	})
	g.q.bed.rouse()
	g.q.log.Wake(wal.WaitGroup)
	g.syncing.Wait() // what they finish is put on disk too
	if g.walk.ring != nil || g.dirty != nil {
		err = errors.Join(err, group.Guarded(func() error { return g.checkpoint(g.walk.ring, syncPatience) }))
	}
	g.walk.close()
	g.q.disown(g)
	return errors.Join(err, g.dead.close(), g.file.Close())
}

func (w *walk) close() {
	for _, r := range []*wal.Reader{w.r, w.again} {
		if r != nil {
			r.Close()
		}
	}
	*w = walk{}
}

// checkpoint puts on disk what is finished by the ring, or, if that counts no more or is
// nil, what the file holds: an acknowledgement that came in before is in it. Others who
// do the same are waited for at most for patience.
func (g *Group) checkpoint(ring *group.Ring, patience time.Duration) error {
	if ring == nil {
		return g.file.Settle(patience)
	}
	g.advance(ring) // what others finish sees no more than that the floor is raised: we tell
	seq, err := startOf(ring)
	if err == nil {
		err = g.file.Checkpoint(ring, seq, patience)
		g.advance(ring) // over what was moved, and is on disk now
	}
	if errors.Is(err, group.ErrStale) {
		err = g.file.Settle(patience)
	}
	if err == nil {
		g.q.log.Wake(wal.WaitSpace) // what was finished may go now
	}
	return err
}

// syncPatience is how long AckSync and Close wait for others who put the group's state
// on disk, and may have been stopped in it.
var syncPatience = 2 * time.Second // tests have less

// checkpointSoon makes sure that what is finished is on disk before long. g.mu is held.
func (g *Group) checkpointSoon() {
	if g.dirty != nil {
		return
	}
	g.dirty = g.q.times.afterFunc(checkpointEvery, func() {
		g.mu.Lock()
		ring := g.walk.ring
		g.dirty = nil
		for i := len(g.held) - 1; i >= 0; i-- { // what takes the place of one was looked at
			if d := g.held[i]; !d.leased() { // forgotten, and another has the lease
				d.over()
			}
		}
		if g.closed {
			g.mu.Unlock()
			return
		}
		g.syncing.Add(1) // so that the file stays
		g.mu.Unlock()
		err := g.syncNow(ring)
		if errors.Is(err, group.ErrBusy) { // who has the lock may have begun before what is finished was
			g.mu.Lock()
			defer g.mu.Unlock()
			if !g.closed {
				g.checkpointSoon()
			}
			return
		}
		if err != nil && g.q.logger != nil {
			g.q.logger.Warn("walq: the state of a group cannot be put on disk", "group", g.name, "err", err)
		}
	})
}

// syncNow is a checkpoint that waits for nobody. It gives back what keeps the file.
func (g *Group) syncNow(ring *group.Ring) error {
	defer g.syncing.Done()
	return group.Guarded(func() error { return g.checkpoint(ring, 0) })
}

// checkpointEvery is how old what a power loss leaves of a group may be: messages
// finished since then are handed out again.
const checkpointEvery = time.Second

// deadline is when a lease that begins now ends, in milliseconds since the boot.
func (g *Group) deadline(now moment, lease time.Duration) int64 {
	const most = math.MaxInt64 / int64(time.Millisecond) / 2 // so that it can be compared
	return min(now.boot.Milliseconds()+min(lease.Milliseconds()+1, most), most)
}
