package wal

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"

	"github.com/walq/walq/internal/testx"
	"github.com/walq/walq/segment"
)

// What a power loss can leave of a repair: before the log is synced any mixture of
// old and new files, and the control file as it was; then all new files, and any
// mixture of the control file's old and new sectors, poisoned as before; then only
// the poison there or not. The next repair makes of each what the first would have.
func TestAPowerLossWithinARepairChangesNothingOfItsResult(t *testing.T) {
	_, m := flippable(t, true)
	_, frames := m.contents(t)
	rnd := rand.New(rand.NewPCG(testx.Seed(t), 0))
	for round := range 60 {
		c := m.clone()
		for first, b := range c.segs {
			l := frames[rnd.IntN(len(frames))]
			if l.segment == first {
				b[l.off+rnd.Int64N(l.end-l.off)] ^= 1 << rnd.IntN(8)
			}
			if rnd.IntN(3) == 0 {
				from := segment.DataStart(segment.MinSize) + rnd.Int64N(40000)
				clear(b[from : from+4096])
			}
			if rnd.IntN(3) == 0 {
				b[rnd.IntN(4096)] ^= 1 << rnd.IntN(8)
			}
		}
		for range rnd.IntN(4) {
			c.ctl[rnd.IntN(ctlParticipants)] ^= 1 << rnd.IntN(8)
		}
		if rnd.IntN(2) == 0 {
			putWord(c.ctl[ctlPoison:], 2)
			putWord(c.ctl[ctlPoisonLength:], uint64(copy(c.ctl[ctlPoisonReason:], "planted")))
		}
		p, err := makePlan(t.Context(), c, nil)
		if err != nil {
			t.Fatal(err)
		}
		after := c.carryOut(p)
		want, _ := after.contents(t)
		for range 6 {
			torn, what := tear(rnd, c, after)
			again, err := makePlan(t.Context(), torn, nil)
			if err != nil {
				t.Fatalf("round %d, %s: %v", round, what, err)
			}
			end := torn.carryOut(again)
			if rep, err := verify(t.Context(), end, nil); err != nil || len(rep.Faults) > 0 {
				t.Fatalf("round %d, %s: verify finds %v, %v", round, what, rep.Faults, err)
			}
			if got, _ := end.contents(t); !maps.Equal(got, want) {
				t.Fatalf("round %d, %s: %d messages are left, want %d", round, what, len(got), len(want))
			}
		}
	}
}

// tear is what a power loss can leave between before and after.
func tear(rnd *rand.Rand, before, after *inMemory) (torn *inMemory, what string) {
	torn = after.clone()
	stage := rnd.IntN(3)
	switch stage {
	case 0:
		torn.ctl = bytes.Clone(before.ctl)
		for first := range after.segs {
			if rnd.IntN(2) == 0 {
				delete(torn.segs, first)
				if old, ok := before.segs[first]; ok {
					torn.segs[first] = bytes.Clone(old)
				}
			}
		}
	case 1:
		for off := 0; off < controlBytes; off += 512 {
			if rnd.IntN(2) == 0 {
				copy(torn.ctl[off:off+512], before.ctl[off:])
			}
		}
		copy(torn.ctl[ctlPoison:ctlPoison+8], before.ctl[ctlPoison:])
	default:
		copy(torn.ctl[ctlPoison:ctlPoison+8], before.ctl[ctlPoison:])
	}
	return torn, fmt.Sprint("stage ", stage)
}

// While others have the queue open its shared words change, and verify cannot hold
// them against the log. So a flip there must do no harm to those who read.
func TestAFlipInTheWordsOfALiveQueueHarmsNoReader(t *testing.T) {
	dir := newQueue(t)
	l := create(t, dir, Options{Role: "live"})
	want := map[uint64]string{}
	for i := range 50 {
		body := fmt.Sprint("message ", i)
		want[appendDurable(t, l, body).Seq] = body
	}
	areas := [][2]int64{
		{ctlIntentOwner, ctlIntentOwner + 8}, {ctlGather, ctlGather + 8}, {ctlWaiters, ctlWaiters + 16}, {ctlWaiters + waiterLeaves, ctlWaiters + waiterLeaves + 16},
		{ctlWaiters + waiterSpacing, ctlWaiters + waiterSpacing + 8}, {ctlParticipants, ctlParticipants + 48}, {ctlParticipants + participantSize, ctlParticipants + participantSize + 16},
	}
	for _, a := range areas {
		for off := a[0]; off < a[1]; off += 8 {
			for bit := range 64 {
				w := l.ctl.word(off)
				before := w.Load()
				w.Store(before ^ 1<<bit)
				if bit%16 == 3 {
					rep, err := Verify(t.Context(), dir, nil)
					if err != nil || len(rep.Faults) > 0 || rep.Messages != uint64(len(want)) {
						t.Errorf("bit %d of the word at %d: verify of the live queue: %+v, %v", bit, off, rep, err)
					}
				}
				other, err := Open(t.Context(), dir, Options{ReadOnly: true})
				if err != nil {
					t.Fatal(err)
				}
				got := readAll(t, other)
				closeLog(t, other)
				w.Store(before)
				if len(got) != len(want) {
					t.Errorf("bit %d of the word at %d: %d messages are read, want %d", bit, off, len(got), len(want))
				}
				wantAll(t, got, want)
			}
		}
	}
	body := "and one more"
	want[appendDurable(t, l, body).Seq] = body
	closeLog(t, l)
	wantSound(t, dir, len(want))
}
