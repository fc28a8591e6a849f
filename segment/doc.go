// Package segment is one file of the log: a header, a few shared words, a
// sparse index and frames. A segment claims, commits, pads and seals; it holds
// the format and the only decoder of it, used by live readers, recovery, verify
// and dump alike.
//
// Concurrency: any number of goroutines and processes may claim, commit, pad,
// seal and read at the same time. The frame's own word is the lock: see [Word].
// Nothing here waits. Every offset and length that comes out of a file is
// bounded before it is used; memory faults are the caller's to guard with
// mmap.Protect.
package segment
