package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/walq/walq/internal/limits"
)

// openWorks open a large log that was closed well, in a new process.
func openWorks() []Work {
	m := Mode{Bytes: 1 << 10, Appenders: 1}
	return []Work{{
		Name:  "open",
		About: "opening a large log of 1 KiB messages that was closed well, in a new process, files in the page cache; and by how much its resident memory grew",
		Disk:  true,
		Brief: true,
		Mode:  m,
		Run: func(ctx context.Context, e *Env, p Peer) ([]Metric, error) {
			if p.Serve != nil {
				return nil, notAvailable("the server has it open")
			}
			l, err := e.filled(ctx, p, m, e.Large)
			if err != nil {
				return nil, err
			}
			reports, err := together(ctx, e.patience(), Job{Role: "open", Peer: p.Name, At: Place{Dir: l.dir, Queue: "q"}, Mode: m})
			if err != nil {
				return nil, err
			}
			return reports[0].Metrics, nil
		},
	}}
}

// memoryWorks look at what a queue holds after it was used.
func memoryWorks() []Work {
	m := Mode{Bytes: 100, Appenders: 1}
	return []Work{{
		Name:  "memory",
		About: "memory that a process holds more than before it opened an empty queue, appended messages of 100 B and read them; garbage collected",
		Brief: true,
		Mode:  m,
		Run: func(ctx context.Context, e *Env, p Peer) (ms []Metric, err error) {
			if p.Serve != nil {
				return nil, notAvailable("the memory is the server's")
			}
			err = e.within(false, func(dir string) error {
				reports, err := together(ctx, e.patience(), Job{Role: "memory", Peer: p.Name, At: Place{Dir: dir, Queue: "q"}, Mode: m, Messages: min(e.Messages, 200_000)})
				if err == nil {
					ms = reports[0].Metrics
				}
				return err
			})
			return ms, err
		},
	}}
}

// diskWorks have no peers: they are what other rows are to be seen beside.
func diskWorks() []Work {
	return []Work{{
		Name:      "disk",
		About:     "the disk's own rate, sequential: written and synced, and read when dropped from the page cache",
		Disk:      true,
		Brief:     true,
		LimitName: "the disk",
		Limit: func(ctx context.Context, e *Env) ([]Metric, error) {
			write, read, err := limits.Disk(ctx, e.root[true], e.limitRoom())
			return []Metric{{"write", "MB/s", write / 1e6}, {"read", "MB/s", read / 1e6}}, err
		},
	}}
}

// floorWorks have no peers either: what one step of a queue costs at least.
func floorWorks() []Work {
	return []Work{{
		Name:      "floor",
		About:     "the least that a step of a queue can cost: an append of 100 B with its two atomic operations, into prepared pages and (without these operations) into fresh ones; a receive and acknowledge; a CAS; a reading of the clock",
		Brief:     true,
		LimitName: "the machine",
		Limit: func(ctx context.Context, e *Env) ([]Metric, error) {
			dir, room, d := e.root[false], e.limitRoom(), e.Time/5
			add, err := limits.Append(ctx, dir, 100, room, d)
			fresh, err2 := limits.CopyFresh(ctx, dir, 100, e.freshRoom())
			take, err3 := limits.Take(ctx, dir, 100, room, d)
			cas, err4 := limits.CompareAndSwap(ctx, d)
			clock, err5 := limits.Clock(ctx, d)
			return []Metric{
				{"append", "ns", add}, {"copy and CRC32C, fresh pages", "ns", fresh}, {"receive and ack", "ns", take}, {"CAS", "ns", cas}, {"clock", "ns", clock},
			}, errors.Join(err, err2, err3, err4, err5)
		},
	}, {
		Name:      "pages",
		About:     "the first use of a page of 4 KiB of a new file that is allocated and mapped: allocation, and the first store into each page, in memory and on the disk",
		Disk:      true,
		Brief:     true,
		LimitName: "the kernel",
		Limit: func(_ context.Context, e *Env) (ms []Metric, err error) {
			for _, place := range []struct{ name, dir string }{{"memory: " + fileSystem(e.Memory), e.root[false]}, {"disk: " + fileSystem(e.Dir), e.root[true]}} {
				allocate, write, err := limits.FreshPages(place.dir, e.freshRoom())
				if err != nil {
					return nil, err
				}
				ms = append(ms, Metric{place.name + ", allocate", "ns", allocate}, Metric{place.name + ", first store", "ns", write})
			}
			return ms, nil
		},
	}}
}

// openOnce opens a queue and looks what that took.
func openOnce(ctx context.Context, j Job, ready func() error) (r Outcome, err error) {
	if err := ready(); err != nil {
		return r, err
	}
	before, err := resident()
	if err != nil {
		return r, err
	}
	began := time.Now()
	q, err := j.open(ctx)
	if err != nil {
		return r, err
	}
	took := time.Since(began)
	defer func() { err = errors.Join(err, q.Close()) }()
	after, err := resident()
	r.Metrics = []Metric{
		{"", "ms", float64(took.Microseconds()) / 1e3},
		{"resident", "MiB", (after["VmRSS"] - before["VmRSS"]) / (1 << 20)},
	}
	return r, err
}

// holdMemory uses a queue and looks what memory that left.
func holdMemory(ctx context.Context, j Job, ready func() error) (r Outcome, err error) {
	if err := ready(); err != nil {
		return r, err
	}
	before, err := resident()
	if err != nil {
		return r, err
	}
	q, err := j.open(ctx)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	batch := bodies(body(j.Mode.Bytes), 100)
	for done := 0; done < j.Messages; done += len(batch) {
		if err := q.Append(batch[:min(len(batch), j.Messages-done)]); err != nil {
			return r, err
		}
	}
	if err := q.Replay(j.Messages, func([]byte) {}); err != nil {
		return r, err
	}
	runtime.GC()
	debug.FreeOSMemory()
	after, err := resident()
	r.Metrics = []Metric{
		{"private", "MiB", (after["RssAnon"] - before["RssAnon"]) / (1 << 20)},
		{"of files", "MiB", (after["RssFile"] + after["RssShmem"] - before["RssFile"] - before["RssShmem"]) / (1 << 20)},
	}
	return r, err
}

// resident is the memory of this process, in bytes, by the names of proc(5).
func resident() (map[string]float64, error) {
	f, err := os.Open("/proc/self/status")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	found := make(map[string]float64)
	for lines := bufio.NewScanner(f); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), ":")
		var kib float64
		if n, _ := fmt.Sscanf(strings.TrimSpace(value), "%f kB", &kib); n == 1 {
			found[name] = kib * 1024
		}
	}
	return found, nil
}
