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

// fuzzDirs hold the fuzz targets: ./fuzz all of them but those for decoders that
// only their own package can reach.
var fuzzDirs = []string{"./fuzz", "./wal"}

// A target is one fuzz target.
type target struct{ dir, name string }

const (
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

// fuzz runs each target for the given time.
func (r *report) fuzz(each time.Duration) {
	targets, err := fuzzTargets()
	if err != nil {
		r.fail("fuzz: " + err.Error())
		return
	}
	for _, t := range targets {
		r.step(fmt.Sprintf("fuzz %s for %v", t.name, each), func() (string, error) { return fuzzOne(t, each) })
	}
}

// fuzzTargets lists the targets.
func fuzzTargets() (targets []target, err error) {
	for _, dir := range fuzzDirs {
		out, err := exec.Command("go", "test", "-list", "^Fuzz", dir).CombinedOutput()
		if err != nil {
			return nil, fmt.Errorf("%w\n%s", err, out)
		}
		before := len(targets)
		for line := range strings.Lines(string(out)) {
			if strings.HasPrefix(line, "Fuzz") {
				targets = append(targets, target{dir, strings.TrimSpace(line)})
			}
		}
		if len(targets) == before {
			return nil, errors.New("there is no target in " + dir)
		}
	}
	return targets, nil
}

// fuzzOne runs one target.
//
// An input that is new is made smaller by a few tries only: the default of a
// minute leaves a short run no time to look for others.
func fuzzOne(t target, each time.Duration) (string, error) {
	isCanary := strings.HasPrefix(t.name, canary)
	if isCanary {
		each = max(each, canaryTime)
		defer t.forget(t.inputs())
	}
	args := []string{"test", "-run", "^$", "-fuzz", "^" + t.name + "$", "-fuzztime", each.String(), "-fuzzminimizetime", "10x", t.dir}
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

// corpus is where the kept inputs of a target lie.
func (t target) corpus() string { return filepath.Join(t.dir, "testdata", "fuzz", t.name) }

// inputs returns the kept inputs of a target.
func (t target) inputs() map[string]bool {
	kept := make(map[string]bool)
	paths, _ := filepath.Glob(filepath.Join(t.corpus(), "*"))
	for _, path := range paths {
		kept[path] = true
	}
	return kept
}

// forget removes what a canary's run has found: kept, it would fail every
// later go test.
func (t target) forget(before map[string]bool) {
	for path := range t.inputs() {
		if !before[path] {
			os.Remove(path)
		}
	}
	os.Remove(t.corpus()) // if that was all
}
