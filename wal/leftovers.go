package wal

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/walq/walq/segment"
)

// What the dead leave behind, and whoever is alone removes.

// removeSockets removes what processes left that died asleep and whose slot nobody
// took since. The caller is alone. Nothing depends on it but tidiness.
func (l *Log) removeSockets() {
	err := func() error {
		wake, err := l.dir.OpenDir(wakeName)
		if err != nil {
			return err
		}
		names, err := wake.Names()
		for _, name := range names {
			err = errors.Join(err, wake.Unlink(name))
		}
		return errors.Join(err, wake.Close())
	}()
	if err != nil && !isNotExist(err) {
		l.warn("cannot remove the sockets of the dead", "err", err)
	}
}

// forgetTheDead frees the slots of those who died, and removes what they left half
// made, where nobody took the slot since. The caller is alone.
func (l *Log) forgetTheDead() error {
	for slot := range maxSlots {
		inUse := l.ctl.participant(slot, parState)
		if inUse.Load() == 0 {
			continue
		}
		if err := removeTemporaries(l.log, slot); err != nil {
			return err
		}
		inUse.Store(0)
	}
	return nil
}

func (l *Log) clearWaiters() {
	for off := int64(ctlWaiters); off < ctlParticipants; off += 8 {
		l.ctl.word(off).Store(0)
	}
}

// finishTrim does what a power loss kept trimming from: the durable position was
// raised over segments that nobody synced, because they were to go.
func (l *Log) finishTrim() error {
	to := l.ctl.announced()
	if to == 0 {
		return nil
	}
	s, err := l.acquire(&l.table, to)
	if isNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer l.table.release(s)
	if s.position(s.Start().Off) <= l.ctl.durable() {
		segment.RaiseMax(l.ctl.word(ctlOldest), to)
	}
	return nil
}

// removeTrimmed removes segments below the oldest kept sequence number: an
// unlink may come back after a power loss. The caller has checked that number.
func (l *Log) removeTrimmed() error {
	firsts, err := segmentNames(l.log)
	if err != nil {
		return err
	}
	for _, first := range firsts {
		if first >= l.ctl.oldest() {
			break
		}
		if err := l.log.Unlink(segment.Name(first)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// keptSegment opens the segment of the durable position, having checked that
// the oldest kept sequence number can be true: files are removed by that word,
// and one wrong bit in it must not remove the log.
func (l *Log) keptSegment() (*seg, error) {
	oldest := l.ctl.oldest() // trimming raises the durable position first
	s, _, err := l.locateMoving(l.ctl.durable)
	if err != nil {
		return nil, err
	}
	if oldest == s.First {
		return s, nil
	}
	if oldest < s.First { // its header tells, without a mapping
		if h, err := segment.ReadHeader(l.log, segment.Name(oldest)); err == nil && h.First == oldest && h.Queue == l.ctl.queue {
			return s, nil
		}
	}
	o, err := l.acquire(&l.table, oldest)            // which tells what is wrong
	if isNotExist(err) && l.ctl.oldest() != oldest { // trimmed meanwhile
		return s, nil
	}
	if isNotExist(err) || err == nil && o.First > s.First {
		err = &CorruptError{Path: l.ctl.r.Path(), Offset: ctlOldest, Reason: fmt.Sprintf("the oldest kept sequence number, %d, starts no segment at or before the durable position", oldest)}
	}
	l.table.release(o)
	if err != nil {
		l.table.release(s)
		return nil, err
	}
	return s, nil
}
