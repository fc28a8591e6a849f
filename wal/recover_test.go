package wal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/walq/walq/internal/testx"
	"github.com/walq/walq/segment"
)

// segmentFile is the path of the queue's n-th segment, from 0; negative from
// the end.
func segmentFile(t testing.TB, dir string, n int) string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(dir, logName, "*.seg"))
	if err != nil || len(all) == 0 {
		t.Fatalf("no segments: %v", err)
	}
	if n < 0 {
		n += len(all)
	}
	return all[n]
}

// damage changes bytes of a file that nobody has open.
func damage(t testing.TB, path string, f func([]byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, f(b), 0o600); err != nil {
		t.Fatal(err)
	}
}

// where finds the offset of a message's frame by its body.
func where(t testing.TB, file []byte, body string) int {
	t.Helper()
	at := bytes.Index(file, []byte(body))
	if at < 0 {
		t.Fatalf("no %q in the segment", body)
	}
	return at - segment.FrameHeader
}

func TestAfterTheDeathOfEveryProcessNothingIsLost(t *testing.T) {
	dir := newQueue(t)
	a, b := create(t, dir, Options{Durability: SyncNever}), open(t, dir, Options{})
	first := appendText(t, a, "first")
	dead, err := a.ClaimInPlace(nil, 100)
	if err != nil {
		t.Fatal(err)
	}
	copy(dead.Bytes(), "half")
	behind := appendText(t, b, "behind the claim")
	crash(t, a)
	crash(t, b)

	l := open(t, dir, Options{})
	got := readAll(t, l)
	if len(got) != 2 || got[first.Seq] != "first" || got[behind.Seq] != "behind the claim" {
		t.Errorf("got %v", got)
	}
	if a := appendDurable(t, l, "on"); a.Seq != behind.Seq+1 {
		t.Errorf("the log goes on at %d, want %d: nothing jumps on the same boot", a.Seq, behind.Seq+1)
	}
	closeLog(t, l)
	wantSound(t, dir, 3)
}

func TestACorruptFrameOnTheSameBootIsReportedAndNothingChanges(t *testing.T) {
	dir := newQueue(t)
	l := create(t, dir, Options{})
	appendDurable(t, l, "durable")
	l2 := open(t, dir, Options{Durability: SyncNever})
	appendText(t, l2, "not yet durable")
	crash(t, l)
	crash(t, l2)
	path := segmentFile(t, dir, 0)
	damage(t, path, func(b []byte) []byte { b[where(t, b, "not yet")+segment.FrameHeader+3] ^= 1; return b })
	before := testx.Fingerprint(t, dir)
	_, err := Open(t.Context(), dir, Options{})
	var c *CorruptError
	if !errors.As(err, &c) || c.Path != path || c.Offset == 0 {
		t.Errorf("got %v, want a CorruptError with file and offset", err)
	}
	if testx.Fingerprint(t, dir) != before {
		t.Error("files were changed")
	}
}

// A damage is what a power loss may leave of frames that were not synced.
var damages = map[string]struct {
	// bodies: durable1, durable2, then tail1, tail2, tail3 unsynced
	damage func(t *testing.T, b []byte) []byte
	keep   int // of the three unsynced ones
}{
	"everything arrived": {func(t *testing.T, b []byte) []byte { return b }, 3},
	"a torn body": {func(t *testing.T, b []byte) []byte {
		b[where(t, b, "tail2")+segment.FrameHeader+2] ^= 0xff
		return b
	}, 1},
	"a torn header": {func(t *testing.T, b []byte) []byte {
		clear(b[where(t, b, "tail2")+8 : where(t, b, "tail2")+24])
		return b
	}, 1},
	"a word that never arrived, later ones did": {func(t *testing.T, b []byte) []byte {
		clear(b[where(t, b, "tail2"):][:8])
		return b
	}, 1},
	"a claim instead of the commit": {func(t *testing.T, b []byte) []byte {
		at := where(t, b, "tail1")
		w := segment.Word(getWord(b[at:]))
		putWord(b[at:], uint64(segment.MakeWord(segment.Claimed, w.Slot(), w.Count(), w.Length())))
		return b
	}, 0},
	"garbage for a word": {func(t *testing.T, b []byte) []byte { putWord(b[where(t, b, "tail3"):], 0xdeadbeefcafe); return b }, 2},
	"nothing of the tail": {func(t *testing.T, b []byte) []byte {
		at := where(t, b, "tail1")
		clear(b[at:])
		return b
	}, 0},
	"a file that ends at the cut": {func(t *testing.T, b []byte) []byte { return b[:where(t, b, "tail1")] }, 0},
}

func TestAfterAPowerLossTheLogIsAWholePrefixAndNoNumberIsUsedTwice(t *testing.T) {
	for name, c := range damages {
		t.Run(name, func(t *testing.T) {
			dir := newQueue(t)
			l := create(t, dir, Options{})
			want := map[uint64]string{}
			for _, body := range []string{"durable1 " + strings.Repeat("d", 12000), "durable2"} {
				want[appendDurable(t, l, body).Seq] = body
			}
			var last uint64
			for i, body := range []string{"tail1 aaaa", "tail2 bbbb", "tail3 cccc"} {
				last = appendText(t, l, body).Seq
				if i < c.keep {
					want[last] = body
				}
			}
			crash(t, l)
			damage(t, segmentFile(t, dir, 0), func(b []byte) []byte { return c.damage(t, b) })
			powerLoss(t, dir)
			wantSound(t, dir, len(want)) // before recovery too
			ro := open(t, dir, Options{ReadOnly: true})
			if got := readAll(t, ro); len(got) != len(want) {
				t.Errorf("a read-only handle reads %d messages before recovery, want %d", len(got), len(want))
			}
			closeLog(t, ro)
			for round := range 3 { // and the power fails again and again
				l = open(t, dir, Options{})
				got := readAll(t, l)
				wantAll(t, got, want)
				if len(got) != len(want) {
					t.Fatalf("round %d: got %d messages, want %d", round, len(got), len(want))
				}
				body := fmt.Sprint("after loss ", round)
				a := appendDurable(t, l, body)
				if a.Seq <= last || a.Seq>>32 != last>>32+2 {
					t.Fatalf("round %d: number %d after %d", round, a.Seq, last)
				}
				want[a.Seq], last = body, a.Seq
				crash(t, l)
				powerLoss(t, dir)
			}
			wantSound(t, dir, len(want))
		})
	}
}

func TestStaleSegmentsBehindTheCutAreMovedAside(t *testing.T) {
	dir := newQueue(t)
	l := create(t, dir, Options{})
	appendDurable(t, l, "durable")
	long := strings.Repeat("z", 30000)
	for i := range 6 { // three segments
		appendText(t, l, fmt.Sprint(i, long))
	}
	crash(t, l)
	damage(t, segmentFile(t, dir, 0), func(b []byte) []byte { b[where(t, b, "0zzz")+100] ^= 1; return b })
	powerLoss(t, dir)
	wantSound(t, dir, 1)
	l = open(t, dir, Options{})
	if got := readAll(t, l); len(got) != 1 {
		t.Errorf("got %d messages, want 1", len(got))
	}
	appendDurable(t, l, "on")
	closeLog(t, l)
	aside, err := os.ReadDir(filepath.Join(dir, quarantineName))
	if err != nil || len(aside) == 0 {
		t.Errorf("quarantine holds %d files (%v), want the stale segments", len(aside), err)
	}
	wantSound(t, dir, 2)
}

func TestASealWhoseSuccessorWasLostBecomesAJump(t *testing.T) {
	dir := newQueue(t)
	l := create(t, dir, Options{})
	long := strings.Repeat("z", 30000)
	appendDurable(t, l, "0"+long)
	appendText(t, l, "1"+long)
	gone := appendText(t, l, "2"+long)
	crash(t, l)
	if err := os.Remove(segmentFile(t, dir, -1)); err != nil {
		t.Fatal(err)
	}
	powerLoss(t, dir)
	l = open(t, dir, Options{})
	if a := appendDurable(t, l, "on"); a.Seq <= gone.Seq {
		t.Errorf("number %d was handed out before, as far as %d", a.Seq, gone.Seq)
	}
	if got := readAll(t, l); len(got) != 3 {
		t.Errorf("got %d messages, want 3", len(got))
	}
	closeLog(t, l)
	wantSound(t, dir, 3)
}

func TestDamageBelowTheDurablePositionIsReportedAndNothingChanges(t *testing.T) {
	for name, harm := range map[string]func(t *testing.T, dir string){
		"a bit of a body": func(t *testing.T, dir string) {
			damage(t, segmentFile(t, dir, 0), func(b []byte) []byte { b[where(t, b, "durable2")+segment.FrameHeader+1] ^= 4; return b })
		},
		"a missing frame": func(t *testing.T, dir string) {
			damage(t, segmentFile(t, dir, 0), func(b []byte) []byte { clear(b[where(t, b, "durable2"):]); return b })
		},
		"a file cut short": func(t *testing.T, dir string) {
			damage(t, segmentFile(t, dir, 0), func(b []byte) []byte { return b[:where(t, b, "durable2")] })
		},
		"a missing segment": func(t *testing.T, dir string) {
			if err := os.Remove(segmentFile(t, dir, 0)); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := newQueue(t)
			l := create(t, dir, Options{})
			for i := range 4 {
				appendDurable(t, l, fmt.Sprint("durable", i, strings.Repeat("x", 5000)))
			}
			crash(t, l)
			harm(t, dir)
			powerLoss(t, dir)
			before := testx.Fingerprint(t, dir)
			if _, err := Open(t.Context(), dir, Options{}); !errors.Is(err, ErrCorrupt) {
				t.Errorf("got %v, want ErrCorrupt", err)
			}
			if testx.Fingerprint(t, dir) != before {
				t.Error("files were changed")
			}
			rep, err := Verify(t.Context(), dir, nil)
			if err != nil || len(rep.Faults) == 0 {
				t.Errorf("verify found nothing (%v)", err)
			}
		})
	}
}

func TestAnOrderlyEndNeedsNoRecoveryOnAnyBoot(t *testing.T) {
	dir := newQueue(t)
	l := create(t, dir, Options{Durability: SyncNever})
	appendText(t, l, "one")
	closeLog(t, l)
	changeBoot(t, dir, func(b *boot) {
		if !b.clean {
			t.Error("the last one to leave left no clean mark")
		}
		b.id[0] ^= 0xff
	})
	l = open(t, dir, Options{})
	if a := appendText(t, l, "two"); a.Seq != 2 {
		t.Errorf("got number %d, want 2: there was nothing to recover", a.Seq)
	}
	crash(t, l)
	changeBoot(t, dir, func(b *boot) {
		if b.clean {
			t.Error("the clean mark outlived the opening")
		}
	})
}

func TestNobodyMarksTheQueueCleanWhileOthersHaveIt(t *testing.T) {
	dir := newQueue(t)
	a, b := create(t, dir, Options{}), open(t, dir, Options{})
	appendText(t, a, "one")
	closeLog(t, a)
	appendText(t, b, "two")
	crash(t, b)
	changeBoot(t, dir, func(b *boot) {
		if b.clean {
			t.Error("marked clean although another participant was there")
		}
	})
}

func TestASnapshotIsRecoveredAsAfterAPowerLoss(t *testing.T) {
	dir := newQueue(t)
	l := create(t, dir, Options{})
	last := appendDurable(t, l, "one")
	copied := filepath.Join(t.TempDir(), "copy")
	closeLog(t, l)
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	for _, sub := range []string{groupsName, wakeName, quarantineName} {
		if err := os.MkdirAll(filepath.Join(copied, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	c := open(t, copied, Options{Snapshot: true})
	if a := appendDurable(t, c, "two"); a.Seq <= last.Seq+1 {
		t.Errorf("number %d follows on the original's, want a jump", a.Seq)
	}
}

func TestOpeningHonoursItsContextWhileAnotherRecovers(t *testing.T) {
	dir := newQueue(t)
	closeLog(t, create(t, dir, Options{}))
	holder := Log{o: Options{}, member: member{slot: -1}}
	if err := holder.openFiles(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	defer holder.files.close()
	if ok, err := holder.locks.TryLock(lockRecovery, true); !ok || err != nil {
		t.Fatal(ok, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if _, err := Open(ctx, dir, Options{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the context's error", err)
	}
}
