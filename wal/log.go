package wal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/walq/walq/mmap"
	"github.com/walq/walq/segment"
)

// Options say how a queue is opened. They are copied.
type Options struct {
	// Create makes the queue with these settings if there is none; nil:
	// a missing queue is an error.
	Create *Settings
	// Durability of this handle's appends; 0: the queue's own.
	Durability Durability
	// SyncEvery is how far SyncInterval may lag; 0 means DefaultSyncEvery.
	SyncEvery time.Duration
	// StallTimeout is how long a live participant may hold others up in the
	// middle of an append before its claim is revoked; 0 means
	// DefaultStallTimeout, a negative value never.
	StallTimeout time.Duration
	// ReadOnly: never write a byte, take no slot.
	ReadOnly bool
	// Snapshot: the files were copied or restored, so even on the same boot
	// they may be what a power loss leaves.
	Snapshot bool
	// AnyFileSystem: do not refuse file systems that are known as unsafe.
	AnyFileSystem bool
	// Role is shown by Stats, up to 8 bytes.
	Role string
	// Logger gets what needs attention but is no error of a call; nil: nothing.
	Logger *slog.Logger
}

// Defaults of Options.
const (
	// DefaultSyncEvery bounds what a power loss takes from a SyncInterval
	// queue; a sync each 100 ms costs a disk nothing.
	DefaultSyncEvery = 100 * time.Millisecond
	// DefaultStallTimeout is longer than any pause of a healthy process and
	// short enough not to be noticed as an outage.
	DefaultStallTimeout = time.Second
)

// A Log is one handle on a queue's log. Its methods are safe for concurrent
// use. A process may open the same queue several times; each handle is a
// participant of its own. After a fork the child must open anew.
type Log struct {
	files
	table
	member
	o          Options
	settings   Settings
	maxContent int64 // longest content of a frame, bytes

	gate     gate
	closing  chan struct{}       // closed when Close begins: waits end
	tail     atomic.Pointer[seg] // where this handle's appenders are; nil if read-only
	rolling  sync.Mutex          // one roll at a time within the handle
	trimming sync.Mutex          // the trim lock's part within the handle
	kept     keptSegments        // guarded by trimming
	pending  pendingClaims
	waker    func(slot int)          // see SetWaker
	holds    func(below uint64) Hold // see SetHolds
	syncer   syncer
	keeper   keeper
	catalog  catalog
}

// A member is what makes a handle a participant.
type member struct {
	slot        int // -1 if read-only
	incarnation uint64
}

// tag names the participant and its incarnation in one word that is never 0.
func (m member) tag() uint64 { return m.incarnation<<16 | uint64(m.slot+1) }

// Open opens the queue in a directory, recovers it if that is needed, and joins
// it. Waiting for another process that recovers honours ctx.
func Open(ctx context.Context, path string, o Options) (_ *Log, err error) {
	if err := mmap.Supported(); err != nil {
		return nil, err
	}
	if o.SyncEvery <= 0 {
		o.SyncEvery = DefaultSyncEvery
	}
	if o.StallTimeout == 0 {
		o.StallTimeout = DefaultStallTimeout
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	l := &Log{o: o, member: member{slot: -1}, closing: make(chan struct{})}
	if err := l.guarded(func() error { return l.openFiles(ctx, path) }); err != nil {
		return nil, errors.Join(err, l.files.close())
	}
	l.maxContent = segment.MaxContent(l.settings.SegmentSize)
	l.table.open = map[uint64]*seg{}
	l.table.parked.most, l.table.parked.mostBytes = maxParked, maxParkedBytes
	l.table.readOnly = o.ReadOnly
	l.table.random = l.settings.Durability != SyncNever
	l.keeper.init()
	if o.ReadOnly {
		if err := l.guarded(l.lookOn); err != nil {
			return nil, errors.Join(err, l.abandon())
		}
		return l, nil
	}
	if err := l.guarded(func() error { return l.join(ctx) }); err != nil {
		return nil, errors.Join(err, l.abandon())
	}
	return l, nil
}

// lookOn makes ready a handle that only reads.
func (l *Log) lookOn() error {
	b, err := l.ctl.boot()
	if err != nil {
		return err
	}
	l.table.awaitsCut = func() (bool, error) { return l.awaitsRecovery(b.epoch) }
	return nil
}

// guarded runs f and makes an error of a fault in a mapped file, so that the
// caller can go on and give back what it holds.
func (l *Log) guarded(f func() error) (err error) {
	defer mmap.Recover(mmap.Protect(), &err)
	return f()
}

func (l *Log) durability() Durability {
	if l.o.Durability != 0 {
		return l.o.Durability
	}
	return l.settings.Durability
}

// Durability is when appends through this handle are acknowledged.
func (l *Log) Durability() Durability { return l.durability() }

// Settings are the queue's own.
func (l *Log) Settings() Settings { return l.settings }

// Queue is the queue's identity.
func (l *Log) Queue() [16]byte { return l.ctl.queue }

// Path is the queue's directory.
func (l *Log) Path() string { return l.dir.Path() }

// Closed reports whether Close was called.
func (l *Log) Closed() bool { return l.gate.closed.Load() }

// abandon gives everything back after a failed open.
func (l *Log) abandon() error {
	l.releaseAll()
	return l.files.close()
}

// releaseAll drops what the handle itself holds of the table. Readers and
// claims drop theirs.
func (l *Log) releaseAll() {
	l.table.dropAll(true)
	l.table.release(l.tail.Swap(nil))
	l.syncer.dropCursor(&l.table)
	for _, s := range l.keeper.takeRetired() {
		l.table.release(s)
	}
}

// Close leaves the queue: it waits for appends that are under way, gives back
// claims that were never committed, and as the last participant syncs the log
// and marks it clean. Further calls return ErrClosed.
func (l *Log) Close() (err error) {
	if !l.gate.close() {
		return ErrClosed
	}
	close(l.closing)
	l.syncer.rounds.close()
	l.pending.abortAll() // somebody inside may wait for one to pass
	l.gate.drainAll()
	l.keeper.stop()
	l.drainLanes()
	l.pending.abortAll() // and one may have come meanwhile
	if l.slot >= 0 {
		err = l.guarded(l.leave)
	}
	l.releaseAll()
	return errors.Join(err, l.files.close())
}

// leavePatience bounds how long Close waits for other participants' claims.
const leavePatience = 10 * time.Second

// leave frees the slot, having marked the queue clean if nobody else is there.
func (l *Log) leave() error {
	errs := []error{l.dropPrepared()}
	if l.durability() != SyncNever && l.behind() {
		ctx, cancel := context.WithTimeout(context.Background(), leavePatience)
		defer cancel()
		errs = append(errs, l.syncAll(ctx))
	}
	alone, err := l.tryAlone()
	errs = append(errs, err)
	if alone {
		errs = append(errs, l.markClean())
	} else if l.behind() {
		// What was appended and never synced is nobody's business now: the
		// next sync must not believe that the kernel told it of every error.
		l.ctl.word(ctlIntentOwner).Store(standingIntent)
	}
	if !alone && l.ctl.poisoned() == nil {
		errs = append(errs, l.ctl.sync())
	}
	// The slot goes before the recovery lock: whoever joins must find either
	// us and no clean mark, or nobody and the mark, which it then removes.
	errs = append(errs, l.releaseSlot())
	if alone {
		errs = append(errs, l.locks.Unlock(lockRecovery))
	}
	err = errors.Join(errs...)
	if errors.Is(err, ErrPoisoned) {
		return nil // whoever appends was told; closing is not where it matters
	}
	return err
}

// tryAlone takes the recovery lock exclusively if that is possible at once and
// no other participant is there.
func (l *Log) tryAlone() (bool, error) {
	ok, err := l.locks.TryLock(lockRecovery, true)
	if !ok || err != nil {
		return false, err
	}
	others, err := l.locks.HeldByOther(lockSlots, maxSlots)
	if err == nil && !others {
		return true, nil
	}
	return false, errors.Join(err, l.locks.Unlock(lockRecovery))
}

func (l *Log) warn(msg string, args ...any) { l.o.Logger.Warn(fmt.Sprintf("walq: %s", msg), args...) }
