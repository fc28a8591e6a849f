package segment

import (
	"errors"
	"fmt"
	"io/fs"
	"sync/atomic"

	"github.com/walq/walq/mmap"
)

// ErrCorrupt is what every CorruptError Is.
var ErrCorrupt = errors.New("corrupt")

// A CorruptError says which bytes of which file are not what they must be.
type CorruptError struct {
	Path   string
	Offset int64 // bytes from the start of the file
	Reason string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("%s is corrupt at offset %d: %s", e.Path, e.Offset, e.Reason)
}

// Is makes errors.Is(err, ErrCorrupt) true.
func (e *CorruptError) Is(target error) bool { return target == ErrCorrupt }

// A Segment is one mapped segment. Its methods are safe for concurrent use,
// except Close.
type Segment struct {
	Header
	r     *mmap.Region
	f     *mmap.File // nil over heap memory
	start int64      // offset of the first frame
	limit int64      // if not zero, where walks end instead of at the allocated word
}

// Name is the file name of the segment whose first sequence number is first.
func Name(first uint64) string { return fmt.Sprintf("%020d.seg", first) }

// ParseName is the reverse of Name.
func ParseName(name string) (first uint64, ok bool) {
	var n uint64
	if len(name) != 24 || name[20:] != ".seg" {
		return 0, false
	}
	for _, c := range []byte(name[:20]) {
		d := uint64(c - '0')
		if d > 9 || n > (1<<64-1-d)/10 {
			return 0, false
		}
		n = n*10 + d
	}
	return n, true
}

// Create makes a segment's file under a temporary name with room for extent
// bytes of frames and without a header: it is not a segment before SetHeader.
func Create(dir *mmap.Dir, name string, perm fs.FileMode, size, extent int64) (*Segment, error) {
	if err := CheckSize(size); err != nil {
		return nil, err
	}
	f, err := dir.Create(name, perm)
	if err != nil {
		return nil, err
	}
	s := &Segment{f: f, start: DataStart(size)}
	s.Size = size
	end := min(size, s.start+firstExtentBytes)
	err = f.Allocate(0, end)
	if err == nil {
		s.r, err = f.Map(size, false)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close(), dir.Unlink(name))
	}
	s.allocated().Store(uint64(end))
	if want := min(size, (s.start+extent+pageBytes-1)&^(pageBytes-1)); want > end && s.r.Allocate(f, end, want-end) == nil {
		s.allocated().Store(uint64(want)) // if not, the disk has room for a little only
	}
	return s, nil
}

// SetHeader writes the header into a segment that Create made and that has no
// final name yet.
func (s *Segment) SetHeader(h Header) {
	if h.Size != s.Size {
		panic("segment: header of another size")
	}
	s.Header = h
	encodeHeader(s.r.Bytes(0, headerBytes), h)
}

// Rename says that the segment got its final name. Nobody else may use it yet.
func (s *Segment) Rename(path string) {
	s.r.Rename(path)
	s.f.Rename(path)
}

// OnHeap makes an empty segment in ordinary memory, for tests under the race
// detector.
func OnHeap(h Header) *Segment {
	s := &Segment{r: mmap.Heap(h.Size), start: DataStart(h.Size)}
	s.Size = h.Size
	s.SetHeader(h)
	s.allocated().Store(uint64(h.Size))
	return s
}

// Open maps an existing segment and checks its header. A file that is no whole
// segment gives a CorruptError, one of a newer format ErrVersion.
func Open(dir *mmap.Dir, name string, readOnly bool) (*Segment, error) {
	f, err := dir.Open(name, readOnly)
	if err != nil {
		return nil, err
	}
	s, err := open(f, readOnly)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return s, nil
}

func open(f *mmap.File, readOnly bool) (*Segment, error) {
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size < headerBytes {
		return nil, &CorruptError{f.Path(), 0, fmt.Sprintf("a file of %d bytes holds no segment header", size)}
	}
	h, err := readHeader(f, readOnly)
	if err != nil {
		return nil, err
	}
	s := &Segment{Header: h, f: f, start: DataStart(h.Size)}
	if size < s.start+SealBytes || size > h.Size {
		return nil, &CorruptError{f.Path(), 0, fmt.Sprintf("a file of %d bytes cannot hold a segment of %d", size, h.Size)}
	}
	s.r, err = f.Map(h.Size, readOnly)
	return s, err
}

// ReadHeader reads the header of a segment that is not to be used, without mapping it.
// Its errors are not as precise as those of Open.
func ReadHeader(dir *mmap.Dir, name string) (Header, error) {
	f, err := dir.Open(name, true)
	if err != nil {
		return Header{}, err
	}
	h, err := readHeader(f, true)
	return h, errors.Join(err, f.Close())
}

func readHeader(f *mmap.File, readOnly bool) (Header, error) {
	page := make([]byte, headerBytes)
	if _, err := f.ReadAt(page, 0); err != nil {
		return Header{}, err
	}
	h, err := DecodeHeader(page, readOnly)
	if errors.Is(err, ErrVersion) {
		return h, fmt.Errorf("%s: %w", f.Path(), err)
	}
	if err != nil {
		return h, &CorruptError{f.Path(), 0, err.Error()}
	}
	return h, nil
}

// FromImage looks at a segment that lies in memory, such as a file that was
// read: walks end where the image ends.
func FromImage(r *mmap.Region, readOnly bool) (*Segment, error) {
	if r.Len() < headerBytes {
		return nil, &CorruptError{r.Path(), 0, fmt.Sprintf("%d bytes hold no segment header", r.Len())}
	}
	h, err := DecodeHeader(r.Bytes(0, headerBytes), readOnly)
	if errors.Is(err, ErrVersion) {
		return nil, fmt.Errorf("%s: %w", r.Path(), err)
	}
	if err != nil {
		return nil, &CorruptError{r.Path(), 0, err.Error()}
	}
	s := &Segment{Header: h, r: r, start: DataStart(h.Size), limit: r.Len()}
	if r.Len() < s.start+SealBytes || r.Len() > h.Size {
		return nil, &CorruptError{r.Path(), 0, fmt.Sprintf("%d bytes cannot hold a segment of %d", r.Len(), h.Size)}
	}
	return s, nil
}

// Close unmaps the segment and closes its file. Nobody may use it any more.
func (s *Segment) Close() error {
	s.r.Unmap()
	if s.f == nil {
		return nil
	}
	return s.f.Close()
}

// CloseFile closes the file of a segment that is no more allocated, synced as a file or
// asked for its size; the mapping stays. Nobody else may use the segment meanwhile.
func (s *Segment) CloseFile() error {
	f := s.f
	s.f = nil
	return f.Close()
}

// StartWrite has the kernel begin to write what is dirty in [off, off+n), if there is a
// file beneath. What its error means: see mmap.File.
func (s *Segment) StartWrite(off, n int64) error {
	if s.f == nil {
		return nil
	}
	return s.f.StartWrite(off, n)
}

// Path names the file.
func (s *Segment) Path() string { return s.r.Path() }

// File is the file beneath, nil over heap memory and after CloseFile.
func (s *Segment) File() *mmap.File { return s.f }

// Region is the memory of the segment.
func (s *Segment) Region() *mmap.Region { return s.r }

func (s *Segment) corrupt(off int64, format string, args ...any) error {
	return &CorruptError{s.Path(), off, fmt.Sprintf(format, args...)}
}

func (s *Segment) allocated() *atomic.Uint64 { return s.r.Word(offAllocated) }

// Allocated is the end of the part that really exists on disk, in bytes from
// the start of the file; beyond it nothing may be loaded or stored.
func (s *Segment) Allocated() int64 {
	if s.limit != 0 {
		return s.limit
	}
	return int64(min(s.allocated().Load(), uint64(s.Size)))
}

// UseFileSize makes walks end at the end of the file instead of at the
// allocated word, which may be stale after a power loss.
func (s *Segment) UseFileSize() error {
	size, err := s.f.Size()
	if err == nil {
		s.limit = min(size, s.Size)
	}
	return err
}

// Extents: a segment's file starts small, so that a small queue is a small
// file, and grows by doubling up to a size at which growing is rare. Where files are kept
// in memory to allocate is to clear, which whoever grows waits for: a large page at most.
const (
	firstExtentBytes = 64 << 10
	maxExtentBytes   = 16 << 20
)

// Grow allocates the file at least up to end, so that stores below it never
// meet a full disk. Any number of callers may grow at once. With no room it
// returns mmap.ErrDiskFull and nothing has been claimed.
func (s *Segment) Grow(end int64) error {
	a := s.Allocated()
	if end <= a {
		return nil
	}
	if end > s.Size {
		panic(fmt.Sprintf("segment: grow to %d of %d bytes", end, s.Size))
	}
	extent := min(max(a-s.start, firstExtentBytes), maxExtentBytes)
	if s.f.InMemory() {
		extent = min(extent, mmap.LargePage)
	}
	want, page := max(end, a+extent), int64(pageBytes)
	if a+extent > mmap.LargePage {
		page = mmap.LargePage // or the last of it would lie in small ones
	}
	want = min((want+page-1)&^(page-1), s.Size)
	err := s.r.Allocate(s.f, a, want-a)
	if errors.Is(err, mmap.ErrDiskFull) {
		want = min((end+pageBytes-1)&^(pageBytes-1), s.Size)
		err = s.f.Allocate(a, want-a)
	}
	if err != nil {
		return err
	}
	RaiseMax(s.allocated(), uint64(want))
	return nil
}

// RaiseMax stores v in w unless w is larger already, and reports whether it
// did: how every shared word that only grows is written.
func RaiseMax(w *atomic.Uint64, v uint64) bool {
	for {
		old := w.Load()
		if old >= v {
			return false
		}
		if w.CompareAndSwap(old, v) {
			return true
		}
	}
}

// Linked reports whether the segment's directory entry is known to be on
// stable storage.
func (s *Segment) Linked() bool { return s.r.Word(offLinked).Load() != 0 }

// SetLinked says that the directory was synced after the segment got its name.
func (s *Segment) SetLinked() { s.r.Word(offLinked).Store(1) }

// Padded is how many sequence numbers went to PADs: a hint that verify
// recomputes.
func (s *Segment) Padded() uint64 { return s.r.Word(offPadded).Load() }

// FlushShared writes the header, the shared words and the index to stable
// storage; done when a sealed segment is synced, so that they need not be
// doubted after a power loss. The pages are made dirty first: an earlier flush
// of them may have failed with nobody left to tell.
func (s *Segment) FlushShared() error {
	if !mmap.HeapFiles() {
		s.r.Touch(0, s.start)
	}
	return s.r.Flush(0, s.start)
}

// AdoptFileSize sets the allocated word to where the walk of UseFileSize ends.
func (s *Segment) AdoptFileSize() { s.allocated().Store(uint64(s.Allocated())) }
