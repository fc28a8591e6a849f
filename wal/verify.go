package wal

import (
	"context"
	"errors"
	"fmt"

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
	Scene    Scene   `json:"-"` // for what else lies in the directory
}

// Verify checks every frame of every segment of the queue at path, and every
// other file. It reads the files and maps none, so it works on what no live
// reader could open; others may use the queue meanwhile. What only holds while
// nobody changes anything (that the shared words agree with the frames, that
// nothing stands behind the end) is checked only then. progress, if not nil, is
// told how many bytes of how many are done. The error is for what could not be
// read at all; what is wrong in what was read is a Fault.
func Verify(ctx context.Context, path string, progress func(done, total int64)) (_ Report, err error) {
	if err := mmap.Supported(); err != nil {
		return Report{}, err
	}
	dir, err := mmap.OpenDir(path)
	if err != nil {
		return Report{Faults: []Fault{}}, err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	files := &onDisk{dir: dir}
	report, err := verify(ctx, files, progress)
	if err == nil {
		report.Faults = append(report.Faults, files.misplaced()...)
	}
	return report, err
}

func verify(ctx context.Context, files evidence, progress func(done, total int64)) (Report, error) {
	v := verifier{ctx: ctx, progress: progress, files: files, report: Report{Faults: []Fault{}}, findings: findings{marks: map[Position]mark{}}}
	if err := v.control(); err != nil {
		return v.report, err
	}
	if err := v.log(); err != nil {
		return v.report, err
	}
	if !v.live && !v.powered {
		v.fixes(v.ctlPath, controlFixes(v.page, v.boot, v.findings))
	}
	v.report.Scene = v.scene()
	return v.report, nil
}

type verifier struct {
	ctx      context.Context
	progress func(done, total int64)
	files    evidence
	report   Report

	page    []byte // the control file, as long as it should be
	ctlPath string
	boot    boot
	queue   [16]byte
	machine [16]byte // its run
	next    uint64   // behind the last frame; 0: not known
	durable Position
	oldest  uint64
	live    bool // somebody has the queue open
	powered bool // a power loss went by and nobody recovered yet: the tail may be torn
	findings
	otherBoot bool // it was left in another boot
	done      int64
	total     int64
}

func (v *verifier) fault(path string, off int64, format string, args ...any) {
	v.report.Faults = append(v.report.Faults, Fault{path, off, fmt.Sprintf(format, args...)})
}

func (v *verifier) fixes(path string, all []segment.Fix) {
	for _, f := range all {
		v.fault(path, f.Offset, "%s", f.Reason)
	}
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
	content, path, err := v.files.control()
	if isNotExist(err) {
		return fmt.Errorf("%s: %w: it has no control file %s", v.files.join(), ErrNotQueue, controlName)
	}
	if err != nil {
		return err
	}
	v.ctlPath = path
	if len(content) != controlBytes {
		v.fault(path, int64(min(len(content), controlBytes)), "the control file has %d bytes, want %d", len(content), controlBytes)
	}
	v.page = make([]byte, controlBytes)
	copy(v.page, content)
	id, err := decodeIdentity(v.page, true)
	if err != nil {
		// Only what bears a sound checksum may say that it is no queue, or of a
		// newer walq; one wrong bit may not.
		mended, at, ok := mendIdentity(v.page)
		var merr error
		if ok {
			id, merr = decodeIdentity(mended, true)
		}
		switch {
		case ok && merr == nil:
			v.fault(path, at, "%v: one bit is wrong", err)
		case err == errMagic:
			return fmt.Errorf("%s: %w", path, ErrNotQueue)
		case errors.Is(err, ErrVersion):
			return fmt.Errorf("%s: %w", path, err)
		default:
			v.fault(path, 0, "%v", err)
		}
	}
	v.queue = id.queue
	v.durable = Position(getWord(v.page[ctlDurable:]))
	v.oldest = getWord(v.page[ctlOldest:])
	v.wanted = []Position{v.durable, Position(getWord(v.page[ctlSettled:]))}
	return v.records()
}

func (v *verifier) records() error {
	if rec, _, _, err := newestRecord(v.page[ctlSettings:]); err != nil {
		v.fault(v.ctlPath, ctlSettings, "settings: %v", err)
	} else if err := decodeSettings(rec).Check(); err != nil {
		v.fault(v.ctlPath, ctlSettings, "settings: %v", err)
	}
	rec, _, _, bootErr := newestRecord(v.page[ctlBoot:])
	if bootErr != nil {
		v.fault(v.ctlPath, ctlBoot, "boot: %v", bootErr)
	} else {
		v.boot = decodeBoot(rec)
	}
	u, err := v.files.users()
	if err != nil {
		return err
	}
	v.machine = u.boot
	switch {
	case u.locked == noLockFile:
		v.fault(v.files.join(lockName), 0, "the lock file is missing")
	case u.locked == nobody && bootErr == nil && v.boot.locksElsewhere(u.boot, u.inodes):
		v.fault(v.files.join(lockName), 0, "%s", reasonLockReplaced)
	}
	v.live = u.locked == inUse
	v.powered = bootErr == nil && !v.live && !v.boot.clean && v.boot.id != u.boot
	v.otherBoot = bootErr == nil && v.boot.id != u.boot
	if !v.live {
		if !wellPoisoned(v.page) {
			v.fixes(v.ctlPath, poisonFixes(v.page))
		}
		v.fixes(v.ctlPath, reservedFixes(v.page))
		v.fixes(v.ctlPath, participantFixes(v.page))
		if !v.powered { // else one of them may be torn, which is no damage
			v.fixes(v.ctlPath, recordFixes(v.page))
		}
	}
	return nil
}

// log goes over the segments. Each one's end is held against the next one's
// header.
func (v *verifier) log() (err error) {
	firsts, err := v.list()
	if err != nil {
		return err
	}
	v.known = true
	var before *ended
	for _, first := range firsts {
		if err := v.ctx.Err(); err != nil {
			return err
		}
		if v.powered && before != nil && before.next != first {
			continue // stale: recovery will move it aside
		}
		end, err := v.segment(first, before)
		if isNotExist(err) && v.live {
			continue // trimmed meanwhile
		}
		if err != nil {
			return err
		}
		before = end
		v.known = v.known && !end.bad
	}
	if before != nil && !before.bad {
		v.next = before.seq
	}
	if before == nil {
		v.known = false
	} else if before.position < v.durable && !before.bad {
		v.fault(before.path, before.off, "the log ends here, below the durable position (%v): acknowledged messages are missing", v.durable)
		v.known = false
	}
	if _, met := v.marks[v.durable]; v.powered && v.known && !met {
		v.fault(v.ctlPath, ctlDurable, "the durable position (%v) is not where a frame ends", v.durable)
	}
	return nil
}

func (v *verifier) list() (firsts []uint64, err error) {
	all, err := v.files.segments()
	if isNotExist(err) {
		v.fault(v.files.join(logName), 0, "the directory of the segments is missing")
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !v.live {
		v.oldest = announcedTrim(v.page, func(first uint64) bool {
			page, err := v.files.header(first)
			h, herr := segment.DecodeHeader(page, true)
			return err == nil && herr == nil && h.Ordinal <= v.durable.ordinal()
		})
	}
	for _, l := range all {
		if l.first < v.oldest {
			continue // trimmed: an unlink that a power loss undid
		}
		firsts = append(firsts, l.first)
		v.last = l.first
		v.total += l.bytes
	}
	if len(firsts) == 0 || firsts[0] != v.oldest {
		v.fault(v.files.join(logName, segment.Name(v.oldest)), 0, "the segment with the oldest messages is missing")
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

func (v *verifier) segment(first uint64, before *ended) (*ended, error) {
	image, err := v.files.segment(first)
	if err != nil {
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
	if errors.Is(err, ErrVersion) && !segment.HeaderSound(image.Bytes(0, segment.HeaderBytes)) {
		// Only a sound header may say that it is of a newer walq.
		err = &CorruptError{Path: image.Path(), Reason: err.Error() + ", but its checksum does not match"}
	}
	if err != nil {
		return end, v.note(err)
	}
	end.header = s.Header
	v.checkChain(s, first, before)
	if !v.live {
		v.fixes(s.Path(), s.Reserved())
	}
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
	c, trace := s.Start(), s.NewTrace()
	for {
		end.off, end.seq, end.position = c.Off, c.Seq, makePosition(s.Ordinal, c.Off)
		trace.Reach(c)
		v.findings.reach(s.Header, c)
		w, err := s.Word(c.Off)
		var f segment.Frame
		if err == nil && w.State() == segment.Committed {
			f, err = v.frame(s, c, w)
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
			if !v.live && !v.powered {
				for _, f := range trace.Fixes(c, w, s.Region().Len()) {
					if !(v.otherBoot && w == 0 && f.IsAllocated()) { // the next opening asks the file
						v.fault(s.Path(), f.Offset, "%s", f.Reason)
					}
				}
			}
			return nil
		case w.State() == segment.Claimed && end.position < v.durable:
			v.fault(s.Path(), c.Off, "a claim below the durable position (%v)", v.durable)
		case w.State() == segment.Claimed && v.powered:
			end.bad = false
			return nil
		case w.State() == segment.Claimed:
			v.findings.claimed()
		}
		trace.Pass(c, w, f.Time)
		c = c.After(w)
	}
}

func (v *verifier) frame(s *segment.Segment, c segment.Cursor, w segment.Word) (segment.Frame, error) {
	f, err := s.Frame(c, w)
	if err == nil {
		err = s.CheckPadding(c, w, f)
	}
	if err != nil {
		return f, err
	}
	v.report.Messages += uint64(f.Count)
	return f, nil
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
