package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A target is one fuzz target.
type target struct{ dir, name string }

const (
	// defaultFuzzTime is how long each target runs where finding something new
	// is not the aim, only that the targets still work.
	defaultFuzzTime = 3 * time.Second

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

// fuzzTargets finds the targets: all of them are in ./fuzz but those for what only
// their own package can reach.
func fuzzTargets() (targets []target, err error) {
	dirs, err := fuzzDirs()
	if err != nil {
		return nil, err
	}
	for _, dir := range dirs {
		out, err := exec.Command("go", "test", "-list", "^Fuzz", dir).CombinedOutput()
		if err != nil {
			return nil, fmt.Errorf("%w\n%s", err, out)
		}
		for line := range strings.Lines(string(out)) {
			if strings.HasPrefix(line, "Fuzz") {
				targets = append(targets, target{dir, strings.TrimSpace(line)})
			}
		}
	}
	if len(targets) == 0 {
		return nil, errors.New("there is no target")
	}
	return targets, nil
}

// testFiles is a template of go list: the directory of a package, and then each
// of its files of tests, on a line of its own. It knows which of them this system
// builds.
const testFiles = "{{$dir := .Dir}}{{range .TestGoFiles}}{{$dir}}\t{{.}}\n{{end}}{{range .XTestGoFiles}}{{$dir}}\t{{.}}\n{{end}}"

// fuzzDirs lists the packages that have a target, as paths from the working
// directory.
func fuzzDirs() (dirs []string, err error) {
	here, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	out, err := exec.Command("go", "list", "-f", testFiles, "./...").Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	for line := range strings.Lines(string(out)) {
		dir, name, ok := strings.Cut(strings.TrimSpace(line), "\t")
		if !ok {
			continue
		}
		source, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		rel, err := filepath.Rel(here, dir)
		if err != nil {
			return nil, err
		}
		if rel != "." { // so that go takes it for a path
			rel = "." + string(filepath.Separator) + rel
		}
		if bytes.Contains(source, []byte("\nfunc Fuzz")) && !slices.Contains(dirs, rel) {
			dirs = append(dirs, rel)
		}
	}
	return dirs, nil
}

// inMemory is where Linux has a file system in memory. Targets that write files
// and sync them do ten times as much there.
const inMemory = "/dev/shm"

// scratch makes a directory for the files of a target, in memory if possible. It
// goes with everything that a worker left that was killed.
func scratch() (dir string, remove func(), err error) {
	dir, err = os.MkdirTemp(inMemory, "walq-fuzz-")
	if err != nil {
		dir, err = os.MkdirTemp("", "walq-fuzz-")
	}
	return dir, func() { os.RemoveAll(dir) }, err
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
	temp, remove, err := scratch()
	if err != nil {
		return "", err
	}
	defer remove()
	args := []string{"test", "-run", "^$", "-fuzz", "^" + t.name + "$", "-fuzztime", each.String(), "-fuzzminimizetime", "10x", t.dir}
	cmd := exec.Command("go", args...)
	// What go builds is large and stays out of memory.
	cmd.Env = append(os.Environ(), "TMPDIR="+temp, "GOTMPDIR="+os.TempDir())
	out, err := cmd.CombinedOutput()
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
