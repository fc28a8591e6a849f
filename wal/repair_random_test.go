package wal

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/walq/walq/internal/testx"
	"github.com/walq/walq/segment"
)

// Several damages at once, at random: what no damage touched is all there.
func TestRepairOfSeveralDamagesLosesOnlyWhatTheyTouched(t *testing.T) {
	_, m := flippable(t, true)
	messages, frames := m.contents(t)
	rnd := rand.New(rand.NewPCG(testx.Seed(t), 0))
	rounds := 400
	if every(t) > 0 {
		rounds = 100_000 / every(t)
	}
	for round := range rounds {
		c := m.clone()
		var what []string
		maybe := map[uint64]bool{}
		hit := func(first uint64, from, to int64) {
			for _, l := range frames {
				if l.segment == first && from < l.end && to > l.off {
					for _, seq := range l.seqs {
						maybe[seq] = true
					}
				}
			}
		}
		for range 1 + rnd.IntN(4) {
			l := frames[rnd.IntN(len(frames))]
			b := c.segs[l.segment]
			from := l.off + rnd.Int64N(l.end-l.off)
			to := from + 1
			switch kind := rnd.IntN(4); kind {
			case 0:
				to = min(from+4096, int64(len(b)))
				clear(b[from:to])
			case 1:
				to = min(from+1+rnd.Int64N(6000), int64(len(b)))
				for i := from; i < to; i++ {
					b[i] = byte(rnd.Uint32())
				}
			case 2:
				b[from] ^= 1 << rnd.IntN(8)
			default:
				to = min(l.off+8, l.end)
				from = l.off
				for i := from; i < to; i++ {
					b[i] = byte(rnd.Uint32())
				}
			}
			hit(l.segment, from, to)
			what = append(what, fmt.Sprintf("%d-%d of %d", from, to, l.segment))
		}
		for _, l := range frames {
			w := segment.Word(binary.LittleEndian.Uint64(c.segs[l.segment][l.off:]))
			if w != l.w && w.Valid() && w.State() == segment.Pad {
				for _, seq := range l.seqs {
					maybe[seq] = false
				}
			}
		}
		checkTouched(t, fmt.Sprintf("round %d: %s", round, strings.Join(what, ", ")), c, messages, maybe)
		if t.Failed() {
			return
		}
	}
}

// checkTouched repairs in memory and fails if a message is missing that no damage
// touched, or one is wrong. maybe has those that one did; false: its word became a valid
// PAD's, of which nobody can tell that it was a message's.
func checkTouched(t *testing.T, what string, m *inMemory, messages map[uint64]string, maybe map[uint64]bool) {
	t.Helper()
	p, err := makePlan(t.Context(), m, nil)
	if err != nil {
		t.Errorf("%s: %v", what, err)
		return
	}
	after := m.carryOut(p)
	if rep, err := verify(t.Context(), after, nil); err != nil || len(rep.Faults) > 0 {
		t.Errorf("%s: after the repair (%v) verify finds %v, %v", what, p.report.Repaired, rep.Faults, err)
		return
	}
	got, _ := after.contents(t)
	missing := uint64(0)
	for seq, body := range messages {
		there, ok := got[seq]
		switch {
		case ok && there != body:
			t.Errorf("%s: message %d is %.60q, want %.60q", what, seq, there, body)
		case !ok:
			tell, touched := maybe[seq]
			if tell || !touched {
				missing++
			}
			if !touched {
				t.Errorf("%s: message %d is missing; nothing touched it (%+v)", what, seq, p.report.Ranges)
			}
		}
	}
	for seq := range got {
		if _, ok := messages[seq]; !ok {
			t.Errorf("%s: there is a message %d, which nobody appended", what, seq)
		}
	}
	if !p.report.LostAtLeast && p.report.Lost < missing || p.report.Messages != uint64(len(got)) {
		t.Errorf("%s: %d messages are missing of %d, report: %d lost, %d left", what, missing, len(messages), p.report.Lost, p.report.Messages)
	}
}

// A message whose check and whose body were hit looks like a PAD with one wrong bit of
// its state. It was once made one without a word.
func TestRepairCountsTheMessageThatLooksLikeAPad(t *testing.T) {
	_, m := flippable(t, true)
	messages, frames := m.contents(t)
	tried := 0
	for _, l := range frames {
		if l.w.State() != segment.Committed || l.w.Count() == 0 {
			continue
		}
		c := m.clone()
		pad := segment.MakeWord(segment.Pad, l.w.Slot(), l.w.Count(), l.w.Length())
		b := c.segs[l.segment][l.off:]
		b[7] = byte(pad >> 56)
		b[l.w.Length()+segment.FrameHeader-1] ^= 0x40
		maybe := map[uint64]bool{}
		for _, seq := range l.seqs {
			maybe[seq] = true
		}
		checkTouched(t, fmt.Sprintf("the frame at %d of %d", l.off, l.segment), c, messages, maybe)
		tried++
	}
	if tried < 20 {
		t.Errorf("only %d frames were tried", tried)
	}
}

// A damaged word may become a valid one, of a PAD that takes other numbers: the check has
// eight bits. The successor's header, under its checksum, says how many there were. It was
// once moved aside instead, with all its messages.
func TestRepairBelievesTheSuccessorMoreThanAPad(t *testing.T) {
	_, m := flippable(t, true)
	messages, frames := m.contents(t)
	var all []laid // of the first segment
	for _, l := range frames {
		if l.segment == 1 {
			all = append(all, l)
		}
	}
	for n := 1; n <= 3; n++ {
		c := m.clone()
		maybe := map[uint64]bool{}
		for i, l := range all[len(all)-n:] {
			for _, seq := range l.seqs {
				maybe[seq] = true
			}
			b := c.segs[1][l.off:]
			if i == 0 {
				binary.LittleEndian.PutUint64(b, uint64(segment.MakeWord(segment.Pad, 0, l.w.Count()+2048, l.w.Length())))
				for _, seq := range l.seqs {
					maybe[seq] = false
				}
			} else {
				binary.LittleEndian.PutUint64(b, 0x2530e739147a40c7)
			}
		}
		end := all[len(all)-1].end
		binary.LittleEndian.PutUint64(c.segs[1][end:], 0x2530e739147a40c7)
		checkTouched(t, fmt.Sprintf("the last %d frames", n), c, messages, maybe)
	}
}

// TestRepairBelievesTwoFramesMoreThanOne: damage, a sound frame, and one with a flipped
// bit behind it, which at some places of a body is the same to the checksum as another
// number. The sound one stays.
func TestRepairBelievesTwoFramesMoreThanOne(t *testing.T) {
	_, m := flippable(t, true)
	messages, frames := m.contents(t)
	tried := 0
	for i := 0; i+3 < len(frames); i++ {
		damaged, sound, flipped := frames[i], frames[i+1], frames[i+2]
		if damaged.segment != 1 || frames[i+3].segment != 1 || len(sound.seqs) != 1 || len(flipped.seqs) != 1 {
			continue
		}
		maybe := map[uint64]bool{flipped.seqs[0]: true}
		for _, seq := range damaged.seqs {
			maybe[seq] = true
		}
		bits := (flipped.end - flipped.off - segment.FrameHeader) * 8
		if bits > 2048 {
			continue
		}
		for bit := range bits {
			c := m.clone()
			binary.LittleEndian.PutUint64(c.segs[1][damaged.off:], 0x2530e739147a40c7)
			c.segs[1][flipped.off+segment.FrameHeader+bit/8] ^= 1 << (bit % 8)
			checkTouched(t, fmt.Sprintf("the frame at %d, and bit %d of that at %d", damaged.off, bit, flipped.off), c, messages, maybe)
			tried++
		}
		if t.Failed() || tried > 1000 {
			break
		}
	}
	if tried < 1000 {
		t.Errorf("only %d bits were tried", tried)
	}
}
