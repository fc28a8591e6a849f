// Checkrun runs walq's checks and counts them.
//
//	go run ./internal/checkrun check             all that CI runs
//	go run ./internal/checkrun test ARGS...      go test ARGS..., quiet and counted
//	go run ./internal/checkrun fuzz [T]          each fuzz target for T (default 3s)
//
// It prints failures in full, one line for each package, tests that took long,
// every test that was skipped with its reason, and at the very end
//
//	N passed, N failed, N skipped
//
// where a step without tests, such as go vet for one system, counts as one. The
// exit status is 1 if anything failed, if no test ran, or if WALQ_STRICT=1 and
// anything was skipped; 2 if it was called wrongly.
//
// It needs the go command and nothing else; the Makefile only gives its
// commands shorter names.
package main

import (
	"fmt"
	"io"
	"os"
	"time"
)

const usage = `usage: checkrun check | test [ARGS of go test] | fuzz [T]
`

func main() {
	r := &report{out: os.Stdout, strict: os.Getenv("WALQ_STRICT") == "1"}
	if !dispatch(r, os.Args[1:], os.Stderr) {
		os.Exit(2)
	}
	if !r.close() {
		os.Exit(1)
	}
}

// dispatch does what the arguments ask for and returns false if they ask for
// nothing that there is.
func dispatch(r *report, args []string, stderr io.Writer) bool {
	switch {
	case len(args) == 1 && args[0] == "check":
		check(r)
	case len(args) >= 1 && args[0] == "test":
		r.goTest(args[1:]...)
	case len(args) == 1 && args[0] == "fuzz":
		r.fuzz(defaultFuzzTime)
	case len(args) == 2 && args[0] == "fuzz":
		each, err := time.ParseDuration(args[1])
		if err != nil {
			fmt.Fprintf(stderr, "checkrun: %v\n", err)
			return false
		}
		r.fuzz(each)
	default:
		fmt.Fprint(stderr, usage)
		return false
	}
	return true
}
