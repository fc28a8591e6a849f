//go:build linux && (amd64 || arm64)

package mmap

import (
	"time"

	"golang.org/x/sys/unix"
)

// SinceBoot is the time since the machine started, suspension included
// (CLOCK_BOOTTIME): all processes of the machine read the same, and nobody can set it.
func SinceBoot() time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
