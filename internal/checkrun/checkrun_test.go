package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// write makes files below the working directory.
func write(t *testing.T, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.FromSlash(name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// testFile is a file of tests in package p.
func testFile(body string) string {
	return "package p\n\nimport (\n\t\"os\"\n\t\"testing\"\n)\n\nvar _ = os.Exit\n\n" + body
}

// suite has a package for each way in which a test can end.
var suite = map[string]string{
	"go.mod":         "module example.com/m\n\ngo 1.26\n",
	"good/p_test.go": testFile("func TestGood(t *testing.T) { t.Log(\"chatter\"); t.Run(\"part\", func(t *testing.T) {}) }\n"),
	"skip/p_test.go": testFile("func TestGood(t *testing.T) {}\nfunc TestSkipped(t *testing.T) { t.Skip(\"no loop device\") }\n"),
	"only/p_test.go": testFile("func TestSkipped(t *testing.T) { t.Skip(\"no loop device\") }\n"),
	"fail/p_test.go": testFile("func TestBad(t *testing.T) { t.Log(\"the cause\"); t.Run(\"part\", func(t *testing.T) { t.Error(\"got 1, want 2\") }) }\n"),
	"exit/p_test.go": testFile("func TestExits(t *testing.T) { println(\"last words\"); os.Exit(3) }\n"),
	"boom/p_test.go": testFile("func TestPanics(t *testing.T) { panic(\"last words\") }\n"),
	"main/p_test.go": testFile("func TestNever(t *testing.T) {}\nfunc TestMain(m *testing.M) { println(\"last words\"); os.Exit(1) }\n"),
	"mess/p_test.go": testFile("func TestX(t *testing.T) { undefined() }\n"),
	"none/p_test.go": testFile("func helper(*testing.T) {}\n"),
}

func TestEveryEndOfATestIsCountedAndShown(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, suite)
	for _, c := range []struct {
		args        string
		strict, ok  bool
		closing     string
		shown, kept string // what must and must not be in the output
	}{
		{args: "./good", ok: true, closing: "2 passed, 0 failed, 0 skipped", shown: "ok  \texample.com/m/good", kept: "chatter"},
		{args: "./skip", ok: true, closing: "1 passed, 0 failed, 1 skipped", shown: "TestSkipped: p_test.go:11: no loop device"},
		{args: "./skip", strict: true, closing: "1 passed, 0 failed, 1 skipped", shown: "allows no skip"},
		{args: "./only", closing: "0 passed, 1 failed, 1 skipped", shown: "no test ran"},
		{args: "./fail", closing: "0 passed, 2 failed, 0 skipped", shown: "p_test.go:10: got 1, want 2"},
		{args: "./fail", closing: "0 passed, 2 failed, 0 skipped", shown: "the cause"},
		{args: "./exit", closing: "0 passed, 1 failed, 0 skipped", shown: "last words"},
		{args: "./boom", closing: "0 passed, 1 failed, 0 skipped", shown: "last words"},
		{args: "./main", closing: "0 passed, 1 failed, 0 skipped", shown: "last words"},
		{args: "./mess", closing: "0 passed, 1 failed, 0 skipped", shown: "undefined: undefined"},
		{args: "./none", closing: "0 passed, 1 failed, 0 skipped", shown: "no test ran"},
		{args: "./gone", closing: "0 passed, 1 failed, 0 skipped", shown: "gone"},
		{args: "-run=TestOther ./good", closing: "0 passed, 1 failed, 0 skipped", shown: "no test ran"},
		{args: "./good ./fail ./skip", closing: "3 passed, 2 failed, 1 skipped", shown: "example.com/m/fail TestBad/part"},
	} {
		t.Run(c.args, func(t *testing.T) {
			var out bytes.Buffer
			r := &report{out: &out, strict: c.strict}
			r.goTest(strings.Fields(c.args)...)
			if ok := r.close(); ok != c.ok {
				t.Errorf("all well: got %v, want %v", ok, c.ok)
			}
			if !strings.HasSuffix(out.String(), "\n"+c.closing+"\n") {
				t.Errorf("it does not end with %q", c.closing)
			}
			if !strings.Contains(out.String(), c.shown) {
				t.Errorf("it does not show %q", c.shown)
			}
			if c.kept != "" && strings.Contains(out.String(), c.kept) {
				t.Errorf("it shows %q", c.kept)
			}
			if t.Failed() {
				t.Logf("output:\n%s", &out)
			}
		})
	}
}

func TestASlowTestIsNamedAndOtherOutputPassedOn(t *testing.T) {
	var out bytes.Buffer
	s := newStream(&report{out: &out}, "go test")
	s.read(strings.NewReader(`{"Action":"pass","Package":"p","Test":"TestLong","Elapsed":7.25}
not an event
{"Action":"pass","Package":"p","Test":"TestLong/part","Elapsed":7.25}
{"Action":"pass","Package":"p","Test":"TestShort","Elapsed":0.1}`))
	if got, want := out.String(), "slow  p TestLong (7.2s)\nnot an event\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if s.passed != 3 {
		t.Errorf("passed: got %d, want 3", s.passed)
	}
}

func TestTheSameSkipIsListedOnceAndCountedEachTime(t *testing.T) {
	var out bytes.Buffer
	r := &report{out: &out, passed: 1}
	r.skip("p TestX", "no loop device")
	r.skip("p TestX", "no loop device")
	if !r.close() {
		t.Error("a skip failed the run")
	}
	want := "\nskipped:\n  p TestX: no loop device (2 times)\n\n1 passed, 0 failed, 2 skipped\n"
	if got := out.String(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAStepShowsItsOutputOnlyIfItFails(t *testing.T) {
	var out bytes.Buffer
	r := &report{out: &out}
	r.step("good", func() (string, error) { return "chatter", nil })
	r.step("bad", func() (string, error) { return "the cause", errors.New("exit status 1") })
	if got := out.String(); strings.Contains(got, "chatter") || !strings.Contains(got, "the cause\nFAIL  bad: exit status 1\n") {
		t.Errorf("got %q", got)
	}
	if r.passed != 1 || r.failed != 1 {
		t.Errorf("%d passed, %d failed; want 1 and 1", r.passed, r.failed)
	}
}

func TestFormattedNamesEachFile(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, map[string]string{
		"good.go":         "package p\n",
		"testdata/bad.go": "package  p\n",
	})
	if out, err := formatted(); err != nil || out != "" {
		t.Errorf("a formatted tree: got %q, %v", out, err)
	}
	write(t, map[string]string{"a/bad.go": "package  p\n", "a/worse.go": "package"})
	out, err := formatted()
	if err == nil || !strings.Contains(out, filepath.Join("a", "bad.go")) || !strings.Contains(out, filepath.Join("a", "worse.go")) {
		t.Errorf("got %q, %v; want both files of a", out, err)
	}
}

func TestEveryFuzzTargetIsFound(t *testing.T) {
	t.Chdir(t.TempDir())
	fuzz := func(pkg, name string) string {
		return "package " + pkg + "\n\nimport \"testing\"\n\nfunc " + name + "(f *testing.F) {}\n"
	}
	write(t, map[string]string{
		"go.mod":           "module example.com/m\n\ngo 1.26\n",
		"top_test.go":      fuzz("m_test", "FuzzTop"),
		"a/a_test.go":      fuzz("a", "FuzzOne"),
		"a/more_test.go":   fuzz("a", "FuzzTwo"),
		"a/b/c_test.go":    fuzz("b_test", "FuzzBelow"),
		"tag/tag_test.go":  "//go:build no_such_tag\n\n" + fuzz("tag", "FuzzElsewhere"),
		"tag/test_test.go": testFile("func TestNoFuzz(t *testing.T) {}\n"),
	})
	targets, err := fuzzTargets()
	if err != nil {
		t.Fatal(err)
	}
	want := []target{{".", "FuzzTop"}, {"./a", "FuzzOne"}, {"./a", "FuzzTwo"}, {"./a/b", "FuzzBelow"}}
	if !slices.Equal(targets, want) {
		t.Errorf("got %v, want %v", targets, want)
	}
	t.Chdir("tag")
	if targets, err := fuzzTargets(); err == nil {
		t.Errorf("where there is none: got %v and no error", targets)
	}
}

func TestVerdictOfAFuzzTarget(t *testing.T) {
	failed := errors.New("exit status 1")
	const found = "--- FAIL: FuzzX\n    Failing input written to testdata/fuzz/FuzzX/1\n"
	for _, c := range []struct {
		name     string
		isCanary bool
		output   string
		err      error
		ok       bool
	}{
		{"nothing found", false, "ok", nil, true},
		{"a bug found", false, found, failed, false},
		{"it does not compile", false, "[build failed]", failed, false},
		{"a bug found as the time ends", false, found + "context deadline exceeded", failed, false},
		{"only the time ends", false, "--- FAIL: FuzzX (5.00s)\n    context deadline exceeded\n", failed, true},
		{"the planted bug found", true, found, failed, true},
		{"the planted bug not found", true, "ok", nil, false},
		{"the canary does not compile", true, "[build failed]", failed, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := verdict(c.isCanary, c.output, c.err); (err == nil) != c.ok {
				t.Errorf("got %v, want ok %v", err, c.ok)
			}
		})
	}
}

func TestACanaryLeavesNoInputBehind(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, map[string]string{"fuzz/testdata/fuzz/FuzzCanary/kept": ""})
	canary := target{"fuzz", "FuzzCanary"}
	before := canary.inputs()
	write(t, map[string]string{"fuzz/testdata/fuzz/FuzzCanary/found": ""})
	canary.forget(before)
	if after := canary.inputs(); len(after) != 1 || len(before) != 1 {
		t.Errorf("inputs before %v, after %v; want the kept one", before, after)
	}
}

func TestAWrongCallIsRefused(t *testing.T) {
	for _, args := range [][]string{nil, {"chekc"}, {"check", "all"}, {"fuzz", "long"}, {"fuzz", "1s", "2s"}} {
		var stderr bytes.Buffer
		r := &report{out: new(bytes.Buffer)}
		if dispatch(r, args, &stderr) || stderr.Len() == 0 {
			t.Errorf("%q was accepted, or refused without a word", args)
		}
	}
}
