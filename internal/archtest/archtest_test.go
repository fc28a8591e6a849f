package archtest

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/walq/walq/internal/testx"
)

// TestTheSourceKeepsTheArchitecture is what this package is for.
func TestTheSourceKeepsTheArchitecture(t *testing.T) {
	source, err := load(os.DirFS(testx.Root(t)))
	if err != nil {
		t.Fatal(err)
	}
	if len(source.files) < 10 {
		t.Fatalf("only %d files found: this test looks in the wrong place", len(source.files))
	}
	for _, rule := range rules {
		t.Run(rule.name, func(t *testing.T) {
			for _, v := range rule.check(source) {
				t.Error(v)
			}
		})
	}
}

// systems are those on which somebody may link the queue.
var systems = []string{"linux", "darwin", "windows", "freebsd"}

// TestOnlyFewModulesReachAProgramThatLinksTheQueue asks the go command, which
// sees what the dependencies of the dependencies bring along.
func TestOnlyFewModulesReachAProgramThatLinksTheQueue(t *testing.T) {
	root := testx.Root(t)
	if sources, _ := filepath.Glob(filepath.Join(root, "*.go")); len(sources) == 0 {
		t.Log("there is no root package yet")
		return
	}
	for _, system := range systems {
		modules := linkedModules(t, root, system)
		for _, m := range foreign("github.com/walq/walq", modules) {
			t.Errorf("%s: the root package brings %s along", system, m)
		}
	}
}

// linkedModules returns the modules whose packages a program gets with the
// package in dir.
func linkedModules(t *testing.T, dir, system string) []string {
	t.Helper()
	cmd := exec.Command("go", "list", "-e", "-deps", "-f", "{{with .Module}}{{.Path}}{{end}}", ".")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOOS="+system, "CGO_ENABLED=0", "GOWORK=off")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, &stderr)
	}
	modules := strings.Fields(string(out))
	slices.Sort(modules)
	return slices.Compact(modules)
}

func TestAModuleBroughtAlongIsFound(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{
		"go.mod": "module github.com/walq/walq\n\ngo 1.26\n\nrequire " + badger + " v4.0.0\n\n" +
			"replace " + badger + " => ./elsewhere\n",
		"queue.go":             "package walq\n\nimport _ \"" + badger + "\"\n",
		"elsewhere/go.mod":     "module " + badger + "\n\ngo 1.26\n",
		"elsewhere/badger.go":  "package badger\n",
		"elsewhere/a_test.go":  "package badger\n",
		"elsewhere/windows.go": "//go:build windows\n\npackage badger\n",
	} {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got := foreign("github.com/walq/walq", linkedModules(t, dir, "linux"))
	if want := []string{badger}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
