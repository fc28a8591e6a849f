package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// measured is a run of a few works, made up.
func measured() *Report {
	r := &Report{Machine: "here", Settings: "so", Took: 61, Finished: true}
	add := func(work, subject string, ms ...Metric) *Row {
		row := &Row{Work: work, Subject: subject, Where: "disk, ext4", Stats: statsOf(ms)}
		r.Rows = append(r.Rows, row)
		compare(r.Rows[len(r.Rows)-1:])
		return row
	}
	add("sync/100B/1/batch1", "bare", Metric{"", "msgs/s", 6000}).Limit = true
	add("sync/100B/1/batch1", walqName, Metric{"", "msgs/s", 5000})
	add("sync/100B/1/batch1", "etcd-io/bbolt", Metric{"", "msgs/s", 10_000})
	compare(r.Rows)
	add("scale/groups", "1 idle group", Metric{"append", "ns", 100}, Metric{"open", "ms", 2}).Size = true
	add("scale/groups", "1000 idle groups", Metric{"append", "ns", 110}, Metric{"open", "ms", 30}).Size = true
	compare(r.Rows[3:])
	add("floor", "the machine", Metric{"CAS", "ns", 4}).Limit = true
	return r
}

func TestTheTablesOfTheDocumentsComeFromARun(t *testing.T) {
	r := measured()
	for _, want := range []string{
		"| append on stable storage; messages a second; disk, ext4 | 1 appender |",
		"| **walq** | 5,000 |", "| limit | 6,000 |", "| etcd-io/bbolt | 10,000 |",
		"|  | 1 idle group | 1000 idle groups |", "| append | 100 ns | 110 ns × 1.1 |",
		"| floor: CAS | 4 ns | 4 to 4 |",
		"| append on stable storage, alone | 5,000 msgs/s |  | **× 0.5** |  |  | × 0.83 |",
		"here. so; 2 minutes.",
	} {
		if !strings.Contains(r.markdown(), want) {
			t.Errorf("no %q in\n%s", want, r.markdown())
		}
	}
	var table bytes.Buffer
	if err := r.printTable(&table); err != nil {
		t.Fatal(err)
	}
	if want := "more with 1000 idle groups than with 1 idle group: open × 15\n"; !strings.Contains(table.String(), want) {
		t.Errorf("no %q in\n%s", want, table.String())
	}
}

func TestATableIsFilledInBetweenItsMarks(t *testing.T) {
	name := filepath.Join(t.TempDir(), "doc.md")
	const text = "before\n<!-- bench:limits -->\nold\n<!-- bench end -->\nbetween\n<!-- bench:replay -->\nkept\n<!-- bench end -->\nafter\n"
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the marks stay
		if err := measured().fill(name); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Replace(text, "old\n", "| the machine alone | median | range |\n|---|---|---|\n| floor: CAS | 4 ns | 4 to 4 |\n", 1)
	if string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	for _, bad := range []string{"", "<!-- bench:limits -->\nno end", "<!-- bench:nothing -->\n<!-- bench end -->", "<!-- bench:limits -->\n<!-- bench:limits -->\n<!-- bench end -->"} {
		if got, err := measured().filled(bad); err == nil {
			t.Errorf("%q: got %q, want an error", bad, got)
		}
	}
}

// The documents have no mark that the program does not know.
func TestTheMarksOfTheDocumentsAreTablesOfThisProgram(t *testing.T) {
	for _, name := range []string{"../docs/PERFORMANCE.md", "../README.md"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		same, err := new(Report).filled(string(text))
		if err != nil || same != string(text) {
			t.Errorf("%s: a run without figures: got %v and another text, want the same", name, err)
		}
	}
}

func TestNumbersHaveThreeDigitsThatMeanSomething(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 0.0123: "0.012", 4.56: "4.6", 45.6: "46", 456.4: "456", 4564: "4,560", 1234567: "1,230,000", -1234: "-1,230"} {
		if got := number(v); got != want {
			t.Errorf("%v: got %q, want %q", v, got, want)
		}
	}
}

func TestABudgetDecidesHowLongIsMeasured(t *testing.T) {
	o := tiny(t)
	o.Rounds, o.Budget, o.Messages, o.Large, o.Time = 5, time.Hour, 1_000_000, 1_000_000, time.Second
	o.Works = regexp.MustCompile("^append/100B")
	each, err := o.timeWithin(works(o), o.chosen())
	if err != nil || each != mostTime {
		t.Errorf("an hour for a few works: got %v and %v, want %v", each, err, mostTime)
	}
	o.Budget = 2 * time.Second
	if each, err = o.timeWithin(works(o), o.chosen()); err == nil {
		t.Errorf("two seconds for a few works: got %v, want an error", each)
	}
	o.Budget = 3 * time.Minute
	if each, err = o.timeWithin(works(o), o.chosen()); err != nil || each < leastTime || each >= mostTime {
		t.Errorf("three minutes: got %v and %v, want something between", each, err)
	}
	o.Time = each
	whole := time.Duration(0)
	for _, w := range works(o) {
		whole += o.expected(w, o.chosen())
	}
	if off := whole - o.Budget; off.Abs() > 10*time.Second {
		t.Errorf("it is expected to take %v, want the budget of %v", whole, o.Budget)
	}
	for _, w := range works(o) {
		if usual[w.kind()].seconds == 0 {
			t.Errorf("nothing says how long %s takes", w.Name)
		}
	}
}

func TestARunLeavesItsFiguresAfterEachWork(t *testing.T) {
	o := tiny(t)
	o.Works, o.Peers = regexp.MustCompile("^(floor|pages)$"), regexp.MustCompile("^none$")
	o.Out = filepath.Join(t.TempDir(), "made", "run")
	seen := 0
	o.talk = func(string, ...any) {
		if r, err := readReport(o.Out + ".json"); err == nil && !r.Finished {
			seen = len(r.Rows) // when the second work is told of, the first is kept
		}
	}
	r, err := measure(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if seen != 1 {
		t.Errorf("kept when the last work was told of: %d works, want the 1 before", seen)
	}
	if back, err := readReport(o.Out + ".json"); err != nil || !back.Finished || len(back.Rows) != 2 {
		t.Errorf("got %v and %v, want a finished run of 2 works", back, err)
	}
	if err := (&output{out: o.Out}).write(r); err != nil {
		t.Fatal(err)
	}
	for _, end := range []string{".json", ".md"} {
		if _, err := os.Stat(o.Out + end); err != nil {
			t.Error(err)
		}
	}
}
