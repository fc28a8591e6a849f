package wal

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/walq/walq/mmap"
	"github.com/walq/walq/segment"
)

// The errors of the log. Each is wrapped with the path or place that it
// concerns; compare with errors.Is.
var (
	ErrClosed      = errors.New("the queue is closed")
	ErrTrimmed     = errors.New("messages were trimmed before they were read")
	ErrTooLarge    = errors.New("too large")
	ErrFull        = errors.New("the queue is full")
	ErrPoisoned    = errors.New("the queue is poisoned: a sync failed, so nothing more can be acknowledged; what is in it can be read, for instance into another queue")
	ErrFileSystem  = errors.New("the file system is not one on which several processes can share a queue safely; use a local one such as ext4, xfs, btrfs or tmpfs")
	ErrNotQueue    = errors.New("not a walq queue")
	ErrNotDurable  = errors.New("the message is in the queue but not known to be on stable storage; do not append it again")
	ErrOwner       = errors.New("belongs to another user")
	ErrTooManyOpen = errors.New("the queue has as many participants as it can have")
	ErrStalled     = errors.New("the append took longer than the stall time-out again and again, so others revoked it; nothing was appended")
	ErrReadOnly    = errors.New("the queue was opened for reading only")
	ErrVersion     = segment.ErrVersion
	ErrCorrupt     = segment.ErrCorrupt
	ErrDiskFull    = mmap.ErrDiskFull
	ErrSymlink     = mmap.ErrSymlink
	ErrUnsupported = mmap.ErrUnsupported
)

// CorruptError says which bytes of which file are wrong.
type CorruptError = segment.CorruptError

// A GapError says that messages were trimmed before a reader came to them. The
// next read goes on at To.
type GapError struct {
	From, To uint64 // the messages with sequence numbers From to To-1 are gone
}

func (e *GapError) Error() string {
	return fmt.Sprintf("%v: sequence numbers %d to %d", ErrTrimmed, e.From, e.To-1)
}

// Is makes errors.Is(err, ErrTrimmed) true.
func (e *GapError) Is(target error) bool { return target == ErrTrimmed }

// A PoisonError carries why the queue is poisoned.
type PoisonError struct{ Poison }

func (e *PoisonError) Error() string {
	return fmt.Sprintf("%v (at %s: %s)", ErrPoisoned, e.Time.Format("2006-01-02 15:04:05.000"), e.Reason)
}

// Is makes errors.Is(err, ErrPoisoned) true.
func (e *PoisonError) Is(target error) bool { return target == ErrPoisoned }

func isNotExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }

func isExist(err error) bool { return errors.Is(err, fs.ErrExist) }

// joinFirst keeps err as it is unless cleaning up failed too.
func joinFirst(err, cleanup error) error {
	if cleanup == nil {
		return err
	}
	return errors.Join(err, cleanup)
}

const reasonLockReplaced = "it is not the file that was there when the queue was last opened: processes that hold locks on that one may still be at work. Stop all that use the queue, then let walq repair go over it"
