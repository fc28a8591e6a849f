//go:build !race

package testx

// Race reports whether the race detector is compiled in.
const Race = false
