package wal

import (
	"bytes"
	"testing"
)

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
