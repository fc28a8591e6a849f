package faults

import (
	"io"
	"testing"

	"github.com/walq/walq"
)

// The account notices what it is for.
func TestTheAccountCanFail(t *testing.T) {
	m := func(seq uint64, who string, n int) walq.Message {
		return walq.Message{Seq: walq.Seq(seq), Body: []byte(Line(who, n))}
	}
	good := []walq.Message{m(1, "a", 1), m(2, "b", 1), m(3, "a", 2)}
	torn := m(3, "a", 2)
	torn.Body = torn.Body[:len(torn.Body)-1]
	for _, c := range []struct {
		name     string
		safe     int
		acks     []uint64
		all      []walq.Message
		first    uint64
		powerCut bool
		ok       bool
	}{
		{name: "sound", safe: 2, acks: []uint64{1, 3}, all: good, first: 1, ok: true},
		{name: "one more than acknowledged", safe: 1, acks: []uint64{1}, all: good, first: 1, ok: true},
		{name: "lost", safe: 3, acks: []uint64{1, 3, 4}, all: good, first: 1, powerCut: true},
		{name: "lost without a power cut", acks: []uint64{1, 3, 4}, all: good, first: 1},
		{name: "not synced, and lost with the power", acks: []uint64{1, 3, 4}, all: good, first: 1, powerCut: true, ok: true},
		{name: "another number", safe: 2, acks: []uint64{1, 2}, all: good, first: 1},
		{name: "twice", safe: 2, acks: []uint64{1, 3}, all: append(good[:3:3], m(4, "a", 2)), first: 1},
		{name: "a hole", safe: 1, acks: []uint64{1}, all: append(good[:3:3], m(4, "a", 4)), first: 1},
		{name: "torn", safe: 1, acks: []uint64{1}, all: append(good[:2:2], torn), first: 1},
		{name: "out of order", safe: 1, acks: []uint64{1}, all: []walq.Message{m(3, "a", 2), m(1, "a", 1)}, first: 1},
		{name: "trimmed", safe: 2, acks: []uint64{1, 3}, all: good[2:], first: 3, ok: true},
		{name: "all trimmed", safe: 2, acks: []uint64{1, 3}, all: nil, first: 9, ok: true},
		{name: "trimmed further than was acknowledged", safe: 1, acks: []uint64{1}, all: []walq.Message{m(5, "a", 4)}, first: 5, ok: true},
		{name: "lost behind what was trimmed", safe: 3, acks: []uint64{1, 3, 4}, all: good[2:], first: 3},
		{name: "trimmed and there", safe: 2, acks: []uint64{1, 3}, all: good, first: 3},
		{name: "a stranger", safe: 1, acks: []uint64{1}, all: append(good[:3:3], m(4, "c", 1)), first: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			var a Account
			a.add("a", c.acks, c.safe)
			a.add("b", nil, 0)
			if wrong := a.Check(c.all, c.first, c.powerCut); (len(wrong) == 0) != c.ok {
				t.Errorf("got %q, want sound %v", wrong, c.ok)
			}
		})
	}
}

func TestANumberThatIsGivenTwiceIsFound(t *testing.T) {
	var a Account
	a.add("a", []uint64{1, 2}, 0)
	b := walq.Message{Seq: 2, Body: []byte(Line("b", 1))} // in place of what was lost
	a.add("b", nil, 0)
	all := []walq.Message{{Seq: 1, Body: []byte(Line("a", 1))}, b}
	if wrong := a.Check(all, 1, true); len(wrong) != 1 {
		t.Errorf("got %q, want one complaint", wrong)
	}
}

func TestAFeedWaitsForAcknowledgements(t *testing.T) {
	f := newFeed(2, func(n int) string { return Line("a", n) })
	lines := make(chan string)
	go func() {
		defer close(lines)
		b := make([]byte, 1<<20)
		for {
			n, err := f.Read(b)
			if err == io.EOF {
				return
			}
			lines <- string(b[:n])
		}
	}()
	<-lines
	<-lines
	f.acknowledged(1)
	if got, want := <-lines, Line("a", 3)+"\n"; got != want {
		t.Errorf("got %.20q, want %.20q", got, want)
	}
	f.finish(0)
	for line := range lines {
		t.Errorf("got %.20q behind the end", line)
	}
}
