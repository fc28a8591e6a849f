//go:build linux && (amd64 || arm64)

package mmap

import (
	"errors"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// guarded runs f as callers run what touches a mapping.
func guarded(f func()) (err error) {
	defer Recover(Protect(), &err)
	f()
	return nil
}

// panicOf is what f panics with.
func panicOf(f func()) (value any) {
	defer func() { value = recover() }()
	f()
	return nil
}

// truncated maps 4 pages of a file and then cuts it to one.
func truncated(t *testing.T) *Region {
	t.Helper()
	f, r := mapFile(t, 4*PageSize, 4*PageSize)
	if err := os.Truncate(f.Path(), PageSize); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestATruncatedFileIsAnErrorWithPathAndOffset(t *testing.T) {
	r := truncated(t)
	for _, off := range []int64{PageSize, 2*PageSize + 8, 4*PageSize - 8} {
		for name, access := range map[string]func(){
			"load":  func() { r.Word(off).Load() },
			"store": func() { r.Word(off).Store(1) },
			"cas":   func() { r.Word(off).CompareAndSwap(0, 1) },
			"bytes": func() { _ = string(r.Bytes(off, 8)) },
		} {
			var fault *FaultError
			err := guarded(access)
			if !errors.As(err, &fault) || !errors.Is(err, ErrFault) {
				t.Errorf("%s at %d: got %v, want a FaultError", name, off, err)
				continue
			}
			if fault.Path != r.Path() || fault.Offset != off || !strings.Contains(err.Error(), fault.Path) {
				t.Errorf("%s at %d: got offset %d of %s", name, off, fault.Offset, fault.Path)
			}
		}
	}
	var fault *FaultError
	if err := guarded(func() { sink = r.Bytes(PageSize+5, 1)[0] }); !errors.As(err, &fault) || fault.Offset != PageSize+5 {
		t.Errorf("a single byte: got %v, want offset %d", err, PageSize+5)
	}
	if err := guarded(func() { r.Word(PageSize - 8).Store(1) }); err != nil {
		t.Errorf("what is still there: %v", err)
	}
}

func TestAFaultNamesTheFileAsItIsCalledNow(t *testing.T) {
	r := truncated(t)
	r.Rename("/another/name")
	var fault *FaultError
	if err := guarded(func() { r.Word(PageSize).Load() }); !errors.As(err, &fault) || fault.Path != "/another/name" {
		t.Errorf("got %v", err)
	}
}

func TestAFaultIsFoundAmongManyMappings(t *testing.T) {
	var regions []*Region
	for range 20 {
		regions = append(regions, truncated(t))
	}
	for i := range regions {
		r := regions[(i*7)%len(regions)]
		var fault *FaultError
		if err := guarded(func() { r.Word(3 * PageSize).Load() }); !errors.As(err, &fault) || fault.Path != r.Path() || fault.Offset != 3*PageSize {
			t.Errorf("got %v, want offset %d of %s", err, 3*PageSize, r.Path())
		}
	}
}

func TestGuardsNest(t *testing.T) {
	r := truncated(t)
	was := debug.SetPanicOnFault(false)
	defer debug.SetPanicOnFault(was)
	err := guarded(func() {
		if err := guarded(func() { r.Word(PageSize).Load() }); !errors.Is(err, ErrFault) {
			t.Errorf("inner: got %v", err)
		}
		// The inner guard left the outer one in force: this does not end the
		// process.
		r.Word(2 * PageSize).Load()
	})
	var fault *FaultError
	if !errors.As(err, &fault) || fault.Offset != 2*PageSize {
		t.Errorf("outer: got %v", err)
	}
	if debug.SetPanicOnFault(false) {
		t.Error("the guard did not restore the setting")
	}
}

func TestPanicsOfOthersPassThroughUnchanged(t *testing.T) {
	mine := errors.New("of the user")
	if got := panicOf(func() { _ = guarded(func() { panic(mine) }) }); got != any(mine) {
		t.Errorf("a user's panic: got %v", got)
	}
	var nothing *struct{ field int }
	got := panicOf(func() { _ = guarded(func() { nothing.field++ }) })
	if fault, ok := got.(runtime.Error); !ok || !strings.Contains(fault.Error(), "nil pointer") {
		t.Errorf("a nil pointer: got %v", got)
	}
	got = panicOf(func() { _ = guarded(func() { _ = make([]int, 1)[len(os.Args)] }) })
	if fault, ok := got.(runtime.Error); !ok || !strings.Contains(fault.Error(), "out of range") {
		t.Errorf("an index: got %v", got)
	}
}

// TestFaultsInMappingsOfOthersPassThrough: what another library mapped is its
// own affair.
func TestFaultsInMappingsOfOthersPassThrough(t *testing.T) {
	mapFile(t, PageSize, PageSize) // ours lie on both sides of it
	f := create(t, openDir(t, t.TempDir()), "file", make([]byte, 2*PageSize))
	mem, err := unix.Mmap(f.fd, 0, 2*PageSize, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { ok(t, func() error { return unix.Munmap(mem) }) }()
	mapFile(t, PageSize, PageSize)
	if err := os.Truncate(f.Path(), 0); err != nil {
		t.Fatal(err)
	}
	var got error
	fault, isError := panicOf(func() { got = guarded(func() { sink = mem[PageSize] }) }).(runtime.Error)
	if !isError || got != nil || errors.Is(fault, ErrFault) {
		t.Errorf("got %v, error %v", fault, got)
	}
}

var sink byte

func TestGoexitPassesThrough(t *testing.T) {
	ended, returned := make(chan struct{}), false
	go func() {
		defer close(ended)
		_ = guarded(func() { runtime.Goexit() })
		returned = true
	}()
	<-ended
	if returned {
		t.Error("the goroutine went on")
	}
}

func TestTheGuardKeepsAnErrorThatIsReturned(t *testing.T) {
	mine := errors.New("returned")
	err := func() (err error) {
		defer Recover(Protect(), &err)
		return mine
	}()
	if err != mine {
		t.Errorf("got %v", err)
	}
}
