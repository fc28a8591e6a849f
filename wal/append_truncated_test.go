//go:build !race

// The race detector keeps the files in the heap, where nothing faults.

package wal

import (
	"bytes"
	"errors"
	"os"
	"testing"

	"github.com/walq/walq/mmap"
	"github.com/walq/walq/segment"
)

// A file that somebody truncates under an append is an error, whatever the length of the
// body, and what the append claimed holds nobody up.
func TestAnAppendIntoATruncatedFileIsAnError(t *testing.T) {
	l := create(t, newQueue(t), Options{Durability: SyncNever})
	appendText(t, l, "there")
	s := tailOf(t, l)
	// The claim fits before the page's end, and the body does not.
	for c := s.ownTail(); c.Off%mmap.PageSize != mmap.PageSize-64; c = s.ownTail() {
		appendText(t, l, "12345678")
	}
	at := s.ownTail().Off
	end := at + 64
	size := s.Allocated()
	if err := os.Truncate(s.Path(), end); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(nil, bytes.Repeat([]byte{1}, 100)); !errors.Is(err, mmap.ErrFault) {
		t.Errorf("got %v, want a fault", err)
	}
	if w, err := s.Word(at); err != nil || w.State() != segment.Pad {
		t.Errorf("its claim is %v, %v, want a PAD", w, err)
	}
	if s.lane.taken() {
		t.Error("who died in the lane is still there")
	}
	if err := os.Truncate(s.Path(), size); err != nil {
		t.Fatal(err)
	}
	// Its claim was made dead room, so nobody waits for it.
	after := appendText(t, l, "goes on")
	if got := readAll(t, l); got[after.Seq] != "goes on" {
		t.Errorf("what was appended later is not to be read: %d messages", len(got))
	}
}
