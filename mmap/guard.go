package mmap

import (
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
)

// The guard. A load from a mapping can fault: an outsider truncated the file,
// or the disk cannot read the page. Without help the Go runtime ends the
// process. Usage, once per call or loop that touches mapped memory:
//
//	defer mmap.Recover(mmap.Protect(), &err)
//
// Faults elsewhere and all other panics are passed on unchanged.

// Protect makes faults of this goroutine panic instead of ending the process
// and returns the former setting, which Recover restores.
func Protect() (was bool) { return debug.SetPanicOnFault(true) }

// Unprotect restores what Protect returned, where no panic can be under way: it
// spares the price of recover.
func Unprotect(was bool) { debug.SetPanicOnFault(was) }

// Recover must be deferred directly. It restores the setting that Protect
// returned; if the goroutine panics because of a fault inside a mapping of
// this package, it stops the panic and sets *err to a *FaultError.
func Recover(was bool, err *error) {
	debug.SetPanicOnFault(was)
	if p := recover(); p != nil {
		*err = faultOrPanic(p)
	}
}

func faultOrPanic(p any) error {
	if fault, ok := p.(interface {
		runtime.Error
		Addr() uintptr
	}); ok {
		if m, ok := mapped.find(fault.Addr()); ok {
			return &FaultError{Path: m.path, Offset: int64(fault.Addr() - m.start)}
		}
	}
	panic(p)
}

// mapped lists the live mappings, so that a fault can be told from a bug. It
// holds addresses only: it keeps no region alive.
var mapped registry

type mapping struct {
	start, end uintptr
	path       string
}

type registry struct {
	mu   sync.Mutex
	list atomic.Pointer[[]mapping] // sorted by start, replaced and never changed
}

func (g *registry) update(f func([]mapping) []mapping) {
	g.mu.Lock()
	defer g.mu.Unlock()
	var old []mapping
	if p := g.list.Load(); p != nil {
		old = *p
	}
	list := f(slices.Clone(old))
	g.list.Store(&list)
}

func byStart(m mapping, start uintptr) int {
	switch {
	case m.start < start:
		return -1
	case m.start > start:
		return 1
	}
	return 0
}

func (g *registry) add(m mapping) {
	g.update(func(l []mapping) []mapping {
		i, _ := slices.BinarySearchFunc(l, m.start, byStart)
		return slices.Insert(l, i, m)
	})
}

func (g *registry) remove(start uintptr) {
	g.update(func(l []mapping) []mapping {
		if i, ok := slices.BinarySearchFunc(l, start, byStart); ok {
			l = slices.Delete(l, i, i+1)
		}
		return l
	})
}

func (g *registry) rename(start uintptr, path string) {
	g.update(func(l []mapping) []mapping {
		if i, ok := slices.BinarySearchFunc(l, start, byStart); ok {
			l[i].path = path
		}
		return l
	})
}

func (g *registry) find(addr uintptr) (mapping, bool) {
	p := g.list.Load()
	if p == nil {
		return mapping{}, false
	}
	i, ok := slices.BinarySearchFunc(*p, addr, byStart)
	if !ok {
		i--
	}
	if i >= 0 && addr < (*p)[i].end {
		return (*p)[i], true
	}
	return mapping{}, false
}

// Mappings is the number of live mappings of this process, for tests that look
// for leaks.
func Mappings() int {
	if p := mapped.list.Load(); p != nil {
		return len(*p)
	}
	return 0
}
