// Package limits measures what the machine itself allows, so that a figure of a
// queue can stand beside the figure that no queue can beat: copying into a mapped
// file, a checksum, one cache line between two processors, one bare datagram
// between two processes, one bare sync, the disk's own rate.
//
// Each function is the least code that does the thing, and none of it is used by
// the queue. What needs a second process takes a function that starts one; that
// process calls the function of the same name that ends in Echo.
package limits

import (
	"context"
	"errors"
	"hash/fnv"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/walq/walq/internal/crc32c"
	"github.com/walq/walq/mmap"
)

// patience is how long two processes wait for one another before they say that
// the other is gone.
const patience = 10 * time.Second

var errGone = errors.New("limits: the other process does not answer")

// Quantiles are of durations in nanoseconds.
type Quantiles struct {
	P50, P99, P999, Max float64
}

// QuantilesOf sorts the samples. Without any all are zero.
func QuantilesOf(samples []int64) Quantiles {
	if len(samples) == 0 {
		return Quantiles{}
	}
	slices.Sort(samples)
	at := func(q float64) float64 { return float64(samples[int(q*float64(len(samples)-1))]) }
	return Quantiles{P50: at(0.5), P99: at(0.99), P999: at(0.999), Max: at(1)}
}

// repeat calls f with ascending numbers for the time d and returns nanoseconds
// per call. It looks at the clock once every chunk calls.
func repeat(ctx context.Context, d time.Duration, chunk int, f func(i int)) (float64, error) {
	if chunk < 1 {
		return 0, errors.New("limits: nothing to repeat")
	}
	began, n := time.Now(), 0
	for {
		for range chunk {
			f(n)
			n++
		}
		if spent := time.Since(began); spent >= d {
			return float64(spent.Nanoseconds()) / float64(n), nil
		}
		if err := ctx.Err(); err != nil {
			return 0, err
		}
	}
}

// frameBytes is what a message of so many bytes takes in a log of walq: the
// header of a frame, and padding to 8.
func frameBytes(size int) int64 { return int64(24+size+7) &^ 7 }

// file makes a file of n allocated bytes in dir and maps it. Its pages are there.
func file(dir string, n int64) (r *mmap.Region, remove func() error, err error) {
	if r, remove, err = untouched(dir, n); err == nil {
		r.Touch(0, n)
	}
	return r, remove, err
}

// untouched is file, but no page has been used.
func untouched(dir string, n int64) (r *mmap.Region, remove func() error, err error) {
	d, err := mmap.OpenDir(dir)
	if err != nil {
		return nil, nil, err
	}
	name := tempName(dir)
	f, err := d.Create(name, 0o600)
	if err != nil {
		return nil, nil, errors.Join(err, d.Close())
	}
	remove = func() error {
		if r != nil {
			r.Unmap()
		}
		return errors.Join(f.Close(), d.Unlink(name), d.Close())
	}
	if err = f.Allocate(0, n); err == nil {
		r, err = f.Map(n, false)
	}
	if err != nil {
		return nil, nil, errors.Join(err, remove())
	}
	return r, remove, nil
}

// tempName is a name in dir that nobody else has.
func tempName(dir string) string {
	for {
		name := "limit-" + time.Now().Format("150405.000000000")
		if _, err := os.Lstat(filepath.Join(dir, name)); errors.Is(err, os.ErrNotExist) {
			return name
		}
	}
}

// Copy is one writer's limit: it copies bodies of size bytes into a mapped file in
// dir whose pages are prepared, as far apart as a queue lays them, and computes the
// CRC32C of the mapped copy. room is how many bytes the file has; beyond it the
// copies begin again at the start, so give more than the processor's caches hold.
// It returns nanoseconds per body.
func Copy(ctx context.Context, dir string, size int, room int64, d time.Duration) (perBody float64, err error) {
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
	all, body, sum := r.Bytes(0, room), make([]byte, size), uint32(0)
	at := int64(0)
	perBody, err = repeat(ctx, d, min(n, 1024), func(int) {
		if at+step > room {
			at = 0
		}
		to := all[at+24 : at+24+int64(size)]
		copy(to, body)
		sum ^= crc32c.Update(0, to)
		at += step
	})
	keep(sum)
	return perBody, err
}

// Checksum is one reader's limit: the CRC32C of each of many bodies of size bytes
// that lie behind one another in room bytes of memory. It returns nanoseconds per
// body.
func Checksum(ctx context.Context, size int, room int64, d time.Duration) (perBody float64, err error) {
	step := frameBytes(size)
	n := int(room / step)
	if n < 1 {
		return 0, errors.New("limits: no room for one body")
	}
	all, sum, at := make([]byte, room), uint32(0), int64(0)
	for i := range all {
		all[i] = byte(i) // a page that was never written is not memory yet
	}
	perBody, err = repeat(ctx, d, min(n, 1024), func(int) {
		if at+step > room {
			at = 0
		}
		sum ^= crc32c.Update(0, all[at:at+24+int64(size)])
		at += step
	})
	keep(sum)
	return perBody, err
}

// Clock is what reading the clock costs, in nanoseconds: it is part of every
// latency of one call.
func Clock(ctx context.Context, d time.Duration) (perCall float64, err error) {
	var sum time.Duration
	base := time.Now()
	perCall, err = repeat(ctx, d, 1024, func(int) { sum ^= time.Since(base) })
	keep(uint32(sum))
	return perCall, err
}

// keep uses a result, so that the compiler does not leave out how it comes about.
func keep(sum uint32) {
	h := fnv.New32a()
	h.Write([]byte{byte(sum)})
	kept = h.Sum32()
}

var kept uint32
