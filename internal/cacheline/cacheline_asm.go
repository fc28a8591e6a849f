//go:build amd64 || arm64

package cacheline

import "sync/atomic"

//go:noescape
func fetch(w *atomic.Uint64)
