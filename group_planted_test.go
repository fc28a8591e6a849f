//go:build walqsteps && planted && !race

package walq

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// A plantedBug is a change of the source that breaks a promise of groups after a power cut
// or a death.
type plantedBug struct {
	name string
	file string
	old  string
	new  string
	seed uint64 // of a crew that finds it; when crews change, the search finds another
}

var plantedBugs = []plantedBug{
	{"a checkpoint before the ring is on disk", "group/file.go",
		"if err := g.r.Flush(grpSettings, g.r.Len()-grpSettings); err != nil {\n\t\t\treturn err\n\t\t}\n\t\tstep.At(step.GroupCheckpointReady)", "step.At(step.GroupCheckpointReady)", 0},
	{"laps are not compared", "group/bases.go",
		`if w.State() != Finished || v>>distBits != w.lap() {`, `if w.State() != Finished {`, 0},
	{"entries are read by the wrong base", "group/bases.go",
		`range []*Ring{s.newest, s.before}`, `range []*Ring{s.before, s.newest}`, 0},
	{"the marks of a dead maker stay", "group/bases.go",
		`v.Store((lap ^ 1<<(lapBits-1)) << distBits)`, `_ = v`, 0},
	{"a record is overwritten while the disk needs it", "group/bases.go",
		`err := ring.r.Flush(grpFloor, ring.r.Len()-grpFloor)`, `err := error(nil)`, 0},
	{"passed counts for any base", "group/bases.go",
		`return passed>>passedBits == g.Base.Generation&(1<<(64-passedBits)-1)`, `return true`, 0},
	{"the floor of the next base is stepped over", "group/ring.go",
		`return !g.isOurs(g.word(grpPassed).Load())`, `return false`, 0},
	{"the record of a base is not on disk before the ring is emptied", "group/bases.go",
		"store(g.r, grpBase, both)\n\treturn g.r.Flush(grpBase, 2*recordSpacing)", "store(g.r, grpBase, both)\n\treturn nil", 0},
	{"claims tell nothing of the floor", "group/bases.go",
		`return f, f.Ordinal > ring.Base.Ordinal`, `return f, false`, 0},
	{"the name of a group is not on disk", "group/file.go",
		`if !readOnly {`, `if false {`, 0},
	// Not here: records without a checksum, since each lies in a sector, which a disk
	// writes whole.
}

// A check that cannot fail is no check: with each of these bugs in a copy of the source
// the torn images of groups find it.
func TestPlantedBugsOfGroupsAreFoundByTornImages(t *testing.T) {
	for _, bug := range plantedBugs {
		t.Run(bug.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := copySource(".", dir); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, bug.file)
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(string(text), bug.old); n != 1 {
				t.Fatalf("%s has %d places to plant the bug, want 1", bug.file, n)
			}
			if err := os.WriteFile(path, []byte(strings.Replace(string(text), bug.old, bug.new, 1)), 0o600); err != nil {
				t.Fatal(err)
			}
			if bug.seed != 0 && crashTest(t, dir, "-torn.seed", strconv.FormatUint(bug.seed, 10)) != "" {
				return
			}
			out := crashTest(t, dir)
			if out == "" {
				t.Fatal("not found in 20,000 images")
			}
			_, seed, _ := strings.Cut(out, "-torn.seed ")
			seed, _, _ = strings.Cut(seed, ";")
			t.Logf("found by seed %s:\n%s", seed, out)
		})
	}
}

// crashTest runs the torn images in a copy of the source, and returns what they say
// if they find something.
func crashTest(t *testing.T, dir string, args ...string) (found string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"test", "-tags", "walqsteps", "-count=1", "-vet=off",
		"-timeout=30m", "-run", "^TestNoPowerCut", "."}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "WALQ_CRASH=20000")
	out, err := cmd.CombinedOutput()
	switch {
	case err == nil:
		return ""
	case !strings.Contains(string(out), "replay with -torn.seed"):
		t.Fatalf("it failed otherwise:\n%s", out)
	}
	return string(out)
}

// copySource copies what the tests are built from.
func copySource(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); name == ".git" || name == "build" || name == "bench" {
				return fs.SkipDir
			}
			return os.MkdirAll(filepath.Join(to, path), 0o700)
		}
		if !d.Type().IsRegular() {
			return nil
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, path), content, 0o600)
	})
}
