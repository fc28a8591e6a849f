package walq

import (
	"errors"

	"github.com/walq/walq/wal"
)

// The errors of walq. They come wrapped with the file, offset or participant
// that they concern; compare with errors.Is.
var (
	// ErrClosed: the queue, or the reader, was closed.
	ErrClosed = wal.ErrClosed
	// ErrCorrupt: bytes of a file are not what they must be. A [CorruptError]
	// says which. Nothing was changed.
	ErrCorrupt = wal.ErrCorrupt
	// ErrTrimmed: messages were trimmed before a reader came to them. A
	// [GapError] says which.
	ErrTrimmed = wal.ErrTrimmed
	// ErrTooLarge: a message or batch does not fit a segment of the queue.
	ErrTooLarge = wal.ErrTooLarge
	// ErrFull: the queue has reached MaxBytes, and a group that must keep its messages
	// has not finished the oldest. A [FullError] says which. Nothing was appended.
	ErrFull = wal.ErrFull
	// ErrDiskFull: the file system has no room. Nothing was appended.
	ErrDiskFull = wal.ErrDiskFull
	// ErrPoisoned: a sync failed in some process, so nothing more can be
	// acknowledged. Reading goes on.
	ErrPoisoned = wal.ErrPoisoned
	// ErrVersion: a file was written in a format that this version of walq
	// does not know.
	ErrVersion = wal.ErrVersion
	// ErrFileSystem: the queue lies on a file system on which several
	// processes cannot share it safely.
	ErrFileSystem = wal.ErrFileSystem
	// ErrNotQueue: the directory is no queue.
	ErrNotQueue = wal.ErrNotQueue
	// ErrNotDurable: the message is in the queue and visible, but not known
	// to be on stable storage. Do not append it again.
	ErrNotDurable = wal.ErrNotDurable
	// ErrOwner: a file belongs to another user than it must.
	ErrOwner = wal.ErrOwner
	// ErrSymlink: a symbolic link stands where a file of the queue should.
	ErrSymlink = wal.ErrSymlink
	// ErrTooManyOpen: 1,024 participants have the queue open.
	ErrTooManyOpen = wal.ErrTooManyOpen
	// ErrStalled: an append was revoked again and again, because each time it
	// took longer than others' stall time-out. Nothing was appended.
	ErrStalled = wal.ErrStalled
	// ErrReadOnly: the queue was opened for reading only.
	ErrReadOnly = wal.ErrReadOnly
	// ErrUnsupported: this platform is not 64-bit little-endian Linux.
	ErrUnsupported = wal.ErrUnsupported
	// ErrClaimOver: a [Claim] was committed or aborted already.
	ErrClaimOver = wal.ErrClaimOver
	// ErrLeaseLost: the consumer's lease ended, or it finished the message or sent it
	// back already. Another one may have it.
	ErrLeaseLost = errors.New("the lease is lost: another consumer may have the message")
	// ErrDeadLetter: a message was to be given up, and cannot be put into the group's
	// dead-letter queue. It is tried again.
	ErrDeadLetter = errors.New("it cannot be put into the dead-letter queue")
	// ErrNoMessage: a batch without a message was to be published.
	ErrNoMessage = errors.New("no message to publish")
)

// A CorruptError says which bytes of which file are wrong, and why. It Is
// [ErrCorrupt].
type CorruptError = wal.CorruptError

// A GapError says that the messages with the sequence numbers From to To-1 were
// trimmed before the reader came to them; the next read goes on at To. It Is
// [ErrTrimmed].
type GapError = wal.GapError

// A FullError says which group keeps a queue full that has reached MaxBytes. It Is
// [ErrFull].
type FullError = wal.FullError

// A PoisonError says why and when a queue was poisoned. It Is [ErrPoisoned].
type PoisonError = wal.PoisonError
