package group

import "fmt"

// A State says how far the group is with an ordinal.
type State uint8

// The states of an entry.
const (
	Finished State = 0 // nobody needs it any more; a new ring is full of these
	Leased   State = 1 // a consumer works on it
	Ready    State = 2 // sent back, or its lease ended: whoever comes may take it
	Waiting  State = 3 // sent back, but not before its time

	// Of the ring: the delay file takes the message over.
	Moving State = 4 // its cell is filled, and is to wait; the time word names it
	Moved  State = 5 // its cell has it, and is not on disk yet; then this is finished here

	// Of the delay file, where FINISHED is a free cell.
	Pending State = 6 // its owner fills it
	Dropped State = 7 // nobody needs it; its owner, who may be filling it, frees it
)

func (s State) String() string {
	return [...]string{"FINISHED", "LEASED", "READY", "WAITING", "MOVING", "MOVED", "PENDING", "DROPPED"}[s&7]
}

// Done reports whether the ring has nothing to hand out any more.
func (s State) Done() bool { return s == Finished || s == Moved }

// A Word is the first word of an entry: all that decides whose it is, in one
// compare-and-swap.
type Word uint64

const (
	stateBits       = 3
	slotBits        = 10
	deliveriesBits  = 12
	deathsBits      = 6
	incarnationBits = 9

	slotShift        = stateBits
	deliveriesShift  = slotShift + slotBits
	deathsShift      = deliveriesShift + deliveriesBits
	incarnationShift = deathsShift + deathsBits
	lapShift         = incarnationShift + incarnationBits
)

// An Owner is who holds leases: a participant of the queue and its incarnation.
type Owner struct {
	Slot        int
	Incarnation uint64
}

func makeWord(s State, lap uint64, o Owner, deliveries, deaths int) Word {
	return Word(uint64(s) | uint64(o.Slot)&(1<<slotBits-1)<<slotShift | uint64(deliveries)<<deliveriesShift |
		uint64(deaths)<<deathsShift | o.Incarnation&(1<<incarnationBits-1)<<incarnationShift | lap<<lapShift)
}

// State is the state.
func (w Word) State() State { return State(w & (1<<stateBits - 1)) }

// Slot is the participant that holds the lease, if the state is Leased.
func (w Word) Slot() int { return int(w >> slotShift & (1<<slotBits - 1)) }

// Deliveries is how often the message was handed out. Above 4,095 it counts from
// 2,048 again, so that one lease still differs from the next.
func (w Word) Deliveries() int { return int(w >> deliveriesShift & (1<<deliveriesBits - 1)) }

// Deaths is how often its consumer's process died, up to 63.
func (w Word) Deaths() int { return int(w >> deathsShift & (1<<deathsBits - 1)) }

func (w Word) lap() uint64 { return uint64(w) >> lapShift }

// OwnedBy reports whether the owner may be this one: of its incarnation the word has
// the low bits only.
func (w Word) OwnedBy(o Owner) bool {
	return w.Slot() == o.Slot && uint64(w)>>incarnationShift&(1<<incarnationBits-1) == o.Incarnation&(1<<incarnationBits-1)
}

// leased is the word of the next lease.
func (w Word) leased(o Owner) Word {
	n := w.Deliveries() + 1
	if n == 1<<deliveriesBits {
		n = 1 << (deliveriesBits - 1)
	}
	return makeWord(Leased, w.lap(), o, n, w.Deaths())
}

// sentBack is the word in the state Ready or Waiting.
func (w Word) sentBack(s State, died bool) Word {
	deaths := w.Deaths()
	if died {
		deaths = min(deaths+1, 1<<deathsBits-1)
	}
	return makeWord(s, w.lap(), Owner{}, w.Deliveries(), deaths)
}

// notYet is the word of a message that was leased and is sent back without having been
// handed out.
func (w Word) notYet() Word {
	return makeWord(Waiting, w.lap(), Owner{}, max(w.Deliveries()-1, 0), w.Deaths())
}

func finishedWord(lap uint64) Word { return makeWord(Finished, lap, Owner{}, 0, 0) }

func movedWord(lap uint64) Word { return makeWord(Moved, lap, Owner{}, 0, 0) }

// in is the word in another state, with all else as it is.
func (w Word) in(s State) Word { return w&^(1<<stateBits-1) | Word(s) }

// tag marks the time word as that of the present lease.
func (w Word) tag() uint64 { return uint64(w.Deliveries())&(1<<11-1) | w.lap()&15<<11 }

func (w Word) String() string {
	return fmt.Sprintf("%v lap %d slot %d, delivered %d times, %d deaths", w.State(), w.lap(), w.Slot(), w.Deliveries(), w.Deaths())
}

// Times are milliseconds: of leases since the boot, of waiting since the Unix epoch.
const dueBit = 1 << 15 // of the tag: it is when a message is due

func makeTime(tag uint64, ms int64) uint64 {
	return tag<<timeBits | uint64(min(max(ms, 0), 1<<timeBits-1))
}

func timeOf(v uint64) (tag uint64, ms int64) { return v >> timeBits, int64(v & (1<<timeBits - 1)) }

// Owner is the holder of a lease, as far as the word tells: the incarnation's low bits.
func (w Word) Owner() Owner {
	return Owner{w.Slot(), uint64(w) >> incarnationShift & (1<<incarnationBits - 1)}
}
