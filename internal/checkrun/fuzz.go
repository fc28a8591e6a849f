package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

const (
	// fuzzDir holds every fuzz target.
	fuzzDir = "./fuzz"

	// defaultFuzzTime is how long each target runs where finding something new
	// is not the aim, only that the targets still work.
	defaultFuzzTime = 5 * time.Second

	// canary begins the name of a target with a planted bug. It passes when the
	// fuzzer finds the bug: a fuzzer that cannot is no check.
	canary = "FuzzCanary"

	// canaryTime is the least that a canary gets; it ends as soon as the bug is
	// found.
	canaryTime = time.Minute
)

// fuzz runs each target in fuzzDir for the given time.
func (r *report) fuzz(each time.Duration) {
	targets, err := fuzzTargets()
	if err != nil {
		r.fail("fuzz: " + err.Error())
		return
	}
	for _, target := range targets {
		r.step(fmt.Sprintf("fuzz %s for %v", target, each), func() (string, error) { return fuzzOne(target, each) })
	}
}

// fuzzTargets lists the targets.
func fuzzTargets() (targets []string, err error) {
	out, err := exec.Command("go", "test", "-list", "^Fuzz", fuzzDir).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "Fuzz") {
			targets = append(targets, strings.TrimSpace(line))
		}
	}
	if len(targets) == 0 {
		return nil, errors.New("there is no target in " + fuzzDir)
	}
	return targets, nil
}

// fuzzOne runs one target.
func fuzzOne(target string, each time.Duration) (string, error) {
	isCanary := strings.HasPrefix(target, canary)
	if isCanary {
		each = max(each, canaryTime)
		defer forget(target, inputs(target))
	}
	args := []string{"test", "-run", "^$", "-fuzz", "^" + target + "$", "-fuzztime", each.String(), fuzzDir}
	out, err := exec.Command("go", args...).CombinedOutput()
	return string(out), verdict(isCanary, string(out), err)
}

// verdict says what the end of a target means.
func verdict(isCanary bool, output string, err error) error {
	found := strings.Contains(output, "Failing input written to")
	switch {
	case isCanary && found:
		return nil
	case isCanary:
		return errors.New("the fuzzer did not find the planted bug")
	case err != nil && !found && strings.Contains(output, "context deadline exceeded") && !strings.Contains(output, "panic:"):
		// The fuzzer now and then takes the end of its time, reached while an
		// input runs, for a failure of that input.
		return nil
	}
	return err
}

// inputs returns the kept inputs of a target.
func inputs(target string) map[string]bool {
	kept := make(map[string]bool)
	paths, _ := filepath.Glob(filepath.Join(fuzzDir, "testdata", "fuzz", target, "*"))
	for _, path := range paths {
		kept[path] = true
	}
	return kept
}

// forget removes what a canary's run has found: kept, it would fail every
// later go test.
func forget(target string, before map[string]bool) {
	for path := range inputs(target) {
		if !before[path] {
			os.Remove(path)
		}
	}
	os.Remove(filepath.Join(fuzzDir, "testdata", "fuzz", target)) // if that was all
}
