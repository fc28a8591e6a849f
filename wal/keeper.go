package wal

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/walq/walq/mmap"
	"github.com/walq/walq/segment"
)

// The keeper is one goroutine of an active writer. While appends go on it looks
// around every keeperTick and does what the append path should not: it makes pages
// ready ahead of the tail, prepares the next segment, syncs as the durability asks,
// gives back segments that are no longer written. When appends pause it gives back
// what it prepared and sleeps until the next one calls it: an idle queue has no
// ticking goroutine.

const (
	// keeperTick is how often the keeper looks around, and the clock is set.
	keeperTick = time.Millisecond
	// restAfter is how long after the last append the keeper goes to rest.
	restAfter = 20 * time.Millisecond
	// aheadTime is how far ahead of the tail pages are made ready, measured
	// in time at the present rate of appending: long enough for a slow disk
	// to allocate an extent.
	aheadTime     = 50 * time.Millisecond
	maxAheadBytes = 32 << 20
	// startRate, bytes a tick, is much: it is believed at once, and pages are made
	// ready for startTicks of it, maxStartBytes at most, also in a segment that is not
	// yet full enough for so many.
	startRate     = 64 << 10
	startTicks    = 8
	maxStartBytes = 4 << 20
	// minAheadRate is the rate, bytes a tick, below which page faults cost
	// less than preparing.
	minAheadRate = 16 << 10
	// controlSyncEvery is how far the control file's copy on disk may lag.
	controlSyncEvery = time.Second
	// watchEvery is how often it looks at a claim in its way, for a stopped owner.
	watchEvery = longestLook / 2
	// trimEvery is how often, beside after each roll, the limits are looked at.
	trimEvery = time.Second
	// maxRetired bounds the segments kept open only until they are synced.
	maxRetired = 64
)

type keeper struct {
	awake       atomic.Bool
	clock       clock // goes while the keeper is awake
	wake        chan struct{}
	quit        chan struct{}
	gone        chan struct{}
	start       sync.Once
	started     atomic.Bool
	flush       atomic.Uint32 // flushIdle, flushRunning or flushAgain
	temporaries atomic.Uint64
	refused     time.Time // when the disk had no room ahead; the keeper's own

	mu       sync.Mutex
	retired  []*seg
	prepared *segment.Segment // not linked yet, named prepName
	prepName string
	ready    int64 // bytes from the start of prepared whose pages are ready
	flushing sync.WaitGroup
}

// States of the background sync.
const (
	flushIdle    = iota
	flushRunning // one goroutine syncs
	flushAgain   // and somebody came since it began
)

func (k *keeper) init() {
	k.wake = make(chan struct{}, 1)
	k.quit = make(chan struct{})
	k.gone = make(chan struct{})
}

// stir wakes the keeper if it rests. An append does so after it has moved the
// tail: see rest.
func (l *Log) stir() {
	if !l.keeper.awake.Load() {
		l.stirResting()
	}
}

// kick makes the keeper look at once, not at its next tick.
func (k *keeper) kick() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

func (l *Log) stirResting() {
	k := &l.keeper
	if !k.started.Load() {
		k.start.Do(func() {
			k.started.Store(true)
			go l.keep()
		})
	}
	k.kick()
}

// stop ends the keeper and waits for it. The gate is shut already.
func (k *keeper) stop() {
	close(k.quit)
	k.start.Do(func() { close(k.gone) }) // it never ran
	<-k.gone
	k.flushing.Wait()
}

// A watch is what the keeper remembers from one tick to the next.
type watch struct {
	lastMove    time.Time
	lastControl time.Time
	lastSync    time.Time
	lastSettle  time.Time
	lastTrim    time.Time
	stuck       observer // of the claim that settling met
	trimmed     uint32   // ordinal of the tail when it was last looked at for trimming
	end         Position // of the tail at the last tick
	durable     Position // when the control file was last synced
	pace        pace     // of appending
	behind      bool     // there is more to make ready at once
	touched     Position // pages are ready up to here
	written     Position // and those of a queue that is synced often are on disk, or on the way
	leaving     []*seg   // to be released when the grace period is over
	grace       grace
	warned      time.Time
}

func (l *Log) keep() {
	k := &l.keeper
	defer close(k.gone)
	timer := time.NewTimer(0)
	<-timer.C
	w := watch{lastControl: time.Now(), lastSettle: time.Now()}
	defer l.releaseLeaving(&w) // at the end nobody is inside
	for {
		select {
		case <-k.wake:
		case <-k.quit:
			return
		}
		w.lastMove, w.lastSync = time.Now(), time.Now()
		k.awake.Store(true)
		k.clock.start()
		closing := l.watchUntilRest(&w, timer)
		k.clock.stop()
		if closing {
			return
		}
	}
}

// watchUntilRest looks around at every tick. It returns when nothing goes on any
// more, or with true when the handle closes.
func (l *Log) watchUntilRest(w *watch, timer *time.Timer) (closing bool) {
	for {
		if l.tick(w) && l.rest(w) {
			return false
		}
		wait := keeperTick
		if w.behind {
			wait = 0
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-l.keeper.wake:
		case <-l.keeper.quit:
			return true
		}
	}
}

// rest says that the keeper sleeps, so that the next append calls it. An append
// moves the tail before it looks at that, so either it sees the keeper asleep, or it
// is seen here and the keeper stays awake.
func (l *Log) rest(w *watch) bool {
	l.keeper.awake.Store(false)
	s, poisoned := l.tail.Load(), false
	err := l.guarded(func() error { poisoned = l.ctl.poisoned() != nil; return nil })
	if s.position(s.ownTail().Off) == w.end || poisoned || err != nil {
		return true
	}
	l.keeper.awake.Store(true)
	return false
}

// tick looks after everything once; true: nothing is going on any more. A file that
// somebody cut short, where each look faults, keeps nobody awake.
func (l *Log) tick(w *watch) (resting bool) {
	var err error
	func() {
		defer mmap.Recover(mmap.Protect(), &err)
		resting, err = l.tickGuarded(w)
	}()
	if errors.Is(err, mmap.ErrFault) && time.Since(w.lastMove) >= restAfter {
		resting, err = true, errors.Join(err, l.dropPrepared())
	}
	if err != nil && !errors.Is(err, ErrPoisoned) && time.Since(w.warned) > time.Second {
		w.warned = time.Now()
		l.warn("background work failed", "queue", l.dir.Path(), "err", err)
	}
	return resting
}

func (l *Log) tickGuarded(w *watch) (resting bool, err error) {
	now := time.Now()
	s := l.tail.Load()
	end := s.position(s.ownTail().Off)
	moved := end != w.end
	if moved {
		w.lastMove = now
	}
	l.keepSynced(w, now, end)
	l.releaseRetired(w)
	waiting := l.durability() == SyncInterval && l.behind() && l.ctl.poisoned() == nil
	resting = !waiting && now.Sub(w.lastMove) >= restAfter
	w.end = end
	behind := true
	for w.behind = false; behind && time.Since(now) < keeperTick; { // nor is it after a fault
		behind = l.follow(w, s, end, time.Now())
		s = l.tail.Load()
		end = s.position(s.ownTail().Off)
	}
	w.behind = behind
	err = errors.Join(l.writeAhead(w, s, end), l.keepControl(w, now, resting), l.keepSettled(w, now), l.keepLimits(w, now))
	if resting {
		err = errors.Join(err, l.dropPrepared())
	}
	return resting, err
}

// prepare makes the file of the next segment, allocated and in memory as far as ahead
// bytes, without a header, a piece at each call. One writer does so at a time; a full disk
// is not reported here. It reports whether there is more to do.
func (l *Log) prepare(size, ahead int64) (more bool) {
	k := &l.keeper
	if k.havePrepared() {
		return k.extendPrepared(min(size, segment.DataStart(size)+ahead))
	}
	if ok, err := l.locks.TryLock(lockPrepare, true); !ok || err != nil {
		return false
	}
	name := l.nextTempName()
	made, err := l.createFile(name, size, 0)
	if err != nil {
		k.refused = time.Now()
		l.unlockPrepare()
		return false
	}
	// The head stays in small pages, or each sync of it would write a large one.
	made.Region().Prepare(0, made.Start().Off)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.prepared, k.prepName, k.ready = made, name, made.Start().Off
	return true
}

// extendPrepared makes one more piece of the prepared segment ready, up to end at most.
// Whoever comes for it meanwhile waits for as long as one piece takes.
func (k *keeper) extendPrepared(end int64) (more bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.prepared == nil || k.ready >= end {
		return false
	}
	to := pieceEnd(k.ready, end)
	if k.prepared.Grow(to) != nil {
		k.refused = time.Now()
		return false
	}
	k.prepared.Region().Prepare(k.ready, to-k.ready)
	k.ready = to
	return true
}

func (k *keeper) havePrepared() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.prepared != nil
}

func (l *Log) unlockPrepare() {
	if err := l.locks.Unlock(lockPrepare); err != nil {
		l.warn("cannot unlock", "err", err)
	}
}

// newFile gives a segment file without a header: the prepared one, or a new one
// under the name temp.
func (l *Log) newFile(temp string, size int64) (made *segment.Segment, name string, prepared bool, err error) {
	k := &l.keeper
	k.mu.Lock()
	made, name = k.prepared, k.prepName
	k.prepared, k.prepName = nil, ""
	k.mu.Unlock()
	if made != nil {
		l.unlockPrepare()
		return made, name, true, nil
	}
	made, err = l.createFile(temp, size, 0)
	return made, temp, false, err
}

func (l *Log) createFile(name string, size, extent int64) (*segment.Segment, error) {
	made, err := segment.Create(l.log, name, l.perms.file, size, extent)
	if err == nil && l.table.random {
		err = made.Region().Random() // before the first page is touched
	}
	return made, err
}

// dropPrepared gives back the disk and the memory of a segment that nobody
// came to need.
func (l *Log) dropPrepared() error {
	k := &l.keeper
	k.mu.Lock()
	made, name := k.prepared, k.prepName
	k.prepared, k.prepName = nil, ""
	k.mu.Unlock()
	if made == nil {
		return nil
	}
	l.unlockPrepare()
	return errors.Join(made.Close(), l.log.Unlink(name))
}

// keepSynced bounds how far the disk lags on a SyncInterval queue.
func (l *Log) keepSynced(w *watch, now time.Time, end Position) {
	if l.durability() == SyncInterval && now.Sub(w.lastSync) >= l.o.SyncEvery && end > l.ctl.durable() {
		w.lastSync = now
		l.SyncSoon()
	}
}

// SyncSoon starts a sync of everything appended so far and does not wait for
// it. A failure poisons the queue, which every later call tells. Whoever comes
// while a sync runs is served by the next one.
func (l *Log) SyncSoon() {
	k := &l.keeper
	for {
		switch k.flush.Load() {
		case flushAgain:
			return
		case flushRunning:
			if k.flush.CompareAndSwap(flushRunning, flushAgain) {
				return
			}
		case flushIdle:
			if k.flush.CompareAndSwap(flushIdle, flushRunning) {
				l.startFlush()
				return
			}
		}
	}
}

func (l *Log) startFlush() {
	k := &l.keeper
	ticket, ok := l.gate.enter()
	if !ok {
		k.flush.Store(flushIdle)
		return
	}
	k.flushing.Add(1) // inside the gate: Close waits for it
	l.gate.exit(ticket)
	go func() {
		defer k.flushing.Done()
		for {
			// What Close interrupts it does itself.
			if err := l.Sync(context.Background()); err != nil && !errors.Is(err, ErrPoisoned) && !errors.Is(err, ErrClosed) {
				l.warn("a sync in the background failed", "queue", l.dir.Path(), "err", err)
			}
			if k.flush.CompareAndSwap(flushRunning, flushIdle) {
				return
			}
			k.flush.Store(flushRunning)
		}
	}()
}

// keepControl writes the control file to disk now and then, so that a recovery
// after a power loss need not begin far back.
func (l *Log) keepControl(w *watch, now time.Time, last bool) error {
	d := l.ctl.durable()
	if d == w.durable || !last && d.ordinal() == w.durable.ordinal() && now.Sub(w.lastControl) < controlSyncEvery {
		return nil
	}
	w.lastControl, w.durable = now, d
	return l.syncControl()
}

// keepLimits trims what lies beyond the queue's limits, while somebody appends.
func (l *Log) keepLimits(w *watch, now time.Time) error {
	if now.Sub(w.lastTrim) < trimEvery && w.trimmed == w.end.ordinal() {
		return nil
	}
	w.lastTrim, w.trimmed = now, w.end.ordinal()
	s, err := l.ctl.settings()
	if err != nil || s.MaxBytes == 0 && s.MaxAge == 0 {
		return err
	}
	return l.tryTrim()
}

// retire hands over a segment in which this handle appends no more. It stays
// open until it is synced: the kernel reports a failed write to those who had
// the file open, and may forget it when nobody has.
func (k *keeper) retire(s *seg) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.retired = append(k.retired, s)
}

func (k *keeper) takeRetired() []*seg {
	k.mu.Lock()
	defer k.mu.Unlock()
	r := k.retired
	k.retired = nil
	return r
}

// listRetired gives what is retired. Nobody but the keeper takes any of it away while the
// keeper runs.
func (k *keeper) listRetired() []*seg {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.retired)
}

// keepRetired puts keep in the place of the n that were listed.
func (k *keeper) keepRetired(keep []*seg, n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.retired = append(keep, k.retired[n:]...)
}

func (l *Log) releaseRetired(w *watch) {
	if len(w.leaving) > 0 {
		if !l.gate.over(&w.grace) {
			return // somebody inside may have seen them as the tail
		}
		l.releaseLeaving(w)
	}
	// They stay on the list until all that can fault is done, or nobody knew of them.
	all, durable := l.keeper.listRetired(), l.ctl.durable()
	var keep, leaving []*seg
	for i, s := range all {
		switch {
		case s.lane.taken(): // somebody inside may still write there
			keep = append(keep, s)
		case s.Ordinal < durable.ordinal():
			leaving = append(leaving, s)
		case len(all)-i > maxRetired:
			// Too many to hold: the next sync must not believe that the
			// kernel told it of every error.
			l.ctl.word(ctlIntentOwner).Store(standingIntent)
			leaving = append(leaving, s)
		default:
			keep = append(keep, s)
		}
	}
	if len(leaving) > 0 {
		l.keeper.keepRetired(keep, len(all))
		w.leaving, w.grace = leaving, l.gate.begin()
	}
}

func (l *Log) releaseLeaving(w *watch) {
	for _, s := range w.leaving {
		l.table.release(s)
	}
	w.leaving = nil
}
