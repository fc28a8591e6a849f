package walq

import (
	"fmt"
	"math/bits"
	"slices"
	"time"

	"github.com/walq/walq/group"
)

// GroupOptions say how a group works. They are stored with the group by whoever makes
// it; zero fields of a later Queue.Group take what is stored, others change it, but for
// Topic, Window, Ordered and OrderedByKey, which must be the same.
type GroupOptions struct {
	// From is where a new group begins; the zero Position is the oldest message.
	From Position
	// Topic gives only messages of this topic, or, if it ends in *, of every topic
	// that begins with what stands before the star. Empty: all.
	Topic string
	// Window is how many messages may be in flight, in all consumers together: handed
	// out and not finished, or finished behind one that is not. It is rounded up to one
	// less than a power of two; 0 means 4,095, the most is 1,048,575. Each takes 32
	// bytes of the group's file.
	Window int
	// Ordered hands a message out only when all before it are finished: a window of 1.
	Ordered bool
	// OrderedByKey hands out the messages of one key (Draft.Key) in the order of the log,
	// one at a time: a message only when all before it with its key are finished, also if
	// one of those waits for its back-off, its NotBefore or the end of a lease. Messages
	// of other keys, and without one, flow on meanwhile, until the window is full: what
	// waits for its key is in the window too, so one busy key can fill it, and then
	// nothing behind it is handed out.
	//
	// The order is that of first deliveries. A message that comes once more, because its
	// lease was lost, or after a power loss or ResetGroup, may come after a later one of
	// its key was finished, but never together with one.
	OrderedByKey bool
	// Lease is how long a consumer may work on a message, or Extend it, before another
	// one gets it; 0 means 30 s. The leases of a process that dies end at once.
	Lease time.Duration
	// MaxDeliver is how often a message is handed out at most before it goes to
	// DeadLetter; MaxDeaths how many of its consumers' processes may die of it. 0: no
	// limit. Both need DeadLetter.
	MaxDeliver, MaxDeaths int
	// BackOff is how long a message waits after its first, second and further failures
	// in Consume; the last one counts for all that follow. nil: 0, 1, 5 and 30 s.
	BackOff []time.Duration
	// DeadLetter is the directory of the queue that messages go to which are given up,
	// by a limit or by Delivery.Term; it is made if it is not there. A path that is not
	// absolute is taken from where the process runs. Empty: there is none, and
	// Delivery.Term finishes the message.
	//
	// A dead-letter queue may have groups with a DeadLetter of their own. A message never
	// goes into a queue that it came through already (HeaderOriginPath): where these paths
	// make a circle it stays in the last queue, in flight, and is tried again every 5 s,
	// each time with ErrDeadLetter, until the group gets another DeadLetter.
	DeadLetter string
	// MayLose lets the queue's limits remove messages that the group has not finished;
	// its consumers get a GapError then. Else they stay, and appends to a queue that has
	// reached MaxBytes get ErrFull or wait: see QueueOptions.WhenFull. false leaves a
	// group as it is; to take MayLose back there is SetGroupMayLose.
	MayLose bool
	// Handlers is how many calls Consume makes at once in this process; 0 means 1. It
	// is not stored.
	Handlers int
	// Spin is as of ReaderOptions. It is not stored.
	Spin time.Duration
}

const defaultWindow = 4095

func (o GroupOptions) check() error {
	switch {
	case o.Window < 0 || o.Lease < 0 || o.MaxDeliver < 0 || o.MaxDeaths < 0 || o.Handlers < 0:
		return fmt.Errorf("walq: group: a negative option: %+v", o)
	case o.Ordered && o.Window > 1:
		return fmt.Errorf("walq: group: an ordered group has a window of 1, not %d", o.Window)
	case o.Ordered && o.OrderedByKey:
		return fmt.Errorf("walq: group: Ordered and OrderedByKey exclude each other")
	case o.Window >= group.MaxEntries:
		return fmt.Errorf("walq: group: a window of %d: at most %d", o.Window, group.MaxEntries-1)
	case int64(o.MaxDeliver) >= 2048 || int64(o.MaxDeaths) >= 63:
		return fmt.Errorf("walq: group: MaxDeliver is at most 2047, MaxDeaths 62")
	}
	return nil
}

// entries is how many entries the ring has: one more than may be in flight.
func (o GroupOptions) entries() int {
	switch {
	case o.Ordered:
		return group.MinEntries
	case o.Window == 0:
		return defaultWindow + 1
	}
	return 1 << bits.Len(uint(o.Window))
}

// settings are what a new group stores.
func (o GroupOptions) settings() group.Settings {
	s := group.DefaultSettings()
	o.change(&s)
	return s
}

// change makes of stored settings what the options ask for, and reports whether they
// differ.
func (o GroupOptions) change(s *group.Settings) (changed bool) {
	was, steps := *s, s.BackOff
	if o.Lease > 0 {
		s.Lease = o.Lease
	}
	if o.MaxDeliver > 0 {
		s.MaxDeliver = uint32(o.MaxDeliver)
	}
	if o.MaxDeaths > 0 {
		s.MaxDeaths = uint32(o.MaxDeaths)
	}
	if o.BackOff != nil {
		s.BackOff = slices.Clone(o.BackOff)
	}
	if o.DeadLetter != "" {
		s.DeadLetter = o.DeadLetter
	}
	s.MayLose = s.MayLose || o.MayLose
	return s.Lease != was.Lease || s.MayLose != was.MayLose || s.MaxDeliver != was.MaxDeliver || s.MaxDeaths != was.MaxDeaths ||
		s.DeadLetter != was.DeadLetter || !slices.Equal(s.BackOff, steps)
}

// fits tells whether the options go with what the group was made with.
func (o GroupOptions) fits(id group.Identity) error {
	if o.Topic != "" && o.Topic != id.Topic {
		return fmt.Errorf("it was made for the topic %q, not %q", id.Topic, o.Topic)
	}
	if o.OrderedByKey && !id.ByKey {
		return fmt.Errorf("it was not made to be ordered by key")
	}
	if o.Ordered && id.ByKey {
		return fmt.Errorf("it was made to be ordered by key, not as a whole")
	}
	if (o.Window > 0 || o.Ordered) && o.entries() != id.Entries {
		return fmt.Errorf("it was made with a window of %d, not %d", id.Entries-1, o.entries()-1)
	}
	return nil
}
