//go:build linux && (amd64 || arm64)

package mmap

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/walq/walq/internal/testx"
)

// regions are one of each kind, of the same size.
func regions(t *testing.T, size int64) map[string]*Region {
	_, file := mapFile(t, size, size)
	return map[string]*Region{"heap": Heap(size), "file": file}
}

func TestAWordThatIsNotInTheRegionPanics(t *testing.T) {
	const size = 2 * PageSize
	for name, r := range regions(t, size) {
		for _, off := range []int64{
			1, 2, 4, 7, 9, size - 1, size - 4, size, size + 8, size - 7, -8, -1,
			math.MinInt64, math.MaxInt64, math.MaxInt64 - 7, 1 << 40,
		} {
			if panicOf(func() { r.Word(off) }) == nil {
				t.Errorf("%s: word at %d: no panic", name, off)
			}
		}
		for _, off := range []int64{0, 8, size - 8} {
			if p := panicOf(func() { r.Word(off).Add(1) }); p != nil {
				t.Errorf("%s: word at %d: %v", name, off, p)
			}
		}
	}
}

func TestAWordMustFitARegionOfOddSize(t *testing.T) {
	r := Heap(12)
	if panicOf(func() { r.Word(8) }) == nil {
		t.Error("half a word: no panic")
	}
	if p := panicOf(func() { r.Word(0).Add(1) }); p != nil {
		t.Error(p)
	}
}

func TestBytesThatAreNotInTheRegionPanic(t *testing.T) {
	const size = PageSize
	for name, r := range regions(t, size) {
		for _, c := range [][2]int64{{0, size + 1}, {size, 1}, {-1, 2}, {8, -1}, {8, math.MaxInt64}, {1 << 40, 0}} {
			if panicOf(func() { r.Bytes(c[0], c[1]) }) == nil {
				t.Errorf("%s: %d bytes at %d: no panic", name, c[1], c[0])
			}
		}
		if p := r.Bytes(8, 16); len(p) != 16 || cap(p) != 16 {
			t.Errorf("%s: got length %d, capacity %d, want both 16", name, len(p), cap(p))
		}
	}
}

func TestAWordAfterUnmapPanics(t *testing.T) {
	for name, r := range regions(t, PageSize) {
		r.Unmap()
		r.Unmap() // idempotent
		if panicOf(func() { r.Word(0) }) == nil {
			t.Errorf("%s: no panic", name)
		}
	}
}

func TestAWordIsTheEightBytesInLittleEndian(t *testing.T) {
	for name, r := range regions(t, PageSize) {
		r.Word(16).Store(0x0123456789abcdef)
		if got := binary.LittleEndian.Uint64(r.Bytes(16, 8)); got != 0x0123456789abcdef {
			t.Errorf("%s: got %#x", name, got)
		}
	}
}

func TestMappingsOfAFileAreTheSameMemoryAndTheFile(t *testing.T) {
	f, r := mapFile(t, 2*PageSize, 2*PageSize)
	other, err := f.Map(2*PageSize, true)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Unmap()
	if !other.ReadOnly() || r.ReadOnly() {
		t.Error("which of them is read-only is confused")
	}
	r.Word(PageSize).Store(42)
	if got := other.Word(PageSize).Load(); got != 42 {
		t.Errorf("in the other mapping: got %d, want 42", got)
	}
	if err := r.Flush(PageSize, 8); err != nil {
		t.Error(err)
	}
	p := make([]byte, 8)
	if _, err := f.ReadAt(p, PageSize); err != nil || p[0] != 42 {
		t.Errorf("in the file: got %x, %v", p, err)
	}
	if err := errors.Join(r.Flush(0, 2*PageSize), r.Flush(2*PageSize-1, 1), r.Flush(5, 0), r.Random(), r.Prefetch(0, 100)); err != nil {
		t.Error(err)
	}
}

func TestAMappingOutlivesTheFileAndItsName(t *testing.T) {
	d := openDir(t, t.TempDir())
	f, err := d.Create("file", 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Allocate(0, PageSize); err != nil {
		t.Fatal(err)
	}
	r, err := f.Map(PageSize, false)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Unmap()
	if err := errors.Join(f.Close(), d.Unlink("file")); err != nil {
		t.Fatal(err)
	}
	r.Word(0).Store(7)
	if err := r.Flush(0, PageSize); err != nil || r.Word(0).Load() != 7 {
		t.Errorf("got %d, %v", r.Word(0).Load(), err)
	}
}

func TestAllocateExtendsAFileAndLeavesWhatIsThere(t *testing.T) {
	f, r := mapFile(t, 100, 4*PageSize)
	r.Word(0).Store(1)
	if err := f.Allocate(0, 3*PageSize); err != nil {
		t.Fatal(err)
	}
	size, err := f.Size()
	var st syscall.Stat_t
	if serr := syscall.Stat(f.Path(), &st); size != 3*PageSize || err != nil || serr != nil || st.Blocks*512 < 3*PageSize {
		t.Errorf("size %d (%v), %d bytes on disk (%v), want %d", size, err, st.Blocks*512, serr, 3*PageSize)
	}
	if r.Word(0).Load() != 1 || r.Word(3*PageSize-8).Load() != 0 {
		t.Error("allocating changed what was there, or the rest is not zero")
	}
	if err := f.Allocate(PageSize, PageSize); err != nil {
		t.Error(err)
	}
	if size, err := f.Size(); size != 3*PageSize || err != nil {
		t.Errorf("allocating within the file: size %d, %v", size, err)
	}
}

func TestAStartedWriteChangesNothing(t *testing.T) {
	f, r := mapFile(t, 100, 4*PageSize)
	if err := f.Allocate(0, 3*PageSize); err != nil {
		t.Fatal(err)
	}
	r.Word(PageSize).Store(7)
	if err := f.StartWrite(PageSize, 2*PageSize); err != nil {
		t.Error(err)
	}
	if err := f.StartWrite(8*PageSize, PageSize); err != nil { // past the end: there is nothing to write
		t.Error(err)
	}
	if got := r.Word(PageSize).Load(); got != 7 {
		t.Errorf("got %d, want 7", got)
	}
	r.Word(PageSize).Store(8)
	if err := r.Flush(PageSize, PageSize); err != nil {
		t.Error(err)
	}
	var b [8]byte
	if _, err := f.ReadAt(b[:], PageSize); err != nil || b[0] != 8 {
		t.Errorf("got %d, %v, want 8", b[0], err)
	}
}

// What cannot be started anywhere is no failure of the disk, all else may be.
func TestAStartedWriteTellsWhatMayBeAFailureOfTheDisk(t *testing.T) {
	var ends [2]int
	if err := syscall.Pipe2(ends[:], syscall.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	pipe := &File{ends[1], "pipe"}
	defer func() { ok(t, pipe.Close); ok(t, func() error { return syscall.Close(ends[0]) }) }()
	if err := pipe.StartWrite(0, PageSize); err != nil {
		t.Errorf("a pipe: got %v, want nil", err)
	}
	f, _ := mapFile(t, 100, PageSize)
	if err := f.StartWrite(-PageSize, PageSize); err != nil {
		t.Errorf("no range: got %v, want nil", err)
	}
	var path *PathError
	if err := (&File{-1, "gone"}).StartWrite(0, PageSize); !errors.Is(err, syscall.EBADF) || !errors.As(err, &path) || path.Path != "gone" {
		t.Errorf("got %v, want EBADF with the path", err)
	}
}

func TestAFullDiskIsTold(t *testing.T) {
	f := create(t, openDir(t, mount(t, "tmpfs", "size=1m")), "file", nil)
	err := f.Allocate(0, 2<<20)
	var path *PathError
	if !errors.Is(err, ErrDiskFull) || !errors.Is(err, syscall.ENOSPC) || !errors.As(err, &path) || path.Path != f.Path() {
		t.Errorf("got %v", err)
	}
	if err := f.Allocate(0, 1<<19); err != nil {
		t.Errorf("half of it: %v", err)
	}
}

// TestTouchLosesNoStore: others count in the words that Touch adds zero to.
func TestTouchLosesNoStore(t *testing.T) {
	const size, each, workers = 4 * PageSize, 20_000, 3
	for name, r := range regions(t, size) {
		var counting, touching sync.WaitGroup
		var stop = make(chan struct{})
		touching.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					r.Touch(0, size)
				}
			}
		})
		for w := range workers {
			counting.Go(func() {
				for i := range int64(each) {
					r.Word(i % 4 * PageSize).Add(1)
					r.Word(int64(8 + 8*w)).Store(uint64(i))
				}
			})
		}
		counting.Wait()
		close(stop)
		touching.Wait()
		for page := range int64(4) {
			if got := r.Word(page * PageSize).Load(); got != each*workers/4 {
				t.Errorf("%s, page %d: got %d, want %d", name, page, got, each*workers/4)
			}
		}
	}
}

func TestTouchChangesNothingAndReachesItsRangeOnly(t *testing.T) {
	_, r := mapFile(t, 2*PageSize, 4*PageSize) // the last two pages fault
	for i := range int64(2 * PageSize / 8) {
		r.Word(8 * i).Store(uint64(i))
	}
	if err := guarded(func() { r.Touch(100, 2*PageSize-100) }); err != nil {
		t.Error(err)
	}
	for i := range int64(2 * PageSize / 8) {
		if got := r.Word(8 * i).Load(); got != uint64(i) {
			t.Fatalf("word at %d: got %d, want %d", 8*i, got, i)
		}
	}
	if err := guarded(func() { r.Touch(100, 2*PageSize) }); !errors.Is(err, ErrFault) {
		t.Errorf("beyond the file: got %v, want a fault", err)
	}
}

// The kernel says of every page that it is there, to whoever may not write the file.
func TestAStrangerIsNotToldThatPagesAreCached(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can become another user")
	}
	const size = 64 << 10
	f, w := mapFile(t, size, size)
	w.Touch(0, size)
	r, err := f.Map(size, true)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Unmap()
	if !r.Cached(0, size) {
		t.Error("the owner is not told that pages are there that were touched a moment ago")
	}
	told := make(chan bool)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends as a stranger
		const nobody = 65534
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), nobody, ^uintptr(0)); errno != 0 {
			t.Error(errno)
		}
		told <- r.Cached(0, size)
	}()
	if <-told {
		t.Error("a stranger is told so, who would be told the same if they were not")
	}
}

// Advice changes how fast memory is, and nothing else.
func TestAdviceChangesNoByte(t *testing.T) {
	const size = 4 << 20
	_, r := mapFile(t, size, size)
	r.Touch(0, size)
	r.Word(size / 2).Store(42)
	if !r.Cached(0, size) || !r.Cached(size/2, 1) || !r.Cached(0, 0) {
		t.Error("pages that were touched a moment ago are not in memory")
	}
	ok(t, func() error { return r.Prefetch(0, size) })
	if got := r.Word(size / 2).Load(); got != 42 {
		t.Errorf("got %d, want 42", got)
	}
}

func TestUnmapGivesTheMappingBack(t *testing.T) {
	before := Mappings()
	_, a := mapFile(t, PageSize, PageSize)
	_, b := mapFile(t, PageSize, PageSize)
	if got := Mappings(); got != before+2 {
		t.Errorf("got %d mappings, want %d", got, before+2)
	}
	a.Unmap()
	b.Unmap()
	a.Unmap()
	if got := Mappings(); got != before {
		t.Errorf("got %d mappings, want %d", got, before)
	}
}

func TestAForgottenRegionIsUnmapped(t *testing.T) {
	before := Mappings()
	f := create(t, openDir(t, t.TempDir()), "file", make([]byte, PageSize))
	func() {
		for range 3 {
			r, err := f.Map(PageSize, false)
			if err != nil {
				t.Fatal(err)
			}
			r.Word(0).Add(1)
		}
	}()
	testx.Eventually(t, 30*time.Second, func() bool { runtime.GC(); return Mappings() == before }, "dropped regions are still mapped")
}

func TestAMappingThatIsInUseIsNotUnmapped(t *testing.T) {
	_, r := mapFile(t, PageSize, PageSize)
	before := Mappings()
	for range 5 {
		runtime.GC()
	}
	if Mappings() != before {
		t.Error("a region in use was unmapped")
	}
	r.Word(0).Store(1)
}

func TestASizeThatCannotBeMappedIsAnError(t *testing.T) {
	f, _ := mapFile(t, PageSize, PageSize)
	for _, size := range []int64{0, -1, 1<<40 + 1, math.MaxInt64} {
		if r, err := f.Map(size, false); err == nil || r != nil || !strings.Contains(err.Error(), f.Path()) {
			t.Errorf("size %d: got %v", size, err)
		}
	}
}

func TestACopyIsWhatTheFileHolds(t *testing.T) {
	d := openDir(t, t.TempDir())
	for _, n := range []int{0, 1, 8, 100, PageSize + 3} {
		content := bytes.Repeat([]byte("walq"), n)[:n]
		f := create(t, d, fmt.Sprintf("f%d", n), content)
		before := Mappings()
		r, err := f.Copy()
		if err != nil {
			t.Fatal(err)
		}
		got := r.Bytes(0, r.Len())
		if !bytes.Equal(got[:n], content) || r.Len() != max(int64(n), 8) || r.Path() != f.Path() || Mappings() != before {
			t.Errorf("%d bytes: got %q of %s, %d mappings more", n, got, r.Path(), Mappings()-before)
		}
		r.Bytes(0, 1)[0]++ // ordinary memory: the file does not change
		p := make([]byte, n)
		if _, err := f.ReadAt(p, 0); err != nil || !bytes.Equal(p, content) {
			t.Errorf("%d bytes: the file is now %q, %v", n, p, err)
		}
	}
}

func TestReadAtTellsTheEnd(t *testing.T) {
	f := create(t, openDir(t, t.TempDir()), "file", []byte("12345"))
	p := make([]byte, 10)
	if n, err := f.ReadAt(p, 2); n != 3 || err != io.EOF || string(p[:n]) != "345" {
		t.Errorf("got %d, %v, %q", n, err, p[:n])
	}
}

func TestAFileKnowsItself(t *testing.T) {
	d := openDir(t, t.TempDir())
	f := create(t, d, "file", []byte("x"))
	other := create(t, d, "other", nil)
	if err := d.Link("file", "second"); err != nil {
		t.Fatal(err)
	}
	again, err := d.Open("second", true)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { ok(t, again.Close) }()
	id, err1 := f.ID()
	same, err2 := again.ID()
	different, err3 := other.ID()
	if id != same || id == different || errors.Join(err1, err2, err3) != nil {
		t.Errorf("ids %v, %v, %v", id, same, different)
	}
	if o, err := f.Owner(); o.UID != uint32(os.Geteuid()) || err != nil {
		t.Errorf("owner: got %+v, %v", o, err)
	}
}
