package history

import (
	"errors"
	"fmt"
	"hash/maphash"
	"math"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
)

// Linear looks for one order of all appends and reads, in which each lies between
// its call and its return, that a plain append-only list would answer in the same
// way, and returns an error if there is none. The last reading counts as a call
// behind all others, which got the whole list: nothing may be trimmed.
//
// An append whose process was killed returns when somebody first saw its message,
// which is the last moment at which it can have been appended; if nobody did, not
// even the last reading, it was not appended. One that was refused is no call.
//
// Reads that got nothing are no calls either: while an append is under way nobody
// reads past it, so that a reader may get a message later than it could.
func Linear(logs []Log, final Final, limit time.Duration) error {
	ops, err := operations(logs, final)
	if err != nil {
		return err
	}
	switch result := porcupine.CheckOperationsTimeout(list, ops, limit); result {
	case porcupine.Ok:
		return nil
	case porcupine.Illegal:
		return fmt.Errorf("no order of the %d calls explains their answers", len(ops))
	default:
		return fmt.Errorf("%d calls: no answer within %v (%s)", len(ops), limit, result)
	}
}

// An input is what was called.
type input struct {
	append []string // these, as one
	read   bool     // one message behind the number after
	after  uint64
	seek   bool // one message, wherever
	all    bool // everything
}

// An output is what came back.
type output struct {
	seq  uint64    // of the message, or the first of the appended ones; 0: it never returned
	body string    // of the message
	all  []Message // everything
}

// A state is the list, with a hash so that states compare quickly. It never changes.
type state struct {
	list []Message
	hash uint64
}

var hashSeed = maphash.MakeSeed()

func (s state) with(first uint64, bodies []string) state {
	n := state{append(s.list[:len(s.list):len(s.list)], make([]Message, len(bodies))...), s.hash}
	for i, b := range bodies {
		m := Message{first + uint64(i), b}
		n.list[len(s.list)+i] = m
		n.hash = n.hash*1099511628211 + maphash.Comparable(hashSeed, m)
	}
	return n
}

func (s state) last() uint64 {
	if len(s.list) == 0 {
		return 0
	}
	return s.list[len(s.list)-1].Seq
}

// behind is the first message with a number above after.
func (s state) behind(after uint64) (Message, bool) {
	low, high := 0, len(s.list)
	for low < high {
		if mid := (low + high) / 2; s.list[mid].Seq > after {
			high = mid
		} else {
			low = mid + 1
		}
	}
	if low == len(s.list) {
		return Message{}, false
	}
	return s.list[low], true
}

// list is the model: an append-only list whose numbers ascend, read by cursor.
var list = porcupine.Model{
	Init: func() any { return state{} },
	Step: func(at, in, out any) (bool, any) {
		s, ok := step(at.(state), in.(input), out.(output))
		return ok, s
	},
	Equal: func(a, b any) bool {
		return a.(state).hash == b.(state).hash && len(a.(state).list) == len(b.(state).list)
	},
}

// step is the list behind a call, if the list would have answered it so.
func step(s state, in input, out output) (_ state, ok bool) {
	switch {
	case in.append != nil:
		if ok = out.seq > s.last(); ok {
			s = s.with(out.seq, in.append)
		}
	case in.read:
		m, there := s.behind(in.after)
		ok = there && m == Message{out.seq, out.body}
	case in.seek:
		m, there := s.behind(out.seq - 1)
		ok = there && m == Message{out.seq, out.body}
	case in.all:
		ok = slices.Equal(s.list, out.all)
	}
	return s, ok
}

// errTrimmed: the model has no trimming.
var errTrimmed = errors.New("a reader was told of trimmed messages: no short history")

// operations makes calls of the events.
func operations(logs []Log, final Final) (ops []porcupine.Operation, err error) {
	seen := sightings(logs, final)
	for client, l := range logs {
		appends := map[int]int{} // place in ops
		readers := map[int]*cursor{}
		for _, e := range l.Events {
			switch e.Kind {
			case Invoked:
				appends[e.Op] = len(ops)
				ops = append(ops, porcupine.Operation{
					ClientId: client, Input: input{append: e.Bodies}, Call: e.At, Output: output{}, Return: math.MaxInt64,
				})
			case Acked:
				op := &ops[appends[e.Op]]
				op.Output, op.Return = output{seq: e.Seq}, e.At
			case Refused:
				ops[appends[e.Op]].Input = nil
			case Started:
				readers[e.Op] = &cursor{last: e.Seq, anywhere: e.Anywhere}
			case Gap:
				return nil, errTrimmed
			case Got:
				c := readers[e.Op]
				ops = append(ops, porcupine.Operation{
					ClientId: client, Input: input{read: !c.anywhere, seek: c.anywhere, after: c.last}, Call: e.From,
					Output: output{seq: e.Seq, body: e.Bodies[0]}, Return: e.At,
				})
				*c = cursor{last: e.Seq}
			}
		}
	}
	return settle(ops, seen, final), nil
}

// A sighting is where and when a body was first seen.
type sighting struct {
	seq uint64
	at  int64
}

func sightings(logs []Log, final Final) map[string]sighting {
	seen := map[string]sighting{}
	for _, m := range final.Messages {
		seen[m.Body] = sighting{m.Seq, math.MaxInt64 - 1}
	}
	for _, l := range logs {
		for _, e := range l.Events {
			if e.Kind == Got {
				if s, ok := seen[e.Bodies[0]]; !ok || e.At < s.at {
					seen[e.Bodies[0]] = sighting{e.Seq, e.At}
				}
			}
		}
	}
	return seen
}

// settle drops the calls that came to nothing, ends those that never returned, and
// adds the last reading.
func settle(ops []porcupine.Operation, seen map[string]sighting, final Final) []porcupine.Operation {
	kept := ops[:0]
	for _, op := range ops {
		in, called := op.Input.(input)
		if !called {
			continue
		}
		if in.append != nil && op.Output.(output).seq == 0 {
			first, at := inferred(in.append, seen)
			if first == 0 {
				continue // the last reading, which must explain everything, did not see it
			}
			op.Output, op.Return = output{seq: first}, max(at, op.Call)
		}
		kept = append(kept, op)
	}
	return append(kept, porcupine.Operation{
		ClientId: -1, Input: input{all: true}, Call: math.MaxInt64, Output: output{all: final.Messages}, Return: math.MaxInt64,
	})
}

// inferred is the number of the first of the bodies by where one of them was seen,
// and when that was at the earliest; 0 if none was.
func inferred(bodies []string, seen map[string]sighting) (first uint64, at int64) {
	for i, b := range bodies {
		if s, ok := seen[b]; ok && (first == 0 || s.at < at) {
			first, at = s.seq-uint64(i), s.at
		}
	}
	return first, at
}
