// Package wal is the log: a directory of segments that any number of processes
// append to and read from at once, with a control file of shared words and a
// lock file that tells who is alive. It rolls, recovers and trims; the order
// of its steps is what keeps every acknowledged message, so each step names
// the failure that it is for.
//
// docs/FORMAT.md has the protocols step by step, docs/DESIGN.md the argument, and
// docs/adr why they are so.
package wal
