package testx

import (
	"testing"
	"time"
)

// Eventually waits until cond holds and fails the test with msg if it does not
// within the deadline. The deadline is for a machine under load: long enough
// that only a condition that never holds misses it.
//
// cond is called from the test's goroutine, at first every millisecond and
// then less often, at least once and a last time when the deadline has passed.
func Eventually(t testing.TB, deadline time.Duration, cond func() bool, msg string) {
	t.Helper()
	const shortest, longest = time.Millisecond, 50 * time.Millisecond
	end := time.Now().Add(deadline)
	for pause := shortest; ; pause = min(2*pause, longest) {
		late := !time.Now().Before(end)
		if cond() {
			return
		}
		if late {
			t.Fatalf("not within %v: %s", deadline, msg)
		}
		time.Sleep(min(pause, max(time.Until(end), 0)))
	}
}
