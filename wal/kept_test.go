package wal

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/walq/walq/segment"
)

// wantListed fails unless what the handle knows for trimming, once it has looked, is what
// lies in the directory.
func wantListed(t *testing.T, l *Log) {
	t.Helper()
	if err := l.takeTrimLock(t.Context()); err != nil {
		t.Fatal(err)
	}
	err := l.guarded(func() error { return l.kept.update(l) })
	if err := errors.Join(err, l.dropTrimLock()); err != nil {
		t.Fatal(err)
	}
	names, err := segmentNames(l.log)
	if err != nil {
		t.Fatal(err)
	}
	var got []uint64
	var bytes, sealed int64
	for i, one := range l.kept.all {
		got = append(got, one.first)
		size, err := l.log.Size(segment.Name(one.first))
		if err != nil || size != one.bytes {
			t.Errorf("the segment %d is known to have %d bytes, and has %d, %v", one.first, one.bytes, size, err)
		}
		if bytes += size; i+1 < len(l.kept.all) {
			sealed += size
		}
	}
	if names = slices.DeleteFunc(names, func(first uint64) bool { return first < l.ctl.oldest() }); !slices.Equal(got, names) {
		t.Errorf("the segments %v are known, %v are there", got, names)
	}
	if l.kept.bytes != bytes || l.kept.sealed != sealed || l.kept.sized != len(got)-1 {
		t.Errorf("%d bytes are known, %d of them of %d sealed segments; want %d, %d, %d", l.kept.bytes, l.kept.sealed, l.kept.sized, bytes, sealed, len(got)-1)
	}
}

// Two handles append and trim by turns, for a short while or for so long that nothing of
// what the other one knew is there any more.
func TestWhatIsKnownForTrimmingIsWhatIsThere(t *testing.T) {
	dir := newQueue(t)
	handles := []*Log{open(t, dir, Options{Create: &Settings{SegmentSize: segment.MinSize, Durability: SyncNever}}), open(t, dir, Options{})}
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	var firsts []uint64
	for turn := range 60 {
		appends, trims := handles[random.IntN(2)], handles[random.IntN(2)]
		for range random.IntN(4) {
			fillSegments(t, appends, 1)
			firsts = append(firsts, tailOf(t, appends).First)
		}
		if turn == 30 {
			for range maxSteps + 3 {
				fillSegments(t, appends, 1)
				firsts = append(firsts, tailOf(t, appends).First)
			}
		}
		oldest := trims.ctl.oldest()
		i, _ := slices.BinarySearch(firsts, oldest)
		if kept := firsts[i:]; len(kept) > 0 && random.IntN(3) > 0 {
			before := kept[random.IntN(len(kept))]
			trim(t, trims, before)
			if now := trims.ctl.oldest(); now != max(before, oldest) {
				t.Errorf("trimmed below %d, and the oldest is %d", before, now)
			}
		}
		for _, l := range handles {
			if random.IntN(2) == 0 {
				wantListed(t, l)
			}
		}
		if t.Failed() {
			t.Fatalf("in turn %d of seed %d", turn, seed)
		}
	}
}

// What a handle knows it does not look up again, whoever trims.
func TestTrimmingReadsTheDirectoryOnce(t *testing.T) {
	dir := newQueue(t)
	a, b := open(t, dir, Options{Create: &Settings{SegmentSize: segment.MinSize, Durability: SyncNever}}), open(t, dir, Options{})
	var firsts []uint64
	fill := func(l *Log) {
		for range 4 {
			fillSegments(t, l, 1)
			firsts = append(firsts, tailOf(t, l).First)
		}
	}
	fill(a)
	wantListed(t, a)
	wantListed(t, b)
	for range 5 {
		for _, l := range []*Log{a, b} {
			fill(b)
			trim(t, l, firsts[len(firsts)-6])
		}
	}
	wantListed(t, a)
	for _, l := range []*Log{a, b} {
		oldest, err := l.acquire(&l.table, l.ctl.oldest())
		if err != nil {
			t.Fatal(err)
		}
		if gone := int(oldest.Ordinal) - 1; l.kept.gone != gone {
			t.Errorf("%d segments went from what was known since the directory was read, want all %d", l.kept.gone, gone)
		}
		l.table.release(oldest)
	}
}

// Whoever trims may die when what it trims no longer counts, and before it is gone. The
// number may not be on disk then: so nothing is removed before somebody has synced it,
// and with the next that is removed it goes.
func TestWhatATrimmerLeftThatDiedGoesWithTheNextTrim(t *testing.T) {
	for _, c := range []struct {
		name    string
		knows   bool // who trims next knew the segments
		unknown bool // and there is a file besides that nobody ever knew
	}{{"known", true, false}, {"not known", false, false}, {"a relic", true, true}} {
		t.Run(c.name, func(t *testing.T) {
			dir := newQueue(t)
			l := open(t, dir, Options{Create: &Settings{SegmentSize: segment.MinSize, Durability: SyncNever}})
			fillSegments(t, l, 3)
			dead := tailOf(t, l).First
			fillSegments(t, l, 2)
			if c.knows {
				wantListed(t, l)
			}
			if err := l.Sync(t.Context()); err != nil {
				t.Fatal(err)
			}
			l.ctl.word(ctlOldest).Store(dead)
			relic := filepath.Join(dir, logName, segment.Name(2))
			if c.unknown {
				if err := os.WriteFile(relic, nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			had := segments(t, dir)
			wantListed(t, l)
			if n := trim(t, l, 1); n != 0 || segments(t, dir) != had {
				t.Fatalf("%d segments were trimmed, and %d of %d files are left: what was not synced was removed", n, segments(t, dir), had)
			}
			if n := trim(t, l, tailOf(t, l).First); n != 2 {
				t.Errorf("%d segments were trimmed, want 2", n)
			}
			if !c.unknown && segments(t, dir) != 1 {
				t.Errorf("%d files are left, want the last segment", segments(t, dir))
			}
			for range listAfter + 2 { // as a queue at its limits does
				fillSegments(t, l, 1)
				trim(t, l, tailOf(t, l).First)
			}
			if n := segments(t, dir); n != 1 {
				t.Errorf("%d files are left, want the last segment", n)
			}
		})
	}
}

// An outsider removes files, or a bit of the control file is wrong: nothing is trimmed
// that was known before, and when it is mended it goes on.
func TestTrimmingStopsWhereWhatWasKnownIsWrong(t *testing.T) {
	dir := newQueue(t)
	l := open(t, dir, Options{Create: &Settings{SegmentSize: segment.MinSize, Durability: SyncNever}})
	fillSegments(t, l, 6)
	wantListed(t, l)
	last, had := tailOf(t, l).First, segments(t, dir)
	refused := func(what string, left int) {
		t.Helper()
		if n, err := l.Trim(t.Context(), last); !errors.Is(err, ErrCorrupt) || n != 0 {
			t.Errorf("%s: got %d, %v, want ErrCorrupt", what, n, err)
		}
		if n := segments(t, dir); n != left {
			t.Errorf("%s: %d files are left, want %d", what, n, left)
		}
	}
	for _, i := range []int{0, 2} {
		path := segmentFile(t, dir, i)
		aside := filepath.Join(t.TempDir(), "aside")
		if err := os.Rename(path, aside); err != nil {
			t.Fatal(err)
		}
		refused("a file is missing", had-1)
		if err := os.Rename(aside, path); err != nil {
			t.Fatal(err)
		}
		wantListed(t, l)
	}
	oldest := l.ctl.oldest()
	l.ctl.word(ctlOldest).Store(last - 1)
	refused("the oldest number is none of a segment", had)
	l.ctl.word(ctlOldest).Store(oldest)
	if n := trim(t, l, last); n != had-1 || segments(t, dir) != 1 {
		t.Errorf("%d segments went, and %d are left, want %d and 1", n, segments(t, dir), had-1)
	}
}

// The ends of a log tell that there is room only if there is.
func TestTheEndsOfALogTellOfNoMoreRoomThanThereIs(t *testing.T) {
	dir := newQueue(t)
	const limit = 8 * segment.MinSize
	l := open(t, dir, Options{Create: &Settings{SegmentSize: segment.MinSize, Durability: SyncNever, MaxBytes: limit}})
	other := open(t, dir, Options{})
	for n := int64(1); n < 14; n++ {
		for _, need := range []*room{nil, {bytes: segment.MinSize, end: tailOf(t, other).First + 1}} {
			if err := l.takeTrimLock(t.Context()); err != nil {
				t.Fatal(err)
			}
			settings, err := l.ctl.settings()
			told := l.nothingToTrim(0, settings, need)
			st, serr := l.Stats() // under the lock: a keeper may trim as soon as it is dropped
			if err := errors.Join(err, serr, l.dropTrimLock()); err != nil {
				t.Fatal(err)
			}
			most := int64(len(st.Segments)) * segment.MinSize
			if need != nil {
				most += need.bytes
			}
			if want := most <= limit; told != want {
				t.Errorf("%d segments, need %v: told that there is nothing to trim: %v, want %v", len(st.Segments), need != nil, told, want)
			}
		}
		fillSegments(t, other, 1)
	}
}
