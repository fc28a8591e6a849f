//go:build walqsteps

package step

import (
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

func killSelf() error { return signalSelf(unix.SIGKILL) }
func stopSelf() error { return signalSelf(unix.SIGSTOP) }

// signalSelf sends a signal to this very thread. Sent to the process, the
// kernel might hand it to another thread, and this one would run on past the
// step for a while.
func signalSelf(sig unix.Signal) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	return unix.Tgkill(os.Getpid(), unix.Gettid(), sig)
}
