package limits

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// Datagram sends one byte to a second process and blocks until one comes back, for
// the time d at most and as often as samples has room. Both block in the system
// call itself, not in Go's network poller. start starts the process that calls
// DatagramEcho with the same directory. The samples are round trips in nanoseconds.
func Datagram(ctx context.Context, dir string, d time.Duration, samples []int64, start func() error) (_ []int64, err error) {
	s, err := listen(filepath.Join(dir, "near.sock"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := start(); err != nil {
		return nil, err
	}
	if _, err := s.receive(); err != nil {
		return nil, err
	}
	if err := s.connect(filepath.Join(dir, "far.sock")); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.send('x')) }()
	n, began := 0, time.Now()
	for last := began; n < len(samples); n++ {
		if err := s.send('.'); err != nil {
			return nil, err
		}
		if _, err := s.receive(); err != nil {
			return nil, err
		}
		now := time.Now()
		samples[n] = now.Sub(last).Nanoseconds()
		if last = now; now.Sub(began) > d || ctx.Err() != nil {
			n++
			break
		}
	}
	return samples[:n], ctx.Err()
}

// DatagramEcho is the second process of Datagram.
func DatagramEcho(dir string) (err error) {
	s, err := listen(filepath.Join(dir, "far.sock"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.connect(filepath.Join(dir, "near.sock")); err != nil {
		return err
	}
	if err := s.send('.'); err != nil {
		return err
	}
	for {
		b, err := s.receive()
		if err != nil || b == 'x' {
			return err
		}
		if err := s.send('.'); err != nil {
			return err
		}
	}
}

type socket struct {
	fd   int
	path string
}

func listen(path string) (s socket, err error) {
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return s, fmt.Errorf("limits: socket: %w", err)
	}
	s = socket{fd, path}
	limit := syscall.NsecToTimeval(patience.Nanoseconds())
	err = errors.Join(
		syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}),
		syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &limit))
	if err != nil {
		return s, errors.Join(fmt.Errorf("limits: %s: %w", path, err), s.close())
	}
	return s, nil
}

func (s socket) connect(path string) error {
	if err := syscall.Connect(s.fd, &syscall.SockaddrUnix{Name: path}); err != nil {
		return fmt.Errorf("limits: connect %s: %w", path, err)
	}
	return nil
}

func (s socket) send(b byte) error {
	for {
		_, err := syscall.Write(s.fd, []byte{b})
		if err != syscall.EINTR {
			return os.NewSyscallError("write", err)
		}
	}
}

func (s socket) receive() (byte, error) {
	for {
		var b [1]byte
		_, err := syscall.Read(s.fd, b[:])
		switch err {
		case syscall.EINTR: // a signal of the runtime
		case syscall.EAGAIN:
			return 0, errGone
		default:
			return b[0], os.NewSyscallError("read", err)
		}
	}
}

func (s socket) close() error {
	return errors.Join(syscall.Close(s.fd), os.Remove(s.path))
}
