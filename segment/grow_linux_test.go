//go:build linux && (amd64 || arm64)

package segment

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/walq/walq/internal/testx"
	"github.com/walq/walq/mmap"
)

// made makes a segment's file in dir.
func made(t *testing.T, dir *mmap.Dir, size, extent int64) *Segment {
	t.Helper()
	s, err := Create(dir, "tmp.0.1.1", 0o600, size, extent)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	s.SetHeader(header(size))
	return s
}

// wantAllocated checks that what is said to exist does, on disk.
func wantAllocated(t *testing.T, s *Segment, want int64) {
	t.Helper()
	size, err := s.File().Size()
	if err != nil || s.Allocated() != want || size != want {
		t.Errorf("allocated %d, the file has %d (%v), want %d", s.Allocated(), size, err, want)
	}
	var st syscall.Stat_t
	if err := syscall.Stat(s.Path(), &st); err != nil || st.Blocks*512 < want {
		t.Errorf("%d bytes on disk (%v), want %d", st.Blocks*512, err, want)
	}
}

func TestANewSegmentHasRoomForAnExtent(t *testing.T) {
	for _, c := range []struct{ size, extent, want int64 }{
		{1 << 20, 0, 8192 + 64<<10},
		{1 << 20, 100_000, 8192 + 102_400},
		{1 << 20, 1 << 30, 1 << 20},
		{MinSize, 0, MinSize},
	} {
		wantAllocated(t, made(t, openDir(t, t.TempDir()), c.size, c.extent), c.want)
	}
}

func TestGrowingDoublesTheRoomUpToAnExtent(t *testing.T) {
	const size = 64 << 20
	s := made(t, openDir(t, t.TempDir()), size, 0)
	want := s.Allocated()
	for want < size {
		room := min(want-s.start, maxExtentBytes)
		if s.File().InMemory() {
			room = min(room, mmap.LargePage)
		}
		want += room
		if want > mmap.LargePage { // whole ones
			want = (want + mmap.LargePage - 1) &^ (mmap.LargePage - 1)
		}
		want = min(want, size)
		if err := s.Grow(s.Allocated() + 1); err != nil {
			t.Fatal(err)
		}
		if s.Allocated() != want {
			t.Fatalf("allocated %d, want %d", s.Allocated(), want)
		}
	}
	wantAllocated(t, s, size)
	if err := s.Grow(size); err != nil {
		t.Error(err)
	}
}

func TestGrowingGoesAsFarAsIsAskedFor(t *testing.T) {
	s := made(t, openDir(t, t.TempDir()), 8<<20, 0)
	if err := s.Grow(5<<20 + 1); err != nil {
		t.Fatal(err)
	}
	wantAllocated(t, s, 5<<20+4096)
	before := s.Allocated()
	if err := s.Grow(100); err != nil || s.Allocated() != before {
		t.Errorf("allocated %d, %v, want no change", s.Allocated(), err)
	}
}

func TestManyMayGrowAtOnce(t *testing.T) {
	s := made(t, openDir(t, t.TempDir()), 4<<20, 0)
	var wg sync.WaitGroup
	for i := range int64(8) {
		wg.Go(func() {
			for end := s.start + i*1000; end < 4<<20; end += 100_000 {
				if err := s.Grow(end); err != nil || s.Allocated() < end {
					t.Errorf("allocated %d, %v, want %d", s.Allocated(), err, end)
					return
				}
			}
		})
	}
	wg.Wait()
	wantAllocated(t, s, s.Allocated())
}

// tmpfs mounts a file system of this size, which goes away with the test.
func tmpfs(t *testing.T, options string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		testx.Skip(t, "mounting a file system needs root")
	}
	dir := filepath.Join(t.TempDir(), "mnt")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("walq-test", dir, "tmpfs", 0, options); err != nil {
		testx.Skip(t, "cannot mount a tmpfs: "+err.Error())
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestAFullDiskIsSaidBeforeAnythingIsClaimed(t *testing.T) {
	s := made(t, openDir(t, tmpfs(t, "size=1m")), 4<<20, 0)
	c := s.Start()
	w := MakeWord(Claimed, 1, 1, 10_000)
	for range 1000 {
		err := s.Grow(c.Off + w.Size() + SealBytes)
		if errors.Is(err, mmap.ErrDiskFull) {
			break
		}
		if err != nil || !s.TryClaim(c.Off, w) {
			t.Fatal(err)
		}
		s.Fill(c, w, KindMessage, 1, nil, make([]byte, 10_000)) // would end the process if the disk had no room
		s.Commit(c.Off, w)
		c = c.After(w)
	}
	if used := s.Allocated(); used < 1<<20-64<<10 || used > 1<<20 {
		t.Errorf("of 1 MiB %d bytes were used", used)
	}
	if end, there, err := s.Walk(s.Start()); end != c || there != 0 || err != nil {
		t.Errorf("the log ends at %+v with %v, %v, want %+v free", end, there, err, c)
	}
	if !s.TrySeal(c.Off, 1) {
		t.Error("no room was kept for the SEAL")
	}
}

func TestAFullDiskLeavesNoHalfMadeFile(t *testing.T) {
	dir := openDir(t, tmpfs(t, "size=64k"))
	if _, err := Create(dir, "tmp.0.1.1", 0o600, 1<<20, 0); !errors.Is(err, mmap.ErrDiskFull) {
		t.Errorf("got %v, want a full disk", err)
	}
	if names, err := dir.Names(); len(names) != 0 || err != nil {
		t.Errorf("left behind: %v, %v", names, err)
	}
}

func TestALittleRoomIsEnoughToBegin(t *testing.T) {
	dir := openDir(t, tmpfs(t, "size=128k"))
	s := made(t, dir, 4<<20, 1<<20)
	if got, want := s.Allocated(), s.start+firstExtentBytes; got != want {
		t.Errorf("allocated %d, want %d", got, want)
	}
}

func TestASegmentIsFoundAgainInItsFile(t *testing.T) {
	dir := openDir(t, t.TempDir())
	s := made(t, dir, 1<<20, 0)
	c := put(t, s, s.Start(), KindMessage, 1, []byte("m"), []byte("in a file"))
	if err := s.FlushShared(); err != nil {
		t.Fatal(err)
	}
	again, err := Open(dir, "tmp.0.1.1", true)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := again.Close(); err != nil {
			t.Error(err)
		}
	}()
	if f, err := again.checkFrame(again.Start()); err != nil || string(f.Body) != "in a file" || again.Header != s.Header {
		t.Errorf("got %+v, %v", f, err)
	}
	// Another mapping of the same file: what is appended is there at once.
	put(t, s, c, KindMessage, 1, nil, []byte("later"))
	if f, err := again.checkFrame(c); err != nil || string(f.Body) != "later" {
		t.Errorf("got %+v, %v", f, err)
	}
}

// TestAfterAPowerLossTheFileTellsWhereItEnds: the allocated word may be older
// or newer than the file's size.
func TestAfterAPowerLossTheFileTellsWhereItEnds(t *testing.T) {
	for _, allocated := range []uint64{0, 8192, 1 << 20, 1<<64 - 1} {
		s := made(t, openDir(t, t.TempDir()), 1<<20, 0)
		want := s.Allocated()
		s.allocated().Store(allocated)
		if err := s.UseFileSize(); err != nil || s.Allocated() != want {
			t.Errorf("allocated %d, %v, want %d", s.Allocated(), err, want)
		}
		s.AdoptFileSize()
		if got := s.allocated().Load(); got != uint64(want) {
			t.Errorf("adopted %d, want %d", got, want)
		}
	}
}
