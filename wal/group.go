package wal

import (
	"fmt"
	"io/fs"
	"strings"
	"sync/atomic"
	"time"

	"github.com/walq/walq/mmap"
	"github.com/walq/walq/segment"
)

// What groups of consumers need of the log: a place for their files, who lives, and
// which run of the machine this is. The log knows nothing of their state.

// temporaries numbers the files that are made under temporary names, in all handles
// of the process.
var temporaries atomic.Uint64

// OpenGroups opens the directory of the groups' files. What a former owner of this
// slot left half made there is removed.
func (l *Log) OpenGroups() (*mmap.Dir, error) {
	dir, err := l.dir.OpenDir(groupsName)
	if err != nil {
		return nil, err
	}
	if l.slot >= 0 {
		names, err := dir.Names()
		if err != nil {
			return nil, fmt.Errorf("%w (%v)", err, dir.Close())
		}
		own := fmt.Sprintf("%s%d.", tempPrefix(l.slot), l.incarnation)
		for _, name := range names {
			if strings.HasPrefix(name, tempPrefix(l.slot)) && !strings.HasPrefix(name, own) {
				_ = removeTemporary(dir, name) // in nobody's way
			}
		}
	}
	return dir, nil
}

// TempName is a name for a file under construction that nobody else uses.
func (l *Log) TempName() string { return tempName(l.slot, l.incarnation, temporaries.Add(1)) }

// FilePerm is what files of the queue are made with.
func (l *Log) FilePerm() fs.FileMode { return l.perms.file }

// Incarnation is that of this participant; (Slot, Incarnation) names it for good.
func (l *Log) Incarnation() uint64 { return l.incarnation }

// BootID names the run of the machine.
func (l *Log) BootID() [16]byte { return l.bootID }

// Epoch grows with each recovery after a power loss.
func (l *Log) Epoch() (epoch uint64, err error) {
	defer mmap.Recover(mmap.Protect(), &err)
	b, err := l.ctl.boot()
	return b.epoch, err
}

// Oldest is the sequence number below which messages were trimmed.
func (l *Log) Oldest() (seq uint64, err error) {
	defer mmap.Recover(mmap.Protect(), &err)
	return l.ctl.oldest(), nil
}

// Alive reports whether the participant in a slot lives and has an incarnation of
// which is says yes.
func (l *Log) Alive(slot int, is func(incarnation uint64) bool) (alive bool, err error) {
	if slot == l.slot {
		return is(l.incarnation), nil
	}
	if slot < 0 || slot >= maxSlots {
		return false, nil
	}
	held, err := l.alive(slot)
	if err != nil || !held {
		return false, err
	}
	err = l.guarded(func() error {
		alive = is(l.ctl.participant(slot, parIncarnation).Load())
		return nil
	})
	return alive, err
}

// Wake wakes everyone who sleeps for r, like a commit or a sync does.
func (l *Log) Wake(r Reason) {
	ticket, ok := l.gate.enter()
	if !ok {
		return
	}
	defer l.gate.exit(ticket)
	_ = l.guarded(func() error { l.wake(r); return nil })
}

// SinceBoot is the time since the machine started, suspension included.
func SinceBoot() time.Duration { return mmap.SinceBoot() }

// CountFrom counts the messages of the log with the sequence number seq or a higher
// one. Of the segment in which they begin it reads the words of the frames, of those
// behind it the headers.
func (l *Log) CountFrom(seq uint64) (n uint64, err error) {
	ticket, ok := l.gate.enter()
	if !ok {
		return 0, ErrClosed
	}
	defer l.gate.exit(ticket)
	defer mmap.Recover(mmap.Protect(), &err)
	firsts, err := segmentNames(l.log)
	if err != nil {
		return 0, err
	}
	oldest := l.ctl.oldest()
	for i, first := range firsts {
		last := i+1 == len(firsts)
		if first < oldest || !last && firsts[i+1] <= seq {
			continue
		}
		var next uint64
		if !last {
			next = firsts[i+1]
		}
		have, err := l.countIn(first, next, seq)
		if err != nil && !isNotExist(err) { // trimmed meanwhile
			return n, err
		}
		n += have
	}
	return n, nil
}

// countIn counts those of one segment. next is the first number of the one behind it,
// 0 if there is none.
func (l *Log) countIn(first, next, seq uint64) (n uint64, err error) {
	s, err := l.acquire(&l.table, first)
	if err != nil {
		return 0, err
	}
	defer func() { l.table.release(s) }()
	if seq > first {
		return countBehind(s, seq)
	}
	var behind *seg
	if next != 0 {
		if behind, err = l.acquire(&l.table, next); err != nil && !isNotExist(err) {
			return 0, err
		}
		defer func() { l.table.release(behind) }()
	}
	one, _, err := describe(s, behind)
	return one.Messages, err
}

// countBehind counts the messages of a segment from seq on, by the words of their
// frames.
func countBehind(s *seg, seq uint64) (n uint64, err error) {
	for c := s.Near(seq); ; {
		w, err := s.Word(c.Off)
		if err != nil || !w.Final() || w.Sealed() {
			return n, err
		}
		next := c.After(w)
		if w.State() == segment.Committed && next.Seq > seq {
			n += next.Seq - max(c.Seq, seq)
		}
		c = next
	}
}
