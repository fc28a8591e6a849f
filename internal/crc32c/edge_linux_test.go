package crc32c

import (
	"hash/crc32"
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"
)

// What is summed may end right before memory that is not there, as the content of a frame at
// the end of a segment does, and begin right behind such.
func TestNothingOutsideIsRead(t *testing.T) {
	const most = 5000
	page := unix.Getpagesize()
	room := (most + 64 + page - 1) / page * page
	p, err := unix.Mmap(-1, 0, room+2*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Munmap(p); err != nil {
			t.Error(err)
		}
	}()
	for _, edge := range [][]byte{p[:page], p[page+room:]} {
		if err := unix.Mprotect(edge, unix.PROT_NONE); err != nil {
			t.Fatal(err)
		}
	}
	in := p[page : page+room]
	random := rand.New(rand.NewPCG(9, 10))
	for i := range in {
		in[i] = byte(random.Uint32())
	}
	for _, impl := range implementations {
		t.Run(impl.name, func(t *testing.T) {
			for n := range most + 1 {
				for shift := range 9 { // every alignment of the end, and of the beginning
					for _, q := range [][]byte{in[len(in)-shift-n:][:n], in[shift:][:n]} {
						if shift > 0 && testing.Short() {
							continue
						}
						crc := uint32(n)*2654435761 ^ uint32(shift)
						if got, want := impl.update(crc, q), crc32.Update(crc, castagnoli, q); got != want {
							t.Fatalf("length %d, shift %d: got %#x, want %#x", n, shift, got, want)
						}
						sum := uint64(crc32.Checksum(q, castagnoli))
						if got, want := impl.frame(1, 2, 3, 4, 5, q), wantWords5(1, 2, 3, 4|sum<<32, 5); got != want {
							t.Fatalf("frame of %d bytes, shift %d: got %#x, want %#x", n, shift, got, want)
						}
					}
				}
			}
		})
	}
}
