//go:build linux && (amd64 || arm64)

package sock

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/walq/walq/internal/step"
)

// A Dir is a directory of sockets.
type Dir struct{ f *os.File }

// OpenDir opens a directory of sockets by its path.
func OpenDir(path string) (*Dir, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	d := &Dir{os.NewFile(uintptr(fd), path)}
	if err := unix.Access(d.address(".").Name, unix.F_OK); err != nil { // without /proc nobody can be reached
		return nil, errors.Join(d.fail("reach", "", err), d.Close())
	}
	return d, nil
}

// Close closes the directory; sockets that are open stay so.
func (d *Dir) Close() error { return d.f.Close() }

// address names a socket beneath the open directory. It is short however long
// the directory's path is: a socket's address holds 107 bytes.
func (d *Dir) address(name string) *unix.SockaddrUnix {
	return &unix.SockaddrUnix{Name: "/proc/self/fd/" + strconv.Itoa(int(d.f.Fd())) + "/" + name}
}

func (d *Dir) fail(op, name string, err error) error {
	return &os.PathError{Op: op, Path: filepath.Join(d.f.Name(), name), Err: err}
}

// Remove removes a socket's name, if it is there: its former owner is dead.
func (d *Dir) Remove(name string) error {
	err := unix.Unlinkat(int(d.f.Fd()), name, 0)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return d.fail("unlink", name, err)
	}
	return nil
}

// A Socket receives wake-ups. Wait is for one goroutine at a time; the other
// methods are safe for concurrent use, except Close.
type Socket struct {
	dir  *Dir
	name string
	fd   int
}

// Bind makes a socket under a name that is the caller's own; what stands there is
// of a dead owner and goes.
func (d *Dir) Bind(name string, perm fs.FileMode) (*Socket, error) {
	if err := d.Remove(name); err != nil {
		return nil, err
	}
	step.At(step.SocketUnlinked)
	fd, err := newSocket()
	if err != nil {
		return nil, d.fail("socket", name, err)
	}
	s := &Socket{d, name, fd}
	if err := unix.Bind(fd, d.address(name)); err != nil {
		return nil, errors.Join(d.fail("bind", name, err), unix.Close(fd))
	}
	step.At(step.SocketBound)
	if err := unix.Fchmodat(int(d.f.Fd()), name, uint32(perm.Perm()), 0); err != nil {
		return nil, errors.Join(d.fail("chmod", name, err), s.Close())
	}
	step.At(step.SocketReady)
	return s, nil
}

func newSocket() (int, error) {
	return unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
}

// Close closes the socket and removes its name.
func (s *Socket) Close() error {
	err := unix.Close(s.fd)
	step.At(step.SocketClosed)
	return errors.Join(err, s.dir.Remove(s.name))
}

// maxDrain is how many wake-ups one Wait takes: more than a socket's queue holds,
// and few enough that somebody who floods it cannot keep Wait from returning.
const maxDrain = 1024

// Wait blocks until a wake-up comes or the time is over, and takes the wake-ups
// that are there. It reports whether there was one.
func (s *Socket) Wait(limit time.Duration) (woken bool, err error) {
	fds := []unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLIN}}
	ts := unix.NsecToTimespec(max(limit, 0).Nanoseconds())
	if _, err := unix.Ppoll(fds, &ts, nil); err != nil && err != unix.EINTR {
		return false, s.dir.fail("poll", s.name, err)
	}
	var b [8]byte
	for range maxDrain {
		_, _, err := unix.Recvfrom(s.fd, b[:], unix.MSG_DONTWAIT)
		switch err {
		case nil:
			woken = true
		case unix.EINTR:
		case unix.EAGAIN:
			return woken, nil
		default:
			return woken, s.dir.fail("receive", s.name, err)
		}
	}
	return woken, nil
}

// Wake wakes whoever waits, in this process: how a wait is cancelled.
func (s *Socket) Wake() error {
	_, err := s.dir.send(s.fd, s.name) // a full queue is a wake-up
	return err
}

// A Waker sends wake-ups. It is safe for concurrent use, except Close.
type Waker struct {
	dir *Dir
	fd  int
}

// NewWaker makes a waker for the sockets of a directory.
func (d *Dir) NewWaker() (*Waker, error) {
	fd, err := newSocket()
	if err != nil {
		return nil, d.fail("socket", "", err)
	}
	return &Waker{d, fd}, nil
}

// Close closes the waker.
func (w *Waker) Close() error { return unix.Close(w.fd) }

// Wake sends a wake-up to the socket of that name. It never blocks: a socket
// whose queue is full has wake-ups enough. ErrGone: nobody listens there.
//
// The kernel says the same where the queue of the receiver is full and where the
// sender's own buffer is: what was sent to those who never receive again, because
// they are stopped or read no more, counts against the sender until they close,
// and about 280 of them would keep it from waking anybody. So what is refused is
// sent once more from a socket without a past.
func (w *Waker) Wake(name string) error {
	full, err := w.dir.send(w.fd, name)
	if !full {
		return err
	}
	fd, err := newSocket()
	if err != nil {
		return w.dir.fail("socket", name, err)
	}
	_, err = w.dir.send(fd, name)
	return errors.Join(err, unix.Close(fd))
}

// send sends a wake-up without blocking. full: the kernel had no room for it.
func (d *Dir) send(fd int, name string) (full bool, err error) {
	for {
		err := unix.Sendto(fd, []byte{1}, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, d.address(name))
		switch err {
		case nil:
			return false, nil
		case unix.EAGAIN, unix.ENOBUFS:
			return true, nil
		case unix.EINTR:
		case unix.ECONNREFUSED, unix.ENOENT:
			return false, fmt.Errorf("%w: %w", ErrGone, err)
		default:
			return false, d.fail("send", name, err)
		}
	}
}
