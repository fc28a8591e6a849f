package wal

import (
	"errors"
	"math"

	"github.com/walq/walq/internal/spin"
	"github.com/walq/walq/mmap"
	"github.com/walq/walq/segment"
)

// A Reader goes over the log in order. It is for one goroutine at a time.
type Reader struct {
	l       *Log
	durable bool // stop at what a power loss could undo

	s     *seg
	c     segment.Cursor
	inner segment.Inner // the batch being delivered
	batch bool
	rest  segment.Cursor // behind that batch
	from  uint64         // messages with lower sequence numbers are passed over
	since int64          // until one is found, so are those of an earlier time
	skip  uint64         // and so many messages besides
	ahead int64          // the offset at which the kernel is asked to read on

	frame segment.Frame // the one at hand
	seen  Message       // what View shows
	left  bool          // ViewRun is to show it again
	lent  bool          // fn of a View is at work, and looks at what it was shown
	used  uint          // grows when such an fn seeks, copies ahead or closes the reader
	kept  []*seg        // gone from meanwhile: what it looks at may be in them

	run    []Message // copied ahead of Next
	handed int       // so many of them were returned
	most   int       // as many may be copied the next time
	buf    []byte    // what they alias
	late   error     // met behind them

	o   observer
	err error // repeated until a seek
	gap error // reported once
	cut bool  // read-only: the queue awaits recovery, which will cut at the first bad frame
}

// NewReader makes a reader that stands before the oldest message. With durable
// it never goes beyond what is on stable storage.
func (l *Log) NewReader(durable bool) (_ *Reader, err error) {
	ticket, ok := l.gate.enter()
	if !ok {
		return nil, ErrClosed
	}
	defer l.gate.exit(ticket)
	defer mmap.Recover(mmap.Protect(), &err)
	r := &Reader{l: l, durable: durable, most: 1}
	if l.table.awaitsCut != nil {
		if r.cut, err = l.table.awaitsCut(); err != nil {
			return nil, err
		}
	}
	return r, r.seekOldest()
}

// awaitsRecovery reports whether a power loss went by since the queue was last
// used, and nobody recovered it yet: that begins another epoch.
func (l *Log) awaitsRecovery(epoch uint64) (bool, error) {
	b, err := l.ctl.boot()
	if err != nil || b.epoch != epoch || b.clean && !l.o.Snapshot {
		return false, err
	}
	if b.id == l.bootID && !l.o.Snapshot {
		return false, nil
	}
	used, err := l.locks.HeldByOther(lockSlots, maxSlots)
	return !used, err
}

// Close gives the reader's mapping back.
func (r *Reader) Close() {
	r.used++
	r.leave()
	r.s, r.left = nil, false
	r.run, r.handed, r.late = nil, 0, nil
	r.err = ErrClosed
}

// A Message is one message of the log.
type Message struct {
	Seq  uint64
	Time int64  // nanoseconds since the Unix epoch
	Meta []byte // msgpack map, often empty
	Body []byte
}

// wanted goes on to the next message that the last seek asked for; false: there is
// none yet.
func (r *Reader) wanted(m *Message) (ok bool, err error) {
	if r.gap != nil {
		err, r.gap = r.gap, nil
		return false, err
	}
	for {
		f, err := r.try()
		switch {
		case f == nil || err != nil:
			return false, err
		case r.skip > 0:
			r.skip--
		case f.Time < r.since:
		default:
			r.since = 0
			m.Seq, m.Time, m.Meta, m.Body = f.Seq, f.Time, f.Meta, f.Body
			return true, nil
		}
	}
}

// An outcome is what came of looking at one frame.
type outcome int

const (
	wait    outcome = iota // nothing to be had now; the reader has not moved
	again                  // stepped over it
	deliver                // it holds a message for the caller
)

func (r *Reader) try() (f *segment.Frame, err error) {
	if r.err != nil {
		return nil, r.err
	}
	f = &r.frame
	for out := again; out == again; {
		if r.batch {
			f, out = r.nextInner()
			continue
		}
		w, err := r.s.Word(r.c.Off)
		if err != nil {
			return nil, r.fail(err)
		}
		switch w.State() {
		case segment.Committed:
			out, err = r.committed(w)
		case segment.Pad:
			r.c = r.c.After(w)
		case segment.Claimed:
			out, err = r.claimed(w)
		case segment.Seal, segment.SealJump:
			out, err = r.cross(w)
		default:
			out, err = wait, r.free()
		}
		if err != nil || out == wait {
			return nil, err
		}
		f = &r.frame
	}
	return f, r.err
}

// committed verifies the frame at the cursor, into r.frame, and steps over it.
func (r *Reader) committed(w segment.Word) (outcome, error) {
	if r.c.Off >= r.ahead {
		r.readAhead()
	}
	next := r.c.After(w)
	if r.durable && r.s.position(next.Off) > r.l.ctl.durable() {
		return wait, nil
	}
	if next.Seq <= r.from && w.Count() > 0 { // what is wanted lies behind
		r.c = next
		return again, nil
	}
	f := &r.frame
	if err := r.s.ReadOuter(f, r.c, w); err != nil {
		return wait, r.fail(err)
	}
	if f.Kind == segment.KindBatch {
		if f.Time < r.since { // and so are all that are in it
			r.c = next
			return again, nil
		}
		if err := r.s.CheckBatch(f, r.c); err != nil {
			return wait, r.fail(err)
		}
		r.batch, r.inner, r.rest = true, f.Inner(r.s.Salt), next
		if len(f.Body) <= believedBytes {
			r.inner.Believe()
		}
		r.inner.Skip(r.from)
		return again, nil
	}
	r.c = next
	if f.Kind != segment.KindMessage {
		return again, nil
	}
	return deliver, nil
}

// believedBytes is the longest batch whose messages are handed out as they were verified,
// before the first of them was. What is longer is verified once more, message by message,
// as it is handed out: it was read once more from memory anyway.
const believedBytes = 256 << 10

// nextInner gives the next message of the batch, verified again.
func (r *Reader) nextInner() (*segment.Frame, outcome) {
	for {
		reason := r.inner.Next()
		if reason != "" || r.inner.Done() {
			if reason != "" { // the file changed since
				r.err = &CorruptError{Path: r.s.Path(), Offset: r.c.Off, Reason: reason}
			}
			r.batch, r.c = false, r.rest
			if r.err != nil {
				return nil, deliver
			}
			return nil, again
		}
		if f := r.inner.Frame(); f.Kind == segment.KindMessage && f.Seq >= r.from {
			return f, deliver
		}
	}
}

// claimed: somebody is copying, or died doing so.
func (r *Reader) claimed(w segment.Word) (outcome, error) {
	spin.Pause(copyPauses)
	if now, err := r.s.Word(r.c.Off); err != nil || now != w {
		return again, err
	}
	if r.l.slot >= 0 {
		return wait, nil // a participant frees the log in Blocked
	}
	if cut, err := r.awaitsCut(); cut || err != nil {
		return wait, err
	}
	skip, err := r.l.skippable(r.s, r.c, w)
	if !skip || err != nil {
		return wait, err
	}
	r.c = r.c.After(w)
	return again, nil
}

// Blocked waits a little if a claim holds the reader up, and frees the log of
// it if its owner is dead or stalled. It reports whether there was a claim.
func (r *Reader) Blocked() (blocked bool, err error) {
	ticket, ok := r.l.gate.enter()
	if !ok {
		return false, ErrClosed
	}
	defer r.l.gate.exit(ticket)
	defer mmap.Recover(mmap.Protect(), &err)
	if r.err != nil || r.s == nil || r.batch || r.l.slot < 0 {
		return false, nil
	}
	w, err := r.s.Word(r.c.Off)
	if err != nil || w.State() != segment.Claimed {
		return false, nil
	}
	return true, r.l.look(&r.o, r.s, r.c, w)
}

// cross goes on to the next segment. There may be none yet.
func (r *Reader) cross(w segment.Word) (outcome, error) {
	n, err := r.l.successor(&r.l.table, r.s, r.c, w)
	if err != nil {
		return wait, r.fail(err)
	}
	if n == nil && r.belowDurable() {
		// It was there before the durable position passed it, and maybe not yet
		// at the first look.
		if n, err = r.l.successor(&r.l.table, r.s, r.c, w); err != nil {
			return wait, r.fail(err)
		}
		if name := successorName(r.s.First, r.c, w); n == nil && name >= r.l.ctl.oldest() {
			return wait, r.fail(&CorruptError{Path: r.l.log.Join(segment.Name(name)), Reason: "the segment is missing"})
		}
	}
	if n == nil {
		return wait, r.trimmed()
	}
	if r.lent {
		r.leave()
	} else {
		r.l.table.pass(r.s)
	}
	r.s, r.c = n, n.Start()
	r.ahead = r.c.Off
	return again, nil
}

const (
	// aheadBytes is how far the kernel is asked to read ahead: enough to keep a
	// disk busy while what is there is checked.
	aheadBytes = 8 << 20
	// seekBytes is how much is read after a seek before that is done: who looks for
	// one message does not read on.
	seekBytes = 256 << 10
)

// readAhead asks the kernel for what comes next in a sealed segment; the reader has
// come to r.ahead. A live one's pages are in memory anyway.
func (r *Reader) readAhead() {
	r.ahead = math.MaxInt64
	if r.s.sealed {
		n := min(aheadBytes, r.s.Allocated()-r.c.Off)
		if !r.s.Region().Cached(r.c.Off, n) {
			_ = r.s.Region().Prefetch(r.c.Off, n) // only a matter of speed
		}
		r.ahead = r.c.Off + aheadBytes/2
	}
}

// free is the end of the log, unless frames behind it were promised to be there.
func (r *Reader) free() error {
	if !r.belowDurable() {
		return nil
	}
	// Looked at again: it became final before the durable position passed it.
	if w, err := r.s.Word(r.c.Off); err != nil || w != 0 {
		return err
	}
	return r.fail(&CorruptError{Path: r.s.Path(), Offset: r.c.Off, Reason: "the log ends here, below the durable position: acknowledged messages are missing"})
}

// belowDurable reports whether what should be here was promised to be on disk: by its
// place, or by its number, since an ordinal may be wrong.
func (r *Reader) belowDurable() bool {
	return r.s.position(r.c.Off) < r.l.ctl.durable() || r.c.Seq < r.l.ctl.word(ctlDurableSeq).Load()
}

// trimmed tells a successor that is not there yet from one that is gone.
func (r *Reader) trimmed() error {
	oldest := r.l.ctl.oldest()
	if r.c.Seq >= oldest {
		return nil
	}
	gap := &GapError{From: r.Seq(), To: oldest}
	from, since := r.from, r.since
	if err := r.seekOldest(); err != nil {
		return err
	}
	r.from, r.since = from, since // what was asked for is still wanted
	if gap.From >= gap.To {
		return nil // nothing of it was trimmed; the next look goes on
	}
	return gap
}

// fail remembers an error that the next call must repeat.
func (r *Reader) fail(err error) error {
	if errors.Is(err, ErrCorrupt) && !r.belowDurable() {
		if cut, cerr := r.awaitsCut(); cut || cerr != nil {
			return cerr // here recovery will end the log
		}
	}
	r.err = err
	return err
}

// awaitsCut reports whether the queue still awaits a recovery that will cut it
// at the first frame that is not whole.
func (r *Reader) awaitsCut() (bool, error) {
	if !r.cut {
		return false, nil
	}
	var err error
	r.cut, err = r.l.table.awaitsCut()
	return r.cut, err
}

// Seq is the sequence number that the next message has at least.
func (r *Reader) Seq() uint64 { return max(r.c.Seq, r.from) }
