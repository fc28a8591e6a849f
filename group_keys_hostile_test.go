//go:build !race

// What writes into files that are mapped: under the race detector they are heap memory.

package walq

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/walq/walq/group"
	"github.com/walq/walq/internal/testx"
)

// keyedGroup is a group that is ordered by key, of a queue with n messages of so many keys.
func keyedGroup(t *testing.T, n, keys, window int) *Group {
	t.Helper()
	q, err := Open(t.Context(), filepath.Join(t.TempDir(), "q"), Options{Create: &QueueOptions{SegmentSize: 64 << 10}, Durability: SyncNever})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = q.Close() }) // the group's file may be damaged
	for i := range n {
		if _, err := q.Publish(t.Context(), Draft{Key: []byte{byte(i % keys)}, Body: fmt.Append(nil, i)}); err != nil {
			t.Fatal(err)
		}
	}
	g, err := q.Group("g", GroupOptions{OrderedByKey: true, Window: window})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// After a power loss the file may say that a later message of a key is finished, and an
// earlier one is not: what is behind both waits for the earlier one.
func TestAKeyWaitsForAllThatIsNotFinishedNotOnlyForTheLast(t *testing.T) {
	g := keyedGroup(t, 3, 1, 7)
	ring, ok, err := g.file.Ring()
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	b := ring.Base
	err = g.file.Rebase(func(group.Before) (group.Base, bool, error) { return b, true, nil },
		func(b group.Base, _ map[uint64]bool) ([]group.Mark, error) {
			return []group.Mark{{Behind: 1, Seq: 2}}, nil
		})
	if err != nil {
		t.Fatal(err)
	}
	first := wantNext(t, g, "0")
	if d, err := g.TryReceive(t.Context()); d != nil || err != nil {
		t.Fatalf("got %v, %v, want nothing", d, err)
	}
	if err := first.Ack(); err != nil {
		t.Fatal(err)
	}
	if err := wantNext(t, g, "2").Ack(); err != nil {
		t.Fatal(err)
	}
}

// Whatever anybody writes into the file of the group, a consumer neither crashes nor goes
// on for ever.
func TestWrongWordsInAGroupByKeyAreSurvived(t *testing.T) {
	const window = 15
	random := rand.New(rand.NewPCG(testx.Seed(t), 0))
	got := 0
	for range 12 {
		g := keyedGroup(t, 60, 3, window)
		f, err := os.OpenFile(g.file.Path(), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		for range 40 {
			at := int64(group.FileBytes(0)) + 8*random.Int64N(4*(window+1)) // a word of the ring
			if random.IntN(4) == 0 {
				at = 8192 + 8*random.Int64N(512) // a shared word
			}
			word := make([]byte, 8)
			if _, err := f.ReadAt(word, at); err != nil {
				t.Fatal(err)
			}
			v := binary.LittleEndian.Uint64(word)
			switch random.IntN(4) {
			case 0:
				v = random.Uint64()
			case 1:
				v += uint64(random.IntN(40)) - 20
			case 2:
				v ^= 1 << random.IntN(64)
			}
			binary.LittleEndian.PutUint64(word, v)
			if _, err := f.WriteAt(word, at); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Millisecond)
			d, err := g.TryReceive(ctx)
			cancel()
			if d != nil {
				got++
				if random.IntN(2) == 0 {
					_ = d.Ack()
				}
			} else if err != nil && !errors.Is(err, context.DeadlineExceeded) {
				break
			}
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if err := g.q.Close(); err != nil {
			t.Logf("closing: %v", err)
		}
	}
	if got == 0 {
		t.Error("nothing was ever received: this showed nothing")
	}
}
