package history

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// play makes logs of a script, a line for each call:
//
//	a 10-20 append x y = 3     x and y became 3 and 4
//	a 10- append x             it never returned
//	a 10-20 refused x
//	r 5 start 0                a reader from the oldest; 5 start 7: behind 7
//	r 5 start any durable      from anywhere, durable messages only
//	r 30-31 got x = 1 limit 4  up to 4 was durable
//	r 40 gap 1 3               1 and 2 were trimmed
//	first 3                    the oldest number at the end; 1 unless said
//	final x=1 y=2              what is there at the end
func play(t *testing.T, script string) (logs []Log, final Final) {
	t.Helper()
	final.First = 1
	by := map[string]*Log{}
	var names []string
	for line := range strings.Lines(script) {
		f := strings.Fields(line)
		switch {
		case len(f) == 0:
			continue
		case f[0] == "first":
			final.First = number(t, f[1])
			continue
		case f[0] == "final":
			for _, m := range f[1:] {
				body, seq, _ := strings.Cut(m, "=")
				final.Messages = append(final.Messages, Message{number(t, seq), body})
			}
			continue
		}
		l := by[f[0]]
		if l == nil {
			l = &Log{Name: f[0]}
			by[f[0]] = l
			names = append(names, f[0])
		}
		l.Events = append(l.Events, events(t, l, f[1], f[2:])...)
	}
	for _, name := range names {
		logs = append(logs, *by[name])
	}
	return logs, final
}

// events are those of one line of a script.
func events(t *testing.T, l *Log, when string, f []string) []Event {
	t.Helper()
	called, returned, _ := strings.Cut(when, "-")
	from := int64(number(t, called))
	bodies, rest := f[1:], []string(nil)
	if i := slices.Index(f, "="); i >= 0 {
		bodies, rest = f[1:i], f[i+1:]
	}
	op := len(l.Events) + 1
	switch f[0] {
	case "append":
		all := []Event{{Kind: Invoked, At: from, Op: op, Bodies: bodies}}
		if returned != "" {
			all = append(all, Event{Kind: Acked, At: int64(number(t, returned)), Op: op, Seq: number(t, rest[0])})
		}
		return all
	case "refused":
		return []Event{
			{Kind: Invoked, At: from, Op: op, Bodies: bodies},
			{Kind: Refused, At: int64(number(t, returned)), Op: op},
		}
	case "start":
		e := Event{Kind: Started, At: from, Durable: slices.Contains(f, "durable")}
		if e.Anywhere = f[1] == "any"; !e.Anywhere {
			e.Seq = number(t, f[1])
		}
		return []Event{e}
	case "got":
		e := Event{Kind: Got, From: from, At: int64(number(t, returned)), Bodies: bodies, Seq: number(t, rest[0])}
		if len(rest) > 1 {
			e.Limit, e.Durable = number(t, rest[2]), true
		}
		return []Event{e}
	case "gap":
		return []Event{{Kind: Gap, At: from, Seq: number(t, f[1]), To: number(t, f[2])}}
	}
	t.Fatalf("script: %q", f)
	return nil
}

func number(t *testing.T, s string) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatal(fmt.Errorf("script: %w", err))
	}
	return n
}

// good is a history in which everything that a log can tell happens, and nothing is
// wrong: concurrent appends, a batch, one that was killed and is there, one that is
// not, one that was refused, readers from everywhere.
const good = `
	a 10-20 append a1 = 1
	b 10-30 append b1 b2 b3 = 2
	a 25-40 append a2 = 6
	b 41- append b4 b5
	c 42- append c1
	a 50-60 refused a3
	a 61-70 append a4 = 9
	r 5 start 0
	r 5-21 got a1 = 1 limit 1
	r 22-31 got b1 = 2 limit 4
	r 32-33 got b2 = 3 limit 4
	r 34-35 got b3 = 4 limit 4
	r 36-39 got a2 = 6 limit 9
	s 40 start 4
	s 41-42 got a2 = 6
	s 43-55 got b4 = 7
	n 40 start any durable
	n 46-47 got b5 = 8
	n 71-72 got a4 = 9
	final a1=1 b1=2 b2=3 b3=4 a2=6 b4=7 b5=8 a4=9
`
