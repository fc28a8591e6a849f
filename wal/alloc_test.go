//go:build !race && !invariants && !walqsteps

package wal

import "testing"

// The race detector and the thorough assertions allocate; so this is without them.
func TestAnAppendAllocatesNothing(t *testing.T) {
	l := create(t, newQueue(t), Options{Durability: SyncNever})
	body := make([]byte, 16)
	appendText(t, l, "first")
	if n := testing.AllocsPerRun(500, func() {
		if _, err := l.Append(nil, body); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations an append, want 0", n)
	}
}
