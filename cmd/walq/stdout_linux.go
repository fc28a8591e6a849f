package main

import (
	"context"
	"os"
	"syscall"
)

// watchStdout calls closed when nobody reads standard output any more. The
// kernel tells that through epoll, without a write.
func watchStdout(closed context.CancelCauseFunc) {
	poll, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return
	}
	// No events are asked for: errors and hang-ups are always reported.
	if err := syscall.EpollCtl(poll, syscall.EPOLL_CTL_ADD, int(os.Stdout.Fd()), &syscall.EpollEvent{}); err != nil {
		syscall.Close(poll)
		return // a file: it has no other end
	}
	go func() {
		events := make([]syscall.EpollEvent, 1)
		for {
			n, err := syscall.EpollWait(poll, events, -1)
			if n > 0 {
				closed(errPipeClosed)
			}
			if n > 0 || err != syscall.EINTR {
				return
			}
		}
	}()
}
