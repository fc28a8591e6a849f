package segment

import "testing"

// FAILS: Passed takes the running maximum from the entry before, which is not
// written when one frame crossed several strides. Then a clock that was set back
// hides the older, later time from NearTime.
func TestTheTimeInTheIndexNeverDescends(t *testing.T) {
	s := OnHeap(header(1 << 20))
	c := s.Start()
	for _, f := range []struct {
		time int64
		n    int
	}{{100, 70_000}, {50, 200_000}, {60, 70_000}} { // another writer, and the clock was set back
		c = put(t, s, c, KindMessage, f.time, nil, make([]byte, f.n))
	}
	latest := int64(0)
	for i := range indexEntries(s.Size) {
		if at, maxTime, ok := s.entry(i); ok {
			if maxTime < latest {
				t.Errorf("entry %d, at %+v: time %d, the one before has %d", i, at, maxTime, latest)
			}
			latest = maxTime
		}
	}
}
