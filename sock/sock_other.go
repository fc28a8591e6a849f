//go:build !(linux && (amd64 || arm64))

package sock

import (
	"io/fs"
	"time"
)

// A Dir is a directory of sockets.
type Dir struct{}

// OpenDir opens a directory of sockets by its path.
func OpenDir(path string) (*Dir, error) { return nil, ErrUnsupported }

// Close closes the directory.
func (d *Dir) Close() error { return ErrUnsupported }

// Remove removes a socket's name.
func (d *Dir) Remove(name string) error { return ErrUnsupported }

// A Socket receives wake-ups.
type Socket struct{}

// Bind makes a socket.
func (d *Dir) Bind(name string, perm fs.FileMode) (*Socket, error) { return nil, ErrUnsupported }

// Close closes the socket.
func (s *Socket) Close() error { return ErrUnsupported }

// Wait blocks until a wake-up comes or the time is over.
func (s *Socket) Wait(limit time.Duration) (bool, error) { return false, ErrUnsupported }

// Wake wakes whoever waits, in this process.
func (s *Socket) Wake() error { return ErrUnsupported }

// A Waker sends wake-ups.
type Waker struct{}

// NewWaker makes a waker.
func (d *Dir) NewWaker() (*Waker, error) { return nil, ErrUnsupported }

// Close closes the waker.
func (w *Waker) Close() error { return ErrUnsupported }

// Wake sends a wake-up.
func (w *Waker) Wake(name string) error { return ErrUnsupported }
