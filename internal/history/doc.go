// Package history records what processes do with a queue, and judges it.
//
// Each process writes a log of its own: when it called what, when that returned
// and with which answer. Times are of one clock that all processes of a host
// share, so "before" has a meaning between them. A log survives the death of its
// process; what was being written then is ignored.
//
// Check holds all logs and a last reading of the queue against what a queue
// promises, in a time that grows with the number of events: for storms. Linear
// looks for one order of all calls that explains every answer, and that is a
// search: for short histories.
//
// It is linked into tests only.
package history
