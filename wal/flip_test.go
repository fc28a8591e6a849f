package wal

import (
	"bytes"
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/walq/walq/internal/testx"
	"github.com/walq/walq/segment"
)

// Every bit of every file of a small queue is flipped, one at a time. A flip is
// found by verify, or lies in a place that the table harmless names; and either way
// nobody reads a wrong message, and repair loses only what the flip touched.
//
// WALQ_FLIPS=1 takes all bits, WALQ_FLIPS=N every Nth; otherwise some of each area
// are taken at random.

// A place is harmless if nothing reads what lies there, or if whoever reads it
// does not rely on it. Where only some values are, allowed says which.
type place struct {
	from, to int64
	why      string
	allowed  func(before, after uint64) bool // of the word in which the flip lies; nil: all
}

// boundaries are the positions at which frames start.
func (m *inMemory) boundaries(t *testing.T, frames []laid) map[uint64]bool {
	all := map[uint64]bool{}
	for _, l := range frames {
		h, err := segment.DecodeHeader(m.segs[l.segment], false)
		if err != nil {
			t.Fatal(err)
		}
		all[uint64(makePosition(h.Ordinal, l.off))] = true
	}
	return all
}

func lower(before, after uint64) bool { return after < before }

// harmlessControl are those of the control file; see its tables in FORMAT.md.
func harmlessControl(clean bool, durable uint64, boundaries map[uint64]bool) []place {
	all := []place{
		{ctlDurableFirst, ctlDurableFirst + 8, "a hint: used only if that segment's ordinal is the position's", nil},
		{ctlSettledFirst, ctlSettledFirst + 8, "likewise", nil},
		{ctlNewest, ctlNewest + 8, "lower than it was, it only notices less", lower},
		{ctlTrimTo, ctlTrimCheck + 8, "one wrong bit breaks the complement, and then they say nothing", nil},
		{ctlIntentOwner, ctlIntentOwner + 8, "any value that is not a syncer's own makes it doubt the disk and sync again", nil},
		{ctlIntentEnd, ctlIntentEnd + 8, "only a position that the log does not reach means anything", lower},
		{ctlGather, ctlGather + 8, "it only gathers: recovery clears it, and a holder that is not there is passed over", nil},
		{ctlParticipants, ctlParticipants + 8, "the incarnation only has to be another than before", nil},
		{ctlParticipants + parPID, ctlParticipants + parPID + 8, "information only", nil},
		{ctlParticipants + parSince, ctlParticipants + parSince + 8, "information only", nil},
		{ctlParticipants + parRole, ctlParticipants + parRole + 8, "information only", nil},
	}
	for r := range int64(4) { // two of them reserved
		at := ctlWaiters + r*waiterSpacing
		all = append(all,
			place{at, at + 8, "a false summary wakes nobody, a lost one delays a sleeper by a second", nil},
			place{at + waiterLeaves, at + waiterSpacing, "likewise", nil})
	}
	for slot := range int64(maxSlots) {
		at := ctlParticipants + slot*participantSize + parState
		all = append(all, place{at, at + 8, "1 where the owner left in order makes the next one doubt the disk; 0 where it died is doubted by whoever recovers",
			func(_, after uint64) bool { return after <= 1 }})
	}
	if !clean {
		// After a death these may be behind the log: they are bounds, not truths.
		all = append(all,
			place{ctlDurable, ctlDurable + 8, "a lower bound, if a frame starts there: what lies above is synced again",
				func(before, after uint64) bool { return after < before && boundaries[after] }},
			place{ctlDurableSeq, ctlDurableSeq + 8, "likewise", lower},
			place{ctlSettled, ctlSettled + 8, "read as the larger of settled and durable",
				func(before, after uint64) bool { return after < before || after <= durable }})
	}
	return all
}

// harmlessSegment are those of a segment.
func harmlessSegment(s *segment.Segment, frames []laid) (all []place) {
	const allocated, linked, padded, index = 4224, 4352, 4480, 4608
	end := s.Start().Off
	for _, l := range frames {
		if l.segment != s.First {
			continue
		}
		end = l.end
		switch {
		case l.w.State() == segment.Pad:
			all = append(all, place{l.off + 8, l.end, "what is in a PAD means nothing", nil})
		case l.w.Sealed():
			all = append(all, place{l.off + 8, s.Size, "what lies behind a SEAL means nothing", nil})
		}
	}
	return append(all,
		place{allocated, allocated + 8, "less than the file has is allocated again; but what is written must lie below, and a place be a multiple of 4096",
			func(before, after uint64) bool {
				return after < before && after%4096 == 0 && int64(after) >= end+segment.SealBytes
			}},
		place{linked, linked + 8, "0: the directory is synced once more", func(_, after uint64) bool { return after == 0 }},
		place{padded, padded + 8, "a hint for Stats; death between a PAD and the addition leaves it too low", lower},
		place{index + 8, index + 16, "the time of an entry without a place: it is written first", nil})
}

// A flip is one bit of one file.
type flip struct {
	first uint64 // the segment; 0: the control file
	off   int64
	bit   int
}

func (f flip) String() string {
	name := controlName
	if f.first != 0 {
		name = segment.Name(f.first)
	}
	return fmt.Sprintf("bit %d of byte %d of %s", f.bit, f.off, name)
}

func (m *inMemory) file(f flip) []byte {
	if f.first == 0 {
		return m.ctl
	}
	return m.segs[f.first]
}

// flipped is the queue with one bit wrong; only that file is a copy.
func (m *inMemory) flipped(f flip) *inMemory {
	c := &inMemory{ctl: m.ctl, segs: map[uint64][]byte{}, boot: m.boot, lock: m.lock}
	for first, b := range m.segs {
		c.segs[first] = b
	}
	b := bytes.Clone(m.file(f))
	b[f.off] ^= 1 << f.bit
	if f.first == 0 {
		c.ctl = b
	} else {
		c.segs[f.first] = b
	}
	return c
}

// every is which part of all flips is wanted; 0: a sample.
func every(t testing.TB) int {
	n, err := strconv.Atoi(cmp.Or(os.Getenv("WALQ_FLIPS"), "0"))
	if err != nil || n < 0 {
		t.Fatalf("WALQ_FLIPS=%s: want a number", os.Getenv("WALQ_FLIPS"))
	}
	return n
}

// flips gives all flips, or one of each 64 words of every file and some of what is
// small and matters most.
func (m *inMemory) flips(t testing.TB, frames []laid) (all []flip) {
	rnd := rand.New(rand.NewPCG(testx.Seed(t), 0))
	files := []uint64{0}
	for first := range m.segs {
		files = append(files, first)
	}
	slices.Sort(files)
	for _, first := range files {
		n := len(m.file(flip{first: first})) * 8
		if step := every(t); step > 0 {
			for i := rnd.IntN(step); i < n; i += step {
				all = append(all, flip{first, int64(i / 8), i % 8})
			}
			continue
		}
		for i := 0; i < n; i += 64 * 64 {
			at := min(i+rnd.IntN(64*64), n-1)
			all = append(all, flip{first, int64(at / 8), at % 8})
		}
	}
	if every(t) == 0 {
		focus := m.focus(frames)
		for range 600 {
			all = append(all, focus[rnd.IntN(len(focus))])
		}
		all = append(all, m.always(frames)...)
	}
	return all
}

// always gives what no sample leaves out: the shared words of each segment, and the
// words of the last PADs and of the last frame, which nothing but their neighbours
// vouches for.
func (m *inMemory) always(frames []laid) (all []flip) {
	add := func(first uint64, off int64) {
		for i := range 64 {
			all = append(all, flip{first, off + int64(i/8), i % 8})
		}
	}
	for first := range m.segs {
		for _, off := range []int64{4096, 4224, 4352, 4480} {
			add(first, off)
		}
	}
	add(0, ctlDurable)
	add(0, ctlSettled)
	pads := 0
	for i, l := range slices.Backward(frames) {
		if l.w.State() == segment.Pad && pads < 8 || i == len(frames)-1 {
			pads++
			add(l.segment, l.off)
		}
	}
	return all
}

// focus gives the bits of the shared words and records in use, and of some frames'
// headers.
func (m *inMemory) focus(frames []laid) (all []flip) {
	add := func(first uint64, from, to int64) {
		for off := from; off < to; off++ {
			for bit := range 8 {
				all = append(all, flip{first, off, bit})
			}
		}
	}
	for _, r := range [][2]int64{{0, 72}, {ctlChecksum, ctlChecksum + 8}, {ctlSettings, ctlSettings + 72}, {ctlBoot, ctlBoot + 72}, {ctlBoot + recordSpacing, ctlBoot + recordSpacing + 72},
		{ctlDurable, ctlDurable + 32}, {ctlSettled, ctlSettled + 24}, {ctlPoison, ctlPoison + 40}, {ctlIntentOwner, ctlIntentOwner + 24}, {ctlGather, ctlGather + 8}, {ctlOldest, ctlOldest + 8}, {ctlParticipants, ctlParticipants + 72}} {
		add(0, r[0], r[1])
	}
	for first := range m.segs {
		for _, r := range [][2]int64{{0, 128}, {4088, 4104}, {4224, 4232}, {4352, 4360}, {4480, 4488}, {4608, 4632}} {
			add(first, r[0], r[1])
		}
	}
	kinds := map[string]bool{}
	for i, l := range frames {
		kind := fmt.Sprint(l.segment, l.w.State(), l.w.Count(), len(l.padding))
		if !kinds[kind] || i == len(frames)-1 {
			kinds[kind] = true
			add(l.segment, l.off, min(l.off+segment.FrameHeader, l.end))
		}
	}
	last := frames[len(frames)-1]
	add(last.segment, last.end, last.end+16)
	return all
}

func TestEveryFlippedBitIsFoundOrHarmless(t *testing.T) {
	for _, clean := range []bool{true, false} {
		t.Run(fmt.Sprint("clean ", clean), func(t *testing.T) {
			dir, m := flippable(t, clean)
			messages, frames := m.contents(t)
			if rep, err := verify(t.Context(), m, nil); err != nil || len(rep.Faults) > 0 || rep.Messages != uint64(len(messages)) {
				t.Fatalf("before any flip: %d of %d messages, %v, %v", rep.Messages, len(messages), rep.Faults, err)
			}
			places := map[uint64][]place{0: harmlessControl(clean, getWord(m.ctl[ctlDurable:]), m.boundaries(t, frames))}
			for first := range m.segs {
				r, _ := m.segment(first)
				s, err := segment.FromImage(r, false)
				if err != nil {
					t.Fatal(err)
				}
				places[first] = harmlessSegment(s, frames)
			}
			r := newRereader(t, dir, m)
			quiet := map[string]int{}
			for i, f := range m.flips(t, frames) {
				changed := m.flipped(f)
				rep, err := verify(t.Context(), changed, nil)
				if err != nil {
					t.Errorf("%v: verify gives up: %v", f, err)
				}
				found := len(rep.Faults) > 0
				if found && !namesIt(rep.Faults, f) {
					t.Errorf("%v: verify says only %+v", f, rep.Faults)
				}
				if why := harmlessAt(places[f.first], m, changed, f); !found {
					if quiet[why]++; why == "" {
						t.Errorf("%v goes unnoticed", f)
					}
				}
				if !found || every(t) > 0 || i%50 == 0 {
					r.check(f, messages, found, !found && quiet[harmlessAt(places[f.first], m, changed, f)]%20 == 1)
				}
				if t.Failed() && i > 1000 {
					t.FailNow()
				}
			}
			for why, n := range quiet {
				t.Logf("%6d harmless: %s", n, why)
			}
		})
	}
}

// namesIt: a fault that names the file at least, and where it is about bytes, a
// place not far from the flip.
func namesIt(faults []Fault, f flip) bool {
	name := controlName
	if f.first != 0 {
		name = segment.Name(f.first)
	}
	for _, fault := range faults {
		if strings.HasSuffix(fault.Path, name) {
			return true
		}
	}
	return f.first == 0 // the word that is wrong may make the log look wrong
}

func harmlessAt(places []place, m, changed *inMemory, f flip) string {
	for _, p := range places {
		if f.off < p.from || f.off >= p.to {
			continue
		}
		before, after := getWord(m.file(f)[f.off&^7:]), getWord(changed.file(f)[f.off&^7:])
		if p.allowed == nil || p.allowed(before, after) {
			return p.why
		}
	}
	return ""
}

// A rereader opens the queue on disk with one bit wrong, and reads it.
type rereader struct {
	t   *testing.T
	dir string
	m   *inMemory
}

func newRereader(t *testing.T, dir string, m *inMemory) *rereader { return &rereader{t, dir, m} }

func (r *rereader) path(f flip) string {
	if f.first == 0 {
		return filepath.Join(r.dir, controlName)
	}
	return filepath.Join(r.dir, logName, segment.Name(f.first))
}

// check reads by a handle that only reads, and with write also by one that takes
// part.
func (r *rereader) check(f flip, want map[uint64]string, found, write bool) {
	r.t.Helper()
	if err := os.WriteFile(r.path(f), r.m.flipped(f).file(f), 0o600); err != nil {
		r.t.Fatal(err)
	}
	r.read(f, want, found, Options{ReadOnly: true})
	if write {
		r.read(f, want, found, Options{Durability: SyncNever})
		for first := range r.m.segs { // the opening changed them
			r.restore(flip{first: first})
		}
		r.restore(flip{})
	}
	r.restore(f)
}

func (r *rereader) restore(f flip) {
	if err := os.WriteFile(r.path(f), r.m.file(f), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rereader) read(f flip, want map[uint64]string, found bool, o Options) {
	r.t.Helper()
	l, err := Open(r.t.Context(), r.dir, o)
	if err != nil {
		if !found {
			r.t.Errorf("%v: verify finds nothing, but opening gives %v", f, err)
		}
		return
	}
	defer func() {
		if err := l.Close(); err != nil && !found {
			r.t.Errorf("%v: verify finds nothing, but closing gives %v", f, err)
		}
	}()
	rd, err := l.NewReader(false)
	if err == nil {
		defer rd.Close()
	}
	seen := 0
	for err == nil {
		var m Message
		var ok bool
		if m, ok, err = rd.Next(); err != nil || !ok {
			break
		}
		seen++
		if got := asText(m.Time, m.Meta, m.Body); got != want[m.Seq] {
			r.t.Errorf("%v: message %d is read as %.60s, want %.60s", f, m.Seq, got, want[m.Seq])
		}
	}
	if !found && (err != nil || seen != len(want)) {
		r.t.Errorf("%v: verify finds nothing, but reading gives %d of %d messages (%v)", f, seen, len(want), err)
	}
}

// Of each flip repair makes a sound queue, in which only those messages are missing
// whose frame was touched. A flip in a frame's word costs nothing: the frame's
// checksum covers what the word says, and so proves which bit it was.
func TestRepairOfAFlippedBitLosesOnlyWhatItTouched(t *testing.T) {
	for _, clean := range []bool{true, false} {
		t.Run(fmt.Sprint("clean ", clean), func(t *testing.T) {
			_, m := flippable(t, clean)
			messages, frames := m.contents(t)
			for i, f := range m.flips(t, frames) {
				if testx.Race && i%8 != 0 {
					continue // one goroutine: the race detector has little to say, and takes long
				}
				lost, inWord := touched(frames, f.first, f.off)
				if inWord {
					lost = nil
				}
				checkRepaired(t, f.String(), m.flipped(f), messages, lost, m.doubtful(frames, f))
				if t.Failed() && i > 1000 {
					t.FailNow()
				}
			}
		})
	}
}

// doubtful is how many messages repair may count as lost though there were none: with
// the flip a PAD that somebody wrote into looks like a message with two damages.
func (m *inMemory) doubtful(frames []laid, f flip) uint64 {
	for _, l := range frames {
		if l.segment != f.first || f.off < l.off || f.off >= l.off+8 || l.w.State() != segment.Pad {
			continue
		}
		raw := segment.Word(getWord(m.segs[f.first][l.off:]) ^ 1<<((f.off-l.off)*8+int64(f.bit)))
		committed := segment.MakeWord(segment.Committed, l.w.Slot(), l.w.Count(), l.w.Length())
		if raw.State() == segment.Committed || raw>>56 == committed>>56 {
			return uint64(l.w.Count())
		}
	}
	return 0
}

// checkRepaired repairs a queue in memory and fails unless exactly the messages
// lost are missing afterwards, and are told, or doubtful ones are.
func checkRepaired(t *testing.T, what string, m *inMemory, messages map[uint64]string, lost []uint64, doubtful uint64) *inMemory {
	t.Helper()
	before, err := verify(t.Context(), m, nil)
	if err != nil {
		t.Errorf("%s: verify: %v", what, err)
		return nil
	}
	p, err := makePlan(t.Context(), m, nil)
	if err != nil {
		t.Errorf("%s: %v", what, err)
		return nil
	}
	if sound := len(before.Faults) == 0; sound != p.report.Sound() {
		t.Errorf("%s: verify finds %v, repair %v %v", what, before.Faults, p.report.Repaired, p.report.Ranges)
	}
	if p.report.Sound() && (len(p.changes) > 0 || !bytes.Equal(p.page, m.ctl)) {
		t.Errorf("%s: nothing to repair, but %d changes", what, len(p.changes))
	}
	after := m.carryOut(p)
	rep, err := verify(t.Context(), after, nil)
	if err != nil || len(rep.Faults) > 0 {
		t.Errorf("%s: after the repair (%v) verify finds %v, %v", what, p.report.Repaired, rep.Faults, err)
		return after
	}
	again, err := makePlan(t.Context(), after, nil)
	if err != nil || !again.report.Sound() {
		t.Errorf("%s: a second repair finds %v, %v", what, again, err)
	}
	got, _ := after.contents(t)
	for seq, body := range messages {
		if slices.Contains(lost, seq) {
			if _, there := got[seq]; there {
				t.Errorf("%s: message %d is there, want it lost", what, seq)
			}
		} else if got[seq] != body {
			t.Errorf("%s: message %d is %.60q, want %.60q", what, seq, got[seq], body)
		}
	}
	told := p.report.Lost == uint64(len(lost)) || len(lost) == 0 && p.report.Lost == doubtful
	if len(got) != len(messages)-len(lost) || !told || p.report.Messages != uint64(len(got)) {
		t.Errorf("%s: %d messages are left, report: %d of which %d lost; want %d and %d lost (%+v)", what, len(got), p.report.Messages, p.report.Lost, len(messages)-len(lost), len(lost), p.report.Ranges)
	}
	return after
}
