// Package testx holds what many of walq's tests need.
package testx

import (
	"os"
	"path/filepath"
	"testing"
)

// strict reports whether a test that cannot run here must fail.
func strict() bool { return os.Getenv("WALQ_STRICT") == "1" }

// Skip leaves a test that cannot run here, for a reason that says what is
// missing. With WALQ_STRICT=1 the test fails instead: where everything is said
// to be there, a skip would hide that a check no longer checks.
func Skip(t testing.TB, reason string) {
	t.Helper()
	if strict() {
		t.Fatalf("cannot run, and WALQ_STRICT=1 allows no skip: %s", reason)
	}
	t.Skip(reason)
}

// Root returns the directory of the module under test: the nearest one above
// the working directory that has a go.mod.
func Root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			t.Fatal("no go.mod above the working directory")
		}
		dir = parent
	}
}
