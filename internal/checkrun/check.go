package main

import (
	"bytes"
	"context"
	"fmt"
	"go/format"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// systems are those for which the source must at least compile.
var systems = []string{"linux/amd64", "linux/arm64", "darwin/arm64", "windows/amd64"}

// demoTime bounds the demo, which takes seconds.
const demoTime = 2 * time.Minute

// check runs everything. It goes on after a failure: one run shows all that is
// wrong.
func check(r *report) {
	r.step("gofmt", formatted)
	for _, system := range systems {
		goos, goarch, _ := strings.Cut(system, "/")
		r.step("go vet "+system, command([]string{"GOOS=" + goos, "GOARCH=" + goarch, "CGO_ENABLED=0"}, "go", "vet", "./..."))
	}
	r.step("go vet with tags", command(nil, "go", "vet", "-tags", "walqsteps,invariants", "./..."))
	r.goTest("./...")
	if cgoEnabled() {
		r.goTest("-race", "./...")
	} else {
		r.skip("go test -race", "the race detector needs cgo and a C compiler")
	}
	r.goTest("-tags", "walqsteps,invariants", "./...")
	r.goTest("-tags", "walqsteps,planted", "-run", "PlantedBugs/(no_|the_seal|sequence|a_plain)", "./wal")
	r.fuzz(defaultFuzzTime)
	r.step("walq demo", demo)
}

// command returns a step that runs a command with additions to its
// environment.
func command(env []string, name string, args ...string) func() (string, error) {
	return func() (string, error) {
		cmd := exec.Command(name, args...)
		cmd.Env = append(os.Environ(), env...)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
}

// formatted is the step that finds files which gofmt would change. It needs no
// gofmt binary.
func formatted() (string, error) {
	var changed strings.Builder
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() && path != "." && (name[0] == '.' || name == "testdata") {
			return filepath.SkipDir
		}
		if entry.IsDir() || filepath.Ext(name) != ".go" {
			return nil
		}
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		want, err := format.Source(source)
		if err != nil {
			fmt.Fprintf(&changed, "%s: %v\n", path, err)
		} else if !bytes.Equal(source, want) {
			fmt.Fprintf(&changed, "%s: not formatted; run: gofmt -w %[1]s\n", path)
		}
		return nil
	})
	if err == nil && changed.Len() > 0 {
		err = fmt.Errorf("not all files are formatted")
	}
	return changed.String(), err
}

// cgoEnabled reports whether the race detector can be linked.
func cgoEnabled() bool {
	out, err := exec.Command("go", "env", "CGO_ENABLED").Output()
	return err == nil && strings.TrimSpace(string(out)) == "1"
}

// demo is the step that does walq's main job once.
func demo() (string, error) {
	dir, err := os.MkdirTemp("", "checkrun-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "walq.exe") // the ending is needed on Windows only
	if out, err := exec.Command("go", "build", "-o", binary, "./cmd/walq").CombinedOutput(); err != nil {
		return string(out), err
	}
	ctx, cancel := context.WithTimeout(context.Background(), demoTime)
	defer cancel()
	out, err := exec.CommandContext(ctx, binary, "demo").CombinedOutput()
	if ctx.Err() != nil {
		err = fmt.Errorf("not done after %v", demoTime)
	}
	return string(out), err
}
