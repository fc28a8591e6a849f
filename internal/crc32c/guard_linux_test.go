package crc32c

import (
	"bytes"
	"hash/crc32"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"testing"

	"golang.org/x/sys/unix"
)

// fenced is pages of memory between two that fault at every access.
func fenced(t *testing.T, pages int) []byte {
	t.Helper()
	page := unix.Getpagesize()
	mem, err := unix.Mmap(-1, 0, (pages+2)*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Munmap(mem); err != nil {
			t.Error(err)
		}
	})
	for _, p := range [][]byte{mem[:page], mem[(pages+1)*page:]} {
		if err := unix.Mprotect(p, unix.PROT_NONE); err != nil {
			t.Fatal(err)
		}
	}
	return mem[page : (pages+1)*page : (pages+1)*page]
}

// Whatever is loaded or stored in whole words, nothing outside src and dst is touched: both
// may begin or end where memory does.
func TestCopyFrameStaysWithinSourceAndDestination(t *testing.T) {
	from, to := fenced(t, 1), fenced(t, 1)
	random := rand.New(rand.NewPCG(7, 8))
	for i := range from {
		from[i] = byte(random.Uint32())
	}
	for n := range 700 {
		padded := (n + 7) &^ 7
		for _, src := range [][]byte{from[:n], from[len(from)-n:]} {
			for _, dst := range [][]byte{to[:padded], to[len(to)-padded:]} {
				got := CopyFrame(dst, src, 1, 2, 3, 4, 5)
				if want := wantWords5(1, 2, 3, 4|uint64(crc32.Checksum(src, castagnoli))<<32, 5); got != want {
					t.Fatalf("length %d: got %#x, want %#x", n, got, want)
				}
				if !bytes.Equal(dst[:n], src) || !bytes.Equal(dst[n:], make([]byte, padded-n)) {
					t.Fatalf("length %d: got % x", n, dst)
				}
			}
		}
	}
}

// A fault in the middle of a copy is a panic that can be recovered, at any depth of the
// stack, also where that has to grow for it, and with the collector at work.
func TestAFaultWithinCopyFrameCanBeRecovered(t *testing.T) {
	page := unix.Getpagesize()
	mem, err := unix.Mmap(-1, 0, 2*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Munmap(mem); err != nil {
			t.Error(err)
		}
	}()
	if err := unix.Mprotect(mem[page:], unix.PROT_NONE); err != nil {
		t.Fatal(err)
	}
	for depth := range 120 {
		done := make(chan struct{})
		go func() { // with a new stack
			defer close(done)
			descend(depth, func() {
				for _, n := range []int{1, 7, 9, 100, 401, 503, 600} {
					mine := make([]byte, 608)
					for there := range min(n, 40) { // so many bytes can be accessed
						half := mem[page-there&^7 : page-there&^7+608]
						if n > there&^7 && !faults(half, mine[:n], there == 0) {
							t.Errorf("depth %d: %d bytes were stored where %d can be", depth, n, there&^7)
						}
						half = mem[page-there : page-there+n]
						if !faults(mine, half, there == 0) {
							t.Errorf("depth %d: %d bytes were loaded where %d can be", depth, n, there)
						}
					}
				}
			})
		}()
		<-done
	}
}

func faults(dst, src []byte, collect bool) (faulted bool) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if _, ok := recover().(interface{ Addr() uintptr }); ok {
			faulted = true
		}
		if len(src) == 9 && collect {
			runtime.GC()
		}
	}()
	CopyFrame(dst, src, 1, 2, 3, 4, 5)
	return false
}

//go:noinline
func descend(depth int, f func()) byte {
	var frame [64]byte
	if depth == 0 {
		f()
		return frame[0]
	}
	frame[depth%64] = byte(depth)
	return descend(depth-1, f) + frame[(depth+1)%64]
}
