package archtest

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// A tree is the parsed source of a module.
type tree struct {
	module string
	fset   *token.FileSet
	files  []*file
}

// A file is one Go file of a tree.
type file struct {
	path   string // from the root of the module, with slashes
	dir    string // of path; "." is the root
	test   bool   // whether it belongs to a test
	lines  int
	syntax *ast.File
}

// load parses every Go file below fsys, which holds a module, except for those
// that the go command does not see either.
func load(fsys fs.FS) (*tree, error) {
	mod, err := fs.ReadFile(fsys, "go.mod")
	if err != nil {
		return nil, err
	}
	t := &tree{fset: token.NewFileSet()}
	if t.module, err = modulePath(mod); err != nil {
		return nil, err
	}
	err = fs.WalkDir(fsys, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && ignored(name):
			return fs.SkipDir
		case entry.IsDir() || path.Ext(name) != ".go" || ignored(name):
			return nil
		}
		return t.parse(fsys, name)
	})
	return t, err
}

func (t *tree) parse(fsys fs.FS, name string) error {
	source, err := fs.ReadFile(fsys, name)
	if err != nil {
		return err
	}
	syntax, err := parser.ParseFile(t.fset, name, source, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	t.files = append(t.files, &file{
		path:   name,
		dir:    path.Dir(name),
		test:   strings.HasSuffix(name, "_test.go"),
		lines:  bytes.Count(source, []byte("\n")),
		syntax: syntax,
	})
	return nil
}

// ignored reports whether the go command passes over a file or directory of
// this name.
func ignored(name string) bool {
	base := path.Base(name)
	return name != "." && (base == "testdata" || base == "vendor" || base[0] == '.' || base[0] == '_')
}

func modulePath(mod []byte) (string, error) {
	for line := range strings.Lines(string(mod)) {
		if name, ok := strings.CutPrefix(line, "module "); ok {
			return strings.Trim(strings.TrimSpace(name), `"`), nil
		}
	}
	return "", fmt.Errorf("go.mod names no module")
}

// own returns the directory of an imported package of this module.
func (t *tree) own(imported string) (dir string, ok bool) {
	if imported == t.module {
		return ".", true
	}
	return strings.CutPrefix(imported, t.module+"/")
}

// at returns the line of a position.
func (t *tree) at(pos token.Pos) int { return t.fset.Position(pos).Line }

// An imported is one import of a file.
type imported struct {
	path string
	line int
}

// imports returns what the file imports.
func (t *tree) imports(f *file) []imported {
	var all []imported
	for _, spec := range f.syntax.Imports {
		name, err := strconv.Unquote(spec.Path.Value)
		if err == nil {
			all = append(all, imported{name, t.at(spec.Pos())})
		}
	}
	return all
}

// standard reports whether an import path is of the standard library: no other
// has a first element without a dot.
func standard(imported string) bool {
	first, _, _ := strings.Cut(imported, "/")
	return !strings.Contains(first, ".")
}

// inModules reports whether the package is in one of the modules.
func inModules(imported string, modules []string) bool {
	return slices.ContainsFunc(modules, func(m string) bool { return below(imported, m) })
}
