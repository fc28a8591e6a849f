//go:build invariants || walqsteps

// Package invariants switches the thorough assertions on, under the build tag
// of the same name. Cheap ones stand in the code always.
package invariants

import "fmt"

// Enabled reports whether the thorough assertions are compiled in.
const Enabled = true

// Broken panics. Who calls it has found that an invariant does not hold: what it is told is
// made only then, or each append would allocate.
func Broken(format string, args ...any) {
	panic("walq: broken invariant: " + fmt.Sprintf(format, args...))
}
