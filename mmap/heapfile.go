package mmap

import (
	"errors"
	"sync"
)

// Heap-backed files let the whole protocol run under the race detector, which
// is blind in mappings and reports data published through them. While switched
// on, Map returns ordinary memory, shared by all who map the same file within
// this process, read from the file at the first Map and written back by the
// last Unmap. Other processes do not see it: tests only.

var heapFiles struct {
	sync.Mutex
	on   bool
	open map[FileID]*heapFile
}

type heapFile struct {
	id   FileID
	mem  []byte
	file *File // writable; nil while all who map it only read
	refs int
}

// UseHeapFiles switches heap-backed files on or off, for tests, before the
// first Map.
func UseHeapFiles(on bool) {
	heapFiles.Lock()
	defer heapFiles.Unlock()
	heapFiles.on = on
}

// HeapFiles reports whether Map returns heap-backed regions.
func HeapFiles() bool {
	heapFiles.Lock()
	defer heapFiles.Unlock()
	return heapFiles.on
}

func mapHeapFile(f *File, size int64, readOnly bool) (*Region, error) {
	id, err := f.ID()
	if err != nil {
		return nil, err
	}
	heapFiles.Lock()
	defer heapFiles.Unlock()
	h := heapFiles.open[id]
	if h == nil {
		h = &heapFile{id: id, mem: alignedBytes(size)}
		if _, err := f.readAtMost(h.mem); err != nil {
			return nil, err
		}
		if heapFiles.open == nil {
			heapFiles.open = map[FileID]*heapFile{}
		}
		heapFiles.open[id] = h
	}
	if h.file == nil && !readOnly {
		if h.file, err = f.dup(); err != nil {
			return nil, err
		}
	}
	h.refs++
	r := &Region{mem: h.mem[:size:size], path: f.Path(), readOnly: readOnly, heap: h}
	r.release = func() { h.unmap() }
	return r, nil
}

// unmap drops one reference. The last one writes the memory back, as far as
// the file reaches; a Flush in between would race with those who write.
func (h *heapFile) unmap() {
	heapFiles.Lock()
	defer heapFiles.Unlock()
	h.refs--
	if h.refs > 0 {
		return
	}
	delete(heapFiles.open, h.id)
	if h.file == nil {
		return
	}
	n, err := h.file.Size()
	if err == nil {
		_, err = h.file.WriteAt(h.mem[:min(n, int64(len(h.mem)))], 0)
	}
	if err := errors.Join(err, h.file.Close()); err != nil {
		panic(err) // tests only: the next Map would read stale bytes
	}
}

// readHeapFile reads what would be in the file if its heap memory were a
// mapping. false: it is not mapped on the heap.
func readHeapFile(f *File, p []byte, off int64) (int, bool) {
	if !HeapFiles() {
		return 0, false
	}
	id, err := f.ID()
	size, serr := f.Size()
	if err != nil || serr != nil {
		return 0, false
	}
	heapFiles.Lock()
	defer heapFiles.Unlock()
	h := heapFiles.open[id]
	if h == nil || off > size {
		return 0, false
	}
	return copy(p, h.mem[off:min(size, int64(len(h.mem)))]), true
}
