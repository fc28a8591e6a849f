package walq

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"sync"

	"github.com/walq/walq/wal"
)

// A Seq is the sequence number of a message: they ascend along the log, from 1,
// and none is ever given twice. They are not dense: an append that was given up
// leaves a gap, and a recovery after a power loss leaves a large one. Do not
// compute counts from them.
type Seq uint64

// A UUID identifies a queue for good, wherever its directory is moved.
type UUID [16]byte

func (u UUID) String() string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

// MarshalText gives the usual form of a UUID.
func (u UUID) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// UnmarshalText reads the usual form of a UUID.
func (u *UUID) UnmarshalText(text []byte) error {
	raw, err := hex.DecodeString(strings.ReplaceAll(string(text), "-", ""))
	if err != nil || len(raw) != len(u) || len(text) != len(u.String()) {
		return fmt.Errorf("walq: %q is not a UUID", text)
	}
	copy(u[:], raw)
	return nil
}

// A Queue is an open queue. It is safe for concurrent use.
type Queue struct {
	log    *wal.Log
	bed    *bedroom
	logger *slog.Logger // nil: nothing is logged
	times  times        // of its groups
	warner keepWarner
	// neverWait: appends of this handle return ErrFull, whatever the queue's setting.
	neverWait bool

	mu     sync.Mutex
	groups map[*Group]struct{} // open ones; nil once the queue is closed
}

// Open opens the queue in the directory dir. It recovers the queue first if
// every process that had it open died, or the machine did; waiting for another
// process that does so honours ctx. Close the queue when you are done.
//
// Errors: fs.ErrNotExist or ErrNotQueue if there is no queue and none was to be
// made, ErrVersion, ErrOwner, ErrSymlink, ErrFileSystem, ErrCorrupt,
// ErrTooManyOpen, ErrDiskFull.
func Open(ctx context.Context, dir string, o Options) (*Queue, error) {
	if o.Durability < DurabilityDefault || o.Durability > SyncNever {
		return nil, fmt.Errorf("walq: open %s: %v is no durability", dir, o.Durability)
	}
	if o.Create != nil && (o.Create.WhenFull < FailWhenFull || o.Create.WhenFull > WaitWhenFull) {
		return nil, fmt.Errorf("walq: open %s: %v is not known", dir, o.Create.WhenFull)
	}
	bed := openBedroom()
	log, err := wal.Open(ctx, dir, o.log())
	if _, serr := os.Stat(dir); errors.Is(err, fs.ErrNotExist) && errors.Is(serr, fs.ErrNotExist) && o.Create == nil {
		err = fmt.Errorf("%w (there is no queue; make one with `walq create` or Options.Create)", err)
	}
	if err != nil {
		return nil, fmt.Errorf("walq: open queue: %w", err)
	}
	if err := bed.furnish(log); err != nil && o.Logger != nil {
		o.Logger.Warn("walq: readers poll, nobody can wake them", "queue", log.Path(), "err", err)
	}
	q := &Queue{log: log, bed: bed, logger: o.Logger, times: realTimes{}, groups: map[*Group]struct{}{}}
	log.SetHolds(q.hold)
	return q, nil
}

// ID is the queue's identity: (ID, Seq) names a message for good, and so makes a
// token with which reading can be resumed.
func (q *Queue) ID() UUID { return UUID(q.log.Queue()) }

// Path is the queue's directory, absolute.
func (q *Queue) Path() string { return q.log.Path() }

// MaxMessage is the size in bytes of the largest message, with its metadata,
// that fits the queue.
func (q *Queue) MaxMessage() int64 { return q.log.MaxContent() }

// Sync returns when everything that was appended before the call, by any
// process, is on stable storage.
func (q *Queue) Sync(ctx context.Context) error { return q.log.Sync(ctx) }

// WaitDurable returns when the message s and all before it are on stable
// storage. Whatever the queue's durability, it syncs if nobody else does.
func (q *Queue) WaitDurable(ctx context.Context, s Seq) error {
	return q.log.WaitDurable(ctx, uint64(s))
}

// Close leaves the queue. It waits for calls that are under way and for Views;
// calls that wait for something return ErrClosed. The last process to leave
// syncs everything and marks the queue clean, so that opening it again is quick.
// Further calls return ErrClosed.
func (q *Queue) Close() error {
	if q.log.Closed() {
		return ErrClosed
	}
	groups := q.closeGroups()
	bed := q.bed.close() // while the slot, and so the socket's name, is ours
	err := q.log.Close()
	if errors.Is(err, ErrClosed) { // another Close was faster
		return ErrClosed
	}
	return errors.Join(groups, bed, err, q.bed.leave())
}

// adopt notes an open group, so that it is closed before the queue is; false: the queue
// is closed.
func (q *Queue) adopt(g *Group) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.groups == nil {
		return false
	}
	q.groups[g] = struct{}{}
	return true
}

func (q *Queue) disown(g *Group) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.groups, g)
}

// closeGroups closes what groups are open, while the slot is still ours: a lease of a
// slot that nobody holds counts as a death.
func (q *Queue) closeGroups() error {
	q.mu.Lock()
	all := q.groups
	q.groups = nil
	q.mu.Unlock()
	var errs []error
	for g := range all {
		if err := g.Close(); !errors.Is(err, ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
