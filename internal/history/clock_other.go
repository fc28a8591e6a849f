//go:build !linux

package history

import "time"

var start = time.Now()

// Now is the time in nanoseconds since this process began. Only on Linux do
// processes share a clock here; elsewhere no queue opens.
func Now() int64 { return int64(time.Since(start)) }
