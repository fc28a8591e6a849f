package main

import (
	"os"
	"syscall"
)

// terminal asks for the settings of a terminal, and gives no room for them: a
// terminal fails to write them there, anything else, /dev/null too, has none.
func terminal(f *os.File) bool {
	raw, err := f.SyscallConn()
	if err != nil {
		return false
	}
	var errno syscall.Errno
	err = raw.Control(func(fd uintptr) {
		_, _, errno = syscall.Syscall(syscall.SYS_IOCTL, fd, syscall.TCGETS, 0)
	})
	return err == nil && errno == syscall.EFAULT
}
