//go:build walqsteps && planted

package wal

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/walq/walq/internal/testx"
)

// A planted bug is a change of the source that loses messages after a power cut.
type planted struct {
	name string
	file string
	old  string
	new  string
	seed uint64 // of a world that finds it; when worlds change, the search finds another
}

var plantedBugs = []planted{
	{"no checksum over the body", "segment/format.go",
		`uint64(h.metaLen()), uint64(h.time), content)
}

// FillBody is Fill for a message without metadata, where body has the length that was
// claimed: nearly all there is to append. It is checksumCopying and put, without a call
// between, which takes as long as it takes to sum fifty bytes.
func (s *Segment) FillBody(c Cursor, w Word, time int64, body []byte) {
	h, p := makeHeader(KindMessage, 0, time), s.r.Bytes(c.Off, w.Size())
	h.put(p, crc32c.CopyFrame(p[FrameHeader:], body, s.Salt, c.Seq, h.sizes(w), 0, uint64(h.time)))
}

// checksumCopying is checksumOver for a content that it copies from body, without
// metadata. dst is the room for content and padding.
func (h frameHeader) checksumCopying(dst, body []byte, salt, seq uint64, w Word) uint32 {
	return crc32c.CopyFrame(dst, body, salt, seq, h.sizes(w), 0, uint64(h.time))`, `uint64(h.metaLen()), uint64(h.time), nil)
}

func (s *Segment) FillBody(c Cursor, w Word, time int64, body []byte) {
	h, p := makeHeader(KindMessage, 0, time), s.r.Bytes(c.Off, w.Size())
	h.put(p, h.checksumCopying(p[FrameHeader:], body, s.Salt, c.Seq, w))
}

func (h frameHeader) checksumCopying(dst, body []byte, salt, seq uint64, w Word) uint32 {
	crc32c.CopyFrame(dst, body, salt, seq, h.sizes(w), 0, uint64(h.time))
	return h.checksumOver(salt, seq, w, nil)`, 0},
	{"no sync before acknowledging", "wal/sync.go",
		`err = p.s.Region().Flush(p.from.Off, n)`, `err = nil`, 0},
	{"the seal is not synced", "wal/sync.go",
		`n += segment.SealBytes`, `n += 0`, 0},
	{"no directory sync", "wal/append.go",
		"if err := l.log.Sync(); err != nil {\n\t\treturn nil, joinFirst(l.poison(err), made.Close())\n\t}\n", "", 0},
	{"the names beside the control file are not synced", "wal/create.go",
		"if err := dir.Sync(); err != nil {\n\t\treturn err\n\t}\n\treturn makeControl", "return makeControl", 202063883415683},
	{"the successor's header is not synced", "wal/append.go",
		`err = made.FlushShared()`, `err = nil; prepared = true`, 0},
	{"recovery goes on behind a hole", "wal/recover.go",
		"if sc.powerCut {\n\t\t\treturn false, nil\n\t\t}\n\t\ts.TryPad", "s.TryPad", 0},
	{"recovery follows a stale segment", "wal/recover.go",
		"case sc.w == 0:\n\t\treturn false, nil", `case sc.w == 0:
		firsts, _ := segmentNames(sc.l.log)
		for _, first := range firsts {
			if n, err := sc.l.acquire(&sc.l.table, first); sc.powerCut && first > sc.s.First && err == nil {
				return true, sc.enter(n)
			}
		}
		return false, nil`, 0},
	{"sequence numbers are used again", "wal/table.go",
		`return (seq>>32 + 2) << 32`, `return seq + 1`, 0},
	{"a plain store at commit", "segment/write.go",
		`return s.r.Word(off).CompareAndSwap(uint64(w), uint64(w.with(Committed)))`, "s.r.Word(off).Store(uint64(w.with(Committed)))\n\treturn true", 0},
	{"hints behind the cut are kept", "wal/recover.go",
		`s.ClearHintsFrom(off)`, ``, 0},
	{"the jump is not synced before the new segment", "wal/recover.go",
		"if err := s.Region().Flush(off, segment.SealBytes); err != nil {\n\t\treturn err\n\t}", ``, 0},
	{"the clean mark is removed without a sync", "wal/recover.go",
		"step.At(step.CleanMarkRemoved)\n\treturn l.syncControl()", "step.At(step.CleanMarkRemoved)\n\treturn nil", 0},
	{"trimming is not announced", "wal/trim.go",
		"l.ctl.announceTrim(first)", ``, 0},
	{"oldest is on disk before durable", "wal/trim.go",
		"if err := l.syncControl(); err != nil {\n\t\treturn err\n\t}\n\tsegment.RaiseMax(l.ctl.word(ctlOldest), first)", "segment.RaiseMax(l.ctl.word(ctlOldest), first)", 0},
	{"files are unlinked before oldest is on disk", "wal/trim.go",
		"step.At(step.TrimOldestSet)\n\tif err := l.syncControl(); err != nil {\n\t\treturn err\n\t}", "step.At(step.TrimOldestSet)", 0},
	{"stale segments are not moved aside", "wal/recover.go",
		`err = errors.Join(err, l.log.Rename(name, q, aside))`, `_ = aside`, 0},
	{"file sizes are not adopted", "wal/recover.go",
		`s.AdoptFileSize()
			err = s.FlushShared()`, `err = s.FlushShared()`, 221001613043075},
	// Not here: the sync of the control file at the end of a recovery. 80,000 images do
	// not miss it: the file as it was is a lower bound, from which the next recovery comes
	// to the same log. It is for the epoch, which must not be given twice.
}

// A check that cannot fail is no check: with each of these bugs in a copy of the
// source the torn images find it.
func TestPlantedBugsAreFoundByTornImages(t *testing.T) {
	if testx.Race {
		testx.Skip(t, "the copy is tested without the race detector")
	}
	source, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	for _, bug := range plantedBugs {
		t.Run(bug.name, func(t *testing.T) {
			dir := t.TempDir()
			copySource(t, source, dir)
			path := filepath.Join(dir, bug.file)
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(string(text), bug.old); n != 1 {
				t.Fatalf("%s has %d places to plant the bug, want 1", bug.file, n)
			}
			if err := os.WriteFile(path, []byte(strings.Replace(string(text), bug.old, bug.new, 1)), 0o600); err != nil {
				t.Fatal(err)
			}
			if bug.seed != 0 {
				if out := crashTest(t, dir, "-torn.seed", strconv.FormatUint(bug.seed, 10)); out != "" {
					return
				}
			}
			out := crashTest(t, dir)
			if out == "" {
				t.Fatal("not found in 20,000 images")
			}
			_, seed, _ := strings.Cut(out, "-torn.seed ")
			seed, _, _ = strings.Cut(seed, ";")
			t.Logf("found by seed %s", seed)
		})
	}
}

// crashTest runs the torn images in a copy of the source, and returns what they say
// if they find something.
func crashTest(t *testing.T, dir string, args ...string) (found string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"test", "-tags", "walqsteps", "-count=1", "-vet=off",
		"-timeout=10m", "-run", "^TestNoPowerCut", "./wal"}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "WALQ_CRASH=20000")
	out, err := cmd.CombinedOutput()
	switch {
	case err == nil:
		return ""
	case !strings.Contains(string(out), "replay with -torn.seed"):
		t.Fatalf("it failed otherwise:\n%s", out)
	}
	return string(out)
}

// copySource copies what the tests of wal are built from.
func copySource(t *testing.T, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			if rel == ".git" || rel == "build" {
				return fs.SkipDir
			}
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		}
		if !d.Type().IsRegular() {
			return nil
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), content, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
}
