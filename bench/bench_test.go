package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/walq/walq/internal/testx"
)

func TestMain(m *testing.M) {
	if done, code := childMain(); done {
		os.Exit(code)
	}
	os.Exit(m.Run())
}

// tiny measures next to nothing.
func tiny(t *testing.T) Options {
	return Options{
		Rounds: 1, Time: 3 * time.Millisecond, Messages: 1500, Large: 1500, Room: 2 << 20,
		Dir: t.TempDir(), Memory: t.TempDir(),
		Works: regexp.MustCompile(""), Peers: regexp.MustCompile(""),
		talk: t.Logf,
	}
}

// oneOfEach is the works that differ in more than a number.
var oneOfEach = []string{
	"append/100B/1/batch1", "append/100B/1/batch1000", "append/1024B/8/batch1",
	"latency/100B", "sync/100B/1/batch16", "sync/1024B/8/batch1", "pipeline/100B",
	"replay/100B/warm", "group/100B/1", "group/100B/2", "replay/1024B/cold", "producers/100B/2/batch16",
	"stream/100B/batch1", "roundtrip/spinning", "roundtrip/sleeping",
	"open", "seek/number", "seek/time", "memory", "disk", "floor", "pages",
	"scale/segments", "scale/readers", "scale/groups", "scale/bodies",
}

func TestEveryPeerDoesEveryWorkOrSaysWhyNot(t *testing.T) {
	if testx.Race {
		testx.Skip(t, "several processes cannot share heap memory")
	}
	o := tiny(t)
	e, err := newEnv(o)
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]Work)
	for _, w := range works(o) {
		if _, twice := all[w.Name]; twice {
			t.Errorf("two works are called %q", w.Name)
		}
		all[w.Name] = w
	}
	for _, name := range oneOfEach {
		w, ok := all[name]
		if !ok {
			t.Errorf("there is no work %q", name)
			continue
		}
		t.Run(name, func(t *testing.T) {
			rows, err := e.measureWork(t.Context(), w, peers())
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range rows {
				checkRow(t, r)
			}
		})
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	for _, dir := range []string{o.Dir, o.Memory} {
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v %v, want nothing", left, err)
		}
	}
}

func checkRow(t *testing.T, r *Row) {
	t.Helper()
	switch {
	case r.NotAvailable != "" && (r.Limit || r.Subject == walqName):
		t.Errorf("%s: %s is not available: %s; want figures", r.Work, r.Subject, r.NotAvailable)
	case r.NotAvailable != "":
		return
	case r.Failed != "" || len(r.Stats) == 0:
		t.Errorf("%s: %s: got %q and %d figures, want some", r.Work, r.Subject, r.Failed, len(r.Stats))
	case !r.Limit && r.Durability == "" && strings.HasPrefix(r.Work, "sync"):
		t.Errorf("%s: %s does not say what an append has done", r.Work, r.Subject)
	}
	for _, s := range r.Stats {
		// Memory may be less than before.
		if !(s.Median > 0) && s.Unit != "MiB" {
			t.Errorf("%s: %s: got %v %s %s, want more than nothing", r.Work, r.Subject, s.Median, s.Unit, s.Name)
		}
	}
}

func TestEveryWorkIsOneOfThoseThatAreTried(t *testing.T) {
	kinds := make(map[string]bool)
	for _, name := range oneOfEach {
		kinds[Work{Name: name}.kind()] = true
	}
	for _, w := range works(tiny(t)) {
		if !kinds[w.kind()] {
			t.Errorf("no test tries a work of the kind of %q", w.Name)
		}
		if w.About == "" || (w.Limit != nil) != (w.LimitName != "") {
			t.Errorf("%s: about %q, limit %q: want both said", w.Name, w.About, w.LimitName)
		}
	}
}

func TestAReportIsATableJSONAndAChart(t *testing.T) {
	r := &Report{Machine: "here", Rows: []*Row{
		{Work: "append", Subject: "bare", Limit: true, Stats: statsOf([]Metric{{"", "ns", 10}, {"", "ns", 30}, {"", "ns", 20}})},
		{Work: "append", Subject: walqName, Durability: "kernel", Stats: statsOf([]Metric{{"", "ns", 40}})},
		{Work: "append", Subject: "other", Stats: statsOf([]Metric{{"", "ns", 30000}})},
		{Work: "append", Subject: "away", NotAvailable: "not here"},
		{Work: "append", Subject: "bad", Failed: "it broke"},
	}}
	compare(r.Rows)
	var table, text bytes.Buffer
	if err := errors.Join(r.printTable(&table), r.printJSON(&text)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"limit: bare", "20 ns", "10 … 30", "× 2 limit", "× 0.5 walq", "30 µs", "× 750 walq", "× 1500 limit", "not available: not here", "failed: it broke"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("no %q in\n%s", want, table.String())
		}
	}
	var back Report
	if err := json.Unmarshal(text.Bytes(), &back); err != nil || len(back.Rows) != len(r.Rows) || back.Rows[0].Stats[0].Median != 20 {
		t.Errorf("got %v and %s, want the same report", err, text.String())
	}
	if err := r.failure(); err == nil || !strings.Contains(err.Error(), "append with bad") {
		t.Errorf("got %v, want an error about the row that failed", err)
	}
	file := filepath.Join(t.TempDir(), "c.svg")
	if err := r.draw(file); err != nil {
		t.Fatal(err)
	}
	if svg, err := os.ReadFile(file); err != nil || !bytes.Contains(svg, []byte("<svg")) || !bytes.Contains(svg, []byte("other")) {
		t.Errorf("got %v and %d bytes, want an SVG with the subjects", err, len(svg))
	}
}

func TestAChartOfWalqAloneHasAnAxis(t *testing.T) {
	r := &Report{Rows: []*Row{{Work: "append", Subject: walqName, Stats: statsOf([]Metric{{"", "ns", 40}})}}}
	compare(r.Rows)
	if err := r.draw(filepath.Join(t.TempDir(), "c.svg")); err != nil {
		t.Error(err)
	}
}

func TestMoreIsBetterOfRatesOnly(t *testing.T) {
	rate, cost := Stat{Unit: "msgs/s", Median: 50}, Stat{Unit: "ns", Median: 50}
	if got := rate.times([]Stat{{Unit: "msgs/s", Median: 100}}); got != 2 {
		t.Errorf("half the rate: got %v times the cost, want 2", got)
	}
	if got := cost.times([]Stat{{Unit: "ns", Median: 100}}); got != 0.5 {
		t.Errorf("half the time: got %v times the cost, want 0.5", got)
	}
	if got := cost.times([]Stat{{Name: "p99", Unit: "ns", Median: 100}}); got != 0 {
		t.Errorf("of another figure: got %v, want none", got)
	}
}

func TestAProcessThatFailsEndsTheOthers(t *testing.T) {
	if testx.Race {
		testx.Skip(t, "several processes cannot share heap memory")
	}
	dir := t.TempDir()
	e := &Env{Options: tiny(t), root: map[bool]string{false: dir, true: dir}}
	err := e.shared(t.Context(), walqPeer(), Mode{Bytes: 100}, func(at Place) error {
		wait := Job{Role: "consume", Peer: walqName, At: at, Mode: Mode{Bytes: 100}, Producers: 1}
		fail := Job{Role: "produce", Peer: walqName, At: at, Mode: Mode{Bytes: 50}, Batch: 1, Time: time.Millisecond, Room: 1 << 20}
		_, err := together(t.Context(), time.Minute, wait, fail)
		return err
	})
	if err == nil || !strings.Contains(err.Error(), "50 B, want 100") {
		t.Errorf("got %v, want that the consumer got what it did not want", err)
	}
	_, err = together(t.Context(), time.Minute, Job{Role: "nobody"})
	if err == nil || !strings.Contains(err.Error(), `no role "nobody"`) {
		t.Errorf("got %v, want an error about the role", err)
	}
}

func TestBadArgumentsAreErrors(t *testing.T) {
	for _, args := range [][]string{{"-works", "("}, {"-peers", "("}, {"-dir", "/nonexistent", "-touch", "0"}, {"-nothing"}, {"-works", "^none$"}, {"-from", "/nonexistent"}, {"-budget", "1s"}} {
		old := os.Stderr
		null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		os.Stderr = null
		err = run(context.Background(), args)
		os.Stderr = old
		_ = null.Close() // nothing that was written to it is of use
		if err == nil {
			t.Errorf("%q: got no error", args)
		}
	}
	if err := printList(io.Discard, tiny(t)); err != nil {
		t.Error(err)
	}
}
