//go:build !amd64 && !arm64

package spin

// pause is the Go twin of the assembly: it burns about as much time.
func pause(n uint32) {
	for i := uint32(0); i < n; i++ {
		nop()
	}
}

//go:noinline
func nop() {}
