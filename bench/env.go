package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// An Env is where and for how long measurements run.
type Env struct {
	Options
	root    map[bool]string // the directories of this run: on the disk, and in memory
	counter int
	logs    map[logKey]*log
}

// newEnv makes the directories. Close removes them.
func newEnv(o Options) (*Env, error) {
	e := &Env{Options: o, root: map[bool]string{}, logs: map[logKey]*log{}}
	for disk, parent := range map[bool]string{true: o.Dir, false: o.Memory} {
		dir, err := os.MkdirTemp(parent, "walq-bench-")
		if err != nil {
			return nil, errors.Join(err, e.Close())
		}
		e.root[disk] = dir
	}
	return e, nil
}

// Close removes all that the run has left.
func (e *Env) Close() error {
	var errs error
	for _, dir := range e.root {
		errs = errors.Join(errs, os.RemoveAll(dir))
	}
	return errs
}

// fresh makes an empty directory, and a function that removes it.
func (e *Env) fresh(disk bool) (dir string, remove func() error, err error) {
	e.counter++
	dir = filepath.Join(e.root[disk], fmt.Sprint(e.counter))
	return dir, func() error { return os.RemoveAll(dir) }, os.Mkdir(dir, 0o700)
}

// within makes an empty directory for f and removes it after.
func (e *Env) within(disk bool, f func(dir string) error) (err error) {
	dir, remove, err := e.fresh(disk)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	return f(dir)
}

// open opens a new queue of the peer for f and removes it after.
func (e *Env) open(ctx context.Context, p Peer, disk bool, m Mode, f func(q Queue) error) error {
	return e.within(disk, func(dir string) (err error) {
		q, err := p.open(ctx, Place{Dir: dir}, m)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, q.Close()) }()
		return f(q)
	})
}

// fileSystem names where a directory lies.
func fileSystem(dir string) string {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return err.Error()
	}
	names := map[int64]string{0xEF53: "ext4", 0x58465342: "xfs", 0x9123683E: "btrfs", 0x01021994: "tmpfs", 0x794c7630: "overlay"}
	if name, ok := names[int64(s.Type)]; ok {
		return name
	}
	return fmt.Sprintf("file system %#x", s.Type)
}

// touch writes n bytes of memory and gives them back: memory that the machine has
// not used lately is several times slower at first use, and whoever is measured
// first would pay for it.
func touch(n int64) error {
	const piece = 64 << 20
	var pieces [][]byte
	defer func() {
		for _, p := range pieces {
			_ = syscall.Munmap(p)
		}
	}()
	for done := int64(0); done < n; done += piece {
		p, err := syscall.Mmap(-1, 0, piece, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
		if err != nil {
			return fmt.Errorf("memory to touch: %w", err)
		}
		pieces = append(pieces, p)
		for i := 0; i < len(p); i += 4096 {
			p[i] = 1
		}
	}
	return nil
}

// body is what all messages carry: bytes that do not compress well.
func body(n int) []byte {
	b := make([]byte, n)
	x := uint64(0x9E3779B97F4A7C15)
	for i := range b {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b[i] = byte(x)
	}
	if n > 0 {
		b[0] = 0 // 1 is the last message of a producer
	}
	return b
}

// bodies are n of them, all the same memory.
func bodies(b []byte, n int) [][]byte {
	all := make([][]byte, n)
	for i := range all {
		all[i] = b
	}
	return all
}

// perMessage is nanoseconds per message.
func perMessage(d time.Duration, n int) float64 { return float64(d.Nanoseconds()) / float64(max(n, 1)) }
