// Package cacheline tells the processor which memory is wanted soon. All that it does is
// a hint: it changes no memory, faults nowhere and orders nothing.
package cacheline

import "sync/atomic"

// Bytes is how long a line is taken to be.
const Bytes = 64

// Fetch asks for the line of w to read it. Another processor that has written it keeps a
// copy, and has to ask for it before it writes again.
func Fetch(w *atomic.Uint64) { fetch(w) }
