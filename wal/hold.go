package wal

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/walq/walq/mmap"
	"github.com/walq/walq/segment"
)

// What somebody still needs of the log is not trimmed by its limits, and while that
// fills the queue nothing is appended. The log does not know who that is: whoever opens
// it tells it whom to ask. See docs/adr/0024-retention-by-groups.md.

// A Hold says what of the log must stay.
type Hold struct {
	From uint64 // the least sequence number that somebody needs
	By   string // who that is
}

// NoHold: nobody needs anything.
var NoHold = Hold{From: math.MaxUint64}

// SetHolds tells whom to ask before anything is trimmed: f gives the least sequence
// number that must stay, so that nothing of what was promised is missing after a power
// loss either. below is where trimming would stop otherwise: what f finds out about
// lower numbers need not be exact if they are higher than that, and may be worth some
// work if they are not. f is set before the first append, or never. It is called under
// the trim lock and without it, by several goroutines at once, and must neither append
// nor trim.
//
// A handle that was told of nobody does not trim a queue that has groups.
func (l *Log) SetHolds(f func(below uint64) Hold) { l.holds = f }

// hold asks what must stay.
func (l *Log) hold(below uint64) Hold {
	if l.holds != nil {
		return l.holds(below)
	}
	groups, err := l.dir.OpenDir(groupsName)
	if isNotExist(err) {
		return NoHold
	}
	var names []string
	if err == nil {
		names, err = groups.Names()
		_ = groups.Close() // it was only looked at
	}
	if err != nil {
		return Hold{By: fmt.Sprintf("nobody knows who (%v)", err)}
	}
	for _, name := range names {
		if !strings.HasPrefix(name, "tmp.") {
			return Hold{By: name + ", which this handle cannot ask,"}
		}
	}
	return NoHold
}

// A FullError says who holds the space of a full queue.
type FullError struct {
	Bytes    int64 // of the files that are kept
	MaxBytes int64
	Hold
}

func (e *FullError) Error() string {
	return fmt.Sprintf("%v: its files have %d of at most %d bytes, and %s needs them, from sequence number %d on; "+
		"let it catch up, let it lose messages (walq group set), or raise the limit (walq set)", ErrFull, e.Bytes, e.MaxBytes, e.By, e.From)
}

// Is makes errors.Is(err, ErrFull) true.
func (e *FullError) Is(target error) bool { return target == ErrFull }

// A room is what an append needs: another segment, behind one that is sealed.
type room struct {
	bytes int64  // of the new segment when it is full
	end   uint64 // where the sealed one ends
}

// trimPatience is how long an append that needs a segment waits for another process that
// trims, and may have been stopped in it.
const trimPatience = 100 * time.Millisecond

// makeRoom is asked before the log gets another segment behind s, which is sealed at end.
// While somebody needs messages it is refused a segment with which the files, were it
// full, had more than MaxBytes. What may go goes first. If it is something else that keeps
// the oldest from going, a sync that is still to come, or one who trims and was stopped,
// the limit is exceeded for a while, as it is where nobody needs anything.
func (l *Log) makeRoom(s *seg, end segment.Cursor) error {
	settings, err := l.ctl.settings()
	if err != nil || settings.MaxBytes == 0 || l.hold(0) == NoHold {
		return err
	}
	need := room{s.Size, end.Seq}
	for begun, pause := time.Now(), 100*time.Microsecond; ; pause = min(2*pause, 5*time.Millisecond) {
		ok, err := l.tryTrimLock()
		if err != nil {
			return err
		}
		if ok {
			_, err := l.trimLocked(&need)
			return err
		}
		if time.Since(begun) >= trimPatience {
			return l.fullAsItIs(settings, need)
		}
		time.Sleep(pause)
	}
}

// fullAsItIs is the answer of makeRoom where somebody else has the trim lock.
func (l *Log) fullAsItIs(settings Settings, need room) error {
	total, second, err := l.sizeFrom(0)
	if err != nil {
		return err
	}
	if second == 0 {
		second = need.end
	}
	return full(settings, total, need, l.hold(second), second)
}

// BytesFrom is how many bytes the files have that messages with the sequence number seq
// or a higher one may be in.
func (l *Log) BytesFrom(seq uint64) (total int64, err error) {
	ticket, ok := l.gate.enter()
	if !ok {
		return 0, ErrClosed
	}
	defer l.gate.exit(ticket)
	defer mmap.Recover(mmap.Protect(), &err)
	total, _, err = l.sizeFrom(seq)
	return total, err
}

// sizeFrom counts the bytes of the kept files from that on which seq lies in. second is
// where the next one begins, 0 if there is none.
func (l *Log) sizeFrom(seq uint64) (total int64, second uint64, err error) {
	firsts, err := segmentNames(l.log)
	if err != nil {
		return 0, 0, err
	}
	oldest := l.ctl.oldest()
	for i := len(firsts) - 1; i >= 0 && firsts[i] >= oldest; i-- {
		size, err := l.log.Size(segment.Name(firsts[i]))
		if err != nil && !isNotExist(err) { // trimmed meanwhile
			return 0, 0, err
		}
		total += size
		if i+1 < len(firsts) {
			second = firsts[i+1]
		}
		if firsts[i] <= seq {
			break
		}
	}
	return total, second, nil
}

// full is the error if the files, which have total bytes, leave no room for what is
// needed, and it is h that keeps the oldest of them, whose successor begins at second.
func full(settings Settings, total int64, need room, h Hold, second uint64) error {
	if total+need.bytes <= settings.MaxBytes || h.From >= second {
		return nil
	}
	return &FullError{Bytes: total, MaxBytes: settings.MaxBytes, Hold: h}
}

// WhileNobodyTrims runs f while nobody trims, if who does so is done in time; else it
// runs f all the same.
func (l *Log) WhileNobodyTrims(patience time.Duration, f func() error) error {
	ticket, ok := l.gate.enter()
	if !ok {
		return ErrClosed
	}
	defer l.gate.exit(ticket)
	for begun, pause := time.Now(), 100*time.Microsecond; ; pause = min(2*pause, 5*time.Millisecond) {
		ok, err := l.tryTrimLock()
		if err != nil {
			return err
		}
		if ok {
			defer func() {
				if err := l.dropTrimLock(); err != nil {
					l.warn("cannot unlock", "err", err)
				}
			}()
			// What a trimmer that died was about to do is done, lest a recovery does it
			// later, when somebody needs what is to go.
			if err := l.guarded(l.finishTrim); err != nil {
				return err
			}
			break
		}
		if time.Since(begun) >= patience || l.gate.closed.Load() {
			break
		}
		time.Sleep(pause)
	}
	return f()
}

// WaitWhenFull reports whether appends are to wait where they would be told ErrFull.
func (l *Log) WaitWhenFull() (bool, error) {
	ticket, ok := l.gate.enter()
	if !ok {
		return false, ErrClosed
	}
	defer l.gate.exit(ticket)
	var s Settings
	err := l.guarded(func() (err error) { s, err = l.ctl.settings(); return err })
	return s.WaitWhenFull, err
}
