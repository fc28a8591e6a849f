package wal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/walq/walq/mmap"
	"github.com/walq/walq/segment"
)

// A Fault is one thing that is wrong in a queue's files.
type Fault struct {
	Path   string `json:"path"`
	Offset int64  `json:"offset"`
	Reason string `json:"reason"`
}

// A Report is what Verify found.
type Report struct {
	Messages uint64  `json:"messages"`
	Segments int     `json:"segments"`
	Faults   []Fault `json:"faults"`
}

// Verify checks every frame of every segment of the queue at path, and every
// other file. It reads the files and maps none, so it works on what no live
// reader could open; others may use the queue meanwhile. progress, if not nil,
// is told how many bytes of how many are done. The error is for what could not
// be read at all; what is wrong in what was read is a Fault.
func Verify(ctx context.Context, path string, progress func(done, total int64)) (_ Report, err error) {
	if err := mmap.Supported(); err != nil {
		return Report{}, err
	}
	v := verifier{ctx: ctx, progress: progress, report: Report{Faults: []Fault{}}}
	if v.dir, err = mmap.OpenDir(path); err != nil {
		return v.report, err
	}
	defer func() { err = errors.Join(err, v.dir.Close()) }()
	if err := v.control(); err != nil {
		return v.report, err
	}
	return v.report, v.log()
}

type verifier struct {
	ctx      context.Context
	progress func(done, total int64)
	dir      *mmap.Dir
	report   Report

	queue   [16]byte
	durable Position
	oldest  uint64
	live    bool // somebody has the queue open
	powered bool // a power loss went by and nobody recovered yet: the tail may be torn
	done    int64
	total   int64
}

func (v *verifier) fault(path string, off int64, format string, args ...any) {
	v.report.Faults = append(v.report.Faults, Fault{path, off, fmt.Sprintf(format, args...)})
}

// note makes a fault of a CorruptError and passes other errors on.
func (v *verifier) note(err error) error {
	var c *CorruptError
	if errors.As(err, &c) {
		v.fault(c.Path, c.Offset, "%s", c.Reason)
		return nil
	}
	return err
}

func (v *verifier) control() error {
	f, err := v.dir.Open(controlName, true)
	if isNotExist(err) {
		return fmt.Errorf("%s: %w: it has no control file %s", v.dir.Path(), ErrNotQueue, controlName)
	}
	if err != nil {
		return err
	}
	page := make([]byte, controlBytes)
	n, err := f.ReadAt(page, 0)
	if err := errors.Join(err, f.Close()); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if n != controlBytes {
		v.fault(f.Path(), int64(n), "the control file has %d bytes, want %d", n, controlBytes)
	}
	id, err := decodeIdentity(page, true)
	switch {
	case err == errMagic:
		return fmt.Errorf("%s: %w", f.Path(), ErrNotQueue)
	case errors.Is(err, ErrVersion):
		return fmt.Errorf("%s: %w", f.Path(), err)
	case err != nil:
		v.fault(f.Path(), 0, "%v", err)
	}
	v.queue = id.queue
	v.durable = Position(getWord(page[ctlDurable:]))
	v.oldest = getWord(page[ctlOldest:])
	if rec, _, _, err := newestRecord(page[ctlSettings:]); err != nil {
		v.fault(f.Path(), ctlSettings, "settings: %v", err)
	} else if err := decodeSettings(rec).Check(); err != nil {
		v.fault(f.Path(), ctlSettings, "settings: %v", err)
	}
	rec, _, _, err := newestRecord(page[ctlBoot:])
	if err != nil {
		v.fault(f.Path(), ctlBoot, "boot: %v", err)
		return v.participants(boot{clean: true})
	}
	return v.participants(decodeBoot(rec))
}

func (v *verifier) participants(b boot) (err error) {
	f, err := v.dir.Open(lockName, true)
	if err != nil {
		if isNotExist(err) {
			v.fault(v.dir.Join(lockName), 0, "the lock file is missing")
			return nil
		}
		return err
	}
	locks := mmap.NewLockFile(f)
	defer func() { err = errors.Join(err, locks.Close()) }()
	id, err := v.dir.BootID()
	if err != nil {
		return err
	}
	v.live, err = locks.HeldByOther(lockSlots, maxSlots)
	v.powered = !v.live && !b.clean && b.id != id
	return err
}

// log goes over the segments. Each one's end is held against the next one's
// header.
func (v *verifier) log() (err error) {
	dir, err := v.dir.OpenDir(logName)
	if isNotExist(err) {
		v.fault(v.dir.Join(logName), 0, "the directory of the segments is missing")
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	firsts, err := v.list(dir)
	if err != nil {
		return err
	}
	var before *ended
	for _, first := range firsts {
		if err := v.ctx.Err(); err != nil {
			return err
		}
		if v.powered && before != nil && before.next != first {
			continue // stale: recovery will move it aside
		}
		end, err := v.segment(dir, first, before)
		if isNotExist(err) && v.live {
			continue // trimmed meanwhile
		}
		if err != nil {
			return err
		}
		before = end
	}
	if before != nil && before.position < v.durable && !before.bad {
		v.fault(before.path, before.off, "the log ends here, below the durable position (%v): acknowledged messages are missing", v.durable)
	}
	return nil
}

func (v *verifier) list(dir *mmap.Dir) (firsts []uint64, err error) {
	all, err := segmentNames(dir)
	if err != nil {
		return nil, err
	}
	for _, first := range all {
		if first < v.oldest {
			continue // trimmed: an unlink that a power loss undid
		}
		firsts = append(firsts, first)
		f, err := dir.Open(segment.Name(first), true)
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			return nil, err
		}
		size, err := f.Size()
		if err := errors.Join(err, f.Close()); err != nil {
			return nil, err
		}
		v.total += size
	}
	if len(firsts) == 0 || firsts[0] != v.oldest {
		v.fault(dir.Join(segment.Name(v.oldest)), 0, "the segment with the oldest messages is missing")
	}
	return firsts, nil
}

// ended is how a segment ended.
type ended struct {
	path     string
	off      int64
	position Position
	header   segment.Header
	seq      uint64
	next     uint64 // first sequence number of the successor; 0: not sealed
	bad      bool   // the walk did not get to the end
}

func (v *verifier) segment(dir *mmap.Dir, first uint64, before *ended) (*ended, error) {
	f, err := dir.Open(segment.Name(first), true)
	if err != nil {
		return nil, err
	}
	image, err := f.Copy()
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	v.report.Segments++
	defer func() {
		v.done += image.Len()
		if v.progress != nil {
			v.progress(v.done, max(v.total, v.done))
		}
	}()
	end := &ended{path: image.Path(), bad: true}
	s, err := segment.FromImage(image, true)
	if err != nil {
		return end, v.note(err)
	}
	end.header = s.Header
	v.checkChain(s, first, before)
	return end, v.frames(s, end)
}

// checkChain holds a segment's header against what must be true of it.
func (v *verifier) checkChain(s *segment.Segment, first uint64, before *ended) {
	if s.First != first {
		v.fault(s.Path(), 0, "its header says that it starts at sequence number %d", s.First)
	}
	if s.Queue != v.queue {
		v.fault(s.Path(), 0, "it belongs to another queue, %x", s.Queue)
	}
	if before == nil || before.bad {
		return
	}
	switch {
	case before.next == 0:
		v.fault(before.path, before.off, "it is not sealed, but %s follows", segment.Name(first))
	case before.next != first:
		v.fault(before.path, before.off, "its successor %s is missing", segment.Name(before.next))
	case s.PrevFirst != before.header.First || s.PrevEnd != before.seq || s.Ordinal != before.header.Ordinal+1:
		v.fault(s.Path(), 0, "it does not name %s, sealed at sequence number %d, as its predecessor", before.path, before.seq)
	}
}

// frames checks every frame. A frame whose word is sound but whose content is
// not is passed over; behind a bad word nothing can be told.
func (v *verifier) frames(s *segment.Segment, end *ended) error {
	c := s.Start()
	hints, seen := s.Hints(), map[segment.Cursor]bool{}
	for _, h := range hints {
		seen[h.Place] = false
	}
	for {
		end.off, end.seq, end.position = c.Off, c.Seq, makePosition(s.Ordinal, c.Off)
		if _, ok := seen[c]; ok {
			seen[c] = true
		}
		w, err := s.Word(c.Off)
		if err == nil && w.State() == segment.Committed {
			err = v.frame(s, c, w)
		}
		if err != nil {
			if v.powered && end.position >= v.durable && errors.Is(err, ErrCorrupt) {
				end.bad = false
				return nil // here recovery will end the log
			}
			if err := v.note(err); err != nil || !w.Final() {
				return err
			}
		}
		switch {
		case w == 0, w.Sealed():
			v.end(s, c, w, end)
			v.hints(s, hints, seen)
			return nil
		case w.State() == segment.Claimed && end.position < v.durable:
			v.fault(s.Path(), c.Off, "a claim below the durable position (%v)", v.durable)
		case w.State() == segment.Claimed && v.powered:
			end.bad = false
			return nil
		}
		c = c.After(w)
	}
}

func (v *verifier) frame(s *segment.Segment, c segment.Cursor, w segment.Word) error {
	f, err := s.Frame(c, w)
	if err == nil {
		err = s.CheckPadding(c, w, f)
	}
	if err != nil {
		return err
	}
	v.report.Messages += uint64(f.Count)
	return nil
}

func (v *verifier) end(s *segment.Segment, c segment.Cursor, w segment.Word, end *ended) {
	end.bad = false
	if w.Sealed() {
		end.next = successorName(s.First, c, w)
		return
	}
	if v.live || v.powered {
		return
	}
	for off := c.Off; off+8 <= s.Region().Len(); off += 8 {
		if s.Region().Word(off).Load() != 0 {
			v.fault(s.Path(), off, "bytes behind the end of the log, which nobody wrote")
			return
		}
	}
}

// hints checks that what points into the segment points at frames. That hints
// are missing or behind is no fault.
func (v *verifier) hints(s *segment.Segment, hints []segment.Hint, seen map[segment.Cursor]bool) {
	if v.live || v.powered {
		return
	}
	for _, h := range hints {
		if !h.Sound || !seen[h.Place] {
			v.fault(s.Path(), h.Offset, "%s that points at no frame", h.What)
		}
	}
}
