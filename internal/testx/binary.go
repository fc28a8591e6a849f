package testx

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
)

// built remembers the binaries of this test process by their tags.
var built = struct {
	sync.Mutex
	paths map[string]string
}{paths: make(map[string]string)}

// BuildBinary builds ./cmd/walq with the given build tags and returns the
// path. Each set of tags is built once per test process. The binary lies in the
// temporary directory from which `go test` runs the test, and goes away with
// it, also when the test is killed.
func BuildBinary(t testing.TB, tags ...string) string {
	t.Helper()
	root := Root(t)
	touchSources(t, root)
	tags = slices.Clone(tags)
	slices.Sort(tags)
	key := strings.Join(tags, ",")

	built.Lock()
	defer built.Unlock()
	if path, ok := built.paths[key]; ok {
		return path
	}
	dir, shared := binaryDir(t)
	path := filepath.Join(dir, "walq-under-test")
	if key != "" {
		path += "-" + strings.ReplaceAll(key, ",", "-")
	}
	if runtime.GOOS == "windows" {
		path += ".exe"
	}
	cmd := exec.Command("go", "build", "-o", path, "-tags", key, "./cmd/walq")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
	if shared {
		built.paths[key] = path
	}
	return path
}

// binaryDir returns where to put a binary, and whether it stays until the test
// process ends. A test binary that was kept with `go test -c` may lie anywhere:
// then each test builds into its own temporary directory.
func binaryDir(t testing.TB) (dir string, shared bool) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if dir := filepath.Dir(self); strings.Contains(dir, "go-build") {
		return dir, true
	}
	return t.TempDir(), false
}

// touchSources looks at every Go file of the module, because `go test` reuses
// the result of a test as long as the files that it looked at are unchanged,
// and does not see what the compiler reads on the test's behalf.
func touchSources(t testing.TB, root string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() && path != root && (strings.HasPrefix(name, ".") || name == "testdata") {
			return filepath.SkipDir
		}
		switch filepath.Ext(name) {
		case ".go", ".s", ".mod", ".sum":
			os.Stat(path) // that it is looked at is all that counts
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
