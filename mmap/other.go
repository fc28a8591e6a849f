//go:build !(linux && (amd64 || arm64))

package mmap

import (
	"io/fs"
	"time"
)

// Supported is nil where walq can run.
func Supported() error { return ErrUnsupported }

// BootID identifies the run of the kernel that has the directory open.
func (d *Dir) BootID() ([16]byte, error) { return [16]byte{}, ErrUnsupported }

// A File is an open regular file.
type File struct{ path string }

func (f *File) dup() (*File, error)              { return nil, ErrUnsupported }
func (f *File) readAtMost(p []byte) (int, error) { return 0, ErrUnsupported }

// Path is the whole path under which the file was opened.
func (f *File) Path() string { return f.path }

// Rename says that the file got another name, for messages.
func (f *File) Rename(path string) { f.path = path }

// Close closes the descriptor.
func (f *File) Close() error { return ErrUnsupported }

// Size is the file's size in bytes.
func (f *File) Size() (int64, error) { return 0, ErrUnsupported }

// ID identifies the file, not its name.
func (f *File) ID() (FileID, error) { return FileID{}, ErrUnsupported }

// Status tells the file from others.
func (f *File) Status() (FileStatus, error) { return FileStatus{}, ErrUnsupported }

// Owner tells who owns the file.
func (f *File) Owner() (Owner, error) { return Owner{}, ErrUnsupported }

// Allocate makes sure that the bytes exist on disk.
func (f *File) Allocate(off, n int64) error { return ErrUnsupported }

// Sync forces the file to stable storage.
func (f *File) Sync() error { return ErrUnsupported }

// StartWrite has the kernel begin to write a range.
func (f *File) StartWrite(off, n int64) error { return ErrUnsupported }

// Copy reads the whole file into a region of ordinary memory.
func (f *File) Copy() (*Region, error) { return nil, ErrUnsupported }

// ReadAt reads like io.ReaderAt.
func (f *File) ReadAt(p []byte, off int64) (int, error) { return 0, ErrUnsupported }

// WriteAt writes like io.WriterAt.
func (f *File) WriteAt(p []byte, off int64) (int, error) { return 0, ErrUnsupported }

// Map maps the first size bytes of the file.
func (f *File) Map(size int64, readOnly bool) (*Region, error) { return nil, ErrUnsupported }

// Flush writes a range to stable storage.
func (r *Region) Flush(off, n int64) error { return nil }

// Random tells the kernel that the region is not read in order.
func (r *Region) Random() error { return nil }

// InMemory reports whether the file lies in memory.
func (f *File) InMemory() bool { return false }

// LargePage is the size of a large page.
const LargePage = 2 << 20

// Allocate is like File.Allocate.
func (r *Region) Allocate(f *File, off, n int64) error { return ErrUnsupported }

// Prepare makes pages present.
func (r *Region) Prepare(off, n int64) {}

// Cached reports whether a range seems to be in memory.
func (r *Region) Cached(off, n int64) bool { return true }

// Prefetch asks the kernel to read a range soon.
func (r *Region) Prefetch(off, n int64) error { return nil }

// A Dir is a handle on a directory.
type Dir struct{ path string }

// OpenDir opens a directory by path.
func OpenDir(path string) (*Dir, error) { return nil, &PathError{"open", path, ErrUnsupported} }

// Path is the absolute path under which the directory was opened.
func (d *Dir) Path() string { return d.path }

// Join gives the whole path of a name in the directory.
func (d *Dir) Join(name string) string { return d.path + "/" + name }

// Open opens an existing regular file.
func (d *Dir) Open(name string, readOnly bool) (*File, error) { return nil, ErrUnsupported }

// Create makes a new regular file.
func (d *Dir) Create(name string, perm fs.FileMode) (*File, error) { return nil, ErrUnsupported }

// OpenOrCreate opens a regular file and makes an empty one if there is none.
func (d *Dir) OpenOrCreate(name string, perm fs.FileMode) (*File, error) {
	return nil, ErrUnsupported
}

// OpenDir opens a directory beneath this one.
func (d *Dir) OpenDir(name string) (*Dir, error) { return nil, ErrUnsupported }

// Size is the size of a file in the directory.
func (d *Dir) Size(name string) (int64, error) { return 0, ErrUnsupported }

// Status tells what regular file the name in the directory leads to.
func (d *Dir) Status(name string) (FileStatus, error) { return FileStatus{}, ErrUnsupported }

// Again is another handle on the same directory.
func (d *Dir) Again() (*Dir, error) { return nil, ErrUnsupported }

// Mkdir makes a directory unless it is there.
func (d *Dir) Mkdir(name string, perm fs.FileMode) error { return ErrUnsupported }

// Chmod sets the directory's permissions.
func (d *Dir) Chmod(perm fs.FileMode) error { return ErrUnsupported }

// Link gives a file a second name.
func (d *Dir) Link(from, to string) error { return ErrUnsupported }

// Unlink removes a name of a file.
func (d *Dir) Unlink(name string) error { return ErrUnsupported }

// Rename moves a file.
func (d *Dir) Rename(name string, to *Dir, toName string) error { return ErrUnsupported }

// Sync forces the directory's entries to stable storage.
func (d *Dir) Sync() error { return ErrUnsupported }

// Names lists the directory.
func (d *Dir) Names() ([]string, error) { return nil, ErrUnsupported }

// Owner tells who owns the directory.
func (d *Dir) Owner() (Owner, error) { return Owner{}, ErrUnsupported }

// Unreliable names a file system that cannot be relied on.
func (d *Dir) Unreliable() (string, error) { return "", ErrUnsupported }

// Close closes the handle.
func (d *Dir) Close() error { return ErrUnsupported }

// A LockFile holds byte-range locks.
type LockFile struct{ f *File }

// NewLockFile takes over f.
func NewLockFile(f *File) *LockFile { return &LockFile{f} }

// Path names the lock file.
func (l *LockFile) Path() string { return l.f.path }

// Close frees every lock.
func (l *LockFile) Close() error { return ErrUnsupported }

// TryLock takes the lock on one byte.
func (l *LockFile) TryLock(at int64, exclusive bool) (bool, error) { return false, ErrUnsupported }

// Unlock frees the lock on one byte.
func (l *LockFile) Unlock(at int64) error { return ErrUnsupported }

// ID identifies the file that is locked.
func (l *LockFile) ID() (FileID, error) { return FileID{}, ErrUnsupported }

// HeldByOther reports whether a byte is locked by another open of the file.
func (l *LockFile) HeldByOther(start, n int64) (bool, error) { return false, ErrUnsupported }

// SinceBoot is the time since the machine started.
func SinceBoot() time.Duration { return 0 }
