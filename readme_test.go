package walq_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
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

// documents are the project's own texts.
func documents(t *testing.T) []string {
	t.Helper()
	root := testx.Root(t)
	decisions, err := filepath.Glob(filepath.Join(root, "docs", "adr", "*.md"))
	if err != nil || len(decisions) == 0 {
		t.Fatalf("no decisions: %v", err)
	}
	docs, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil || len(docs) < 3 {
		t.Fatalf("documents %v, %v", docs, err)
	}
	return append(slices.Concat(docs, decisions), filepath.Join(root, "README.md"))
}

func TestTheDocumentsNameOnlyTestsThatAreThere(t *testing.T) {
	there := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Example|Benchmark)\w*)\(`)
	err := filepath.WalkDir(testx.Root(t), func(path string, _ fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, "_test.go") {
			for _, m := range declared.FindAllStringSubmatch(readFile(t, path), -1) {
				there[m[1]] = true
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`((?:Test|Fuzz)[A-Z]\\w+)`")
	count := 0
	for _, doc := range documents(t) {
		for _, m := range named.FindAllStringSubmatch(readFile(t, doc), -1) {
			if count++; !there[m[1]] {
				t.Errorf("%s names %s, which does not exist", doc, m[1])
			}
		}
	}
	if count < 30 {
		t.Errorf("only %d names of tests were found", count)
	}
}

func TestTheDocumentsLinkOnlyToFilesThatAreThere(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:]+)\)`)
	for _, doc := range documents(t) {
		for _, m := range link.FindAllStringSubmatch(readFile(t, doc), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(doc), m[1])); err != nil {
				t.Errorf("%s: %v", doc, err)
			}
		}
	}
}
