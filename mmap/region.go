package mmap

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"
)

// A Region is a range of memory that several goroutines, and, over a file,
// several processes read and write at once.
//
// The methods that look at memory are safe for concurrent use; they panic when
// an offset lies outside the region or a word is not aligned, because callers
// bound every offset before they come here. None may run at the same time as,
// or after, Unmap.
type Region struct {
	mem      []byte
	path     string // for messages only
	readOnly bool
	heap     *heapFile // nil over a real mapping and over Heap
	random   bool      // see Random

	once    sync.Once
	cleanup runtime.Cleanup
	release func()
}

// Heap returns a region of n bytes of ordinary, zeroed memory, 8-byte aligned.
// The race detector sees it, unlike a mapping. Flush does nothing.
func Heap(n int64) *Region {
	if n <= 0 {
		panic(fmt.Sprintf("mmap: heap region of %d bytes", n))
	}
	return &Region{mem: alignedBytes(n), path: "heap", release: func() {}}
}

// alignedBytes makes n zero bytes that start at a multiple of 8.
func alignedBytes(n int64) []byte {
	words := make([]uint64, (n+7)/8)
	return unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), n)
}

// Len is the size of the region in bytes. Over a file it is the size of the
// mapping, which may exceed the file: bytes past the file's end fault.
func (r *Region) Len() int64 { return int64(len(r.mem)) }

// ReadOnly reports whether stores into the region fault.
func (r *Region) ReadOnly() bool { return r.readOnly }

// Path names the file beneath, for messages.
func (r *Region) Path() string { return r.path }

// Word returns the 8-byte word at off, which must be a multiple of 8, for
// atomic access. The pointer is valid until Unmap.
func (r *Region) Word(off int64) *atomic.Uint64 {
	if off&7 != 0 {
		panic("mmap: a word at an offset that is not a multiple of 8")
	}
	return (*atomic.Uint64)(unsafe.Pointer(unsafe.SliceData(r.mem[off : off+8 : len(r.mem)])))
}

// Bytes returns the n bytes at off. The slice aliases the region, cannot grow
// past n, and is valid until Unmap.
func (r *Region) Bytes(off, n int64) []byte {
	return r.mem[off : off+n : off+n]
}

// Touch makes the pages of [off, off+n) present and writable without changing
// a byte, so that a later store meets no page fault. It adds zero atomically,
// which loses no store of anyone else, and it also marks the pages dirty: this
// is how a range is handed to the kernel again after a sync that may have
// failed. The range must be allocated.
func (r *Region) Touch(off, n int64) {
	for at := off &^ (PageSize - 1); at < off+n; at += PageSize {
		r.Word(at).Add(0)
	}
	_ = did(DiskOp{Kind: DiskTouch, Region: r, Off: off, N: n}, nil)
}

// Rename says that the file got another name, for messages and faults. Nobody
// else may use the region yet.
func (r *Region) Rename(path string) {
	r.path = path
	if r.heap == nil && len(r.mem) > 0 {
		mapped.rename(uintptr(unsafe.Pointer(&r.mem[0])), path)
	}
}

// Unmap gives the memory back. It is idempotent. A region that is dropped
// without it is unmapped when the garbage collector finds it unreachable.
func (r *Region) Unmap() {
	r.once.Do(func() {
		r.cleanup.Stop()
		_ = did(DiskOp{Kind: DiskUnmap, Region: r}, nil)
		r.release()
		r.mem = nil
	})
}

// A FaultError is a fault while memory of a mapped file was accessed: the file
// was truncated by someone, or the device cannot read it.
type FaultError struct {
	Path   string // the mapped file
	Offset int64  // the faulting byte within the file
}

func (e *FaultError) Error() string {
	return fmt.Sprintf("memory fault at offset %d of %s: the file was truncated or its device cannot read it", e.Offset, e.Path)
}

// ErrFault is what every FaultError Is.
var ErrFault = errors.New("mmap: fault in a mapped file")

// Is makes errors.Is(err, ErrFault) true.
func (e *FaultError) Is(target error) bool { return target == ErrFault }
