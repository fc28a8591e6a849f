package wal

import (
	"time"

	"github.com/walq/walq/internal/spin"
	"github.com/walq/walq/segment"
)

// An observer is someone held up by a claim: a reader, or who waits for a sync.
// It frees the log from claims whose owner is dead, and from those of owners
// that stopped.
type observer struct {
	at     Position
	word   segment.Word
	looks  int
	last   time.Time
	waited time.Duration // sum of the intervals between looks that count
}

const (
	// spinLooks is how often an observer only spins: a claim lasts as long
	// as a copy.
	spinLooks = 64
	// longestLook is the longest interval between two looks that counts: if
	// the observer itself was stopped meanwhile, the owner may have been too.
	longestLook = 100 * time.Millisecond
	// shortPause and longPause bound the sleeps between looks.
	shortPause = 50 * time.Microsecond
	longPause  = 20 * time.Millisecond
)

// look is called again and again by who is held up by the claim w at c. It
// waits a little, longer each time, and makes a PAD of the claim if its owner
// is dead or has been stopped for the stall time-out. The claim's word tells
// what became of it.
func (l *Log) look(o *observer, s *seg, c segment.Cursor, w segment.Word) error {
	if at := s.position(c.Off); o.at != at || o.word != w {
		*o = observer{at: at, word: w, last: time.Now()}
	}
	if o.looks++; o.looks <= spinLooks {
		spin.Wait()
		return nil
	}
	over, err := l.judge(o, s, c, w)
	if err == nil && !over {
		time.Sleep(o.pause())
	}
	return err
}

// judge makes a PAD of the claim if its owner is dead, or was found in it again
// and again for the stall time-out. over: it is no claim any more. It does not
// wait.
func (l *Log) judge(o *observer, s *seg, c segment.Cursor, w segment.Word) (over bool, err error) {
	now := time.Now()
	if at := s.position(c.Off); o.at != at || o.word != w {
		*o = observer{at: at, word: w, last: now}
	}
	dead, err := l.ownerGone(w)
	if err != nil {
		return false, err
	}
	if between := now.Sub(o.last); between <= longestLook {
		o.waited += between
	}
	o.last = now
	if !dead && (l.o.StallTimeout < 0 || o.waited < l.patience(w)) {
		return false, nil
	}
	if s.TryPad(c.Off, w) && !dead {
		l.warn("revoked a claim of a participant that stopped", "slot", w.Slot(), "seq", c.Seq)
	}
	return true, nil
}

// patience is how long a claim may take: the stall time-out, and for a long one
// what a slow disk needs to take it.
func (l *Log) patience(w segment.Word) time.Duration {
	return l.o.StallTimeout + time.Duration(w.Length()/slowBytesPerSecond)*time.Second
}

// slowBytesPerSecond is the rate of copying into a mapping while the kernel
// holds writers back.
const slowBytesPerSecond = 16 << 20

// ownerGone reports whether the owner of a claim is certainly dead. The word is
// loaded by the caller before the probe and compared after it, so that a claim
// made by a new owner of the slot is not mistaken for the old one's.
func (l *Log) ownerGone(w segment.Word) (bool, error) {
	alive, err := l.alive(w.Slot())
	return !alive && err == nil, err
}

func (o *observer) pause() time.Duration {
	return min(shortPause<<min((o.looks-spinLooks)/8, 10), longPause)
}

// skippable is what a read-only handle, which may not write, does instead of
// look: it passes over a claim if its owner is gone and the claim, loaded again
// after the probe, is still there.
func (l *Log) skippable(s *seg, c segment.Cursor, w segment.Word) (bool, error) {
	dead, err := l.ownerGone(w)
	if err != nil || !dead {
		return false, err
	}
	again, err := s.Word(c.Off)
	return again == w, err
}
