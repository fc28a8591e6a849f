// Package faults puts real faults beneath real walq processes: a disk that loses
// its power, or is full, or fails to sync, and an outsider who meddles with the
// files. It holds the disks, the processes and the accounts that the tests of
// these need; it is linked into tests only.
//
// Processes are fed numbered lines, each of which carries its own proof, and
// their acknowledgements are kept. So whatever happens beneath them, an Account
// can tell what is lost, torn, out of order, there twice or under another number
// than was promised.
package faults
