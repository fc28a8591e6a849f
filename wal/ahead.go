package wal

import (
	"errors"
	"syscall"
	"time"

	"github.com/walq/walq/internal/step"
	"github.com/walq/walq/mmap"
)

const (
	// writeAheadTicks is how far ahead of the tail the blocks of a synced queue are
	// written, in ticks at the present rate of appending.
	writeAheadTicks = 60
	// minWriteAhead and maxWriteAhead bound that, in bytes.
	minWriteAhead = 128 << 10
	maxWriteAhead = 2 << 20
	// writeAheadSpan is what a sync writes, in bytes, from which on its own data cost
	// more than the record of new blocks that writing ahead spares it.
	writeAheadSpan = 32 << 10
	// refusedFor is how long after the disk had no room ahead it is not asked again: a full
	// one would else be searched for room at every tick.
	refusedFor = 100 * time.Millisecond
)

// A pace is how fast is appended, measured by whoever looks at the tail now and then.
type pace struct {
	rate  int64     // bytes a tick, smoothed
	since time.Time // when the tick that is measured began, and
	from  Position  // where the tail was then
}

// note takes down where the tail is. Much counts at once, even before the tick is over,
// so that a sudden start is seen; little only if it goes on.
func (p *pace) note(end Position, now time.Time, size int64) {
	var bytes int64
	if p.from != 0 && end >= p.from {
		bytes = int64(end.ordinal()-p.from.ordinal())*size + end.off() - p.from.off() // also over rolls
	}
	if past := now.Sub(p.since); p.from == 0 || past >= keeperTick {
		bytes = int64(float64(bytes) * float64(keeperTick) / float64(past))
		p.rate = (3*p.rate + bytes) / 4
		p.from, p.since = end, now
	}
	if bytes >= startRate {
		p.rate = max(p.rate, bytes)
	}
}

// ahead is how many bytes ahead of a tail at end should be ready: no more than the segment
// is full, so that a small queue stays a small file, but where much is appended at once
// what the next moment will bring.
func (p *pace) ahead(end Position) int64 {
	limit := end.off()
	if p.rate >= startRate {
		limit = max(limit, min(p.rate*startTicks, maxStartBytes))
	}
	return min(p.rate*int64(aheadTime/keeperTick), maxAheadBytes, limit)
}

// follow makes pages ready ahead of the tail, a piece at each call, and after that
// prepares the next segment. It reports whether there is more to do at once.
func (l *Log) follow(w *watch, s *seg, end Position, now time.Time) (more bool) {
	w.pace.note(end, now, s.Size)
	if w.pace.rate < minAheadRate || mmap.HeapFiles() || now.Sub(l.keeper.refused) < refusedFor {
		return false
	}
	ahead := w.pace.ahead(end)
	target := end.off() + ahead
	if ahead >= mmap.LargePage {
		target = (target + mmap.LargePage - 1) &^ (mmap.LargePage - 1)
	}
	target = min(target, s.Size)
	from := end.off()
	if w.touched.ordinal() == s.Ordinal && w.touched > end {
		from = w.touched.off()
	} else if from += w.pace.rate / 4; from|(mmap.LargePage-1) < target {
		// The appender is in what is not ready: to meet it there makes both slower.
		from = (from + mmap.LargePage - 1) &^ (mmap.LargePage - 1)
	}
	if from < target {
		to := pieceEnd(from, target)
		if err := s.Grow(to); err != nil { // a full disk is the appender's to report
			l.keeper.refused = now
			return false
		}
		s.Region().Prepare(from, to-from)
		w.touched = makePosition(s.Ordinal, to)
		return true
	}
	return end.off()+2*ahead > s.Size && l.prepare(s.Size, ahead)
}

// pieceEnd is where the piece that begins at from ends: pieces are no longer than a large
// page, and in front of the first one as short as needs be.
func pieceEnd(from, target int64) int64 {
	return min((from+mmap.LargePage)&^(mmap.LargePage-1), target)
}

// writeAhead has the disk write the zeros ahead of the tail of a queue that is synced
// often. A block that was allocated and never written is marked as such, and the sync
// that writes it first has to record in the file system's journal that it is not any
// more, which takes longer than the write itself. Here many blocks share one such record.
//
// The write is only started: nobody waits for it, and nothing is promised by it. It is
// what the kernel does by itself some seconds later, so a failure of the disk comes to
// light where such a failure does, in the next sync.
func (l *Log) writeAhead(w *watch, s *seg, end Position) error {
	if l.durability() != SyncAlways || l.syncer.spanBytes.Load() > writeAheadSpan || mmap.HeapFiles() {
		return nil
	}
	ahead := min(max(w.pace.rate*writeAheadTicks, minWriteAhead), maxWriteAhead)
	from := (end.off() + mmap.PageSize - 1) &^ (mmap.PageSize - 1) // the tail's own page is synced soon
	if w.written.ordinal() == s.Ordinal {
		from = max(from, w.written.off())
	}
	if from-end.off() > ahead/2 {
		return nil
	}
	to := min(end.off()+ahead, s.Allocated()) // no further: a small queue stays a small file
	if to <= from {
		return nil
	}
	s.Region().Touch(from, to-from)
	w.written = makePosition(s.Ordinal, to)
	return l.startWrite(s, from, to-from)
}

// startWrite has the kernel begin to write a part of s. Appenders may have come there
// meanwhile, so a write that cannot begin may cost frames, and nobody but the caller is
// told of it: it poisons, like a sync that fails.
func (l *Log) startWrite(s *seg, off, n int64) error {
	if p := l.ctl.poisoned(); p != nil {
		return &PoisonError{*p}
	}
	err := step.Err(step.AheadWriteBefore)
	if err == nil {
		err = s.StartWrite(off, n)
	}
	if errors.Is(err, syscall.ENOMEM) { // the pages are dirty still
		l.ctl.word(ctlIntentOwner).Store(standingIntent)
		return nil
	}
	if err != nil {
		step.At(step.SyncFailed)
		return l.poison(err)
	}
	return nil
}
