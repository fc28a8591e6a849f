package wal

import (
	"errors"

	"github.com/walq/walq/mmap"
)

// A Scene is what files are judged by that lie in a queue's directory, and that the log
// knows nothing of: those of groups.
type Scene struct {
	Queue [16]byte
	Boot  [16]byte // the machine's run
	Epoch uint64   // of the queue
	// Next is a sequence number that no message has, nor a higher one; 0: not known.
	Next uint64
	// InUse: somebody has the queue open.
	InUse bool
	// PowerLoss: one went by, and nobody recovered the queue.
	PowerLoss bool
}

// InUse reports whether somebody has the queue at path open, but for reading only.
func InUse(path string) (used bool, err error) {
	dir, err := mmap.OpenDir(path)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	u, err := (&onDisk{dir: dir}).users()
	return u.locked == inUse, err
}

func (v *verifier) scene() Scene {
	s := Scene{Queue: v.queue, Boot: v.machine, Epoch: v.boot.epoch, InUse: v.live, PowerLoss: v.powered}
	if !v.live && !v.powered {
		s.Next = v.next
	}
	return s
}

// scene is as the files are before they are repaired; where messages are lost the epoch
// is the next one, which whoever counted them has to see.
func (p *plan) scene() Scene {
	s := Scene{Queue: p.queue, Boot: p.users.boot, Epoch: p.boot.epoch, PowerLoss: p.powered}
	if n := len(p.pieces); n > 0 && !p.powered && len(p.report.Ranges) == 0 {
		s.Next = p.pieces[n-1].s.End.Seq
	}
	return s
}
