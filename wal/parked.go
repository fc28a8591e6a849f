package wal

import (
	"slices"
	"time"

	"github.com/walq/walq/mmap"
	"github.com/walq/walq/segment"
)

// A segment that a reader leaves stays mapped for a moment, because who looks for messages
// here and there soon comes back: to open, check and map a file again, to meet its pages
// one by one and to give them back takes longer than to read what was looked for. See
// docs/adr/0030-segments-stay-mapped-after-a-seek.md.
//
// What is parked is sealed, so that it grows no more, and nobody refers to it. It is
// believed only as long as its name leads to the same file: trimmed, cut off by a recovery
// and replaced by a repair are the same as if it had not been kept. It holds no descriptor.

// Bounds of what is parked. Address space costs next to nothing, but the pages that were
// read count as the process's own, and a trimmed file's blocks are free only when nobody
// has it mapped.
const (
	maxParked      = 256
	maxParkedBytes = 16 << 30 // of address space
	// parkedFor is how long a segment is parked at least if nobody comes back, and half
	// of how long at most.
	parkedFor = time.Second
)

// parked are the segments of a table that nobody refers to. It is guarded by the table's
// lock.
type parked struct {
	list      []*seg // the one that was left last is the last
	bytes     int64
	most      int         // maxParked
	mostBytes int64       // maxParkedBytes
	round     uint32      // counts the looks of timer
	timer     *time.Timer // runs while there are any
	off       bool        // none any more, the handle is closing
}

// A parkedSeg is what a segment bears for it.
type parkedSeg struct {
	stays  bool            // a reader was here: it is parked when nobody needs it
	round  uint32          // in which it was parked
	status mmap.FileStatus // of the file when its descriptor was closed
}

// leave gives a reader's reference back, and parks the segment if it was the last one.
func (t *table) leave(s *seg) {
	if s == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	s.parked.stays = s.parkable
	t.releaseLocked(s)
}

// pass gives the reference of a reader back that read the segment to its end: all of its
// pages are mapped, and nobody comes back to it soon.
func (t *table) pass(s *seg) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s.parked.stays = false
	t.releaseLocked(s)
}

// parkLocked parks s, to which nobody refers any more. false: it is to be closed.
func (t *table) parkLocked(s *seg) bool {
	p := &t.parked
	if !s.parked.stays || p.off || s.Size > p.mostBytes {
		return false
	}
	if f := s.File(); f != nil {
		status, err := f.Status()
		if err != nil {
			return false
		}
		s.parked.status = status
		if err := s.CloseFile(); err != nil {
			return false
		}
	}
	for len(p.list) >= p.most || p.bytes+s.Size > p.mostBytes {
		t.dropLocked(p.list[0])
	}
	s.parked.round = p.round
	p.list, p.bytes = append(p.list, s), p.bytes+s.Size
	if p.timer == nil {
		p.timer = time.AfterFunc(parkedFor, t.dropIdle)
	}
	return true
}

// unparkLocked takes s off the list.
func (t *table) unparkLocked(s *seg) {
	p := &t.parked
	for i := len(p.list) - 1; i >= 0; i-- { // mostly one that was left a moment ago
		if p.list[i] == s {
			p.list, p.bytes = slices.Delete(p.list, i, i+1), p.bytes-s.Size
			return
		}
	}
}

// dropLocked unmaps a parked segment.
func (t *table) dropLocked(s *seg) {
	t.unparkLocked(s)
	t.closeLocked(s)
}

// believeLocked reports whether the open segment s may be handed out: if it is parked its
// name must still lead to the file that is mapped, as it was. Else it is dropped.
func (f *files) believeLocked(t *table, s *seg) bool {
	if s.refs > 0 {
		return true
	}
	status, err := f.log.Status(segment.Name(s.First))
	if err != nil || status != s.parked.status {
		t.dropLocked(s)
		return false
	}
	t.unparkLocked(s)
	return true
}

// dropIdle drops what was parked before it was called the last time.
func (t *table) dropIdle() {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := &t.parked
	for len(p.list) > 0 && p.list[0].parked.round != p.round {
		t.dropLocked(p.list[0])
	}
	p.round++
	if p.timer = nil; len(p.list) > 0 {
		p.timer = time.AfterFunc(parkedFor, t.dropIdle)
	}
}

// dropBelow drops what is parked of lower sequence numbers, which were trimmed.
func (t *table) dropBelow(first uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := len(t.parked.list) - 1; i >= 0; i-- {
		if s := t.parked.list[i]; s.First < first {
			t.dropLocked(s)
		}
	}
}

// dropAll drops all that is parked. off: nothing is from now on.
func (t *table) dropAll(off bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := &t.parked
	p.off = p.off || off
	for len(p.list) > 0 {
		t.dropLocked(p.list[len(p.list)-1])
	}
	if p.timer != nil {
		p.timer.Stop()
		p.timer = nil
	}
}
