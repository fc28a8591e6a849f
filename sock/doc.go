// Package sock wakes sleeping processes: one datagram socket for each process
// that sleeps, in a directory of the queue. A wake-up carries no data, only that
// it is worth to look again; it may be lost, late or forged without harm, because
// every sleeper looks before it sleeps and sleeps for a bounded time.
//
// A sleeper blocks in the system call itself, not in Go's network poller, which
// doubles what it costs to wake another process.
package sock

import "errors"

// ErrUnsupported is returned on platforms other than 64-bit Linux.
var ErrUnsupported = errors.New("sock: not supported on this platform")

// ErrGone: nobody has the socket open, its owner died or left.
var ErrGone = errors.New("sock: nobody listens")
