package wal

import (
	"errors"
	"os"
	"testing"
	"time"

	"github.com/walq/walq/internal/testx"
	"github.com/walq/walq/segment"
)

// A handle that has looked at the directory once seeks rightly in a log that
// others append to and trim.
func TestSeeksSeeSegmentsThatOthersMakeAndTrim(t *testing.T) {
	dir := newQueue(t)
	l, other := open(t, dir, Options{Create: &Settings{SegmentSize: segment.MinSize, Durability: SyncNever}}), open(t, dir, Options{})
	r, err := l.NewReader(false)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	next := func(what string) Message {
		t.Helper()
		m, ok, err := r.Next()
		if !ok || err != nil {
			t.Fatalf("%s: got %v, %v, want a message", what, ok, err)
		}
		return m
	}
	first := appendText(t, other, "first")
	if err := r.SeekSeq(first.Seq); err != nil { // the directory is known from here on
		t.Fatal(err)
	}
	if m := next("the first message"); m.Seq != first.Seq {
		t.Errorf("got %d, want %d", m.Seq, first.Seq)
	}
	for range 3 {
		last := fillSegments(t, other, 2)
		if err := r.SeekSeq(last.Seq); err != nil {
			t.Fatal(err)
		}
		if m := next("the last message"); m.Seq != last.Seq || r.s.First != tailOf(t, other).First {
			t.Errorf("got %d from the segment %d, want %d from %d", m.Seq, r.s.First, last.Seq, tailOf(t, other).First)
		}
		time.Sleep(2 * time.Millisecond) // frames have a coarse clock
		now := time.Now().UnixNano()
		testx.Eventually(t, 10*time.Second, func() bool { return other.keeper.clock.now() > now }, "the clock of frames is past the moment")
		later := fillSegments(t, other, 1)
		if err := r.SeekTime(now); err != nil {
			t.Fatal(err)
		}
		if m := next("by time"); m.Seq <= last.Seq || m.Seq > later.Seq {
			t.Errorf("by time: got %d, want one behind %d, up to %d", m.Seq, last.Seq, later.Seq)
		}
	}
	trim(t, other, tailOf(t, other).First)
	oldest := l.ctl.oldest()
	if err := r.SeekTime(0); err != nil {
		t.Fatal(err)
	}
	if m := next("the oldest by time"); m.Seq != oldest {
		t.Errorf("got %d, want the oldest kept, %d", m.Seq, oldest)
	}
	if err := r.SeekSeq(first.Seq); err != nil {
		t.Fatal(err)
	}
	_, _, err = r.Next()
	if gap := new(GapError); !errors.As(err, &gap) || *gap != (GapError{From: first.Seq, To: oldest}) {
		t.Errorf("got %v, want a gap from %d to %d", err, first.Seq, oldest)
	}
}

// What the control file says about where a position lies only spares a search.
func TestWrongNamesOfSegmentsAreOnlyHints(t *testing.T) {
	dir := newQueue(t)
	l := open(t, dir, Options{Create: &Settings{SegmentSize: segment.MinSize, Durability: SyncNever}})
	appendText(t, l, "first")
	second := fillSegments(t, l, 1)
	last := fillSegments(t, l, 2)
	count := len(readAll(t, l))
	for _, wrong := range []uint64{0, 1, second.Seq, tailOf(t, l).First, 1 << 40} {
		for _, off := range []int64{ctlDurableFirst, ctlSettledFirst} {
			l.ctl.word(off).Store(wrong)
		}
		other := open(t, dir, Options{})
		if got := len(readAll(t, other)); got != count {
			t.Errorf("hint %d: %d messages are read, want %d", wrong, got, count)
		}
		if err := other.WaitDurable(t.Context(), last.Seq); err != nil {
			t.Errorf("hint %d: %v", wrong, err)
		}
		closeLog(t, other)
	}
	closeLog(t, l)
	wantSound(t, dir, count)
}

// Time stands still for a writer that is stopped in the middle of an append: its
// message has the time of its claim, so that a search by time, which trusts that no
// message before a place is later, does not pass over it.
func TestASearchByTimeMissesNoMessageOfAWriterThatStopped(t *testing.T) {
	dir := newQueue(t)
	l := open(t, dir, Options{Create: &Settings{SegmentSize: 4 << 20, Durability: SyncNever}, StallTimeout: -1})
	stopped := open(t, dir, Options{StallTimeout: -1})
	for range 10 {
		appendBytes(t, l, 1000)
	}
	c, err := stopped.ClaimInPlace(nil, 4)
	if err != nil {
		t.Fatal(err)
	}
	for range 200 { // some entries of the index
		appendBytes(t, l, 1000)
	}
	time.Sleep(300 * time.Millisecond) // far more than clocks differ
	a, err := c.Commit()
	if err != nil {
		t.Fatal(err)
	}
	times := map[uint64]int64{}
	r, err := l.NewReader(false)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for {
		m, ok, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		times[m.Seq] = m.Time
	}
	if len(times) != 211 {
		t.Fatalf("%d messages, want 211", len(times))
	}
	if err := r.SeekTime(times[a.Seq]); err != nil {
		t.Fatal(err)
	}
	for {
		m, ok, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			t.Fatal("the message of the writer that stopped was passed over")
		}
		if m.Seq == a.Seq {
			return
		}
	}
}

func TestASeekFindsItsMessageAlsoIfAllKnownSegmentsWereTrimmed(t *testing.T) {
	dir := newQueue(t)
	a, b := create(t, dir, Options{}), open(t, dir, Options{})
	r, err := b.NewReader(false)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	appendBytes(t, a, 10)
	if err := r.SeekSeq(1); err != nil { // b knows the first segment
		t.Fatal(err)
	}
	var last Appended
	for last.End.ordinal() < 3 {
		last = appendBytes(t, a, 20000)
	}
	if err := a.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n, err := a.Trim(t.Context(), 4); err != nil || n != 1 {
		t.Fatal(n, err)
	}
	if err := r.SeekSeq(last.Seq); err != nil {
		t.Fatal(err)
	}
	if m := next(t, r); m.Seq != last.Seq {
		t.Errorf("got message %d, want %d", m.Seq, last.Seq)
	}
}

// A handle that only reads may have looked at the log before a recovery that cut it: what
// was moved aside is not found any more, and the segment that goes on is.
func TestSeeksAreRightAfterARecoveryThatCutTheLog(t *testing.T) {
	dir := newQueue(t)
	l := create(t, dir, Options{Durability: SyncNever})
	kept := appendDurable(t, l, "kept")
	if err := l.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range maxSteps / 8 {
		fillSegments(t, l, 1)
	}
	lost := appendText(t, l, "lost")
	looker := open(t, dir, Options{ReadOnly: true})
	r, err := looker.NewReader(false)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, seq := range []uint64{lost.Seq, lost.Seq / 2} {
		if err := r.SeekSeq(seq); err != nil {
			t.Fatal(err)
		}
		if m := next(t, r); m.Seq != seq {
			t.Fatalf("got %d, want %d", m.Seq, seq)
		}
	}
	if err := r.SeekTime(time.Now().UnixNano()); err != nil {
		t.Fatal(err)
	}
	crash(t, l)
	for i := segments(t, dir) - 1; i > 0; i-- { // a power loss left the first one alone
		if err := os.Remove(segmentFile(t, dir, i)); err != nil {
			t.Fatal(err)
		}
	}
	powerLoss(t, dir)
	l = open(t, dir, Options{})
	after := appendText(t, l, "after")
	for _, c := range []struct{ seq, want uint64 }{{kept.Seq, kept.Seq}, {after.Seq, after.Seq}, {lost.Seq, 0}} {
		if err := r.SeekSeq(c.seq); err != nil {
			t.Fatalf("to %d: %v", c.seq, err)
		}
		m := next(t, r)
		if c.want != 0 && m.Seq != c.want || c.want == 0 && (m.Seq < c.seq || string(m.Body) != "after") {
			t.Errorf("sought %d: got %d, %q", c.seq, m.Seq, m.Body)
		}
	}
	if err := r.SeekTime(0); err != nil {
		t.Fatal(err)
	}
	if m := next(t, r); m.Seq != kept.Seq {
		t.Errorf("by time: got %d, want %d", m.Seq, kept.Seq)
	}
}
