package history

import (
	"strings"
	"testing"
)

func TestAGoodHistoryIsAccepted(t *testing.T) {
	logs, final := play(t, good)
	for _, wrong := range Check(logs, final) {
		t.Error(wrong)
	}
}

// What was trimmed counts as long as somebody knows of it, and need not be there.
func TestAGoodHistoryThatWasTrimmedIsAccepted(t *testing.T) {
	logs, final := play(t, good+`
		o 80 start 0
		o 81-82 got b4 = 7
		o 83-84 got b5 = 8
		g 40 start 1
		g 80 gap 2 7
		g 81-82 got b4 = 7
		p 44- append lost
		first 7
	`)
	final.Messages = final.Messages[5:]
	for _, wrong := range Check(logs, final) {
		t.Error(wrong)
	}
}

func TestEachRuleHasAHistoryThatBreaksIt(t *testing.T) {
	for _, c := range []struct {
		rule    string
		replace string // this in the good history ...
		with    string // ... by this
		want    string
	}{
		{"an append that returned is there", " b3=4", "", "returned, and its message 4"},
		{"under its number", "a4 = 9\n\tr", "a4 = 10\n\tr", `"a4" is there as 10, and also as 9`},
		{"with its body", "final a1=1", "final aX=1", `number 1 is "a1", and it was given to "aX"`},
		{"once", "a4=9", "a4=9 a1=10", `"a1" is there as 10, and also as 1`},
		{"one that was killed is there once at most", "a4=9", "a4=9 c1=10 c1=11", `"c1" is there as 11, and also as 10`},
		{"one that was refused is not there", "a4=9", "a4=9 a3=10", "a append 5 was refused"},
		{"nor was it ever seen", "n 71-72", "n 68-69 got a3 = 10\n\tn 71-72", "a append 5 was refused"},
		{"a batch that was killed is there whole", " b5=8", "", `part of it was seen, and its message 8, "b5", is not there`},
		{"a batch's numbers follow on one another", "b4=7 b5=8 a4=9", "b4=7 a4=9 b5=10", "do not follow on one another"},
		{"a batch is trimmed whole", "final", "first 3\n\tfinal", "of the batch 2 to 4 what lies below 3 was trimmed"},
		{"no number is given to two", "a 25-40 append a2 = 6", "a 25-40 append a2 = 4", `number 4 is "a2", and it was given to "b3"`},
		{"two readers see the same under a number", "s 41-42 got a2 = 6", "s 41-42 got c1 = 6", `number 6 is "c1", and it was given to "a2"`},
		{"nothing is there that nobody appended", "a4=9", "a4=9 x=10", `number 10 is "x", which nobody appended`},
		{"nor seen", "n 71-72", "n 68-69 got x = 10\n\tn 71-72", `number 10 is "x", which nobody appended`},
		{"the last reading ascends", "b4=7 b5=8", "b5=8 b4=7", "number 7 comes behind 8"},
		{"nothing below the oldest is there", "final", "first 2\n\tfinal", "number 1 is there, below the oldest, 2"},
		{"what returned before another was called is lower", "c 42- append c1", "c 72-73 append c1 = 5", "called after 9 was in: a append 7 returned"},
		{"what was read before another was called is lower", "b 41- append b4 b5\n\tc 42- append c1", "b 41- append b4 b5\n\tc 56-58 append c1 = 5", "was called after 8 was in: n reader 0 had got it"},
		{"and so of one that was killed", "b 41- append b4 b5", "b 90- append b4 b5", "got number 7, and was called after 9 was in"},
		{"nothing is read before it is appended", "b 41- append b4 b5", "b 56- append b4 b5", "number 7 was read before its append was called"},
		{"a reader's numbers ascend", "r 34-35 got b3 = 4", "r 34-35 got b1 = 2", "r reader 0 got 2 behind 3"},
		{"and begin where it was told", "s 40 start 4", "s 40 start 6", "s reader 0 got 6 behind 6"},
		{"a reader misses nothing", "r 34-35 got b3 = 4 limit 4\n", "\n", `r reader 0 got 6 next to 3 and missed 4, "b3"`},
		{"not at its beginning", "s 40 start 4", "s 40 start 3", `s reader 0 got 6 next to 3 and missed 4`},
		{"not at the oldest", "r 5-21 got a1 = 1 limit 1\n", "\n", `missed 1, "a1"`},
		{"not beside a gap", "s 41-42 got a2 = 6", "s 41 gap 7 7", `s reader 0 got 7 next to 4 and missed 6`},
		{"what a reader saw stays", "a 61-70 append a4 = 9", "q 61- append q\n\tm 62 start any\n\tm 65-66 got q = 11\n\ta 61-70 append a4 = 9", `m reader 0 got 11, "q", which is not there at the end`},
		{"a gap is of what was trimmed", "n 71-72", "n 71 gap 8 9\n\tn 71-72", "was told that 8 to 8 were trimmed, and the oldest is 1"},
		{"and not of what a reader has behind it", "s 43-55", "s 43 gap 5 6\n\ts 43-55", "stood behind 6 and was told that 5 was trimmed"},
		{"a durable reader sees no more than what is durable", "b2 = 3 limit 4", "b2 = 3 limit 2", "reads what is durable and got 3, when only what is up to 2 was"},
		{"a history that reuses a body cannot be judged", "append a2 = 6", "append a1 = 6", "this history cannot be judged"},
	} {
		t.Run(c.rule, func(t *testing.T) {
			if strings.Count(good, c.replace) != 1 {
				t.Fatalf("%q occurs %d times, want once", c.replace, strings.Count(good, c.replace))
			}
			logs, final := play(t, strings.Replace(good, c.replace, c.with, 1))
			wrong := Check(logs, final) // may complain of consequences too
			if !strings.Contains(strings.Join(wrong, "\n"), c.want) {
				t.Errorf("got %q, want %q", wrong, c.want)
			}
		})
	}
}

func TestAReturnWithoutACallIsFound(t *testing.T) {
	logs := []Log{{Name: "a", Events: []Event{{Kind: Acked, Op: 1, Seq: 1}}}}
	if wrong := Check(logs, Final{First: 1}); len(wrong) != 1 {
		t.Errorf("got %q, want one complaint", wrong)
	}
}
