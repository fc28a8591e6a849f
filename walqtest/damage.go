package walqtest

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/walq/walq"
	"github.com/walq/walq/segment"
	"github.com/walq/walq/wal"
)

// Flip flips one bit of a message, in its body if it has one, as a disk or memory
// does that forgets. Others may have the queue open. Readers that come to the
// message, or to the batch that it is in, get a walq.CorruptError with file and
// offset, at each read until they Seek past it; all others can be read.
func Flip(t testing.TB, dir string, seq walq.Seq) {
	t.Helper()
	for _, path := range segments(t, dir) {
		for _, l := range frames(t, path).frames {
			if l.Seq != uint64(seq) || !l.Filled || l.Kind != segment.KindMessage {
				continue
			}
			const checksum = 8 // of a frame, behind its word
			off := l.Offset + checksum
			if len(l.Body) > 0 {
				off = l.Offset + segment.FrameHeader + int64(len(l.Meta))
			}
			edit(t, path, func(f *os.File) error {
				b := make([]byte, 1)
				if _, err := f.ReadAt(b, off); err != nil {
					return err
				}
				b[0] ^= 1
				_, err := f.WriteAt(b, off)
				return err
			})
			return
		}
	}
	t.Fatalf("walqtest: there is no message %d in %s", seq, dir)
}

// PowerCut closes the queue and leaves it as a power cut at this moment could have
// left it on disk: everything durable is there; the message behind, which somebody
// was just writing, is torn; what lies behind that is not believed any more. If
// messages were appended that are not durable, through handles with SyncNever,
// SyncInterval or by Submit, the first of them is the one that is torn, and so all
// of them are lost.
//
// Whoever opens the queue next recovers it. Sequence numbers go on with a large
// jump, because nobody can know which were given out.
//
// q must be the only handle on the queue.
func PowerCut(t testing.TB, q *walq.Queue) {
	t.Helper()
	dir := q.Path()
	s, err := q.Stats()
	if err != nil {
		t.Fatal(err)
	}
	alive := 0
	for _, p := range s.Participants {
		if p.Alive {
			alive++
		}
	}
	if alive != 1 {
		t.Fatalf("walqtest: %d handles have %s open, and a power cut ends all: close the others first", alive, dir)
	}
	var then place
	path := filepath.Join(dir, "walq.ctl")
	edit(t, path, then.read)
	// Its number is only ever known to the one who is writing it.
	w, err := walq.Open(t.Context(), dir, walq.Options{Durability: walq.SyncNever, AnyFileSystem: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Append(t.Context(), []byte("a message in the middle of which the power failed")); err != nil {
		t.Error(err)
	}
	Close(t, w)
	Close(t, q)
	tear(t, dir, then.position())
	edit(t, path, func(f *os.File) error { return errors.Join(then.write(f), forgetBoot(f)) })
}

// tear undoes the second half of the first frame at or behind a position, as if its
// sectors had not been written.
func tear(t testing.TB, dir string, position uint64) {
	t.Helper()
	for _, path := range segments(t, dir) {
		s := frames(t, path)
		for _, l := range s.frames {
			at := s.ordinal<<32 | uint64(l.Offset)>>3
			if at < position || l.Inner || !l.Filled {
				continue
			}
			edit(t, path, func(f *os.File) error {
				content := make([]byte, l.Word.Length())
				if _, err := f.ReadAt(content, l.Offset+segment.FrameHeader); err != nil {
					return err
				}
				half := content[len(content)/2:]
				from := l.Offset + segment.FrameHeader + int64(len(content)/2)
				if !slices.ContainsFunc(half, func(b byte) bool { return b != 0 }) {
					const header = 8 // what is behind the word
					from, half = l.Offset+header, make([]byte, segment.FrameHeader-header)
				}
				clear(half)
				_, err := f.WriteAt(half, from)
				return err
			})
			return
		}
	}
	t.Fatalf("walqtest: nothing in %s lies behind what is durable: it was trimmed meanwhile", dir)
}

// Poison does to a queue what a failed sync does: appends fail with a
// walq.PoisonError, in all processes and after every restart, and reading goes on.
// Others may have the queue open.
func Poison(t testing.TB, dir, reason string) {
	t.Helper()
	edit(t, filepath.Join(dir, "walq.ctl"), func(f *os.File) error {
		return poison(f, time.Now().UnixNano(), reason)
	})
}

// segments are the files of the log, in order.
func segments(t testing.TB, dir string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "log", "*.seg"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("walqtest: %s has no segments (%v)", dir, err)
	}
	slices.Sort(paths)
	return paths
}

// A file is a segment as it lies on disk.
type file struct {
	ordinal uint64
	frames  []segment.Laid
}

func frames(t testing.TB, path string) (s file) {
	t.Helper()
	known := false
	err := wal.Dump(path, wal.Viewer{
		Field: func(f segment.Field) error {
			if f.Name == "ordinal" {
				s.ordinal, known = f.Value.(uint64)
			}
			return nil
		},
		Frame: func(l segment.Laid) error { s.frames = append(s.frames, l); return nil },
		Fault: func(error) {}, // of an earlier damage
	})
	if err != nil && !errors.Is(err, walq.ErrCorrupt) || !known {
		t.Fatalf("walqtest: cannot read %s: %v", path, err)
	}
	return s
}

// edit changes a file.
func edit(t testing.TB, path string, change func(*os.File) error) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(change(f), f.Close()); err != nil {
		t.Fatal(err)
	}
}
