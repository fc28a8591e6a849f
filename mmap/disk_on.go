//go:build walqsteps

package mmap

// diskSeam: a test may put a disk of its own beneath a directory.
const diskSeam = true
