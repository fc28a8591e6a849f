//go:build !amd64 && !arm64

package cacheline

import "sync/atomic"

// fetch is the Go twin of the assembly: nothing, for nothing depends on it.
func fetch(*atomic.Uint64) {}
