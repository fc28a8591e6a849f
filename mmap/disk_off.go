//go:build !walqsteps

package mmap

// diskSeam: the disk beneath is always the kernel's.
const diskSeam = false
