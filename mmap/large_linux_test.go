//go:build linux && (amd64 || arm64)

package mmap

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"testing"
	"unsafe"

	"github.com/walq/walq/internal/testx"
)

// places are directories of file systems with different kinds of large pages.
func places(t *testing.T) map[string]string {
	return map[string]string{"disk": t.TempDir(), "memory": testx.InMemory(t)}
}

// mapLarge makes an empty file in dir and maps size bytes of it.
func mapLarge(t *testing.T, dir string, size int64) (*File, *Region) {
	t.Helper()
	d, err := OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	f, err := d.Create(fmt.Sprint("large", size), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	r, err := f.Map(size, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.Unmap()
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		if err := os.Remove(f.Path()); err != nil {
			t.Error(err)
		}
	})
	return f, r
}

// TestAllocateTakesNoMoreThanItWasAskedFor: in whatever pages, the file ends where it
// was asked to, has all its blocks, and what was there stays.
func TestAllocateTakesNoMoreThanItWasAskedFor(t *testing.T) {
	for name, dir := range places(t) {
		f, r := mapLarge(t, dir, 8*LargePage)
		end := int64(0)
		for _, n := range []int64{PageSize, 100 * PageSize, LargePage, LargePage - 101*PageSize, 2 * LargePage, LargePage + PageSize} {
			if err := r.Allocate(f, end, n); err != nil {
				t.Fatal(err)
			}
			end += n
			var st syscall.Stat_t
			if err := syscall.Stat(f.Path(), &st); err != nil || st.Size != end || st.Blocks*512 < end {
				t.Errorf("%s: got a file of %d bytes, %d of them on disk (%v), want %d", name, st.Size, st.Blocks*512, err, end)
			}
			for at := int64(0); at < end; at += PageSize {
				want := uint64(0)
				if at < end-n {
					want = uint64(at) + 1
				}
				if got := r.Word(at).Swap(uint64(at) + 1); got != want {
					t.Fatalf("%s: the word at %d is %d, want %d", name, at, got, want)
				}
			}
		}
	}
}

func TestAllocateOnAFullDiskSaysSo(t *testing.T) {
	dir := mount(t, "tmpfs", "size=7m,mode=0700")
	f, r := mapLarge(t, dir, 8*LargePage)
	if err := r.Allocate(f, 0, 8*LargePage); !errors.Is(err, ErrDiskFull) {
		t.Fatalf("got %v, want %v", err, ErrDiskFull)
	}
	// What it got before it failed is whole.
	size, err := f.Size()
	if err != nil {
		t.Fatal(err)
	}
	if err := guarded(func() { r.Touch(0, size) }); err != nil {
		t.Errorf("of %d bytes: %v", size, err)
	}
	if err := r.Allocate(f, 0, LargePage); err != nil {
		t.Errorf("a part of it: %v", err)
	}
}

// TestPreparingLosesNoStore: while pages are made ready and made large others count in
// them, through another mapping too, as another process would.
func TestPreparingLosesNoStore(t *testing.T) {
	const size, each, workers = 2 * LargePage, 100_000, 2
	for name, dir := range places(t) {
		f, r := mapLarge(t, dir, size)
		if err := f.Allocate(0, size); err != nil {
			t.Fatal(err)
		}
		other, err := f.Map(size, false)
		if err != nil {
			t.Fatal(err)
		}
		var counting, preparing sync.WaitGroup
		stop := make(chan struct{})
		preparing.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					// Large pages of tmpfs come from Allocate, of others from Prepare.
					if err := r.Allocate(f, 0, size); err != nil {
						t.Error(err)
					}
					r.Prepare(0, size)
				}
			}
		})
		for w := range workers {
			counting.Go(func() {
				through := []*Region{r, other}[w%2]
				for i := range int64(each) {
					through.Word(i % (size / PageSize) * PageSize).Add(1)
				}
			})
		}
		counting.Wait()
		close(stop)
		preparing.Wait()
		var sum uint64
		for at := int64(0); at < size; at += PageSize {
			sum += other.Word(at).Load()
		}
		if sum != each*workers {
			t.Errorf("%s: got %d, want %d", name, sum, each*workers)
		}
		other.Unmap()
	}
}

func TestPrepareReachesItsRangeOnly(t *testing.T) {
	for name, dir := range places(t) {
		f, r := mapLarge(t, dir, 4*LargePage)
		if err := r.Allocate(f, 0, LargePage+PageSize); err != nil {
			t.Fatal(err)
		}
		if err := guarded(func() { r.Prepare(100, LargePage) }); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := guarded(func() { r.Prepare(0, LargePage+2*PageSize) }); !HeapFiles() && !errors.Is(err, ErrFault) {
			t.Errorf("%s: beyond the file: got %v, want a fault", name, err)
		}
	}
}

func TestALargeMappingIsAligned(t *testing.T) {
	for name, dir := range places(t) {
		for _, size := range []int64{LargePage, LargePage + 4096, 3*LargePage + 12345} {
			_, r := mapLarge(t, dir, size)
			if HeapFiles() {
				continue
			}
			if at := uintptr(unsafe.Pointer(r.Word(0))); at%LargePage != 0 {
				t.Errorf("%s: %d bytes are mapped at %#x", name, size, at)
			}
		}
	}
}
