// Package group is the state of one consumer group: a mapped file with a ring of
// leases over the log. A group claims, finishes, sends back, releases and takes
// ordinals; which message an ordinal stands for its callers know, who walk the log.
//
// The protocol is in docs/adr/0021-groups.md, the format in docs/FORMAT.md.
//
// Concurrency: any number of goroutines and processes may use a group at the same
// time; each word of the ring changes by compare-and-swap. Nothing here waits. What
// comes out of the file is bounded before it is used; memory faults are the caller's
// to guard with mmap.Protect.
package group
