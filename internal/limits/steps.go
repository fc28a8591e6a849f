package limits

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/walq/walq/internal/crc32c"
	"github.com/walq/walq/mmap"
)

// Append is the floor of one append: Copy, and the two atomic operations that no
// queue of several processes can leave out, on the word before the body: one that
// makes the place the writer's, one that says that it is filled. It returns
// nanoseconds per body.
func Append(ctx context.Context, dir string, size int, room int64, d time.Duration) (perBody float64, err error) {
	step := frameBytes(size)
	n := int(room / step)
	if n < 1 {
		return 0, errors.New("limits: no room for one body")
	}
	r, remove, err := file(dir, room)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	all, body, at := r.Bytes(0, room), make([]byte, size), int64(0)
	return repeat(ctx, d, min(n, 1024), func(i int) {
		if at+step > room {
			at = 0
		}
		word := r.Word(at)
		word.CompareAndSwap(word.Load(), uint64(i)<<33)
		to := all[at+24 : at+24+int64(size)]
		copy(to, body)
		word.Store(uint64(i)<<33 | 1<<32 | uint64(crc32c.Update(0, to)))
		at += step
	})
}

// Take is the floor of receiving one message and acknowledging it: CRC32C of a mapped
// body and a copy of it into new memory, one atomic operation on the message's word in
// a mapped ring to take it and one to finish it, and one reading of the clock, for the
// end of the lease. It returns nanoseconds per message.
func Take(ctx context.Context, dir string, size int, room int64, d time.Duration) (perMessage float64, err error) {
	step := frameBytes(size)
	n := int(room / step)
	if n < 1 {
		return 0, errors.New("limits: no room for one body")
	}
	r, remove, err := file(dir, room)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	ring, removeRing, err := file(dir, ringWords*8)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, removeRing()) }()
	all, at, sum, base := r.Bytes(0, room), int64(0), uint32(0), time.Now()
	var owned []byte
	perMessage, err = repeat(ctx, d, min(n, 1024), func(i int) {
		if at+step > room {
			at = 0
		}
		word := ring.Word(int64(i%ringWords) * 8)
		free := word.Load()
		lease := uint64(time.Since(base)) | 1<<63
		word.CompareAndSwap(free, lease)
		body := all[at+24 : at+24+int64(size)]
		sum ^= crc32c.Update(0, body)
		owned = append([]byte(nil), body...)
		word.CompareAndSwap(lease, uint64(i))
		at += step
	})
	keep(sum ^ uint32(len(owned)))
	return perMessage, err
}

// ringWords is as many as a group of walq has by default.
const ringWords = 4096

// CompareAndSwap is one on a word of this processor's own, in nanoseconds.
func CompareAndSwap(ctx context.Context, d time.Duration) (perCall float64, err error) {
	var word atomic.Uint64
	return repeat(ctx, d, 1024, func(i int) { word.CompareAndSwap(uint64(i), uint64(i+1)) })
}

// FreshPages is what the first use of a page of a new file in dir costs, in nanoseconds
// per page of 4096 bytes: it allocates a file of room bytes, maps it, and writes one
// word into each page. allocate and write are the two parts.
func FreshPages(dir string, room int64) (allocate, write float64, err error) {
	pages := float64(room / mmap.PageSize)
	if pages < 1 {
		return 0, 0, errors.New("limits: no room for one page")
	}
	began := time.Now()
	r, remove, err := untouched(dir, room)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	allocated := time.Now()
	for at := int64(0); at < room; at += mmap.PageSize {
		r.Word(at).Store(1)
	}
	return float64(allocated.Sub(began).Nanoseconds()) / pages, float64(time.Since(allocated).Nanoseconds()) / pages, nil
}

// CopyFresh is Copy once through a file whose pages nobody has used yet: allocated and
// mapped, and that is not in the time. It returns nanoseconds per body.
func CopyFresh(ctx context.Context, dir string, size int, room int64) (perBody float64, err error) {
	step := frameBytes(size)
	n := room / step
	if n < 1 {
		return 0, errors.New("limits: no room for one body")
	}
	r, remove, err := untouched(dir, room)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	all, body, sum := r.Bytes(0, room), make([]byte, size), uint32(0)
	began := time.Now()
	for at := int64(0); at+step <= room; at += step {
		to := all[at+24 : at+24+int64(size)]
		copy(to, body)
		sum ^= crc32c.Update(0, to)
	}
	perBody = float64(time.Since(began).Nanoseconds()) / float64(n)
	keep(sum)
	return perBody, ctx.Err()
}
