package segment

import "fmt"

// A State says how far a frame has come. All but Free and Claimed are final:
// only recovery, alone, may overwrite a final word.
type State uint8

// The states of a frame.
const (
	Free      State = 0 // nothing here yet; the whole word is zero
	Claimed   State = 1 // a writer owns the room and may be copying
	Committed State = 2 // readable
	Pad       State = 3 // dead room: an abandoned claim
	Seal      State = 4 // the segment ends here; the next one follows on
	SealJump  State = 5 // the same, but sequence numbers jump: recovery cut here
)

func (s State) String() string {
	names := [...]string{"FREE", "CLAIMED", "COMMITTED", "PAD", "SEAL", "SEAL_JUMP"}
	if int(s) < len(names) {
		return names[s]
	}
	return fmt.Sprintf("state %d", uint8(s))
}

// A Word is a frame's first eight bytes: its claim, its publication and its
// size, in one compare-and-swap. A dead writer's claim always carries owner,
// length and count, so nobody ever meets a hole of unknown size.
type Word uint64

const (
	lengthBits = 29
	countBits  = 13
	slotBits   = 10
	stateBits  = 4
	checkShift = lengthBits + countBits + slotBits + stateBits
)

// MakeWord puts a word together. It panics if a field does not fit: callers
// check sizes first.
func MakeWord(state State, slot, count int, length int64) Word {
	if uint64(length) > MaxLength || uint(count) > MaxCount || uint(slot) >= MaxSlots {
		panic(fmt.Sprintf("segment: no word for length %d, count %d, slot %d", length, count, slot))
	}
	return makeWord(state, slot, count, length)
}

// What is the same in the words of all committed messages: state and count.
var (
	messageMask = Word((1<<stateBits-1)<<(lengthBits+countBits+slotBits) | (1<<countBits-1)<<lengthBits)
	messageBits = Word(uint64(Committed)<<(lengthBits+countBits+slotBits) | 1<<lengthBits)
)

// plainMessage reports whether w is valid and a committed message's.
func (w Word) plainMessage() bool {
	return w&messageMask == messageBits && uint64(w)>>checkShift == check(uint64(w)&(1<<checkShift-1))
}

// ClaimWord is MakeWord in the state Claimed, where the caller knows that every field
// fits: the append path pays for no more.
func ClaimWord(slot, count int, length int64) Word { return makeWord(Claimed, slot, count, length) }

func makeWord(state State, slot, count int, length int64) Word {
	w := uint64(length) | uint64(count)<<lengthBits | uint64(slot)<<(lengthBits+countBits) |
		uint64(state)<<(lengthBits+countBits+slotBits)
	return Word(w | check(w)<<checkShift)
}

// check is the sum of the seven bytes below the check byte, modulo 256. One
// flipped bit anywhere changes either one byte of the sum or the check itself,
// never both alike, so no single flip turns a valid word into another one.
func check(w uint64) uint64 {
	const evens = 0x00ff00ff00ff00ff
	pairs := (w & evens) + (w >> 8 & (evens >> 16)) // four sums of two bytes; the check byte is not among them
	return pairs * 0x0001000100010001 >> 48 & 0xff
}

// Length is the size in bytes of what follows the frame's header, without the
// padding to 8.
func (w Word) Length() int64 { return int64(w & (1<<lengthBits - 1)) }

// Count is how many sequence numbers the frame takes.
func (w Word) Count() int { return int(w >> lengthBits & (1<<countBits - 1)) }

// Slot is the participant that claimed the frame.
func (w Word) Slot() int { return int(w >> (lengthBits + countBits) & (1<<slotBits - 1)) }

// State is the frame's state.
func (w Word) State() State {
	return State(w >> (lengthBits + countBits + slotBits) & (1<<stateBits - 1))
}

// Size is the frame's whole size in bytes: header, content and padding.
func (w Word) Size() int64 { return FrameHeader + (w.Length()+7)&^7 }

// Final reports whether the frame will never change again.
func (w Word) Final() bool { return w.State() >= Committed }

// Sealed reports whether the segment ends at this frame.
func (w Word) Sealed() bool { return w.State() == Seal || w.State() == SealJump }

// with gives the same word in another state.
func (w Word) with(s State) Word {
	v := uint64(w) &^ (0xfff << (lengthBits + countBits + slotBits))
	v |= uint64(s) << (lengthBits + countBits + slotBits)
	return Word(v | check(v)<<checkShift)
}

// Valid checks everything that the word alone can tell.
func (w Word) Valid() bool {
	if w == 0 {
		return true
	}
	if uint64(w)>>checkShift != check(uint64(w)&(1<<checkShift-1)) {
		return false
	}
	const frames, seals = 1<<Claimed | 1<<Committed | 1<<Pad, 1<<Seal | 1<<SealJump
	state := uint16(1) << w.State()
	return state&frames != 0 || state&seals != 0 && w.Length() == 0 && w.Count() == 0
}

func (w Word) String() string {
	if !w.Valid() {
		return fmt.Sprintf("invalid word %#016x", uint64(w))
	}
	return fmt.Sprintf("%v slot %d count %d length %d", w.State(), w.Slot(), w.Count(), w.Length())
}
