package main

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// benchRows are the things that a bench measures, in its order.
var benchRows = []string{
	"append", "append in batches of 16", "read", "round trip", "round trip asleep",
	"durable, 1 appender", "durable, 8 appenders", "durable, 64 appenders",
}

func TestBenchMeasuresEachThingBesideItsLimit(t *testing.T) {
	dir := t.TempDir()
	var got benchResult
	if err := json.Unmarshal([]byte(must(t, "", "bench", dir, "--time", "5ms", "--bytes", "64", "-o", "json")), &got); err != nil {
		t.Fatal(err)
	}
	if got.Dir != dir || got.Bytes != 64 || len(got.Rows) != len(benchRows) {
		t.Fatalf("got %+v, want %d rows about 64 bytes in %s", got, len(benchRows), dir)
	}
	for i, r := range got.Rows {
		if r.Name != benchRows[i] || r.LimitName == "" || !positive(r.Value) || !positive(r.Limit) || !positive(r.TimesLimit) {
			t.Errorf("got %+v, want figures of %q and of a limit", r, benchRows[i])
		}
		want := r.Value / r.Limit
		if r.Unit == perSecond {
			want = r.Limit / r.Value
		}
		if math.Abs(r.TimesLimit-want) > want/1e6 {
			t.Errorf("%s: got %v times the limit's cost, want %v", r.Name, r.TimesLimit, want)
		}
		if single := strings.HasPrefix(r.Name, "round trip"); single != (r.P99 > 0) || single && r.P99 < r.Value {
			t.Errorf("%s: got a p99 of %v beside a median of %v", r.Name, r.P99, r.Value)
		}
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v, want nothing", left, err)
	}
}

func positive(v float64) bool { return v > 0 && !math.IsInf(v, 0) }

func TestBenchPrintsATable(t *testing.T) {
	out := must(t, "", "bench", t.TempDir(), "--time", "2ms")
	for _, name := range benchRows {
		if !strings.Contains(out, "\n"+name+" ") {
			t.Errorf("no line about %q in\n%s", name, out)
		}
	}
}

func TestBenchRefusesWhatItCannotMeasure(t *testing.T) {
	for _, args := range [][]string{
		{"--bytes", "0"}, {"--bytes", "65537"}, {"--time", "0s"}, {"--time", "61s"}, {"a", "b"}, {""},
	} {
		if r := call(t, "", append([]string{"bench"}, args...)...); r.code != exitUsage || r.out != "" {
			t.Errorf("bench %q: got exit %d and %q, want exit %d and nothing", args, r.code, r.out, exitUsage)
		}
	}
	missing := filepath.Join(t.TempDir(), "missing")
	if r := call(t, "", "bench", missing); r.code != exitError || !strings.Contains(r.talk, missing) {
		t.Errorf("a missing directory: got exit %d and %q, want exit %d and its name", r.code, r.talk, exitError)
	}
}

func TestAFigureIsWrittenInTheUnitInWhichItReadsWell(t *testing.T) {
	for want, got := range map[string]string{
		"1.5 ns":   amount(1.5, "ns"),
		"150 ns":   amount(150, "ns"),
		"15.0 µs":  amount(15e3, "ns"),
		"1.5 ms":   amount(1.5e6, "ns"),
		"150 /s":   amount(150, perSecond),
		"15.0 k/s": amount(15e3, perSecond),
		"1.50 M/s": amount(1.5e6, perSecond),
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
