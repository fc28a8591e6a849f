package history

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

const patience = 30 * time.Second

// goodList is the good history without what the list has no word for.
func goodList() string { return strings.ReplaceAll(good, "durable", "") }

func TestALinearHistoryIsAccepted(t *testing.T) {
	logs, final := play(t, goodList())
	if err := Linear(logs, final, patience); err != nil {
		t.Error(err)
	}
}

func TestHistoriesThatNoOrderExplainsAreRejected(t *testing.T) {
	for _, c := range []struct{ rule, replace, with string }{
		{"what was acknowledged is missing at the end", " a2=6", ""},
		{"a message under two numbers", "a4=9", "a4=9 a1=10"},
		{"what was refused is there", "a4=9", "a4=9 a3=10"},
		{"what nobody appended is there", "a4=9", "a4=9 x=10"},
		{"an append behind one that returned got a lower number", "c 42- append c1", "c 72-73 append c1 = 5"},
		{"a number twice", "a 25-40 append a2 = 6", "a 25-40 append a2 = 4"},
		{"a reader passes over a message", "r 34-35 got b3 = 4 limit 4\n", "\n"},
		{"a reader goes back", "r 34-35 got b3 = 4", "r 34-35 got b1 = 2"},
		{"readers see two orders", "s 41-42 got a2 = 6", "s 41-42 got b4 = 6"},
		{"half a batch", " b5=8", ""},
		{"the other half", " b4=7", ""},
		{"a batch that somebody came between", "b4=7 b5=8 a4=9", "b4=7 a4=9 b5=10"},
		{"read before it was appended", "b 41- append b4 b5", "b 56- append b4 b5"},
		{"seen under another number than acknowledged", "n 71-72 got a4 = 9", "n 71-72 got a4 = 10"},
	} {
		t.Run(c.rule, func(t *testing.T) {
			if strings.Count(goodList(), c.replace) != 1 {
				t.Fatalf("%q occurs %d times, want once", c.replace, strings.Count(goodList(), c.replace))
			}
			logs, final := play(t, strings.Replace(goodList(), c.replace, c.with, 1))
			if err := Linear(logs, final, patience); err == nil || !strings.Contains(err.Error(), "no order") {
				t.Errorf("got %v, want that no order explains it", err)
			}
		})
	}
}

func TestATrimmedHistoryHasNoLinearModel(t *testing.T) {
	logs, final := play(t, "r 1 start 0\nr 2 gap 1 3\nfirst 3\n")
	if err := Linear(logs, final, patience); err != errTrimmed {
		t.Errorf("got %v, want %v", err, errTrimmed)
	}
}

// The search must end in time for histories as long as those that it is for.
func TestALongHistoryIsJudgedInTime(t *testing.T) {
	var script strings.Builder
	var final []string
	const calls = 2000
	seq := 0
	for i := 0; i < calls/4; i++ { // three writers at once, the last of which is killed, and a reader
		at := 10 * i
		fmt.Fprintf(&script, "r %d start %d\n", at, seq)
		for w, who := range []string{"c", "b", "a"} {
			seq++
			body := fmt.Sprintf("%s%d", who, i)
			final = append(final, fmt.Sprintf("%s=%d", body, seq))
			if w == 0 && i%20 == 0 {
				fmt.Fprintf(&script, "%s%d %d- append %s\n", who, i, at, body)
			} else {
				fmt.Fprintf(&script, "%s %d-%d append %s = %d\n", who, at, at+9-w, body, seq)
			}
		}
		fmt.Fprintf(&script, "r %d-%d got c%d = %d\n", at+2, at+15, i, seq-2)
	}
	script.WriteString("final " + strings.Join(final, " "))
	logs, last := play(t, script.String())
	if err := Linear(logs, last, patience); err != nil {
		t.Error(err)
	}
	last.Messages[calls/2], last.Messages[calls/2+1] = last.Messages[calls/2+1], last.Messages[calls/2]
	if err := Linear(logs, last, patience); err == nil {
		t.Error("two messages changed places, got no error")
	}
}
