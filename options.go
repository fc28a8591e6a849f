package walq

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/walq/walq/wal"
)

// A Durability says when an append is acknowledged, and so what a power loss
// can take. The death of processes takes nothing in any of them.
type Durability int

const (
	// DurabilityDefault is the durability that the queue was made with; for a
	// new queue it is SyncAlways.
	DurabilityDefault Durability = iota
	// SyncAlways acknowledges when the message is on stable storage. A power
	// loss takes nothing that was acknowledged.
	SyncAlways
	// SyncInterval acknowledges at once and syncs every Options.SyncEvery. A
	// power loss takes at most the last interval.
	SyncInterval
	// SyncNever acknowledges at once and leaves it to the kernel when to
	// write. A power loss may take everything since the last Sync, typically
	// half a minute.
	SyncNever
)

var durabilityNames = [...]string{"default", "always", "interval", "never"}

func (d Durability) String() string {
	if d < 0 || int(d) >= len(durabilityNames) {
		return fmt.Sprintf("durability %d", int(d))
	}
	return durabilityNames[d]
}

// MarshalText gives "always", "interval", "never" or "default".
func (d Durability) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText is the reverse of MarshalText.
func (d *Durability) UnmarshalText(text []byte) error {
	for i, name := range durabilityNames {
		if string(text) == name {
			*d = Durability(i)
			return nil
		}
	}
	return fmt.Errorf("durability %q: want always, interval or never", text)
}

// A WhenFull says what an append does when the queue has reached MaxBytes, and a group
// that must keep its messages has not finished the oldest. A queue without such a group is
// never full: the oldest messages go.
type WhenFull int

const (
	// FailWhenFull: it returns ErrFull.
	FailWhenFull WhenFull = iota
	// WaitWhenFull: it waits until there is room, or its context ends. While it waits it
	// holds nothing. A consumer must not wait so for room that only it can make.
	WaitWhenFull
)

var whenFullNames = [...]string{"fail", "wait"}

func (w WhenFull) String() string {
	if w < 0 || int(w) >= len(whenFullNames) {
		return fmt.Sprintf("when full %d", int(w))
	}
	return whenFullNames[w]
}

// MarshalText gives "fail" or "wait".
func (w WhenFull) MarshalText() ([]byte, error) { return []byte(w.String()), nil }

// UnmarshalText is the reverse of MarshalText.
func (w *WhenFull) UnmarshalText(text []byte) error {
	for i, name := range whenFullNames {
		if string(text) == name {
			*w = WhenFull(i)
			return nil
		}
	}
	return fmt.Errorf("when full %q: want fail or wait", text)
}

// Options say how to open a queue. The zero value opens an existing queue with
// what it was made with. They are copied and never changed.
type Options struct {
	// Create makes the queue if there is none, with these settings, which may
	// be the zero QueueOptions. nil: a missing queue is an error. Of an
	// existing queue the settings are not touched.
	Create *QueueOptions
	// Durability of this handle's appends. Choose SyncNever or SyncInterval
	// where the last messages before a power loss may go, and SyncAlways,
	// which a new queue has, where not.
	Durability Durability
	// SyncEvery is how far SyncInterval may lag behind; 0 means 100 ms.
	SyncEvery time.Duration
	// StallTimeout is how long a living process may hold others up because it
	// was stopped in the middle of an append; then that append is revoked,
	// and done again when the process goes on. 0 means 1 s, negative never.
	// Make it longer only on hosts where healthy processes freeze that long.
	StallTimeout time.Duration
	// ReadOnly opens without ever writing a byte, also without permission to
	// write. Such a handle holds nothing up and frees nothing.
	ReadOnly bool
	// Snapshot says that the files were copied or restored while the queue
	// was in use, so they are recovered as after a power loss.
	Snapshot bool
	// AnyFileSystem opens even on file systems that are known not to be safe
	// for several processes or hosts. For one process at a time only.
	AnyFileSystem bool
	// Role is shown by Stats: up to 8 bytes.
	Role string
	// Logger gets what needs attention but is no error of a call, such as a
	// recovery. nil: nothing is logged.
	Logger *slog.Logger
}

// QueueOptions are the settings that a queue is made with.
type QueueOptions struct {
	// SegmentSize in bytes, a multiple of 4096 from 64 KiB to 1 GiB; 0 means
	// 64 MiB. The largest message fits one segment; trimming removes whole
	// segments. Smaller ones suit many small queues.
	SegmentSize int64
	// MaxBytes on disk beyond which the oldest segments may be trimmed; 0: no
	// limit. What a group must keep is not: appends then do as WhenFull says, rather
	// than begin a segment with which the files, were it full, had more than MaxBytes.
	// So it should be several times SegmentSize.
	MaxBytes int64
	// MaxAge beyond which messages may be trimmed; 0: no limit. What a group must
	// keep stays, however old.
	MaxAge time.Duration
	// WhenFull says what appends do when groups need all that MaxBytes allows; the
	// zero value is FailWhenFull.
	WhenFull WhenFull
	// Durability of appends that do not choose their own; 0: SyncAlways.
	Durability Durability
	// GroupAccess lets the directory's group use the queue: modes 2770 and
	// 0660 instead of 0700 and 0600.
	GroupAccess bool
}

// DefaultSegmentSize is large enough that rolling is rare and small enough that
// trimming is not.
const DefaultSegmentSize = 64 << 20

func (o QueueOptions) settings() *wal.Settings {
	if o.SegmentSize == 0 {
		o.SegmentSize = DefaultSegmentSize
	}
	if o.Durability == DurabilityDefault {
		o.Durability = SyncAlways
	}
	return &wal.Settings{
		SegmentSize: o.SegmentSize, MaxBytes: o.MaxBytes, MaxAge: o.MaxAge,
		Durability: wal.Durability(o.Durability), GroupAccess: o.GroupAccess, WaitWhenFull: o.WhenFull == WaitWhenFull,
	}
}

func (o Options) log() wal.Options {
	w := wal.Options{
		Durability: wal.Durability(o.Durability), SyncEvery: o.SyncEvery, StallTimeout: o.StallTimeout,
		ReadOnly: o.ReadOnly, Snapshot: o.Snapshot, AnyFileSystem: o.AnyFileSystem, Role: o.Role, Logger: o.Logger,
	}
	if o.Create != nil {
		w.Create = o.Create.settings()
	}
	return w
}
