package walq_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/walq/walq"
	"github.com/walq/walq/internal/testx"
)

// closedQueue makes a queue with a message and leaves it.
func closedQueue(t *testing.T) (dir string) {
	t.Helper()
	dir = newDir(t)
	q := create(t, dir, walq.Options{})
	appendText(t, q, "kept")
	closeQueue(t, q)
	return dir
}

// refusesToOpen fails unless Open gives a sentence of the kind that names the
// path, and changes nothing, for writing and for reading only.
func refusesToOpen(t *testing.T, dir string, kind error, path string) {
	t.Helper()
	before := testx.Fingerprint(t, dir)
	for name, o := range map[string]walq.Options{
		"zero options": {}, "read-only": {ReadOnly: true}, "Create": {Create: &walq.QueueOptions{}},
	} {
		t.Run(name, func(t *testing.T) {
			q, err := walq.Open(t.Context(), dir, o)
			if err == nil { // a segment may be looked at only when it is read
				_, err = readAll(q)
				if err == nil {
					t.Error("it was opened and read")
				}
				closeQueue(t, q)
			}
			wantSentence(t, err, kind, path)
			if testx.Fingerprint(t, dir) != before {
				t.Error("the directory changed")
			}
		})
	}
}

func readAll(q *walq.Queue) (n int, err error) {
	r, err := q.Reader(walq.Oldest, walq.ReaderOptions{})
	if err != nil {
		return 0, err
	}
	for _, rerr := range r.All(context.Background()) {
		if err = rerr; err == nil {
			n++
		}
	}
	return n, errors.Join(err, r.Close())
}

func TestAQueueOfAnotherOwnerIsRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		testx.Skip(t, "needs root to give files away")
	}
	const other = 12345
	dir := closedQueue(t)
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, other, other))
	})
	if err != nil {
		t.Fatal(err)
	}
	before := testx.Fingerprint(t, dir)
	for name, o := range map[string]walq.Options{"zero options": {}, "Create": {Create: &walq.QueueOptions{}}} {
		_, err := walq.Open(t.Context(), dir, o)
		t.Run(name, func(t *testing.T) { wantSentence(t, err, walq.ErrOwner, dir) })
	}
	if testx.Fingerprint(t, dir) != before {
		t.Error("the directory changed")
	}
}

func TestAFileOfAnotherOwnerIsRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		testx.Skip(t, "needs root to give files away")
	}
	for _, name := range []string{"walq.ctl", "walq.lock", "log/00000000000000000001.seg"} {
		t.Run(name, func(t *testing.T) {
			dir := closedQueue(t)
			path := filepath.Join(dir, name)
			if err := os.Chown(path, 12345, 12345); err != nil {
				t.Fatal(err)
			}
			refusesToOpen(t, dir, walq.ErrOwner, path)
		})
	}
}

func TestASymbolicLinkIsRefused(t *testing.T) {
	for _, name := range []string{"walq.ctl", "walq.lock", "log", "log/00000000000000000001.seg"} {
		t.Run(name, func(t *testing.T) {
			dir := closedQueue(t)
			path, aside := filepath.Join(dir, name), filepath.Join(t.TempDir(), "aside")
			if err := errors.Join(os.Rename(path, aside), os.Symlink(aside, path)); err != nil {
				t.Fatal(err)
			}
			refusesToOpen(t, dir, walq.ErrSymlink, path)
		})
	}
}

func TestANewerFormatIsRefusedByName(t *testing.T) {
	for _, name := range []string{"walq.ctl", "log/00000000000000000001.seg"} {
		t.Run(name, func(t *testing.T) {
			dir := closedQueue(t)
			path := filepath.Join(dir, name)
			damage(t, path, func(b []byte) { b[8]++ }) // the version
			refusesToOpen(t, dir, walq.ErrVersion, path)
		})
	}
}

func TestADirectoryOfForeignFilesIsNoQueueAndBecomesNone(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "letter.txt"), []byte("dear reader"), 0o600); err != nil {
		t.Fatal(err)
	}
	refusesToOpen(t, dir, walq.ErrNotQueue, dir)
}

func TestAForeignControlFileIsNoQueue(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "walq.ctl"), make([]byte, 81920), 0o600); err != nil {
		t.Fatal(err)
	}
	refusesToOpen(t, dir, walq.ErrNotQueue, dir)
}

func TestACorruptControlFileIsRefused(t *testing.T) {
	dir := closedQueue(t)
	path := filepath.Join(dir, "walq.ctl")
	damage(t, path, func(b []byte) { b[40] ^= 1 }) // the identity
	refusesToOpen(t, dir, walq.ErrCorrupt, path)
}

func TestALostControlFileIsNotReplacedOverMessages(t *testing.T) {
	dir := closedQueue(t)
	if err := os.Remove(filepath.Join(dir, "walq.ctl")); err != nil {
		t.Fatal(err)
	}
	before := testx.Fingerprint(t, filepath.Join(dir, "log"))
	_, err := walq.Open(t.Context(), dir, walq.Options{Create: &walq.QueueOptions{}})
	wantSentence(t, err, walq.ErrCorrupt, dir)
	if testx.Fingerprint(t, filepath.Join(dir, "log")) != before {
		t.Error("the log changed")
	}
	_, err = walq.Open(t.Context(), dir, walq.Options{})
	wantSentence(t, err, walq.ErrNotQueue, dir)
}

func TestACorruptMessageIsReportedUntilSeekAndTheRestIsRead(t *testing.T) {
	dir := newDir(t)
	q := create(t, dir, walq.Options{})
	for _, body := range []string{"first", "broken", "third"} {
		appendText(t, q, body)
	}
	closeQueue(t, q)
	path := segmentFile(t, dir, 0)
	damage(t, path, func(b []byte) { b[strings.Index(string(b), "broken")] ^= 1 })
	q = open(t, dir, walq.Options{ReadOnly: true})
	r := reader(t, q, walq.Oldest, walq.ReaderOptions{})
	if m, err := r.Next(t.Context()); err != nil || string(m.Body) != "first" {
		t.Fatalf("got %q, %v", m.Body, err)
	}
	for range 2 {
		_, err := r.Next(t.Context())
		wantSentence(t, err, walq.ErrCorrupt, path)
		var c *walq.CorruptError
		if !errors.As(err, &c) || c.Path != path || c.Offset <= 0 || c.Reason == "" {
			t.Errorf("got %+v", c)
		}
	}
	wantIs(t, "View", r.View(t.Context(), func(walq.Message) error { t.Error("fn was called"); return nil }), walq.ErrCorrupt)
	if err := r.Seek(walq.At(3)); err != nil {
		t.Fatal(err)
	}
	wantLines(t, "behind it", lines(rest(t, r)), "3 third")
}

// mount mounts a file system of the kind at a new directory, until the test
// ends.
func mount(t *testing.T, kind, data string) (dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		testx.Skip(t, "needs root to mount "+kind)
	}
	dir = t.TempDir()
	if err := unix.Mount(kind, dir, kind, 0, data); err != nil {
		testx.Skip(t, "cannot mount "+kind+": "+err.Error())
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fillUp appends until the disk is full. A segment that is prepared ahead of time
// takes room as well, and gives it back when appends pause.
func fillUp(t *testing.T, q *walq.Queue, dir string) (last walq.Seq, err error) {
	t.Helper()
	prepared := func() bool {
		temporary, err := filepath.Glob(filepath.Join(dir, "log", "tmp.*"))
		return err != nil || len(temporary) > 0
	}
	for i := range 10_000 {
		seq, err := q.Append(t.Context(), []byte(text(i, 1000)))
		switch {
		case err == nil:
			last = seq
		case prepared():
			testx.Eventually(t, patience, func() bool { return !prepared() }, "a prepared segment is given back")
		default:
			return last, err
		}
	}
	t.Fatal("1 MiB is never full")
	return 0, nil
}

func TestAFullDiskIsReportedBeforeAnythingIsClaimed(t *testing.T) {
	place := mount(t, "tmpfs", "size=1m,mode=0700")
	dir, ballast := filepath.Join(place, "q"), filepath.Join(place, "ballast")
	q := create(t, dir, walq.Options{})
	if err := os.WriteFile(ballast, make([]byte, 256<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	last, err := fillUp(t, q, dir)
	wantSentence(t, err, walq.ErrDiskFull, dir)
	for range 3 {
		_, err = q.Append(t.Context(), []byte(text(0, 1000)))
		wantIs(t, "again", err, walq.ErrDiskFull)
		if errors.Is(err, walq.ErrNotDurable) {
			t.Errorf("it says that the message is in: %v", err)
		}
	}
	_, err = q.AppendBatch(t.Context(), make([]byte, 1000), make([]byte, 1000))
	wantIs(t, "a batch", err, walq.ErrDiskFull)
	_, err = q.Claim(t.Context(), 1000)
	wantIs(t, "a claim", err, walq.ErrDiskFull)
	if n, err := readAll(q); err != nil || walq.Seq(n) != last {
		t.Errorf("read %d messages, %v, want %d", n, err, last)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if seq := appendText(t, q, text(0, 1000)); seq != last+1 {
		t.Errorf("with space again: got %d, want %d", seq, last+1)
	}
	closeQueue(t, q)
	q = open(t, dir, walq.Options{})
	if n, err := readAll(q); err != nil || walq.Seq(n) != last+1 {
		t.Errorf("read %d messages, %v, want %d", n, err, last+1)
	}
}

func TestNoRoomForANewQueueIsAFullDisk(t *testing.T) {
	place := mount(t, "tmpfs", "size=100k,mode=0700")
	dir := filepath.Join(place, "q")
	_, err := walq.Open(t.Context(), dir, walq.Options{Create: &walq.QueueOptions{}})
	wantSentence(t, err, walq.ErrDiskFull, dir)
	if err := unix.Mount("", place, "", unix.MS_REMOUNT, "size=4m"); err != nil {
		t.Fatal(err)
	}
	q := create(t, dir, walq.Options{}) // what was left half made is no obstacle
	appendText(t, q, "x")
	closeQueue(t, q)
}

func TestAnOverlayFileSystemIsRefusedUnlessAllowed(t *testing.T) {
	// Upper and work directory lie on a file system of their own, since an
	// overlay on an overlay cannot be mounted.
	below := mount(t, "tmpfs", "size=8m,mode=0700")
	for _, name := range []string{"lower", "upper", "work"} {
		if err := os.Mkdir(filepath.Join(below, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	place := mount(t, "overlay", "lowerdir="+below+"/lower,upperdir="+below+"/upper,workdir="+below+"/work")
	dir := filepath.Join(place, "q")
	_, err := walq.Open(t.Context(), dir, walq.Options{Create: &walq.QueueOptions{}})
	wantSentence(t, err, walq.ErrFileSystem, dir)
	if err != nil && !strings.Contains(err.Error(), "overlay") {
		t.Errorf("the error does not name the file system: %v", err)
	}
	q := create(t, dir, walq.Options{AnyFileSystem: true})
	appendText(t, q, "x")
	closeQueue(t, q)
	_, err = walq.Open(t.Context(), dir, walq.Options{ReadOnly: true})
	wantSentence(t, err, walq.ErrFileSystem, dir)
	q = open(t, dir, walq.Options{ReadOnly: true, AnyFileSystem: true})
	wantLines(t, "contents", contents(t, q), "1 x")
	closeQueue(t, q)
}
