// Package spin waits a little without giving up the processor.
package spin

import "runtime"

// Pauses is how often Wait pauses: 64 PAUSE instructions keep a poller off a
// contended cache line long enough that it does not slow its writer.
const Pauses = 64

// Wait pauses for a few hundred nanoseconds and then lets other goroutines of
// this thread run.
func Wait() {
	pause(Pauses)
	runtime.Gosched()
}

// Pause pauses n times, for waits that are shorter than a switch of goroutines. One
// pause is between 3 and 50 ns, as the processor likes.
func Pause(n uint32) { pause(n) }
