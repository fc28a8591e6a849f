//go:build linux && (amd64 || arm64)

package mmap

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A File is an open regular file. Its methods are safe for concurrent use,
// except Close.
type File struct {
	fd   int
	path string
}

// Path is the whole path under which the file was opened.
func (f *File) Path() string { return f.path }

// Rename says that the file got another name, for messages. Nobody else may use
// the File yet.
func (f *File) Rename(path string) { f.path = path }

func (f *File) fail(op string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		err = fmt.Errorf("%w (%w)", ErrDiskFull, err)
	}
	return &PathError{op, f.path, err}
}

// Close closes the descriptor; mappings of the file stay valid, and keep
// reporting the errors of their own flushes.
func (f *File) Close() error { return f.fail("close", unix.Close(f.fd)) }

func (f *File) dup() (*File, error) {
	fd, err := unix.FcntlInt(uintptr(f.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, f.fail("dup", err)
	}
	return &File{fd, f.path}, nil
}

func (f *File) stat() (unix.Stat_t, error) {
	var st unix.Stat_t
	err := eintr(func() error { return unix.Fstat(f.fd, &st) })
	return st, f.fail("stat", err)
}

// Size is the file's size in bytes.
func (f *File) Size() (int64, error) {
	st, err := f.stat()
	return st.Size, err
}

// ID identifies the file, not its name.
func (f *File) ID() (FileID, error) {
	st, err := f.stat()
	return FileID{uint64(st.Dev), st.Ino}, err
}

// Status tells the file from others.
func (f *File) Status() (FileStatus, error) {
	st, err := f.stat()
	return statusOf(&st), err
}

func statusOf(st *unix.Stat_t) FileStatus {
	return FileStatus{FileID{uint64(st.Dev), st.Ino}, Owner{st.Uid, st.Gid, fs.FileMode(st.Mode & 0o777)}, st.Size}
}

// Owner tells who owns the file.
func (f *File) Owner() (Owner, error) {
	st, err := f.stat()
	return Owner{st.Uid, st.Gid, fs.FileMode(st.Mode & 0o777)}, err
}

// Allocate makes sure that the bytes [off, off+n) exist on disk, as zeros where
// there was nothing, so that a store into their mapping never meets a full
// disk. It extends the file. With no room it returns ErrDiskFull and changes
// nothing that matters.
func (f *File) Allocate(off, n int64) error {
	err := eintr(func() error { return unix.Fallocate(f.fd, 0, off, n) })
	return did(DiskOp{Kind: DiskAllocate, File: f, Off: off, N: n}, f.fail("allocate", err))
}

// Sync forces the file's data and metadata to stable storage.
func (f *File) Sync() error {
	if done, err := synced(DiskOp{Kind: DiskSyncFile, File: f}); done {
		return f.fail("sync", err)
	}
	return f.fail("sync", eintr(func() error { return unix.Fsync(f.fd) }))
}

// StartWrite has the kernel begin to write what is dirty in [off, off+n), and returns
// without waiting for the disk. Nothing is stable afterwards. An error of the disk is not
// taken from the syncs that will report it. An error that StartWrite returns is of a
// write that could not even begin, nobody else is told, and the file system may have
// dropped the pages: it is to be treated like that of a sync. Only after ENOMEM the kernel
// says that they are dirty still. A file or a kernel that cannot do this is no error.
func (f *File) StartWrite(off, n int64) error {
	err := eintr(func() error { return unix.SyncFileRange(f.fd, off, n, unix.SYNC_FILE_RANGE_WRITE) })
	switch err {
	case unix.ENOSYS, unix.EPERM, unix.EINVAL, unix.ESPIPE, unix.EOPNOTSUPP: // EPERM: a seccomp filter
		return nil // it was refused before any page was looked at
	}
	return f.fail("start writing", err)
}

// ReadAt reads like io.ReaderAt.
func (f *File) ReadAt(p []byte, off int64) (int, error) {
	if n, onHeap := readHeapFile(f, p, off); onHeap {
		if n < len(p) {
			return n, io.EOF
		}
		return n, nil
	}
	return f.read(p, off)
}

func (f *File) read(p []byte, off int64) (int, error) {
	n := 0
	for n < len(p) {
		var k int
		err := eintr(func() (err error) { k, err = unix.Pread(f.fd, p[n:], off+int64(n)); return })
		if err != nil {
			return n, f.fail("read", err)
		}
		if k == 0 {
			return n, io.EOF
		}
		n += k
	}
	return n, nil
}

// Copy reads the whole file into a region of ordinary memory, in ascending order
// and without mapping it: what was published before a byte was read is in the
// copy from that byte on.
func (f *File) Copy() (*Region, error) {
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	r := Heap(max(size, 8))
	r.path = f.path
	n, err := f.ReadAt(r.mem[:size], 0)
	if err == io.EOF {
		err = nil
	}
	r.mem = r.mem[:max(n, 8)]
	return r, err
}

// readAtMost fills p from the start of the file as far as the file reaches.
func (f *File) readAtMost(p []byte) (int, error) {
	n, err := f.read(p, 0)
	if err == io.EOF {
		err = nil
	}
	return n, err
}

// WriteAt writes like io.WriterAt.
func (f *File) WriteAt(p []byte, off int64) (int, error) {
	n := 0
	for n < len(p) {
		var k int
		err := eintr(func() (err error) { k, err = unix.Pwrite(f.fd, p[n:], off+int64(n)); return })
		if err != nil {
			return n, f.fail("write", err)
		}
		n += k
	}
	return n, did(DiskOp{Kind: DiskWrite, File: f, Off: off, Data: p}, nil)
}

// Map maps the first size bytes of the file, shared. The file may be shorter:
// bytes past its end fault until it grows. The region outlives the File and the
// file's name.
func (f *File) Map(size int64, readOnly bool) (*Region, error) {
	if size <= 0 || size > 1<<40 {
		return nil, f.fail("map", fmt.Errorf("size of %d bytes", size))
	}
	if HeapFiles() {
		return mapHeapFile(f, size, readOnly)
	}
	prot := unix.PROT_READ | unix.PROT_WRITE
	if readOnly {
		prot = unix.PROT_READ
	}
	p, err := mapAligned(f.fd, size, prot)
	if err != nil {
		return nil, f.fail("map", err)
	}
	r := &Region{mem: unsafe.Slice((*byte)(p), size), path: f.path, readOnly: readOnly}
	start := uintptr(p)
	mapped.add(mapping{start, start + uintptr(size), f.path})
	release := func() {
		mapped.remove(start)
		if err := unix.MunmapPtr(p, uintptr(size)); err != nil {
			panic(fmt.Sprintf("mmap: munmap of %s: %v", f.path, err)) // only wrong arguments make it fail
		}
	}
	r.release = release
	r.cleanup = runtime.AddCleanup(r, func(release func()) { release() }, release)
	return r, did(DiskOp{Kind: DiskMap, File: f, Region: r}, nil)
}

// Flush writes the pages of [off, off+n) to stable storage and waits for them
// (msync with MS_SYNC). Unlike fdatasync it leaves other dirty pages of the
// file alone. After an error the pages may be clean and yet not on disk: no
// later flush can be believed until they were made dirty again.
func (r *Region) Flush(off, n int64) error {
	if r.heap != nil || n <= 0 {
		return nil
	}
	page := int64(os.Getpagesize())
	start := off &^ (page - 1)
	end := min((off+n+page-1)&^(page-1), int64(len(r.mem)))
	if done, err := synced(DiskOp{Kind: DiskSyncRange, Region: r, Off: start, N: end - start}); done {
		if err != nil {
			return &PathError{"sync", r.path, err}
		}
		return nil
	}
	err := eintr(func() error { return unix.Msync(r.mem[start:end], unix.MS_SYNC) })
	if err != nil {
		return &PathError{"sync", r.path, err}
	}
	return nil
}

// Random tells the kernel that the region is not read in order: it then keeps
// small pages, so that a flush of a few bytes writes a page and not megabytes.
// Nobody else may use the region yet.
func (r *Region) Random() error {
	r.random = true
	return r.advise(unix.MADV_RANDOM, 0, r.Len())
}

// Prefetch asks the kernel to read [off, off+n) soon.
func (r *Region) Prefetch(off, n int64) error { return r.advise(unix.MADV_WILLNEED, off, n) }

// Cached reports whether [off, off+n) seems to be in memory, by a look at a few pages, so
// that Prefetch, which looks at each, can be spared.
func (r *Region) Cached(off, n int64) bool {
	if r.heap != nil || r.path == "heap" || n <= 0 {
		return true
	}
	if r.readOnly && errors.Is(unix.Faccessat(unix.AT_FDCWD, r.path, unix.W_OK, unix.AT_EACCESS), unix.EACCES) {
		return false // the kernel tells only who might write the file, and to all others says yes
	}
	const looks = 8
	for i := range int64(looks) {
		at := (off + (n-1)*i/(looks-1)) &^ int64(os.Getpagesize()-1)
		var in byte
		_, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&r.mem[at])), 1, uintptr(unsafe.Pointer(&in)))
		if errno != 0 || in&1 == 0 {
			return false
		}
	}
	return true
}

func (r *Region) advise(advice int, off, n int64) error {
	if r.heap != nil || r.path == "heap" {
		return nil
	}
	page := int64(os.Getpagesize())
	start := off &^ (page - 1)
	end := min((off+n+page-1)&^(page-1), int64(len(r.mem)))
	if start >= end {
		return nil
	}
	if err := unix.Madvise(r.mem[start:end], advice); err != nil {
		return &PathError{"advise", r.path, err}
	}
	return nil
}

// eintr repeats f while a signal interrupts it.
func eintr(f func() error) error {
	for {
		err := f()
		if err != unix.EINTR {
			return err
		}
	}
}
