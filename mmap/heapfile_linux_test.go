//go:build linux && (amd64 || arm64)

package mmap

import (
	"os"
	"sync"
	"testing"
)

// onHeap switches heap-backed files on for a test.
func onHeap(t *testing.T) {
	UseHeapFiles(true)
	t.Cleanup(func() { UseHeapFiles(false) })
}

func TestHeapFilesAreSharedByAllWhoMapThem(t *testing.T) {
	onHeap(t)
	before := Mappings()
	d := openDir(t, t.TempDir())
	f := create(t, d, "file", make([]byte, 2*PageSize))
	again, err := d.Open("file", true)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { ok(t, again.Close) }()
	a, err := f.Map(2*PageSize, false)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Unmap()
	b, err := again.Map(2*PageSize, true)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Unmap()
	if Mappings() != before {
		t.Error("memory was mapped")
	}
	// What is published through a word is seen by the race detector.
	var wg sync.WaitGroup
	wg.Go(func() {
		a.Bytes(8, 1)[0] = 7
		a.Word(0).Store(1)
	})
	wg.Go(func() {
		for b.Word(0).Load() == 0 {
		}
		if got := b.Bytes(8, 1)[0]; got != 7 {
			t.Errorf("got %d, want 7", got)
		}
	})
	wg.Wait()
}

func TestHeapFilesPersist(t *testing.T) {
	onHeap(t)
	d := openDir(t, t.TempDir())
	f := create(t, d, "file", []byte("12345678abcdefgh"))
	for round := range uint64(3) {
		r, err := f.Map(PageSize, false) // longer than the file
		if err != nil {
			t.Fatal(err)
		}
		if got := string(r.Bytes(8, 8)); got != "abcdefgh" {
			t.Errorf("round %d: got %q", round, got)
		}
		if got := r.Word(0).Load(); round > 0 && got != round-1 {
			t.Errorf("round %d: got %d", round, got)
		}
		r.Word(0).Store(round)
		r.Word(16).Store(99) // past the end of the file: lost
		if err := r.Flush(0, PageSize); err != nil {
			t.Error(err)
		}
		r.Unmap()
	}
	if p, err := os.ReadFile(f.Path()); len(p) != 16 || p[0] != 2 || string(p[8:]) != "abcdefgh" || err != nil {
		t.Errorf("in the file: %q, %v", p, err)
	}
}

// TestTheLastOfAHeapFileWritesItBack: who maps only to read does not, and who
// wrote may have gone before.
func TestTheLastOfAHeapFileWritesItBack(t *testing.T) {
	onHeap(t)
	d := openDir(t, t.TempDir())
	f := create(t, d, "file", make([]byte, 8))
	writer, err := f.Map(8, false)
	if err != nil {
		t.Fatal(err)
	}
	reader, err := f.Map(8, true)
	if err != nil {
		t.Fatal(err)
	}
	writer.Word(0).Store(5)
	writer.Unmap()
	if got := reader.Word(0).Load(); got != 5 {
		t.Errorf("the reader sees %d, want 5", got)
	}
	reader.Unmap()
	if p, err := os.ReadFile(f.Path()); err != nil || p[0] != 5 {
		t.Errorf("in the file: %x, %v", p, err)
	}
}
