//go:build walqsteps && unix && !linux

package step

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// settle is how long a thread waits for a signal to its process to take
// effect, since there is no portable way to send one to a thread.
const settle = 10 * time.Millisecond

func killSelf() error { return signalSelf(unix.SIGKILL) }
func stopSelf() error { return signalSelf(unix.SIGSTOP) }

func signalSelf(sig unix.Signal) error {
	err := unix.Kill(os.Getpid(), sig)
	time.Sleep(settle)
	return err
}
