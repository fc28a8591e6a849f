package archtest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

const module = "github.com/walq/walq"

// source is a small tree of files: path and content.
type source map[string]string

// sound is a tree that uses every freedom there is and keeps every rule.
var sound = source{
	"queue.go":                  pkg("walq", module+"/wal", module+"/group", module+"/sock", module+"/codec", module+"/internal/step", "os"),
	"queue_test.go":             pkg("walq_test", module+"/segment", "unsafe", "encoding/binary", "pgregory.net/rapid"),
	"wal/wal.go":                pkg("wal", module+"/segment", module+"/mmap", module+"/internal/crc32c"),
	"wal/control_format.go":     pkg("wal", "encoding/binary"),
	"segment/format.go":         pkg("segment", module+"/mmap", "encoding/binary"),
	"group/group.go":            pkg("group", module+"/mmap"),
	"sock/sock.go":              pkg("sock", xsys+"/unix"),
	"codec/codec.go":            pkg("codec", msgpack, msgpack+"/msgpcode", "encoding/binary"),
	"mmap/mmap.go":              pkg("mmap", xsys+"/unix", "unsafe"),
	"index/index.go":            pkg("index", module, badger),
	"cmd/walq/main.go":          pkg("main", module, module+"/index", module+"/cmd/walq/table", module+"/segment", cobra),
	"cmd/walq/table/table.go":   pkg("table") + "\nfunc Bare() {}\n",
	"internal/step/on.go":       "//go:build walqsteps\n\n" + pkg("step", xsys+"/unix"),
	"internal/crc32c/crc32c.go": pkg("crc32c", xsys+"/cpu"),
	"internal/torn/torn.go":     pkg("torn", module+"/wal", module+"/internal/testx", "encoding/binary", "pgregory.net/rapid"),
	"internal/testx/testx.go":   pkg("testx") + "\nfunc Bare() {}\n",
	"fuzz/fuzz.go":              pkg("fuzz", module+"/segment", module+"/index"),
	"walqtest/walqtest.go":      pkg("walqtest", module, module+"/wal"),
	"bench/bench.go":            "package bench\n\nimport _ \"unsafe\"\n\nfunc Bare() {}\n",
	"segment/testdata/bad.go":   "package",
	"docs/_old/old.go":          "package",
	"group/names.go": pkg("group") + `
// Names.
type Name struct{}

// Of is one.
func (Name) Of() {}

func (Name) String() string { return "" }

type hidden[T any] struct{}

func (*hidden[T]) Shown() {}

// Some of them.
const (
	A = iota
	B
)

var (
	C = 1 // one
	// D is two.
	D = 2
)
`,
}

// pkg returns a documented file of a package with the given imports.
func pkg(name string, imports ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "// Package %s is a fixture.\npackage %s\n", name, name)
	for _, path := range imports {
		fmt.Fprintf(&b, "\nimport _ %q\n", path)
	}
	return b.String()
}

// parsed is sound with other files laid over it.
func parsed(t *testing.T, over source) *tree {
	t.Helper()
	fsys := fstest.MapFS{"go.mod": {Data: []byte("module " + module + "\n")}}
	for _, files := range []source{sound, over} {
		for path, content := range files {
			fsys[path] = &fstest.MapFile{Data: []byte(content)}
		}
	}
	source, err := load(fsys)
	if err != nil {
		t.Fatal(err)
	}
	return source
}

func TestASoundTreePasses(t *testing.T) {
	source := parsed(t, nil)
	for _, rule := range rules {
		for _, v := range rule.check(source) {
			t.Errorf("%s: %v", rule.name, v)
		}
	}
}

// TestEachPlantedViolationIsFound shows that each rule can fail: by the rule
// that is named, in the file that is named, and there only.
func TestEachPlantedViolationIsFound(t *testing.T) {
	for _, c := range []struct {
		name, rule, file, content string
	}{
		{"the segment imports the wal", "arrows", "segment/up.go", pkg("segment", module+"/wal")},
		{"the wal imports the root", "arrows", "wal/up.go", pkg("wal", module)},
		{"the root imports the segment past the wal", "arrows", "past.go", pkg("walq", module+"/segment")},
		{"the root imports the index", "arrows", "up.go", pkg("walq", module+"/index")},
		{"a codec imports its neighbour", "arrows", "codec/side.go", pkg("codec", module+"/sock")},
		{"the command maps files itself", "arrows", "cmd/walq/table/down.go", pkg("table", module+"/mmap")},
		{"a package imports what is for tests", "arrows", "wal/test.go", pkg("wal", module+"/internal/testx")},
		{"a leaf imports the tree", "arrows", "internal/step/up.go", pkg("step", module+"/mmap")},
		{"a leaf imports a leaf", "arrows", "internal/step/side.go", pkg("step", module+"/internal/crc32c")},
		{"a leaf imports another module", "arrows", "internal/step/out.go", pkg("step", "pgregory.net/rapid")},
		{"a package calls the system past mmap", "arrows", "wal/sys.go", pkg("wal", xsys+"/unix")},
		{"an arrow behind a build tag", "arrows", "segment/tag.go", "//go:build walqsteps\n\n" + pkg("segment", module+"/wal")},
		{"an arrow on another system", "arrows", "segment/up_windows.go", pkg("segment", module+"/wal")},
		{"a package that nobody has drawn", "arrows", "util/util.go", pkg("util")},
		{"a second command", "arrows", "cmd/other/main.go", pkg("main")},
		{"a module whose name only begins alike", "arrows", "sock/sys.go", pkg("sock", xsys+"tem/unix")},

		{"a leaf brings a module to the root", "reach", "internal/step/out.go", pkg("step", "example.com/heavy")},
		{"badger in a package below the root", "reach", "wal/badger.go", pkg("wal", badger)},
		{"badger through the index", "reach", "index/index.go", ""},
		{"cobra in the root", "reach", "cobra.go", pkg("walq", cobra)},
		{"badger on another system", "reach", "group/badger_darwin.go", pkg("group", badger)},

		{"unsafe in the segment", "unsafe", "segment/cast.go", pkg("segment", "unsafe")},
		{"unsafe in a test helper", "unsafe", "internal/torn/cast.go", pkg("torn", "unsafe")},
		{"unsafe beside its home", "unsafe", "mmapx/cast.go", pkg("mmapx", "unsafe")},
		{"cgo", "unsafe", "sock/c.go", pkg("sock", "C")},
		{"linkname", "unsafe", "wal/link.go", pkg("wal") + "\n//go:linkname now runtime.nanotime\nfunc now() int64\n"},

		{"byte order beside the format", "byteorder", "segment/scan.go", pkg("segment", "encoding/binary")},
		{"byte order in the root", "byteorder", "order.go", pkg("walq", "encoding/binary")},
		{"byte order in a leaf", "byteorder", "internal/crc32c/order.go", pkg("crc32c", "encoding/binary")},
		{"a format file of the same name", "byteorder", "wal/format.go", pkg("wal", "encoding/binary")},

		{"a long file", "length", "wal/long.go", pkg("wal") + strings.Repeat("\n", maxLines)},
		{"a long test", "length", "wal/long_test.go", pkg("wal") + strings.Repeat("\n", maxLines)},
		{"a long benchmark", "length", "bench/long.go", pkg("bench") + strings.Repeat("\n", maxLines)},

		{"a function", "comments", "wal/f.go", pkg("wal") + "\nfunc Bare() {}\n"},
		{"a function that is called like a method", "comments", "wal/f.go", pkg("wal") + "\nfunc String() {}\n"},
		{"a method", "comments", "wal/f.go", pkg("wal") + "\nfunc (*T[K]) Bare() {}\n\n// T.\ntype T[K any] struct{}\n"},
		{"a type", "comments", "f.go", pkg("walq") + "\ntype Bare int\n"},
		{"a type under the comment of a group", "comments", "f.go", pkg("walq") + "\n// Types.\ntype (\n\tBare int\n)\n"},
		{"a constant", "comments", "walqtest/f.go", pkg("walqtest") + "\nconst Bare = 1\n"},
		{"a variable in a group", "comments", "walqtest/f.go", pkg("walqtest") + "\nvar (\n\t// A is.\n\tA int\n\n\tBare int\n)\n"},
		{"a package", "comments", "internal/bare/bare.go", "package bare\n"},
		{"a package whose comment is cut off", "comments", "internal/bare/bare.go", "// Package bare is cut off.\n\npackage bare\n"},
	} {
		t.Run(c.rule+"/"+c.name, func(t *testing.T) {
			over := source{c.file: c.content}
			if c.content == "" { // planted one step away: the root imports it
				over = source{c.file: sound[c.file], "up.go": pkg("walq", module+"/index")}
			}
			source := parsed(t, over)
			found := violations(source, c.rule)
			if len(found) != 1 || found[0].file != c.file {
				t.Errorf("got %v, want one in %s", found, c.file)
			}
		})
	}
}

func violations(source *tree, rule string) (found []violation) {
	for _, r := range rules {
		if r.name == rule {
			found = append(found, r.check(source)...)
		}
	}
	return found
}

func TestEveryRuleHasAPlantedViolation(t *testing.T) {
	want := []string{"arrows", "reach", "unsafe", "byteorder", "length", "comments"}
	var got []string
	for _, r := range rules {
		got = append(got, r.name)
	}
	if !slices.Equal(got, want) {
		t.Errorf("rules are %v: plant a violation of each, then list them here (now %v)", got, want)
	}
}

func TestAFileThatDoesNotParseIsAnError(t *testing.T) {
	fsys := fstest.MapFS{"go.mod": {Data: []byte("module m\n")}, "wal/bad.go": {Data: []byte("package")}}
	if _, err := load(fsys); err == nil || !strings.Contains(err.Error(), "wal/bad.go") {
		t.Errorf("got %v, want an error that names wal/bad.go", err)
	}
}
