package history

import (
	"fmt"
	"slices"
)

// Check holds the logs against what a queue promises, and returns what is wrong, or
// nothing:
//
//   - an append that returned is there, once, under its number, with its body; one
//     that never returned is there once at most; one that was refused is not there;
//   - a batch is there whole, its numbers follow on one another, or not at all;
//   - no number is given to two messages, and nothing is there that nobody appended;
//   - an append that returned, or was read, before another one was called has a
//     lower number;
//   - a reader's numbers ascend, it misses nothing in between but what it was told
//     of as trimmed, and what it saw stays;
//   - a reader of durable messages sees none that was not durable.
//
// What was trimmed can be missing at the end, and still counts in all the rest.
func Check(logs []Log, final Final) []string {
	j := &judge{final: final, place: map[string]uint64{}, known: map[uint64]string{}, there: map[uint64]bool{}, by: map[string]*call{}}
	j.gather(logs)
	j.learnFinal()
	j.learnReads(logs)
	for _, c := range j.calls {
		j.checkCall(c)
	}
	j.checkStrangers()
	for seq := range j.known {
		j.numbers = append(j.numbers, seq)
	}
	slices.Sort(j.numbers)
	j.checkOrder(logs)
	for _, l := range logs {
		j.checkReaders(l)
	}
	return j.wrong
}

// A call is one append and what came of it.
type call struct {
	who     string
	bodies  []string
	called  int64
	ended   int64 // when it returned; 0: never
	first   uint64
	acked   bool
	refused bool
}

// A judge knows everything that anybody saw.
type judge struct {
	final   Final
	calls   []*call
	by      map[string]*call  // which append a body is of
	place   map[string]uint64 // under which number a body was seen
	known   map[uint64]string // the reverse
	there   map[uint64]bool   // the numbers that the last reading found
	numbers []uint64          // all that are known, ascending
	wrong   []string
}

// mostWrong bounds what is told: one fault has many consequences.
const mostWrong = 20

func (j *judge) complain(format string, args ...any) {
	if len(j.wrong) < mostWrong {
		j.wrong = append(j.wrong, fmt.Sprintf(format, args...))
	}
}

// gather collects the appends of all logs.
func (j *judge) gather(logs []Log) {
	for _, l := range logs {
		open := map[int]*call{}
		for _, e := range l.Events {
			switch e.Kind {
			case Invoked:
				c := &call{who: fmt.Sprintf("%s append %d", l.Name, e.Op), bodies: e.Bodies, called: e.At}
				open[e.Op] = c
				j.calls = append(j.calls, c)
				for _, b := range e.Bodies {
					if j.by[b] != nil {
						j.complain("%s: %q is appended by %s as well: this history cannot be judged", c.who, b, j.by[b].who)
					}
					j.by[b] = c
				}
			case Acked, Refused:
				c := open[e.Op]
				if c == nil || c.acked || c.refused {
					j.complain("%s: append %d returns and was not called", l.Name, e.Op)
					continue
				}
				c.ended, c.first, c.acked, c.refused = e.At, e.Seq, e.Kind == Acked, e.Kind == Refused
			}
		}
	}
}

// learn enters that a body was seen under a number.
func (j *judge) learn(who string, seq uint64, body string) {
	if other, ok := j.known[seq]; ok && other != body {
		j.complain("%s: number %d is %q, and it was given to %q", who, seq, body, other)
		return
	}
	if other, ok := j.place[body]; ok && other != seq {
		j.complain("%s: %q is there as %d, and also as %d", who, body, seq, other)
		return
	}
	j.known[seq], j.place[body] = body, seq
}

func (j *judge) learnFinal() {
	last := uint64(0)
	for _, m := range j.final.Messages {
		if m.Seq <= last {
			j.complain("the last reading: number %d comes behind %d", m.Seq, last)
		}
		if m.Seq < j.final.First {
			j.complain("the last reading: number %d is there, below the oldest, %d", m.Seq, j.final.First)
		}
		last = m.Seq
		j.there[m.Seq] = true
		j.learn("the last reading", m.Seq, m.Body)
	}
}

func (j *judge) learnReads(logs []Log) {
	for _, l := range logs {
		for _, e := range l.Events {
			if e.Kind == Got {
				j.learn(fmt.Sprintf("%s reader %d", l.Name, e.Op), e.Seq, e.Bodies[0])
			}
		}
	}
	for _, c := range j.calls {
		if c.acked {
			for i, b := range c.bodies {
				j.learn(c.who, c.first+uint64(i), b)
			}
		}
	}
}

// checkCall looks for what an append promised.
func (j *judge) checkCall(c *call) {
	if c.refused {
		for _, b := range c.bodies {
			if seq, ok := j.place[b]; ok {
				j.complain("%s was refused, and %q is there as %d", c.who, b, seq)
			}
		}
		return
	}
	if !c.acked {
		if !j.infer(c) {
			return // it never was
		}
	}
	last := c.first + uint64(len(c.bodies)) - 1
	if c.first < j.final.First && last >= j.final.First {
		j.complain("%s: of the batch %d to %d what lies below %d was trimmed, and the rest was not", c.who, c.first, last, j.final.First)
		return
	}
	for seq := c.first; seq <= last && c.first >= j.final.First; seq++ {
		if !j.there[seq] {
			how := "never returned, but part of it was seen"
			if c.acked {
				how = "returned"
			}
			j.complain("%s %s, and its message %d, %q, is not there", c.who, how, seq, c.bodies[seq-c.first])
		}
	}
}

// infer finds the number of an append that never returned by what others saw of
// it, and reports whether anybody saw any.
func (j *judge) infer(c *call) (seen bool) {
	for i, b := range c.bodies {
		seq, ok := j.place[b]
		if !ok {
			continue
		}
		if first := seq - uint64(i); seen && first != c.first {
			j.complain("%s: the numbers of the batch do not follow on one another: %q is there as %d", c.who, b, seq)
		} else {
			c.first = first
		}
		seen = true
	}
	return seen
}

// checkStrangers finds messages that nobody appended, or that are torn.
func (j *judge) checkStrangers() {
	for body, seq := range j.place {
		if j.by[body] == nil {
			j.complain("number %d is %q, which nobody appended", seq, body)
		}
	}
}
