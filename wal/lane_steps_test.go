//go:build walqsteps

package wal

import (
	"sync/atomic"
	"testing"

	"github.com/walq/walq/internal/step"
	"github.com/walq/walq/segment"
)

// A goroutine is stopped in the lane until another handle has taken it for dead, and
// appended behind its claim, or sealed and rolled: it appends again, behind those.
func TestAClaimThatIsRevokedInTheLaneIsMadeAgain(t *testing.T) {
	for _, roll := range []bool{false, true} {
		dir := newQueue(t)
		l, other := create(t, dir, Options{Durability: SyncNever}), open(t, dir, Options{Durability: SyncNever})
		appendText(t, l, "first")
		appendText(t, other, "second")
		s := tailOf(t, l)
		var once atomic.Bool
		var behind Appended
		restore := step.Set(step.CommitBefore, func() error {
			if !once.CompareAndSwap(false, true) {
				return nil
			}
			if !s.lane.taken() {
				t.Error("not in the lane")
			}
			c := s.ownTail()
			w, _ := s.Word(c.Off)
			for ; w.State() != segment.Claimed; w, _ = s.Word(c.Off) {
				c = c.After(w)
			}
			if !tailOf(t, other).TryPad(c.Off, w) {
				t.Error("not revoked")
			}
			behind = appendText(t, other, "behind")
			for roll && tailOf(t, other).First == s.First {
				behind = appendBytes(t, other, 4000)
			}
			return nil
		})
		a := appendText(t, l, "again")
		restore()
		if got := readAll(t, l); a.Seq <= behind.Seq || got[a.Seq] != "again" || s.lane.taken() {
			t.Errorf("roll %v: number %d behind %d is %q; taken %v", roll, a.Seq, behind.Seq, got[a.Seq], s.lane.taken())
		} else {
			n := 0
			for _, b := range got {
				if b == "again" {
					n++
				}
			}
			if n != 1 {
				t.Errorf("it is there %d times", n)
			}
		}
		closeLog(t, l)
		closeLog(t, other)
		wantSound(t, dir, -1)
	}
}
