package wal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/walq/walq/internal/testx"
	"github.com/walq/walq/segment"
)

// segments is how many segment files the queue has.
func segments(t testing.TB, dir string) int {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(dir, logName, "*.seg"))
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// fillSegments appends until the log has so many segments more.
func fillSegments(t testing.TB, l *Log, n uint32) Appended {
	t.Helper()
	var a Appended
	for end := tailOf(t, l).Ordinal + n; a.End.ordinal() < end; {
		a = appendBytes(t, l, 10000)
	}
	return a
}

func trim(t testing.TB, l *Log, before uint64) int {
	t.Helper()
	n, err := l.Trim(t.Context(), before)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestTrimmingKeepsWhatTheLimitsAllow(t *testing.T) {
	dir := newQueue(t)
	l := create(t, dir, Options{Durability: SyncNever})
	last := fillSegments(t, l, 9)
	if err := l.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := trim(t, l, 0); n != 0 {
		t.Fatalf("%d segments went although there is no limit", n)
	}
	if err := l.SetLimits(t.Context(), func(s *Settings) { s.MaxBytes = 4 * segment.MinSize; s.SegmentSize = 1 }); err != nil {
		t.Fatal(err)
	}
	if n := trim(t, l, 0); n != 6 || segments(t, dir) != 4 {
		t.Errorf("%d segments went and %d are left, want 6 and 4", n, segments(t, dir))
	}
	st, err := l.Stats()
	if err != nil || st.FirstSeq <= 1 || st.LastSeq != last.Seq || st.Settings.SegmentSize != segment.MinSize {
		t.Errorf("stats %+v, %v", st, err)
	}
	if n := trim(t, l, last.Seq); n != 3 || segments(t, dir) != 1 {
		t.Errorf("by number: %d segments went and %d are left, want 3 and 1", n, segments(t, dir))
	}
	closeLog(t, l)
	wantSound(t, dir, -1)
	l = open(t, dir, Options{})
	if got := readAll(t, l); len(got) == 0 || got[last.Seq] == "" {
		t.Errorf("got %d messages, want those of the last segment", len(got))
	}
}

func TestTrimmingByAge(t *testing.T) {
	dir := newQueue(t)
	l := open(t, dir, Options{Create: &Settings{SegmentSize: segment.MinSize, Durability: SyncNever, MaxAge: time.Hour}})
	fillSegments(t, l, 4)
	if n := trim(t, l, 0); n != 0 {
		t.Errorf("%d segments went that are younger than an hour", n)
	}
	if err := l.SetLimits(t.Context(), func(s *Settings) { s.MaxAge = time.Nanosecond }); err != nil {
		t.Fatal(err)
	}
	trim(t, l, 0)
	if n := segments(t, dir); n != 1 {
		t.Errorf("%d segments are left, want the last", n)
	}
}

func TestAQueueKeepsItsLimitsByItself(t *testing.T) {
	dir := newQueue(t)
	const limit = 3 * segment.MinSize
	l := open(t, dir, Options{Create: &Settings{SegmentSize: segment.MinSize, Durability: SyncInterval, MaxBytes: limit}})
	fillSegments(t, l, 12)
	testx.Eventually(t, 20*time.Second, func() bool { appendBytes(t, l, 1); return segments(t, dir) <= 3 }, "the oldest segments go while somebody appends")
}

func TestTrimmingLeavesWhatIsPromisedOrUnderWay(t *testing.T) {
	dir := newQueue(t)
	l := create(t, dir, Options{})
	other := open(t, dir, Options{Durability: SyncNever, StallTimeout: -1})
	last := fillSegments(t, other, 3)
	if n := trim(t, l, last.Seq); n != 0 {
		t.Errorf("%d segments went that are not durable", n)
	}
	if err := l.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	c, err := other.ClaimInPlace(nil, 10)
	if err != nil {
		t.Fatal(err)
	}
	last = fillSegments(t, other, 2)
	if n := trim(t, l, last.Seq); n != 3 {
		t.Errorf("%d segments went, want the 3 before the open claim", n)
	}
	if _, err := c.Commit(); err != nil {
		t.Errorf("the claim: %v", err)
	}
}

func TestAReaderThatIsOvertakenIsToldOnceAndGoesOn(t *testing.T) {
	dir := newQueue(t)
	l := create(t, dir, Options{Durability: SyncNever})
	looker := open(t, dir, Options{ReadOnly: true}) // has nothing mapped but what it reads
	r, err := looker.NewReader(false)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	fillSegments(t, l, 5)
	if m := next(t, r); m.Seq != 1 {
		t.Fatal(m.Seq)
	}
	if err := l.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	oldest := tailOf(t, l).First
	trim(t, l, oldest)
	last := uint64(1)
	var gap *GapError
	for gap == nil { // what is mapped is read to its end
		m, ok, err := r.Next()
		if errors.As(err, &gap) {
			break
		}
		if !ok || err != nil || m.Seq != last+1 {
			t.Fatalf("got %d %v %v after %d", m.Seq, ok, err, last)
		}
		last = m.Seq
	}
	if gap.From != last+1 || gap.To != oldest || !errors.Is(gap, ErrTrimmed) {
		t.Errorf("got %v, want a gap from %d to %d", gap, last+1, oldest)
	}
	if m := next(t, r); m.Seq != oldest {
		t.Errorf("went on at %d, want %d", m.Seq, oldest)
	}
	if err := r.SeekSeq(2); err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.Next(); !errors.As(err, &gap) || gap.From != 2 || gap.To != oldest {
		t.Errorf("after a seek: got %v, want a gap from 2 to %d", err, oldest)
	}
	if m := next(t, r); m.Seq != oldest {
		t.Errorf("went on at %d, want %d", m.Seq, oldest)
	}
}

func TestAWriterThatSleptThroughTrimmingAppendsAtTheEnd(t *testing.T) {
	dir := newQueue(t)
	sleeper := create(t, dir, Options{Durability: SyncNever})
	l := open(t, dir, Options{Durability: SyncNever})
	appendText(t, sleeper, "first")
	fillSegments(t, l, 5)
	if err := l.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	trim(t, l, tailOf(t, l).First)
	a := appendText(t, sleeper, "late")
	if got := readAll(t, l); got[a.Seq] != "late" {
		t.Errorf("message %d is %q", a.Seq, got[a.Seq])
	}
	if n := segments(t, dir); n != 1 {
		t.Errorf("%d segments, want 1: no relic stays", n)
	}
	if err := sleeper.WaitAppended(t.Context(), a); err != nil {
		t.Error(err)
	}
}

func TestAnUnlinkThatAPowerLossUndidIsDoneAgain(t *testing.T) {
	dir := newQueue(t)
	l := create(t, dir, Options{Durability: SyncNever})
	fillSegments(t, l, 4)
	if err := l.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	saved := t.TempDir()
	for _, i := range []int{0, 2} {
		path := segmentFile(t, dir, i)
		b, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(filepath.Join(saved, filepath.Base(path)), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	want := readAll(t, l)
	trim(t, l, tailOf(t, l).First)
	for seq := range want {
		if seq < l.ctl.oldest() {
			delete(want, seq)
		}
	}
	crash(t, l)
	if err := os.CopyFS(filepath.Join(dir, logName), os.DirFS(saved)); err != nil {
		t.Fatal(err)
	}
	powerLoss(t, dir)
	wantSound(t, dir, len(want))
	l = open(t, dir, Options{})
	got := readAll(t, l)
	wantAll(t, got, want)
	if len(got) != len(want) {
		t.Errorf("got %d messages, want %d", len(got), len(want))
	}
	closeLog(t, l)
	wantSound(t, dir, len(want))
}

func TestStormTrimmingWhileOthersAppendAndRead(t *testing.T) {
	dir := newQueue(t)
	const limit = 4 * segment.MinSize
	settings := Settings{SegmentSize: segment.MinSize, Durability: SyncInterval, MaxBytes: limit}
	first := open(t, dir, Options{Create: &settings, SyncEvery: time.Millisecond})
	ctx, cancel := context.WithCancel(t.Context())
	var writers, readers sync.WaitGroup
	perWriter := 3000
	if testx.Race {
		perWriter = 600
	}
	for w := range 2 {
		l := open(t, dir, Options{SyncEvery: time.Millisecond})
		writers.Go(func() {
			for i := range perWriter {
				if _, err := l.Append(nil, fmt.Appendf(nil, "%d %d %0500d", w, i, i)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 2 {
		l := open(t, dir, Options{})
		r, err := l.NewReader(false)
		if err != nil {
			t.Fatal(err)
		}
		readers.Go(func() {
			defer r.Close()
			last, seen := uint64(0), [2]int{-1, -1}
			for ctx.Err() == nil {
				m, ok, err := r.Next()
				var gap *GapError
				switch {
				case errors.As(err, &gap):
					if gap.From <= last || gap.To <= gap.From {
						t.Errorf("%v after %d", gap, last)
					}
				case err != nil:
					t.Error(err)
					return
				case ok:
					var w, i int
					if _, err := fmt.Sscan(string(m.Body[:12]), &w, &i); err != nil || m.Seq <= last || i <= seen[w] {
						t.Errorf("message %d %.20q after %d, %v", m.Seq, m.Body, last, seen)
						return
					}
					last, seen[w] = m.Seq, i
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { writers.Wait(); close(done) }()
	for trimming := true; trimming; {
		select {
		case <-done:
			trimming = false
		default:
			trim(t, first, 0)
		}
	}
	cancel()
	readers.Wait()
	if err := first.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	trim(t, first, 0)
	if n := segments(t, dir); n > 5 {
		t.Errorf("%d segments are left, want about 4", n)
	}
}

func TestADeadClaimDoesNotStopTrimming(t *testing.T) {
	dir := newQueue(t)
	l := open(t, dir, Options{Create: &Settings{SegmentSize: segment.MinSize, Durability: SyncNever, MaxBytes: 3 * segment.MinSize}})
	dead := open(t, dir, Options{})
	if _, err := dead.ClaimInPlace(nil, 50); err != nil {
		t.Fatal(err)
	}
	crash(t, dead)
	fillSegments(t, l, 9)
	trim(t, l, 0)
	if n := segments(t, dir); n > 3 {
		t.Errorf("%d segments are left, want 3", n)
	}
}

func TestAGapDoesNotForgetWhatTheReaderAskedFor(t *testing.T) {
	dir := newQueue(t)
	l := create(t, dir, Options{Durability: SyncNever})
	looker := open(t, dir, Options{ReadOnly: true}) // has nothing mapped but what it reads
	r, err := looker.NewReader(false)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	const wanted = 40
	if err := r.SeekSeq(wanted); err != nil {
		t.Fatal(err)
	}
	fillSegments(t, l, 5)
	if err := l.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	trim(t, l, tailOf(t, l).First)
	for appendBytes(t, l, 100).Seq < wanted {
	}
	if m := next(t, r); m.Seq != wanted {
		t.Errorf("got message %d, want %d and no gap before it", m.Seq, wanted)
	}
}

func TestWaitingForTheTrimLockEndsWithTheContextAndWithClose(t *testing.T) {
	dir := newQueue(t)
	holder, l := create(t, dir, Options{}), open(t, dir, Options{})
	if ok, err := holder.tryTrimLock(); !ok || err != nil {
		t.Fatal(ok, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := l.Trim(ctx, 0); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the context's error", err)
	}
	waits := make(chan error, 2)
	go func() { _, err := l.Trim(t.Context(), 0); waits <- err }()
	go func() { waits <- l.SetLimits(t.Context(), func(*Settings) {}) }()
	testx.Eventually(t, 20*time.Second, func() bool {
		return l.gate.inside[0].n.Load()+l.gate.inside[1].n.Load() == 2
	}, "both wait")
	within(t, "Close", func() { closeLog(t, l) })
	for range 2 {
		if err := <-waits; !errors.Is(err, ErrClosed) {
			t.Errorf("got %v, want ErrClosed", err)
		}
	}
	if err := holder.dropTrimLock(); err != nil {
		t.Error(err)
	}
}

func TestTrimmingStopsBeforeAnOpenClaimWhateverTheDurability(t *testing.T) {
	dir := newQueue(t)
	l := open(t, dir, Options{Create: &Settings{SegmentSize: segment.MinSize, Durability: SyncNever}, StallTimeout: -1})
	fillSegments(t, l, 2)
	c, err := l.ClaimInPlace(nil, 10)
	if err != nil {
		t.Fatal(err)
	}
	last := fillSegments(t, l, 3)
	if n := trim(t, l, last.Seq); n != 2 {
		t.Errorf("%d segments went, want the 2 before the open claim", n)
	}
	copy(c.Bytes(), "under way!")
	a, err := c.Commit()
	if err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, l); got[a.Seq] != "under way!" {
		t.Errorf("the message that was under way is %q", got[a.Seq])
	}
}

// Nobody reads and nobody syncs, so nobody but the keeper meets the claim.
func TestAStoppedClaimDoesNotStopTrimmingForEver(t *testing.T) {
	dir := newQueue(t)
	l := open(t, dir, Options{Create: &Settings{SegmentSize: segment.MinSize, Durability: SyncNever, MaxBytes: 3 * segment.MinSize}, StallTimeout: 200 * time.Millisecond})
	stopped := open(t, dir, Options{})
	c, err := stopped.ClaimInPlace(nil, 4)
	if err != nil {
		t.Fatal(err)
	}
	fillSegments(t, l, 9)
	testx.Eventually(t, 20*time.Second, func() bool { appendBytes(t, l, 1); return segments(t, dir) <= 3 }, "the claim is revoked and the log trimmed")
	copy(c.Bytes(), "late")
	a, err := c.Commit() // appends again
	if err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, l); got[a.Seq] != "late" {
		t.Errorf("the revoked message is %q, want it at the end", got[a.Seq])
	}
}

func TestASegmentThatNamesAnotherPredecessorStopsTrimming(t *testing.T) {
	dir := newQueue(t)
	l := open(t, dir, Options{Create: &Settings{SegmentSize: segment.MinSize, Durability: SyncNever}})
	fillSegments(t, l, 3)
	closeLog(t, l)
	names, err := filepath.Glob(filepath.Join(dir, logName, "*.seg"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(names[1]); err != nil { // so that the third seems to follow the first
		t.Fatal(err)
	}
	l = open(t, dir, Options{})
	if n, err := l.Trim(t.Context(), tailOf(t, l).First); !errors.Is(err, ErrCorrupt) || n != 0 {
		t.Errorf("got %d, %v, want ErrCorrupt", n, err)
	}
	if n := segments(t, dir); n != 3 {
		t.Errorf("%d segments are left, want all 3", n)
	}
}

// Trimming frees the disk only when nobody has the file open any more.
func TestWhoOnlyReadsKeepsNoTrimmedSegment(t *testing.T) {
	dir := newQueue(t)
	l := open(t, dir, Options{Create: &Settings{SegmentSize: segment.MinSize, Durability: SyncNever}})
	looker := open(t, dir, Options{})
	last := fillSegments(t, l, 4)
	trim(t, l, last.Seq)
	r, err := looker.NewReader(false)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for {
		_, ok, err := r.Next()
		if err != nil && !errors.Is(err, ErrTrimmed) {
			t.Fatal(err)
		}
		if err == nil && !ok {
			break
		}
	}
	if err := looker.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	looker.table.mu.Lock()
	defer looker.table.mu.Unlock()
	for first := range looker.table.open {
		if first < looker.ctl.oldest() {
			t.Errorf("the segment %d is open, %d is the oldest kept", first, looker.ctl.oldest())
		}
	}
}
