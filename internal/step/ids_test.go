package step

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"testing"
)

// declared reads the constants of ids.go from its source, because a constant
// that nobody entered into names would not be seen any other way.
func declared(t *testing.T) map[string]ID {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "ids.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ids := make(map[string]ID)
	for _, decl := range file.Decls {
		group, ok := decl.(*ast.GenDecl)
		if !ok || group.Tok != token.CONST {
			continue
		}
		for _, spec := range group.Specs {
			value := spec.(*ast.ValueSpec)
			name := value.Names[0].Name
			literal, ok := value.Values[0].(*ast.BasicLit)
			if !ok {
				t.Fatalf("%s: its number is not written out", name)
			}
			n, err := strconv.Atoi(literal.Value)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			ids[name] = ID(n)
		}
	}
	return ids
}

func TestEveryStepHasItsNameAndANumberOfItsOwn(t *testing.T) {
	ids := declared(t)
	if len(ids) != len(IDs()) {
		t.Errorf("ids.go declares %d steps, names has %d", len(ids), len(IDs()))
	}
	byNumber := make(map[ID]string)
	for name, id := range ids {
		if got := id.String(); got != name {
			t.Errorf("step %d: String gives %q, want %q", id, got, name)
		}
		if other, taken := byNumber[id]; taken {
			t.Errorf("step %d is both %s and %s", id, name, other)
		}
		byNumber[id] = name
	}
}

func TestNumbersAreStable(t *testing.T) {
	for id, want := range map[ID]string{1: "ClaimBefore", 13: "RollDirSynced", 19: "SyncPoisoned", 34: "CleanMarkRemoved"} {
		if got := id.String(); got != want {
			t.Errorf("step %d: got %q, want %q", id, got, want)
		}
	}
}

func TestAnUnknownStepShowsItsNumber(t *testing.T) {
	for id, want := range map[ID]string{0: "step(0)", -1: "step(-1)", 9999: "step(9999)"} {
		if got := id.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
