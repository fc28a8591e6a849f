package walq_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/walq/walq/internal/testx"
)

// between is what stands in text behind the first mark and before the next.
func between(t *testing.T, text, from, to string) string {
	t.Helper()
	_, text, ok := strings.Cut(text, from)
	text, _, end := strings.Cut(text, to)
	if !ok || !end {
		t.Fatalf("there is nothing between %q and %q", from, to)
	}
	return text
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestTheProgramInTheReadmeIsTheExample(t *testing.T) {
	program := between(t, readFile(t, "README.md"), "```go\n", "```")
	got := between(t, program, "func main() {\n", "\n}\n")
	want := between(t, readFile(t, "examples_test.go"), "func Example() {\n", "\n\t// Output:")
	_, want, _ = strings.Cut(want, "\n\n") // where the example's queue is
	if got = strings.ReplaceAll(got, `"orders"`, "dir"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("go", "vet", filepath.Join(dir, "main.go")).CombinedOutput(); err != nil {
		t.Errorf("the program does not compile: %v\n%s", err, out)
	}
}

func TestTheReadmeNamesOnlyFilesThatAreThere(t *testing.T) {
	root := testx.Root(t)
	docs, err := filepath.Glob(filepath.Join(root, "docs", "adr", "*.md"))
	if err != nil || len(docs) == 0 {
		t.Fatalf("no decisions: %v", err)
	}
	link := regexp.MustCompile(`\]\(([^)#:]+)\)`)
	for _, doc := range append(docs, filepath.Join(root, "README.md")) {
		for _, m := range link.FindAllStringSubmatch(readFile(t, doc), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(doc), m[1])); err != nil {
				t.Errorf("%s: %v", doc, err)
			}
		}
	}
}
