package cacheline

import (
	"sync/atomic"
	"testing"
)

func TestFetchChangesNothing(t *testing.T) {
	words := make([]atomic.Uint64, 3*Bytes/8)
	for i := range words {
		words[i].Store(uint64(i) + 1)
		Fetch(&words[i])
		if got, want := words[i].Load(), uint64(i)+1; got != want {
			t.Fatalf("word %d is %d after it was fetched, want %d", i, got, want)
		}
	}
	Fetch(nil) // a hint for no memory at all is no fault
}
