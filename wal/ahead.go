package wal

import (
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
)

// follow makes pages ready ahead of the tail and prepares the next segment.
func (l *Log) follow(w *watch, s *seg, end Position) {
	var bytes int64
	if w.end.ordinal() == end.ordinal() {
		bytes = max(end.off()-w.end.off(), 0)
	} else if w.end != 0 {
		bytes = s.Size
	}
	w.end = end
	w.rate = (3*w.rate + bytes) / 4
	if w.rate < minAheadRate || mmap.HeapFiles() {
		return
	}
	// Never further than the segment is full: a small queue stays a small file.
	ahead := min(w.rate*int64(aheadTime/keeperTick), maxAheadBytes, end.off())
	from := max(w.touched, end)
	if from.ordinal() != s.Ordinal {
		from = end
	}
	to := end.off() + ahead
	if ahead >= 2*mmap.LargePage {
		to = (to + mmap.LargePage - 1) &^ (mmap.LargePage - 1)
	}
	if to = min(to, s.Size); to > from.off() {
		if err := s.Grow(to); err == nil { // a full disk is the appender's to report
			s.Region().Prepare(from.off(), to-from.off())
			w.touched = makePosition(s.Ordinal, to)
		}
	}
	if end.off()+2*ahead > s.Size {
		l.prepare(s.Size, ahead)
	}
}

// writeAhead has the disk write the zeros ahead of the tail of a queue that is synced
// often. A block that was allocated and never written is marked as such, and the sync
// that writes it first has to record in the file system's journal that it is not any
// more, which takes longer than the write itself. Here many blocks share one such record.
//
// The write is only started: nobody waits for it, and nothing is promised by it. It is
// what the kernel does by itself some seconds later, so a failure of it comes to light
// where such a failure does, in the next sync.
func (l *Log) writeAhead(w *watch, s *seg, end Position) {
	if l.durability() != SyncAlways || l.syncer.spanBytes.Load() > writeAheadSpan || mmap.HeapFiles() {
		return
	}
	ahead := min(max(w.rate*writeAheadTicks, minWriteAhead), maxWriteAhead)
	from := (end.off() + mmap.PageSize - 1) &^ (mmap.PageSize - 1) // the tail's own page is synced soon
	if w.written.ordinal() == s.Ordinal {
		from = max(from, w.written.off())
	}
	if from-end.off() > ahead/2 {
		return
	}
	to := min(end.off()+ahead, s.Allocated()) // no further: a small queue stays a small file
	if to <= from {
		return
	}
	s.Region().Touch(from, to-from)
	s.StartWrite(from, to-from)
	w.written = makePosition(s.Ordinal, to)
}
