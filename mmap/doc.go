// Package mmap is walq's one door to the machine: regions of shared memory
// over files or over ordinary heap, the atomic words in them, allocation and
// flushing of ranges, byte-range locks, directory handles that follow no
// symbolic link, and the guard that turns a fault in a mapping into an error.
//
// It knows nothing of queues. It is the only package of walq that uses unsafe.
// Everything that exists on Linux alone is behind build tags; elsewhere the
// package compiles and its calls return [ErrUnsupported].
package mmap

import "errors"

// ErrUnsupported is returned by every call on a platform other than 64-bit
// little-endian Linux.
var ErrUnsupported = errors.New("mmap: not supported on this platform (needs linux/amd64 or linux/arm64)")

// PageSize is the granularity of the format: headers and data start at its
// multiples. It is the size of a page on amd64 and the smallest on arm64; the
// kernel's own page size is used only to align what is given to the kernel.
const PageSize = 4096
