package group

import (
	"testing"
	"time"
)

// Who was stopped on its way to a checkpoint knows less than those who were not. What the
// log was trimmed by, and a power loss may leave nothing else of, is not taken back.
func TestACheckpointNeverGoesBack(t *testing.T) {
	f, ring, _ := ringOf(t)
	for _, seq := range []uint64{3, 2, 2} {
		if err := f.Checkpoint(ring, seq, time.Second); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := f.Needed([16]byte{}); got != 3 || err != nil {
		t.Errorf("it needs what is from %d on (%v), want 3", got, err)
	}
	was, err := f.Before()
	if err != nil || was.From != 3 {
		t.Errorf("after a power loss it goes on from %d (%v), want 3", was.From, err)
	}
}
