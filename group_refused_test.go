//go:build !race

// It writes into a file that is mapped: under the race detector that is heap memory.

package walq

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"testing"
	"time"
)

// A wrong word in the ring is an error: a consumer does not look again and again for ever.
func TestAnEntryThatNobodyCanClaimIsAnError(t *testing.T) {
	for _, word := range []uint64{0x500000000000, 3, 1<<62 | 1} {
		_, q, _ := timed(t)
		g := timedGroup(t, q, GroupOptions{Window: 7})
		for range 20 {
			publish(t, q, Draft{})
		}
		next := int64(got(t, g, 1).lease.Ordinal + 1)
		f, err := os.OpenFile(g.file.Path(), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		st, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		const entries, entryBytes = 8, 32 // at the end of the file
		_, werr := f.WriteAt(binary.LittleEndian.AppendUint64(nil, word), st.Size()-(entries-next%entries)*entryBytes)
		if err := errors.Join(werr, f.Close()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		for range 2 {
			if d, err := g.TryReceive(ctx); d != nil || !errors.Is(err, ErrCorrupt) {
				t.Errorf("word %#x: got %v, %v, want ErrCorrupt", word, d, err)
			}
		}
	}
}
