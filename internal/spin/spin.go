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

// Pause only pauses: for waits that are shorter than a switch of goroutines.
func Pause() { pause(Pauses) }
