//go:build !linux

package limits

import (
	"context"
	"time"

	"github.com/walq/walq/mmap"
)

// Datagram returns mmap.ErrUnsupported.
func Datagram(context.Context, string, time.Duration, []int64, func() error) ([]int64, error) {
	return nil, mmap.ErrUnsupported
}

// DatagramEcho returns mmap.ErrUnsupported.
func DatagramEcho(string) error { return mmap.ErrUnsupported }

// Sync returns mmap.ErrUnsupported.
func Sync(context.Context, string, int, time.Duration, []int64) ([]int64, error) {
	return nil, mmap.ErrUnsupported
}

// Disk returns mmap.ErrUnsupported.
func Disk(context.Context, string, int64) (write, read float64, err error) {
	return 0, 0, mmap.ErrUnsupported
}

// Uncache returns mmap.ErrUnsupported.
func Uncache(string) error { return mmap.ErrUnsupported }
