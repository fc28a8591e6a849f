//go:build !invariants && !walqsteps

// Package invariants switches the thorough assertions on, under the build tag
// of the same name. Cheap ones stand in the code always.
package invariants

// Enabled reports whether the thorough assertions are compiled in.
const Enabled = false

// Broken panics; without the tag nobody calls it.
func Broken(string, ...any) {}
