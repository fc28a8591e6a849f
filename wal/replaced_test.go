package wal

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// replaceLock puts another file in the place of the lock file.
func replaceLock(t *testing.T, dir string) {
	t.Helper()
	path := filepath.Join(dir, lockName)
	if err := errors.Join(os.WriteFile(path+".new", nil, 0o600), os.Rename(path+".new", path)); err != nil {
		t.Fatal(err)
	}
}

func openError(t *testing.T, dir string) error {
	t.Helper()
	l, err := Open(t.Context(), dir, Options{})
	if err == nil {
		closeLog(t, l)
	}
	return err
}

// Who locks another file learns nothing of those inside, and must not come in.
func TestAReplacedLockFileIsNoticed(t *testing.T) {
	dir := newQueue(t)
	l := create(t, dir, Options{})
	want := map[uint64]string{appendText(t, l, "before").Seq: "before"}
	replaceLock(t, dir)
	err := openError(t, dir)
	if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), filepath.Join(dir, lockName)) {
		t.Fatalf("got %v, want an error that names the lock file", err)
	}
	want[appendText(t, l, "after").Seq] = "after" // who is inside goes on
	crash(t, l)

	rep, err := Verify(t.Context(), dir, nil)
	if err != nil || len(rep.Faults) != 1 || rep.Faults[0].Path != filepath.Join(dir, lockName) {
		t.Fatalf("verify: %+v, %v, want one fault, of the lock file", rep.Faults, err)
	}
	done := repair(t, dir, RepairOptions{})
	if done.Lost != 0 || len(done.Repaired) != 1 {
		t.Errorf("repair: %+v", done)
	}
	l = open(t, dir, Options{})
	wantAll(t, readAll(t, l), want)
	closeLog(t, l)
	wantSound(t, dir, 2)
}

// Who died left the queue as it was, and somebody removed its lock file: repair makes
// another, and the next who opens recovers as ever.
func TestRepairOfAMissingLockFileWhereEverybodyDied(t *testing.T) {
	dir := newQueue(t)
	l := create(t, dir, Options{})
	want := map[uint64]string{}
	for _, body := range []string{"one", "two", "three"} {
		want[appendText(t, l, body).Seq] = body
	}
	crash(t, l)
	if err := os.Remove(filepath.Join(dir, lockName)); err != nil {
		t.Fatal(err)
	}
	if err := openError(t, dir); err == nil {
		t.Fatal("a queue without its lock file was opened")
	}
	done := repair(t, dir, RepairOptions{})
	if done.Lost != 0 || len(done.Repaired) == 0 {
		t.Errorf("repair: %+v, want the lock file and nothing lost", done)
	}
	wantWorking(t, dir, want, done)
}

// Nobody holds locks on the old one after an orderly end, or in another run of the
// machine.
func TestALockFileThatNobodyLocksMayBeReplaced(t *testing.T) {
	for _, way := range []string{"clean", "another boot"} {
		t.Run(way, func(t *testing.T) {
			dir := newQueue(t)
			l := create(t, dir, Options{})
			appendText(t, l, "before")
			if way == "clean" {
				closeLog(t, l)
			} else {
				crash(t, l)
				powerLoss(t, dir)
			}
			replaceLock(t, dir)
			if err := openError(t, dir); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// A segment that was made is there, or was trimmed. Where it is missing all the same
// nobody makes it anew, or waits for it: the log would be two.
func TestASegmentThatSomebodyRemovedIsNotMadeAnew(t *testing.T) {
	dir := newQueue(t)
	l, other := create(t, dir, Options{Durability: SyncNever}), open(t, dir, Options{Durability: SyncNever})
	appendText(t, other, "the other one stands in the first segment")
	r, err := other.NewReader(false)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	last := fillSegments(t, l, 1)
	gone := tailOf(t, l).Path()
	if err := os.Remove(gone); err != nil {
		t.Fatal(err)
	}
	missing := func(who string, err error) {
		t.Helper()
		if bad := new(CorruptError); !errors.As(err, &bad) || bad.Path != gone {
			t.Errorf("%s: got %v, want an error that names %s", who, err, gone)
		}
	}
	_, err = other.Append(nil, []byte("where?"))
	missing("who appends", err)
	for ok := true; ok; {
		if _, ok, err = r.Next(); err != nil {
			break
		}
	}
	missing("who reads", err)
	if a := appendText(t, l, "who has it mapped goes on"); a.Seq != last.Seq+1 {
		t.Errorf("got %d, want %d", a.Seq, last.Seq+1)
	}
	crash(t, l)
	crash(t, other)
	missing("who comes in", openError(t, dir))
	rep, err := Verify(t.Context(), dir, nil)
	if err != nil || len(rep.Faults) == 0 {
		t.Errorf("verify found %+v, %v", rep.Faults, err)
	}
	repair(t, dir, RepairOptions{})
	l = open(t, dir, Options{})
	appendText(t, l, "and on")
	closeLog(t, l)
	wantSound(t, dir, -1)
}
