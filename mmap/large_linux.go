//go:build linux && (amd64 || arm64)

package mmap

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// LargePage is the size in bytes, and the alignment, of the large pages that Allocate
// and Prepare prefer: the kernel allocates, clears and maps one for a tenth to a third
// of what 512 small ones cost.
const LargePage = 2 << 20

// mapAligned maps the file, with offsets that are multiples of LargePage at such
// addresses: elsewhere the kernel maps its large pages in small pieces. Some file
// systems see to that, tmpfs does not.
func mapAligned(fd int, size int64, prot int) (unsafe.Pointer, error) {
	p, err := unix.MmapPtr(fd, 0, nil, uintptr(size), prot, unix.MAP_SHARED)
	if err != nil || size < LargePage || uintptr(p)%LargePage == 0 {
		return p, err
	}
	// An address where there is room is found by taking some and giving it back. It is a
	// wish only: another thread may take the room meanwhile, which MAP_FIXED would destroy.
	room, err := unix.MmapPtr(-1, 0, nil, uintptr(size)+2*LargePage, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return p, nil // address space is short: as it is, then
	}
	wish := unsafe.Add(room, -uintptr(room)%LargePage)
	if err := unix.MunmapPtr(room, uintptr(size)+2*LargePage); err != nil {
		return p, nil
	}
	aligned, err := unix.MmapPtr(fd, 0, wish, uintptr(size), prot, unix.MAP_SHARED)
	if err != nil {
		return p, nil
	}
	if uintptr(aligned)%LargePage != 0 {
		p, aligned = aligned, p // the one that is no better goes
	}
	return aligned, unix.MunmapPtr(p, uintptr(size))
}

// Allocate is like File.Allocate, of the file f that is mapped here. Where files are
// kept in memory it takes large pages if there are any; other file systems choose the
// size of a page at its first use. The file never grows beyond what is allocated.
func (r *Region) Allocate(f *File, off, n int64) error {
	end := off + n
	if r.heap == nil && f.InMemory() {
		for large := roundUp(off, LargePage); large+LargePage <= end; large += LargePage {
			if large > off {
				if err := f.Allocate(off, large-off); err != nil {
					return err
				}
			}
			off = large
			if !r.allocateLarge(f, off) {
				break
			}
			off += LargePage
		}
	}
	if off == end {
		return nil
	}
	return f.Allocate(off, end-off)
}

// allocateLarge allocates one large page at off. The kernel makes one of a range that
// has a page already, so a small one goes before it. false: there is none to be had,
// or no memory, which the caller sees when it asks for small ones.
func (r *Region) allocateLarge(f *File, off int64) bool {
	if unix.Fallocate(f.fd, 0, off, PageSize) != nil ||
		unix.Madvise(r.mem[off:off+LargePage], unix.MADV_COLLAPSE) != nil {
		return false
	}
	// The pages are there; this makes the file as long.
	return f.Allocate(off, LargePage) == nil
}

// InMemory reports whether the file lies in memory (tmpfs), where allocating is what costs.
func (f *File) InMemory() bool {
	var st unix.Statfs_t
	return unix.Fstatfs(f.fd, &st) == nil && st.Type == unix.TMPFS_MAGIC
}

// Prepare makes the pages of [off, off+n), which must be allocated, present and
// writable, so that stores meet no page fault: large pages where whole ones fit and
// Random was not called. It changes no byte. Unlike Touch it does not say that pages
// were changed that were ready before.
func (r *Region) Prepare(off, n int64) {
	first, last := roundUp(off, LargePage), (off+n)&^(LargePage-1)
	if first < last && !r.random {
		_ = r.advise(unix.MADV_HUGEPAGE, first, last-first) // without it pages are small
	}
	if r.advise(unix.MADV_POPULATE_WRITE, off, n) != nil { // before Linux 5.14, or a fault
		r.Touch(off, n)
	}
}

func roundUp(n, unit int64) int64 { return (n + unit - 1) &^ (unit - 1) }
