package main

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// A report gathers what became of all steps.
type report struct {
	out    io.Writer
	strict bool // whether a skip is a failure

	passed, failed, skipped int

	failures []string       // one line each
	skips    []string       // what and why, each once
	skipRuns map[string]int // how often each of skips was met
}

// step runs one step that has no tests in it, and shows its output if it fails.
func (r *report) step(name string, run func() (output string, err error)) {
	start := time.Now()
	output, err := run()
	if err != nil {
		fmt.Fprint(r.out, output)
		if output != "" && !strings.HasSuffix(output, "\n") {
			fmt.Fprintln(r.out)
		}
		r.fail(fmt.Sprintf("%s: %v", name, err))
		return
	}
	r.passed++
	r.done(name, start)
}

// done tells that a step has passed.
func (r *report) done(name string, start time.Time) {
	fmt.Fprintf(r.out, "ok    %s (%.1fs)\n", name, time.Since(start).Seconds())
}

// fail counts a failure and tells it.
func (r *report) fail(what string) {
	r.failed++
	r.failures = append(r.failures, what)
	fmt.Fprintf(r.out, "FAIL  %s\n", what)
}

// skip counts something that was skipped.
func (r *report) skip(what, reason string) {
	r.skipped++
	line := what + ": " + reason
	if r.skipRuns == nil {
		r.skipRuns = make(map[string]int)
	}
	if r.skipRuns[line]++; r.skipRuns[line] == 1 {
		r.skips = append(r.skips, line)
	}
}

// close prints the summary and returns whether all is well.
func (r *report) close() bool {
	if len(r.failures) > 0 {
		fmt.Fprintln(r.out, "\nfailed:")
		for _, line := range r.failures {
			fmt.Fprintf(r.out, "  %s\n", line)
		}
	}
	if len(r.skips) > 0 {
		fmt.Fprintln(r.out, "\nskipped:")
		for _, line := range r.skips {
			if n := r.skipRuns[line]; n > 1 {
				line += fmt.Sprintf(" (%d times)", n)
			}
			fmt.Fprintf(r.out, "  %s\n", line)
		}
	}
	fmt.Fprintln(r.out)
	if r.strict && r.skipped > 0 {
		fmt.Fprintln(r.out, "WALQ_STRICT=1 allows no skip")
	}
	fmt.Fprintf(r.out, "%d passed, %d failed, %d skipped\n", r.passed, r.failed, r.skipped)
	return r.failed == 0 && r.passed > 0 && !(r.strict && r.skipped > 0)
}
