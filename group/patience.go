//go:build walqsteps

package group

import "time"

// SetPatience changes how long one who holds a lock of a group's file is waited for. A
// test whose consumers take turns in one goroutine waits for nobody.
func SetPatience(d time.Duration) (restore func()) {
	was := lockPatience
	lockPatience = d
	return func() { lockPatience = was }
}
