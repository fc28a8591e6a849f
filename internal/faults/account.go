package faults

import (
	"fmt"

	"github.com/walq/walq"
)

// An Account knows what everybody was promised on one queue.
type Account struct {
	putters []*record
	bodies  map[uint64]string // of every number that was acknowledged or seen
	kept    map[uint64]bool   // numbers of messages that somebody saw as durable
}

// A record is what a putter that ended was promised.
type record struct {
	name string
	acks []uint64
	safe int // so many of them no power cut can take
}

// Add enters what a putter was promised, once it has ended. No power cut may take
// the first safe ones of its acknowledgements.
func (a *Account) Add(p *Putter, safe int) { a.add(p.Name, p.Acks(), safe) }

func (a *Account) add(name string, acks []uint64, safe int) {
	a.putters = append(a.putters, &record{name, acks, safe})
	for i, seq := range acks {
		a.See(seq, Line(name, i+1))
	}
}

// See enters that a message was seen under a number.
func (a *Account) See(seq uint64, body string) (wrong string) {
	if a.bodies == nil {
		a.bodies = map[uint64]string{}
	}
	if before, ok := a.bodies[seq]; ok && before != body {
		return fmt.Sprintf("number %d was given to %.30q and to %.30q", seq, before, body)
	}
	a.bodies[seq] = body
	return ""
}

// SeeDurable enters that a message was seen, and that no power cut can take it.
func (a *Account) SeeDurable(seq uint64, body string) (wrong string) {
	if a.kept == nil {
		a.kept = map[uint64]bool{}
	}
	a.kept[seq] = true
	return a.See(seq, body)
}

// Highest is the highest number that anybody got to know.
func (a *Account) Highest() (highest uint64) {
	for seq := range a.bodies {
		highest = max(highest, seq)
	}
	return highest
}

// A place is where a line was found.
type place struct {
	n   int
	seq uint64
}

// Check compares the account with all messages of the queue, whose oldest kept
// number is first, and returns what is wrong. powerCut says that the power was
// cut since: then what was not safe from that may be gone.
func (a *Account) Check(all []walq.Message, first uint64, powerCut bool) (wrong []string) {
	lines, wrong := a.sort(all)
	for _, p := range a.putters {
		due := len(p.acks)
		if powerCut {
			due = p.safe
		}
		wrong = append(wrong, p.check(lines[p.name], first, due)...)
		delete(lines, p.name)
	}
	for who := range lines {
		wrong = append(wrong, who+": nobody of that name appended")
	}
	there := map[uint64]bool{}
	for _, m := range all {
		there[uint64(m.Seq)] = true
	}
	for seq := range a.kept {
		if seq >= first && !there[seq] {
			wrong = append(wrong, fmt.Sprintf("number %d was seen as durable and is gone", seq))
		}
	}
	return wrong
}

// sort gives everybody's lines in the order of the queue.
func (a *Account) sort(all []walq.Message) (lines map[string][]place, wrong []string) {
	lines = map[string][]place{}
	last := uint64(0)
	for _, m := range all {
		seq := uint64(m.Seq)
		who, n, err := ParseLine(string(m.Body))
		if err != nil {
			wrong = append(wrong, fmt.Sprintf("message %d: %v", seq, err))
			continue
		}
		if seq <= last {
			wrong = append(wrong, fmt.Sprintf("message %d comes behind %d", seq, last))
		}
		last = seq
		if text := a.See(seq, string(m.Body)); text != "" {
			wrong = append(wrong, text)
		}
		lines[who] = append(lines[who], place{n, seq})
	}
	return lines, wrong
}

// check looks for the lines of a putter. The first due of them must be there, or
// have been trimmed; of what is there nothing is out of order or missing in
// between.
func (p *record) check(there []place, first uint64, due int) (wrong []string) {
	complain := func(format string, args ...any) {
		wrong = append(wrong, p.name+": "+fmt.Sprintf(format, args...))
	}
	n := 0
	for n < due && p.acks[n] < first {
		n++ // trimmed
	}
	if n > 0 && len(there) > 0 && there[0].n <= n {
		complain("line %d was trimmed, and line %d is there", n, there[0].n)
		return wrong
	}
	if first > 1 && len(there) > 0 && n == due {
		n = there[0].n - 1 // all that was promised is trimmed; what came behind it may be too
	}
	for _, l := range there {
		if n++; l.n != n {
			complain("number %d is its line %d, want line %d", l.seq, l.n, n)
			return wrong
		}
		if n <= len(p.acks) && p.acks[n-1] != l.seq {
			complain("line %d was acknowledged as %d and is %d", n, p.acks[n-1], l.seq)
		}
	}
	if n < due {
		complain("%d lines were acknowledged, the last as %d, and only those up to line %d are there", due, p.acks[due-1], n)
	}
	return wrong
}

// Settle makes what is there count as acknowledged and safe, as it is after a
// recovery, and forgets what is not. The account was found right before.
func (a *Account) Settle(all []walq.Message) {
	lines, _ := a.sort(all)
	for _, p := range a.putters {
		there := lines[p.name]
		if len(there) == 0 {
			p.acks = p.acks[:p.safe] // all that is not gone was trimmed
			continue
		}
		n := there[len(there)-1].n
		p.acks = append(p.acks, make([]uint64, max(n-len(p.acks), 0))...)[:n] // 0: trimmed
		for _, l := range there {
			p.acks[l.n-1] = l.seq
		}
		p.safe = len(p.acks)
	}
}
