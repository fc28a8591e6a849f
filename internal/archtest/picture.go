// Package archtest holds the architecture of walq as data and reads the source
// to see that it is kept: which package may import which, where unsafe and byte
// order may appear, what may reach a program that links the queue, how long a
// file may be, what must have a comment.
//
// The source is parsed, not built, so that files for other systems and behind
// build tags count as well.
package archtest

import (
	"path"
	"strings"
)

const (
	xsys      = "golang.org/x/sys"
	msgpack   = "github.com/vmihailenco/msgpack/v5"
	tagparser = "github.com/vmihailenco/tagparser/v2" // msgpack's only dependency
	badger    = "github.com/dgraph-io/badger/v4"
	cobra     = "github.com/spf13/cobra"
)

// An arrow says what one package may import beside the standard library.
type arrow struct {
	own   []string // packages of the module, by directory; "." is the root
	third []string // modules of others
}

// picture is the direction of imports. What is not in it is forbidden; a
// package may belong to it before it exists. cmd/walq stands for the packages
// below it as well.
var picture = map[string]arrow{
	"cmd/walq": {
		own:   []string{".", "index", "codec", "group", "wal", "segment", "internal/limits"},
		third: []string{cobra},
	},
	"index":   {own: []string{"."}, third: []string{badger}},
	".":       {own: []string{"wal", "group", "sock", "codec"}},
	"group":   {own: []string{"mmap"}},
	"wal":     {own: []string{"segment", "mmap"}},
	"codec":   {third: []string{msgpack}},
	"sock":    {third: []string{xsys}},
	"segment": {own: []string{"mmap"}},
	"mmap":    {third: []string{xsys}},

	// What the machine allows, measured beside the queue and by nothing else.
	"internal/limits": {own: []string{"mmap"}},

	// The leaves, which all of the above may import.
	"internal/step":       {third: []string{xsys}},
	"internal/crc32c":     {third: []string{xsys}},
	"internal/invariants": {},
	"internal/spin":       {third: []string{xsys}},
	"internal/cacheline":  {},
}

// leaves are importable from everywhere.
var leaves = []string{"internal/step", "internal/crc32c", "internal/invariants", "internal/spin", "internal/cacheline"}

// support are the trees that may import everything: they test, or are linked
// into tests only. Nothing in the picture but the leaves may import them.
var support = []string{"fuzz", "walqtest", "bench", "internal"}

// unsafeHome is the one package that may import unsafe.
const unsafeHome = "mmap"

// formatFiles are the files, or with a slash at the end the directories, that
// may put bytes in order. Each owns one format.
var formatFiles = []string{
	"segment/format.go",
	"wal/control_format.go",
	"group/format.go",
	"group/delay_format.go",
	"codec/",
}

// rootModules are the modules that may reach a program through the root
// package.
var rootModules = []string{xsys, msgpack, tagparser}

// maxLines is how long a file may be.
const maxLines = 500

// placeOf returns the entry of the picture that the package in dir belongs to.
func placeOf(dir string) (name string, known bool) {
	if below(dir, "cmd/walq") {
		return "cmd/walq", true
	}
	_, known = picture[dir]
	return dir, known
}

// inSupport reports whether dir is in a tree that may import everything.
func inSupport(dir string) bool {
	if _, known := picture[dir]; known {
		return false
	}
	for _, tree := range support {
		if below(dir, tree) {
			return true
		}
	}
	return false
}

// mayOrderBytes reports whether the file is one of formatFiles.
func mayOrderBytes(file string) bool {
	for _, home := range formatFiles {
		if file == home || strings.HasSuffix(home, "/") && below(path.Dir(file), strings.TrimSuffix(home, "/")) {
			return true
		}
	}
	return false
}

// below reports whether the path is base or lies below it.
func below(p, base string) bool {
	return p == base || strings.HasPrefix(p, base+"/")
}
