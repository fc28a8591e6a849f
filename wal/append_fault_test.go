package wal

import (
	"bytes"
	"errors"
	"os"
	"testing"

	"github.com/walq/walq/internal/testx"
	"github.com/walq/walq/mmap"
)

// A file that somebody truncates under an append is an error, whatever the length of the
// body, and what the append claimed holds nobody up.
func TestAnAppendIntoATruncatedFileIsAnError(t *testing.T) {
	if testx.Race {
		t.Skip("over heap memory nothing faults")
	}
	l := create(t, newQueue(t), Options{Durability: SyncNever})
	appendText(t, l, "there")
	s := tailOf(t, l)
	// The claim fits before the page's end, and the body does not.
	for c := s.ownTail(); c.Off%mmap.PageSize != mmap.PageSize-64; c = s.ownTail() {
		appendText(t, l, "12345678")
	}
	end := s.ownTail().Off + 64
	size := s.Allocated()
	if err := os.Truncate(s.Path(), end); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(nil, bytes.Repeat([]byte{1}, 100)); !errors.Is(err, mmap.ErrFault) {
		t.Errorf("got %v, want a fault", err)
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

// What View shows may be appended, out of the log into itself.
func TestABodyThatLiesInTheLogCanBeAppended(t *testing.T) {
	l := create(t, newQueue(t), Options{Durability: SyncNever})
	const n = 600
	for i := range n {
		appendText(t, l, string(bytes.Repeat([]byte{byte(i)}, i)))
	}
	r, err := l.NewReader(false)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for i := range 2 * n {
		ok, err := r.View(func(m Message) error {
			if want := bytes.Repeat([]byte{byte(i % n)}, i%n); !bytes.Equal(m.Body, want) {
				t.Errorf("message %d has %d bytes, want %d", i, len(m.Body), len(want))
			}
			if i >= n {
				return nil
			}
			_, err := l.Append(nil, m.Body)
			return err
		})
		if !ok || err != nil {
			t.Fatalf("message %d: %v, %v", i, ok, err)
		}
	}
}
