package archtest

import (
	"fmt"
	"slices"
	"strings"
)

// A violation is one place where the architecture is not kept.
type violation struct {
	file string
	line int
	text string
}

func (v violation) String() string { return fmt.Sprintf("%s:%d: %s", v.file, v.line, v.text) }

// rules are all that a tree must keep.
var rules = []struct {
	name  string
	check func(*tree) []violation
}{
	{"arrows", arrows},
	{"reach", reach},
	{"unsafe", unsafety},
	{"byteorder", byteOrder},
	{"length", length},
	{"comments", comments},
}

// arrows finds imports that are not in the picture.
func arrows(t *tree) (found []violation) {
	for _, f := range t.files {
		if f.test || inSupport(f.dir) {
			continue
		}
		place, known := placeOf(f.dir)
		if !known {
			found = append(found, violation{f.path, t.at(f.syntax.Package), fmt.Sprintf("package %s is not in the picture of internal/archtest", f.dir)})
			continue
		}
		for _, imp := range t.imports(f) {
			if !t.allowed(place, imp.path) {
				found = append(found, violation{f.path, imp.line, fmt.Sprintf("%s must not import %s", place, imp.path)})
			}
		}
	}
	return found
}

// allowed reports whether the picture has an arrow from the place to the
// imported package.
func (t *tree) allowed(place, imported string) bool {
	if dir, ok := t.own(imported); ok {
		to, _ := placeOf(dir)
		leaf := slices.Contains(leaves, place)
		return to == place ||
			!leaf && slices.Contains(leaves, to) ||
			slices.Contains(picture[place].own, to)
	}
	return standard(imported) || inModules(imported, picture[place].third)
}

// reach finds modules of others that a program gets with the root package. It
// follows imports through this module whatever the picture says, so that a
// picture drawn wrongly is found as well.
func reach(t *tree) (found []violation) {
	seen := map[string]bool{".": true}
	for queue := []string{"."}; len(queue) > 0; queue = queue[1:] {
		for _, f := range t.files {
			if f.dir != queue[0] || f.test {
				continue
			}
			for _, imp := range t.imports(f) {
				dir, own := t.own(imp.path)
				switch {
				case own && !seen[dir]:
					seen[dir] = true
					queue = append(queue, dir)
				case !own && !standard(imp.path) && !inModules(imp.path, rootModules):
					found = append(found, violation{f.path, imp.line, fmt.Sprintf("%s reaches the root package", imp.path)})
				}
			}
		}
	}
	return found
}

// foreign returns those of the modules that must not reach the root package.
func foreign(module string, modules []string) (found []string) {
	for _, m := range modules {
		if m != "" && m != module && !slices.Contains(rootModules, m) {
			found = append(found, m)
		}
	}
	return found
}

// unsafety finds what gets around the compiler outside its one home.
func unsafety(t *tree) (found []violation) {
	for _, f := range t.files {
		if f.test || below(f.dir, unsafeHome) || below(f.dir, "bench") {
			continue
		}
		for _, imp := range t.imports(f) {
			if imp.path == "unsafe" || imp.path == "C" {
				found = append(found, violation{f.path, imp.line, fmt.Sprintf("%s is imported outside %s", imp.path, unsafeHome)})
			}
		}
		for _, group := range f.syntax.Comments {
			for _, c := range group.List {
				if strings.HasPrefix(c.Text, "//go:linkname") {
					found = append(found, violation{f.path, t.at(c.Pos()), "go:linkname outside " + unsafeHome})
				}
			}
		}
	}
	return found
}

// byteOrder finds files that put bytes in order without owning a format.
func byteOrder(t *tree) (found []violation) {
	for _, f := range t.files {
		if f.test || inSupport(f.dir) || mayOrderBytes(f.path) {
			continue
		}
		for _, imp := range t.imports(f) {
			if imp.path == "encoding/binary" {
				found = append(found, violation{f.path, imp.line, "encoding/binary outside the format files " + strings.Join(formatFiles, ", ")})
			}
		}
	}
	return found
}

// length finds files that tell more than one story.
func length(t *tree) (found []violation) {
	for _, f := range t.files {
		if f.lines > maxLines {
			found = append(found, violation{f.path, maxLines + 1, fmt.Sprintf("%d lines, want at most %d", f.lines, maxLines)})
		}
	}
	return found
}
