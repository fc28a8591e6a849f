package limits

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/walq/walq/mmap"
)

// bounceFile holds the one word that two processes hand to and fro: odd is the
// echo's turn.
const bounceFile = "bounce"

const (
	bounceStart = 1 << 62 // the echo is there
	bounceStop  = 1 << 63 // the echo is to end
)

// Bounce hands one cache line to a second process and back, for the time d at
// most and as often as samples has room. Both spin. start starts the process
// that calls BounceEcho with the same directory. The samples are round trips in
// nanoseconds, one reading of the clock included.
func Bounce(ctx context.Context, dir string, d time.Duration, samples []int64, start func() error) (_ []int64, err error) {
	path := filepath.Join(dir, bounceFile)
	word, closed, err := bounceWord(dir, true)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closed(), os.Remove(path)) }()
	if err := start(); err != nil {
		return nil, err
	}
	defer word.Store(bounceStop)
	if !spinUntil(word, func(v uint64) bool { return v == bounceStart }) {
		return nil, errGone
	}
	word.Store(0)
	n, began := 0, time.Now()
	last := began
	for turn := uint64(1); n < len(samples); turn += 2 {
		word.Store(turn)
		if !spinUntil(word, func(v uint64) bool { return v == turn+1 }) {
			return nil, errGone
		}
		now := time.Now()
		samples[n] = now.Sub(last).Nanoseconds()
		n++
		if last = now; now.Sub(began) > d || ctx.Err() != nil {
			break
		}
	}
	return samples[:n], ctx.Err()
}

// BounceEcho is the second process of Bounce.
func BounceEcho(dir string) error {
	word, closed, err := bounceWord(dir, false)
	if err != nil {
		return err
	}
	word.Store(bounceStart)
	if !spinUntil(word, func(v uint64) bool { return v != bounceStart }) {
		return errors.Join(errGone, closed())
	}
	for v := uint64(0); ; {
		seen := v
		answered := spinUntil(word, func(now uint64) bool {
			v = now
			return now != seen && now&1 == 1 || now == bounceStop
		})
		if !answered {
			return errors.Join(errGone, closed())
		}
		if v == bounceStop {
			return closed()
		}
		// Not a plain store: the other process may have said stop meanwhile.
		word.CompareAndSwap(v, v+1)
	}
}

// spinUntil reports whether the word became what is wanted before the patience
// with the other process ended. It does not pause: nothing answers sooner.
func spinUntil(word *atomic.Uint64, wanted func(uint64) bool) bool {
	var began time.Time
	for {
		for range 1 << 14 {
			if wanted(word.Load()) {
				return true
			}
		}
		switch {
		case began.IsZero():
			began = time.Now()
		case time.Since(began) > patience:
			return false
		}
	}
}

func bounceWord(dir string, create bool) (*atomic.Uint64, func() error, error) {
	d, err := mmap.OpenDir(dir)
	if err != nil {
		return nil, nil, err
	}
	defer d.Close()
	open := func() (*mmap.File, error) { return d.Open(bounceFile, false) }
	if create {
		open = func() (*mmap.File, error) { return d.Create(bounceFile, 0o600) }
	}
	f, err := open()
	if err != nil {
		return nil, nil, err
	}
	if err := f.Allocate(0, mmap.PageSize); err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	r, err := f.Map(mmap.PageSize, false)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("limits: %w", err), f.Close())
	}
	return r.Word(0), func() error { r.Unmap(); return f.Close() }, nil
}
