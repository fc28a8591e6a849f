package archtest

import (
	"fmt"
	"go/ast"
	"maps"
	"slices"
)

// comments finds exported symbols without a comment, in the packages that
// others import, and packages without one, everywhere. A package comment that a
// blank line cuts off from its package clause counts as missing: go doc does
// not show it.
func comments(t *tree) (found []violation) {
	undocumented := make(map[string]violation) // by directory, the first file
	documented := make(map[string]bool)
	for _, f := range t.files {
		if f.test || below(f.dir, "bench") {
			continue
		}
		documented[f.dir] = documented[f.dir] || f.syntax.Doc != nil
		if _, ok := undocumented[f.dir]; !ok {
			undocumented[f.dir] = violation{f.path, t.at(f.syntax.Package), "the package has no comment"}
		}
		if !below(f.dir, "internal") && !below(f.dir, "cmd") {
			found = append(found, t.bare(f)...)
		}
	}
	for _, dir := range slices.Sorted(maps.Keys(undocumented)) {
		if !documented[dir] {
			found = append(found, undocumented[dir])
		}
	}
	return found
}

// bare returns the exported symbols of a file that have no comment.
func (t *tree) bare(f *file) (found []violation) {
	report := func(name *ast.Ident) {
		found = append(found, violation{f.path, t.at(name.Pos()), fmt.Sprintf("%s is exported and has no comment", name.Name)})
	}
	for _, decl := range f.syntax.Decls {
		switch decl := decl.(type) {
		case *ast.FuncDecl:
			if decl.Doc == nil && decl.Name.IsExported() && receiverExported(decl.Recv) && !selfExplaining(decl) {
				report(decl.Name)
			}
		case *ast.GenDecl:
			for _, spec := range decl.Specs {
				for _, name := range bareNames(decl, spec) {
					report(name)
				}
			}
		}
	}
	return found
}

// bareNames returns the exported names of a declaration to which no comment
// belongs: neither its own, nor one behind it, nor that of its group. A type
// needs its own or that of a declaration that holds nothing else.
func bareNames(decl *ast.GenDecl, spec ast.Spec) (names []*ast.Ident) {
	switch spec := spec.(type) {
	case *ast.TypeSpec:
		if spec.Name.IsExported() && spec.Doc == nil && (decl.Doc == nil || decl.Lparen.IsValid()) {
			names = append(names, spec.Name)
		}
	case *ast.ValueSpec:
		if decl.Doc != nil || spec.Doc != nil || spec.Comment != nil {
			return nil
		}
		for _, name := range spec.Names {
			if name.IsExported() {
				names = append(names, name)
			}
		}
	}
	return names
}

// selfExplaining reports whether a method is one whose meaning the standard
// library fixes, so that a comment could only repeat it.
func selfExplaining(decl *ast.FuncDecl) bool {
	switch decl.Name.Name {
	case "Error", "String", "Unwrap":
		return decl.Recv != nil
	}
	return false
}

// receiverExported reports whether a function is one that others can call: it
// has no receiver, or one of an exported type.
func receiverExported(recv *ast.FieldList) bool {
	if recv == nil || len(recv.List) == 0 {
		return true
	}
	kind := recv.List[0].Type
	for {
		switch k := kind.(type) {
		case *ast.StarExpr:
			kind = k.X
		case *ast.IndexExpr:
			kind = k.X
		case *ast.IndexListExpr:
			kind = k.X
		case *ast.Ident:
			return k.IsExported()
		default:
			return true
		}
	}
}
