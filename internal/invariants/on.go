//go:build invariants || walqsteps

// Package invariants switches the thorough assertions on, under the build tag
// of the same name. Cheap ones stand in the code always.
package invariants

import "fmt"

// Enabled reports whether the thorough assertions are compiled in.
const Enabled = true

// Check panics unless ok.
func Check(ok bool, format string, args ...any) {
	if !ok {
		panic("walq: broken invariant: " + fmt.Sprintf(format, args...))
	}
}
