package wal

import (
	"math"
	"testing"

	"github.com/walq/walq/segment"
)

// TestSettlingGoesAsFarAsItIsAskedTo: piece by piece, over the ends of segments, and all
// of it at once.
func TestSettlingGoesAsFarAsItIsAskedTo(t *testing.T) {
	for _, room := range []int64{1, 100, 5000, math.MaxInt64} {
		l := open(t, newQueue(t), Options{Create: &Settings{SegmentSize: segment.MinSize, Durability: SyncNever}})
		var end Position
		for range 500 {
			a, err := l.Append(nil, make([]byte, 200))
			if err != nil {
				t.Fatal(err)
			}
			end = a.End
		}
		steps := 0
		for at := l.ctl.settled(); at != end; steps++ {
			var o observer
			if err := l.settle(&o, room); err != nil {
				t.Fatal(err)
			}
			before := at
			if at = l.ctl.settled(); at <= before {
				t.Fatalf("room %d: from %v it went to %v, the end is %v", room, before, at, end)
			}
		}
		if room == math.MaxInt64 && steps > 1 {
			t.Errorf("it took %d calls", steps)
		}
	}
}
