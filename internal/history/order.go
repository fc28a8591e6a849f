package history

import (
	"cmp"
	"fmt"
	"slices"
)

// A fact is that a message was in the queue at a time, at the latest.
type fact struct {
	at  int64
	seq uint64
	who string
}

// checkOrder: what was in before an append was called has a lower number than it.
func (j *judge) checkOrder(logs []Log) {
	var facts []fact
	for _, c := range j.calls {
		if c.acked {
			facts = append(facts, fact{c.ended, c.first + uint64(len(c.bodies)) - 1, c.who + " returned"})
		}
	}
	for _, l := range logs {
		for _, e := range l.Events {
			if e.Kind != Got {
				continue
			}
			who := fmt.Sprintf("%s reader %d had got it", l.Name, e.Op)
			facts = append(facts, fact{e.At, e.Seq, who})
			if c := j.by[e.Bodies[0]]; c != nil && e.At < c.called {
				j.complain("%s: number %d was read before its append was called", c.who, e.Seq)
			}
		}
	}
	slices.SortFunc(facts, func(a, b fact) int { return cmp.Compare(a.at, b.at) })
	calls := slices.Clone(j.calls)
	slices.SortFunc(calls, func(a, b *call) int { return cmp.Compare(a.called, b.called) })
	var highest fact
	next := 0
	for _, c := range calls {
		for ; next < len(facts) && facts[next].at < c.called; next++ {
			if facts[next].seq > highest.seq {
				highest = facts[next]
			}
		}
		if in := c.acked || c.first > 0; in && !c.refused && c.first <= highest.seq {
			j.complain("%s got number %d, and was called after %d was in: %s", c.who, c.first, highest.seq, highest.who)
		}
	}
}

// A cursor is where a reader of a log stands: everything up to last is behind it.
type cursor struct {
	last     uint64
	anywhere bool // it has seen nothing, and nobody knows where it stands
	oldest   bool // it began at the oldest: what was trimmed by then it does not miss
}

// checkReaders goes along with each reader of a log.
func (j *judge) checkReaders(l Log) {
	at := map[int]*cursor{}
	for _, e := range l.Events {
		who := fmt.Sprintf("%s reader %d", l.Name, e.Op)
		c := at[e.Op]
		switch e.Kind {
		case Started:
			at[e.Op] = &cursor{last: e.Seq, anywhere: e.Anywhere, oldest: e.Seq == 0 && !e.Anywhere}
		case Gap:
			j.checkGap(who, c, e)
			*c = cursor{last: e.To - 1}
		case Got:
			j.checkGot(who, c, e)
			*c = cursor{last: e.Seq}
		}
	}
}

func (j *judge) checkGap(who string, c *cursor, e Event) {
	if e.To <= e.Seq || e.To > j.final.First {
		j.complain("%s was told that %d to %d were trimmed, and the oldest is %d", who, e.Seq, int64(e.To)-1, j.final.First)
	}
	if c.anywhere {
		return
	}
	if e.Seq <= c.last {
		j.complain("%s stood behind %d and was told that %d was trimmed", who, c.last, e.Seq)
	}
	j.checkMissed(who, c, e.Seq)
}

func (j *judge) checkGot(who string, c *cursor, e Event) {
	if !c.anywhere && e.Seq <= c.last {
		j.complain("%s got %d behind %d", who, e.Seq, c.last)
	} else {
		j.checkMissed(who, c, e.Seq)
	}
	if e.Seq >= j.final.First && !j.there[e.Seq] {
		j.complain("%s got %d, %q, which is not there at the end", who, e.Seq, e.Bodies[0])
	}
	if e.Durable && e.Limit > 0 && e.Seq > e.Limit {
		j.complain("%s reads what is durable and got %d, when only what is up to %d was", who, e.Seq, e.Limit)
	}
}

// checkMissed: between where a reader stood and the number that it got next there
// is nothing that it could have got.
func (j *judge) checkMissed(who string, c *cursor, got uint64) {
	if c.anywhere {
		return
	}
	from := c.last + 1
	if c.oldest {
		from = max(from, j.final.First)
	}
	i, _ := slices.BinarySearch(j.numbers, from)
	if i < len(j.numbers) && j.numbers[i] < got {
		j.complain("%s got %d next to %d and missed %d, %q", who, got, c.last, j.numbers[i], j.known[j.numbers[i]])
	}
}
