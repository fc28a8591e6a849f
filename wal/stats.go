package wal

import (
	"time"

	"github.com/walq/walq/mmap"
)

// Stats is a look at a queue while others work with it: each figure was true
// at some moment, not all at the same.
type Stats struct {
	Queue        [16]byte
	Epoch        uint64 // counts recoveries after a power loss
	Settings     Settings
	FirstSeq     uint64 // oldest sequence number kept
	LastSeq      uint64 // of the last message, FirstSeq-1 if there is none
	DurableSeq   uint64 // of the last message known to be on stable storage
	Messages     uint64
	Bytes        int64 // allocated on disk for segments
	Segments     []SegmentStats
	Participants []Participant
	Poison       *Poison // nil: not poisoned
}

// SegmentStats describes one segment.
type SegmentStats struct {
	Path     string
	FirstSeq uint64
	Messages uint64 // sealed: from a hint that Verify checks
	Bytes    int64  // allocated on disk
	Sealed   bool
}

// A Participant is one handle that has, or had, the queue open.
type Participant struct {
	Slot  int
	Alive bool
	PID   int // in its own pid namespace; information only
	Role  string
	Since time.Time
}

// Stats looks at the queue. It opens each segment once and reads headers, not
// messages.
func (l *Log) Stats() (st Stats, err error) {
	ticket, ok := l.gate.enter()
	if !ok {
		return st, ErrClosed
	}
	defer l.gate.exit(ticket)
	defer mmap.Recover(mmap.Protect(), &err)
	b, err := l.ctl.boot()
	if err != nil {
		return st, err
	}
	settings, err := l.ctl.settings()
	if err != nil {
		return st, err
	}
	st = Stats{Queue: l.ctl.queue, Epoch: b.epoch, Settings: settings, FirstSeq: l.ctl.oldest(), Poison: l.ctl.poisoned()}
	st.LastSeq = st.FirstSeq - 1
	st.DurableSeq = l.ctl.word(ctlDurableSeq).Load() - 1
	if st.Participants, err = l.participants(); err != nil {
		return st, err
	}
	err = l.segmentStats(&st)
	st.DurableSeq = min(st.DurableSeq, st.LastSeq) // after a jump no message has the number before it
	return st, err
}

func (l *Log) segmentStats(st *Stats) error {
	firsts, err := segmentNames(l.log)
	if err != nil {
		return err
	}
	for i, first := range firsts {
		if first < st.FirstSeq {
			continue
		}
		s, err := l.acquire(&l.table, first)
		if isNotExist(err) {
			continue // trimmed meanwhile
		}
		if err != nil {
			return err
		}
		var next *seg
		if i+1 < len(firsts) {
			next, err = l.acquire(&l.table, firsts[i+1])
		}
		one, end, serr := describe(s, next)
		l.table.release(s)
		l.table.release(next)
		if err != nil && !isNotExist(err) {
			return err
		}
		if serr != nil {
			return serr
		}
		st.Segments = append(st.Segments, one)
		st.Bytes += one.Bytes
		st.Messages += one.Messages
		if end > one.FirstSeq {
			st.LastSeq = end - 1
		}
	}
	return nil
}

// describe counts the messages of s by its successor's word for where it ends,
// or if there is none by walking from the tail hint.
func describe(s, next *seg) (one SegmentStats, end uint64, err error) {
	one = SegmentStats{Path: s.Path(), FirstSeq: s.First, Bytes: s.Allocated()}
	if next != nil && next.PrevFirst == s.First {
		end, one.Sealed = next.PrevEnd, true
	} else {
		c, w, err := s.Walk(s.Tail())
		if err != nil {
			return one, 0, err
		}
		end, one.Sealed = c.Seq, w.Sealed()
	}
	taken := end - s.First
	one.Messages = taken - min(s.Padded(), taken)
	return one, end, nil
}

func (l *Log) participants() (all []Participant, err error) {
	for slot := range maxSlots {
		state := l.ctl.participant(slot, parState).Load()
		if state == 0 {
			continue
		}
		alive := slot == l.slot
		if !alive {
			if alive, err = l.locks.HeldByOther(lockSlots+int64(slot), 1); err != nil {
				return nil, err
			}
		}
		all = append(all, Participant{
			Slot:  slot,
			Alive: alive,
			PID:   int(l.ctl.participant(slot, parPID).Load()),
			Role:  unpackRole(l.ctl.participant(slot, parRole).Load()),
			Since: time.Unix(0, int64(l.ctl.participant(slot, parSince).Load())),
		})
	}
	return all, nil
}
