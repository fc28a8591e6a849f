package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// slow is the time from which a test is worth a line.
const slow = 5 * time.Second

// goTest runs go test with the given arguments.
func (r *report) goTest(args ...string) {
	name := strings.Join(append([]string{"go test"}, args...), " ")
	start := time.Now()
	fmt.Fprintf(r.out, "      %s\n", name)
	cmd := exec.Command("go", append([]string{"test", "-json"}, args...)...)
	cmd.Stderr = os.Stderr
	events, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		r.fail(fmt.Sprintf("%s: %v", name, err))
		return
	}
	s := newStream(r, name)
	s.read(events)
	s.end(cmd.Wait(), start)
}

// An event is one line of go test -json; `go doc test2json` has its meaning.
type event struct {
	Action  string
	Package string
	Test    string
	Elapsed float64 // seconds
	Output  string
}

// A test is one of a stream: a test of a package, or with an empty name what
// the package says outside of its tests.
type test struct{ pkg, name string }

// A stream follows one run of go test.
type stream struct {
	report  *report
	name    string                    // of the run
	running map[test]*strings.Builder // the output so far
	broken  map[string]bool           // packages in which a test has failed

	passed, failed, skipped int
}

func newStream(r *report, name string) *stream {
	return &stream{
		report:  r,
		name:    name,
		running: make(map[test]*strings.Builder),
		broken:  make(map[string]bool),
	}
}

// read takes all events. A line that is none is passed on.
func (s *stream) read(events io.Reader) {
	lines := bufio.NewReader(events)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) == nil && e.Action != "" {
				s.take(e)
			} else {
				s.report.out.Write(line)
			}
		}
		if err != nil {
			return
		}
	}
}

// take counts one event, keeps output until it is known whether the test
// fails, and shows it if it does.
func (s *stream) take(e event) {
	id := test{e.Package, e.Test}
	switch e.Action {
	case "build-output":
		fmt.Fprint(s.report.out, e.Output)
	case "output":
		if s.running[id] == nil {
			s.running[id] = new(strings.Builder)
		}
		s.running[id].WriteString(e.Output)
	case "pass", "fail", "skip":
		if e.Test == "" {
			s.endPackage(e)
		} else {
			s.endTest(id, e)
		}
		delete(s.running, id)
	}
}

// fail counts a failure. The same test runs more than once in a check, so the
// line says in which run it was.
func (s *stream) fail(what string) {
	s.failed++
	s.report.fail(fmt.Sprintf("%s (%s)", what, s.name))
}

// output returns what a running test has printed so far.
func (s *stream) output(id test) string {
	if b := s.running[id]; b != nil {
		return b.String()
	}
	return ""
}

func (s *stream) endTest(id test, e event) {
	name := id.pkg + " " + id.name
	switch e.Action {
	case "pass":
		s.passed++
		s.report.passed++
	case "skip":
		s.skipped++
		s.report.skip(name, reason(s.output(id)))
	case "fail":
		s.broken[id.pkg] = true
		fmt.Fprint(s.report.out, s.output(id))
		s.fail(name)
	}
	if took := time.Duration(e.Elapsed * float64(time.Second)); took >= slow && !strings.Contains(id.name, "/") {
		fmt.Fprintf(s.report.out, "slow  %s (%.1fs)\n", name, took.Seconds())
	}
}

func (s *stream) endPackage(e event) {
	output := s.output(test{pkg: e.Package})
	if e.Action != "fail" {
		for line := range strings.Lines(output) {
			if strings.HasPrefix(line, "ok  \t") {
				fmt.Fprint(s.report.out, line)
			}
		}
		return
	}
	// A test that was still running when its process died has no event of its
	// own; what it said may be all there is to see.
	for id := range s.running {
		if id.pkg == e.Package && id.name != "" {
			fmt.Fprint(s.report.out, s.output(id))
			delete(s.running, id)
		}
	}
	fmt.Fprint(s.report.out, output)
	if !s.broken[e.Package] { // it did not compile, exited, or died in TestMain
		s.fail(e.Package)
	}
}

// end tells what became of the run. That go test itself fails, or has run
// nothing, is a failure even if no test is.
func (s *stream) end(err error, start time.Time) {
	switch {
	case err != nil && s.failed == 0:
		s.report.fail(fmt.Sprintf("%s: %v", s.name, err))
	case s.passed+s.failed == 0:
		s.report.fail(fmt.Sprintf("%s: no test ran (%d skipped)", s.name, s.skipped))
	case s.failed == 0:
		s.report.done(s.name, start)
	}
}

// reason returns what a skipped test gave as its reason.
func reason(output string) string {
	var said []string
	for line := range strings.Lines(output) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "=== ") && !strings.HasPrefix(line, "--- ") {
			said = append(said, line)
		}
	}
	if len(said) == 0 {
		return "no reason given"
	}
	return strings.Join(said, " ")
}
