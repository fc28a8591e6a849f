package walq_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/walq/walq"
	"github.com/walq/walq/internal/testx"
)

// useReadOnly does with a read-only handle whatever one can do with it.
func useReadOnly(t *testing.T, dir string, want ...string) {
	t.Helper()
	q := open(t, dir, walq.Options{ReadOnly: true, Role: "ro"})
	defer closeQueue(t, q)
	wantLines(t, "contents", contents(t, q), want...)
	r := reader(t, q, walq.Newest, walq.ReaderOptions{Durable: true})
	for _, p := range []walq.Position{walq.Oldest, walq.Last(1), walq.At(1), walq.Since(time.Now())} {
		if err := r.Seek(p); err != nil {
			t.Error(err)
		}
		rest(t, r)
	}
	if _, err := q.Stats(); err != nil {
		t.Error(err)
	}
	ctx := t.Context()
	seq := func(_ walq.Seq, err error) error { return err }
	for name, err := range map[string]error{
		"Append":      seq(q.Append(ctx, nil)),
		"AppendBatch": seq(q.AppendBatch(ctx, nil, nil)),
		"Publish":     seq(q.Publish(ctx, fullDraft)),
		"Submit":      seq(q.Submit(ctx, fullDraft)),
		"AppendFunc":  seq(q.AppendFunc(ctx, 1, func([]byte) error { t.Error("fill was called"); return nil })),
		"Claim":       func() error { _, err := q.Claim(ctx, 1); return err }(),
		"Sync":        q.Sync(ctx),
		"WaitDurable": q.WaitDurable(ctx, 1000),
	} {
		wantIs(t, name, err, walq.ErrReadOnly)
	}
	if err := q.WaitDurable(ctx, 1); err != nil {
		t.Errorf("WaitDurable of what is durable: %v", err)
	}
}

func TestAReadOnlyHandleChangesNotAByte(t *testing.T) {
	dir := newDir(t)
	q := create(t, dir, walq.Options{})
	appendText(t, q, "a")
	appendText(t, q, "b")
	closeQueue(t, q)
	before, times := testx.Fingerprint(t, dir), modified(t, dir)
	useReadOnly(t, dir, "1 a", "2 b")
	if testx.Fingerprint(t, dir) != before {
		t.Error("the directory changed")
	}
	wantLines(t, "times of modification", modified(t, dir), times...)
}

// modified lists when each file of a directory was written last: also a write
// of the same bytes shows there.
func modified(t *testing.T, dir string) (times []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil {
			times = append(times, fmt.Sprint(path, " ", info.ModTime()))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return times
}

func TestAReadOnlyHandleIsNoParticipant(t *testing.T) {
	dir := newDir(t)
	q := create(t, dir, walq.Options{Role: "writer"})
	appendText(t, q, "a")
	ro := open(t, dir, walq.Options{ReadOnly: true})
	s, err := ro.Stats()
	if err != nil || len(s.Participants) != 1 || s.Participants[0].Role != "writer" || !s.Participants[0].Alive {
		t.Errorf("got %+v, %v, want the writer alone", s.Participants, err)
	}
	r := reader(t, ro, walq.Oldest, walq.ReaderOptions{})
	rest(t, r)
	for i := range 300 { // it follows a living queue from segment to segment
		seq := appendText(t, q, text(i, 1000))
		if m, err := r.Next(t.Context()); err != nil || m.Seq != seq {
			t.Fatalf("got %d, %v, want %d", m.Seq, err, seq)
		}
	}
}

func TestReadingNeedsNoPermissionToWrite(t *testing.T) {
	dir := newDir(t)
	q := create(t, dir, walq.Options{})
	appendText(t, q, "a")
	closeQueue(t, q)
	where := dir
	if os.Geteuid() == 0 { // modes do not bind root, a read-only mount does
		where = t.TempDir()
		bindReadOnly(t, dir, where)
	} else {
		chmodAll(t, dir, 0o500, 0o400)
		t.Cleanup(func() { chmodAll(t, dir, 0o700, 0o600) })
	}
	useReadOnly(t, where, "1 a")
	if q, err := walq.Open(t.Context(), where, walq.Options{}); err == nil {
		t.Error("it could be opened for writing: the test shows nothing")
		closeQueue(t, q)
	}
}

func bindReadOnly(t *testing.T, from, to string) {
	t.Helper()
	if err := unix.Mount(from, to, "", unix.MS_BIND, ""); err != nil {
		testx.Skip(t, "cannot mount: "+err.Error())
	}
	t.Cleanup(func() {
		if err := unix.Unmount(to, 0); err != nil {
			t.Error(err)
		}
	})
	if err := unix.Mount("", to, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
}

func chmodAll(t *testing.T, dir string, dirs, files fs.FileMode) {
	t.Helper()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	var all []string
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		all = append(all, path)
		return err
	})
	for i := len(all) - 1; i >= 0 && err == nil; i-- { // what is in a directory before it
		var info fs.FileInfo
		if info, err = os.Stat(all[i]); err == nil {
			mode := files
			if info.IsDir() {
				mode = dirs
			}
			err = os.Chmod(all[i], mode)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}
