package history

import (
	"fmt"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
)

// A GroupCall is one call of a consumer of a group, or of who appends, and what came of
// it. All that a call is about is one message.
type GroupCall struct {
	Client int
	Kind   GroupKind
	Seq    uint64
	// Delivery names what was received, for good; Attempt is its own count. Of what ends
	// or extends a delivery it is that one.
	Delivery, Attempt int
	// Lost: the answer was that the lease is lost.
	Lost bool
	// Lease is for how long it was received or extended, Delay how long it is to wait.
	Lease, Delay time.Duration
	// From and To are the clock of the group at the call and at its return, Call and
	// Return their order among all others'.
	From, To     time.Duration
	Call, Return int64
}

// A GroupKind is what was called.
type GroupKind int

// The kinds. GroupGone is what becomes of a delivery whose consumer was closed or died;
// GroupDone holds at the end: the message is finished.
const (
	GroupAppended GroupKind = iota
	GroupReceived
	GroupFinished
	GroupSentBack
	GroupExtended
	GroupGone
	GroupDone
)

func (k GroupKind) String() string {
	return [...]string{"append", "receive", "finish", "send back", "extend", "gone", "done"}[k]
}

func (c GroupCall) String() string {
	lost := ""
	if c.Lost {
		lost = ": lost"
	}
	return fmt.Sprintf("%d: %v message %d delivery %d attempt %d at %v to %v%s", c.Client, c.Kind, c.Seq, c.Delivery, c.Attempt, c.From, c.To, lost)
}

// GroupLinear looks for one order of the calls, in which each lies between its call and
// its return, that a group would answer in the same way which does one thing at a time:
//
//   - a message is handed out once it was appended, and to one consumer at a time: again
//     only if it was sent back and its delay is over, if the lease before had ended, or
//     if its consumer is gone; and each time it is counted;
//   - who holds the lease finishes it, sends it back and extends it; all others are told
//     that the lease is lost;
//   - what is finished is handed out no more.
//
// lanes are the messages whose order counts: one is handed out only if all before it in
// its lane are finished. A group that keeps no order has a lane for each message, one
// that is ordered has one lane, and one that is ordered by key has one for each key.
func GroupLinear(lanes [][]uint64, calls []GroupCall, limit time.Duration) error {
	of := map[uint64]int{}
	for i, lane := range lanes {
		for _, seq := range lane {
			of[seq] = i
		}
	}
	ops := make([][]porcupine.Operation, len(lanes))
	for _, c := range calls {
		i, ok := of[c.Seq]
		if !ok {
			return fmt.Errorf("%v: there is no such message", c)
		}
		ops[i] = append(ops[i], porcupine.Operation{ClientId: c.Client, Input: c, Call: c.Call, Output: c, Return: c.Return})
	}
	end := time.Now().Add(limit)
	for i, lane := range lanes {
		switch result := porcupine.CheckOperationsTimeout(laneModel(lane), ops[i], max(time.Until(end), time.Millisecond)); result {
		case porcupine.Ok:
		case porcupine.Illegal:
			var all []GroupCall
			for _, op := range ops[i] {
				all = append(all, op.Input.(GroupCall))
			}
			slices.SortFunc(all, func(a, b GroupCall) int { return int(a.Call - b.Call) })
			text := ""
			for _, c := range all {
				text += "\n  " + c.String()
			}
			return fmt.Errorf("no order of the %d calls for messages %v explains their answers:%s", len(all), lane, text)
		default:
			return fmt.Errorf("%d calls: no answer within %v (%s)", len(ops[i]), limit, result)
		}
	}
	return nil
}

// A laneState is how far a lane is. It is compared with ==.
type laneState struct {
	appended int // so many of its messages
	finished int // likewise; the others but the next were never handed out
	attempts int // of the next one
	delivery int // who has it; 0: nobody
	// free is when it can be handed out again: the end of the lease, or of the delay.
	free time.Duration
}

// laneModel is a group that does one thing at a time, as far as one lane sees it.
func laneModel(lane []uint64) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return laneState{} },
		Step: func(at, in, _ any) (bool, any) {
			s, ok := at.(laneState).step(lane, in.(GroupCall))
			return ok, s
		},
		Equal: func(a, b any) bool { return a.(laneState) == b.(laneState) },
	}
}

// step is the lane behind a call, if it would have answered so.
func (s laneState) step(lane []uint64, c GroupCall) (_ laneState, ok bool) {
	next := s.finished < len(lane) && lane[s.finished] == c.Seq
	held := next && s.delivery == c.Delivery
	switch c.Kind {
	case GroupAppended:
		ok = s.appended < len(lane) && lane[s.appended] == c.Seq
		s.appended++
		return s, ok
	case GroupReceived:
		ok = next && s.finished < s.appended && c.To >= s.free && c.Attempt == s.attempts+1
		s.attempts, s.delivery, s.free = c.Attempt, c.Delivery, c.From+c.Lease
		return s, ok
	case GroupDone:
		return s, slices.Index(lane, c.Seq) < s.finished
	case GroupGone:
		if held {
			s.delivery, s.free = 0, 0
		}
		return s, true
	}
	switch {
	case c.Lost && held && c.To >= s.free: // taken from it, and nobody has it yet
		s.delivery, s.free = 0, 0
		return s, true
	case c.Lost || !held:
		return s, c.Lost && !held
	}
	switch c.Kind {
	case GroupFinished:
		s = laneState{appended: s.appended, finished: s.finished + 1}
	case GroupSentBack:
		s.delivery, s.free = 0, 0
		if c.Delay > 0 {
			s.free = c.From + c.Delay
		}
	case GroupExtended:
		// Once the time is over whoever saw that may take it all the same.
		if c.To < s.free {
			s.free = c.From + c.Lease
		}
	}
	return s, true
}
