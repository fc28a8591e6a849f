package wal

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/walq/walq/internal/crc32c"
	"github.com/walq/walq/internal/testx"
	"github.com/walq/walq/segment"
)

// within fails if f takes longer than any correct program would.
func within(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatalf("%s: still not done", what)
	}
}

func appendBytes(t testing.TB, l *Log, n int) Appended {
	t.Helper()
	return appendText(t, l, strings.Repeat("b", n))
}

func TestAHandleThatSleptThroughARollAppendsBehindIt(t *testing.T) {
	dir := newQueue(t)
	a, b := create(t, dir, Options{}), open(t, dir, Options{})
	appendBytes(t, a, 10)
	for range 200 {
		appendBytes(t, b, 1000)
	}
	if err := b.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	within(t, "append", func() { appendBytes(t, a, 10) })
}

func TestCloseEndsWaitsAlsoBehindAnOwnClaim(t *testing.T) {
	l := create(t, newQueue(t), Options{StallTimeout: -1})
	held, err := l.ClaimInPlace(nil, 100)
	if err != nil {
		t.Fatal(err)
	}
	defer runtime.KeepAlive(held)
	a := appendBytes(t, l, 10)
	waited := make(chan error, 1)
	go func() { waited <- l.WaitAppended(t.Context(), a) }()
	testx.Eventually(t, 20*time.Second, func() bool { return l.syncer.rounds.aboard.Load() > 0 }, "somebody waits")
	within(t, "Close", func() { closeLog(t, l) })
	if err := <-waited; err != nil && !errors.Is(err, ErrClosed) {
		t.Errorf("the wait ended with %v, want ErrClosed or success", err)
	}
}

func TestASegmentOfControlFramesAloneIsFollowedByAnother(t *testing.T) {
	dir := newQueue(t)
	l := create(t, dir, Options{Durability: SyncNever})
	for range 200 {
		if _, err := l.AppendBatch([]Part{{Control: true, Body: make([]byte, 1000)}}); err != nil {
			t.Fatal(err)
		}
	}
	a := appendText(t, l, "message")
	if got := readAll(t, l); len(got) != 1 || got[a.Seq] != "message" {
		t.Errorf("got %v", got)
	}
	closeLog(t, l)
	wantSound(t, dir, 1)
}

func TestAWrongBitInTheOldestNumberRemovesNothing(t *testing.T) {
	dir := newQueue(t)
	l := create(t, dir, Options{})
	appendBytes(t, l, 10)
	closeLog(t, l)
	damage(t, filepath.Join(dir, controlName), func(b []byte) []byte { b[ctlOldest+4] ^= 1; return b })
	before := testx.Fingerprint(t, dir)
	if _, err := Open(t.Context(), dir, Options{}); !errors.Is(err, ErrCorrupt) {
		t.Errorf("got %v, want ErrCorrupt", err)
	}
	if testx.Fingerprint(t, dir) != before {
		t.Error("files were changed")
	}
}

func TestAStaleAllocatedWordAfterAPowerLossHidesNothing(t *testing.T) {
	dir := newQueue(t)
	l := open(t, dir, Options{Create: &Settings{SegmentSize: 1 << 20, Durability: SyncAlways}})
	for range 300 {
		appendBytes(t, l, 1000)
	}
	if err := l.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	control, err := os.ReadFile(filepath.Join(dir, controlName))
	if err != nil {
		t.Fatal(err)
	}
	total := uint64(0)
	for tailOf(t, l).Ordinal == 1 {
		total = appendBytes(t, l, 1000).Seq
	}
	crash(t, l)
	// The control file as last synced; of the first segment the page with the
	// shared words as it was when the file was made; everything else arrived.
	if !testx.Race { // there the control file was never written before
		if err := os.WriteFile(filepath.Join(dir, controlName), control, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	damage(t, segmentFile(t, dir, 0), func(b []byte) []byte {
		putWord(b[4096:], 0)
		putWord(b[4224:], uint64(segment.DataStart(1<<20))+64<<10)
		return b
	})
	powerLoss(t, dir)
	for _, o := range []Options{{ReadOnly: true}, {}} { // before recovery, and after
		l = open(t, dir, o)
		if got := readAll(t, l); uint64(len(got)) != total {
			t.Errorf("read-only %v: got %d messages, want %d", o.ReadOnly, len(got), total)
		}
		closeLog(t, l)
	}
}

func TestALongViewStopsNeitherSyncsNorTheClock(t *testing.T) {
	l := create(t, newQueue(t), Options{Durability: SyncInterval, SyncEvery: 10 * time.Millisecond})
	r, err := l.NewReader(false)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	appendBytes(t, l, 10)
	entered, leave, left := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(left)
		if _, err := r.View(func(Message) error { close(entered); <-leave; return nil }); err != nil {
			t.Error(err)
		}
	}()
	<-entered
	for range 200 { // several rolls, so that there is something to give back
		appendBytes(t, l, 1000)
	}
	a := appendBytes(t, l, 1)
	testx.Eventually(t, 20*time.Second, func() bool { return l.ctl.durable() >= a.End }, "an append is synced during a View")
	testx.Eventually(t, 20*time.Second, func() bool { return time.Since(time.Unix(0, l.keeper.clock.now())) < 50*time.Millisecond }, "the clock goes on during a View")
	close(leave)
	<-left
}

func TestASlowFillIsGivenUpInTheEnd(t *testing.T) {
	dir := newQueue(t)
	a, b := create(t, dir, Options{}), open(t, dir, Options{StallTimeout: 20 * time.Millisecond})
	r, err := b.NewReader(false)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	calls := 0
	_, err = a.AppendFunc(nil, 500, func([]byte) error {
		calls++
		for at := tailOf(t, a).lane.word.Load(); ; { // until somebody revokes it
			c := segment.Cursor{Off: int64(uint32(at)) << 3}
			w, err := tailOf(t, a).Word(c.Off - 528)
			if err != nil || w.State() == segment.Pad {
				return err
			}
			if _, err := r.Blocked(); err != nil {
				return err
			}
			if _, _, err := r.Next(); err != nil {
				return err
			}
		}
	})
	if !errors.Is(err, ErrStalled) || calls != maxRevocations {
		t.Errorf("got %v after %d calls, want ErrStalled after %d", err, calls, maxRevocations)
	}
}

func TestManyUnsyncedSegmentsAreSyncedAFewAtATime(t *testing.T) {
	dir := newQueue(t)
	l := create(t, dir, Options{Durability: SyncNever})
	var a Appended
	for a.End.ordinal() < 5*maxSpans {
		a = appendBytes(t, l, 30000)
	}
	if err := l.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if l.ctl.durable() < a.End {
		t.Error("Sync returned before everything was durable")
	}
	closeLog(t, l)
	wantSound(t, dir, int(a.Seq))
}

func TestWhatWasSubmittedIsSyncedByCloseAlsoIfOthersStay(t *testing.T) {
	dir := newQueue(t)
	a, b := create(t, dir, Options{}), open(t, dir, Options{})
	for range 20 {
		x := appendBytes(t, a, 10)
		a.SyncSoon()
		closeLog(t, a)
		if b.ctl.durable() < x.End {
			t.Fatal("Close left it to others")
		}
		a = open(t, dir, Options{})
	}
}

func TestHostileStructureEndsInAnErrorAndNotInALoop(t *testing.T) {
	t.Run("a durable position behind the end", func(t *testing.T) {
		dir := newQueue(t)
		l := create(t, dir, Options{})
		appendBytes(t, l, 1000)
		s := tailOf(t, l)
		c, _, err := s.WalkToFree(s.ownTail())
		if err != nil || !s.TrySeal(c.Off, l.slot) {
			t.Fatal(err)
		}
		l.ctl.word(ctlDurable).Store(uint64(s.position(c.Off + 4096)))
		within(t, "WaitDurable", func() {
			if err := l.WaitDurable(t.Context(), 100); !errors.Is(err, ErrCorrupt) {
				t.Errorf("got %v, want ErrCorrupt", err)
			}
		})
		crash(t, l)
	})
	t.Run("a segment that names itself as its predecessor", func(t *testing.T) {
		dir := newQueue(t)
		l := create(t, dir, Options{})
		var a Appended
		for a.End.ordinal() < 2 {
			a = appendBytes(t, l, 30000)
		}
		closeLog(t, l)
		changePredecessor(t, segmentFile(t, dir, 1), a.Seq)
		ro := open(t, dir, Options{ReadOnly: true})
		r, err := ro.NewReader(false)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		within(t, "SeekLast", func() {
			if err := r.SeekLast(100); !errors.Is(err, ErrCorrupt) {
				t.Errorf("got %v, want ErrCorrupt", err)
			}
		})
	})
}

func TestAReadOnlyReaderNoticesThatTheQueueWasRecovered(t *testing.T) {
	dir := newQueue(t)
	l := create(t, dir, Options{})
	appendDurable(t, l, "before")
	crash(t, l)
	powerLoss(t, dir)
	ro := open(t, dir, Options{ReadOnly: true})
	r, err := ro.NewReader(false)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if m := next(t, r); string(m.Body) != "before" {
		t.Fatalf("got %q", m.Body)
	}
	l = open(t, dir, Options{})
	if _, err := l.ClaimInPlace(nil, 10); err != nil {
		t.Fatal(err)
	}
	appendDurableBehindDeath(t, dir, l)
	if m := next(t, r); string(m.Body) != "after" {
		t.Errorf("got %q", m.Body)
	}
}

// appendDurableBehindDeath appends behind a claim of l, which then dies.
func appendDurableBehindDeath(t *testing.T, dir string, l *Log) {
	t.Helper()
	other := open(t, dir, Options{})
	appendText(t, other, "after")
	crash(t, l)
	crash(t, other)
}

// changePredecessor makes a segment name another predecessor, with a sound
// checksum.
func changePredecessor(t *testing.T, path string, first uint64) {
	t.Helper()
	damage(t, path, func(b []byte) []byte {
		const prevFirst, checksum = 72, 4088
		putWord(b[prevFirst:], first)
		sum := crc32c.Update(0, b[:checksum])
		b[checksum], b[checksum+1], b[checksum+2], b[checksum+3] = byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24)
		return b
	})
}

func TestASegmentThatDoesNotNameItsPredecessorIsNotAccepted(t *testing.T) {
	for _, boot := range []string{"same boot", "another boot"} {
		t.Run(boot, func(t *testing.T) {
			dir := newQueue(t)
			l := create(t, dir, Options{})
			appendDurable(t, l, "durable")
			var last Appended
			for last.End.ordinal() < 2 {
				last = appendBytes(t, l, 30000)
			}
			crash(t, l)
			changePredecessor(t, segmentFile(t, dir, 1), 77)
			if boot == "same boot" {
				if _, err := Open(t.Context(), dir, Options{}); !errors.Is(err, ErrCorrupt) {
					t.Errorf("got %v, want ErrCorrupt", err)
				}
				return
			}
			powerLoss(t, dir)
			l = open(t, dir, Options{})
			if got := readAll(t, l); len(got) != int(last.Seq)-1 {
				t.Errorf("got %d messages, want %d: the log ends before the foreign segment", len(got), last.Seq-1)
			}
			if a := appendDurable(t, l, "on"); a.Seq <= last.Seq {
				t.Errorf("number %d is used again", a.Seq)
			}
		})
	}
}

func TestWhoDoubtsTheDiskSaysSoToTheNextWhoSyncs(t *testing.T) {
	t.Run("after the death of all", func(t *testing.T) {
		dir := newQueue(t)
		l := create(t, dir, Options{Durability: SyncNever})
		appendText(t, l, "x")
		crash(t, l)
		wantStanding(t, open(t, dir, Options{}))
	})
	t.Run("after the death of one whose slot is taken", func(t *testing.T) {
		dir := newQueue(t)
		a, b := create(t, dir, Options{}), open(t, dir, Options{})
		crash(t, b)
		open(t, dir, Options{})
		wantStanding(t, a)
	})
	t.Run("after one left what it never synced", func(t *testing.T) {
		dir := newQueue(t)
		a, b := create(t, dir, Options{}), open(t, dir, Options{Durability: SyncNever})
		appendText(t, b, "x")
		closeLog(t, b)
		wantStanding(t, a)
	})
}

// wantStanding fails unless an intent stands that the next sync honours and
// takes away.
func wantStanding(t *testing.T, l *Log) {
	t.Helper()
	intent := l.ctl.word(ctlIntentOwner)
	if got := intent.Load(); got != standingIntent {
		t.Errorf("intent %#x, want a standing one", got)
	}
	appendDurable(t, l, "synced")
	if got := intent.Load(); got != 0 {
		t.Errorf("intent %#x after a sync of everything, want none", got)
	}
}

func TestAnOrderlyOpeningLeavesNoDoubts(t *testing.T) {
	dir := newQueue(t)
	for range 2 {
		l := create(t, dir, Options{})
		if got := l.ctl.word(ctlIntentOwner).Load(); got != 0 {
			t.Errorf("intent %#x after an orderly opening, want none", got)
		}
		appendDurable(t, l, "x")
		closeLog(t, l)
	}
}
