//go:build !race

package walq_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/walq/walq/internal/faults"
	"github.com/walq/walq/internal/testx"
)

// A deed is what an outsider does to a file of a queue. The error is the test's.
type deed struct {
	name string
	do   func(path string) error
}

// fileDeeds are done to files.
var fileDeeds = []deed{
	{"emptied", func(path string) error { return os.Truncate(path, 0) }},
	{"halved", func(path string) error {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		return os.Truncate(path, info.Size()/2)
	}},
	{"removed", os.Remove},
	{"garbage", func(path string) error {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		garbage := bytes.Repeat([]byte("garbage!"), int(info.Size()/8))
		return errors.Join(os.WriteFile(path+".new", garbage, 0o600), os.Rename(path+".new", path))
	}},
	{"a directory", func(path string) error { return errors.Join(os.Mkdir(path+".new", 0o700), exchange(path+".new", path)) }},
	{"a link", func(path string) error {
		return errors.Join(os.Symlink(path+".new", path+".new"), exchange(path+".new", path))
	}},
}

// exchange swaps two names in one step, so that nobody makes a missing file anew in
// between.
func exchange(a, b string) error {
	return unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
}

// directoryDeeds are done to what cannot be truncated.
var directoryDeeds = []deed{
	{"removed", func(path string) error { return os.Rename(path, path+".away") }},
	{"a file", func(path string) error {
		return errors.Join(os.Rename(path, path+".away"), os.WriteFile(path, []byte("garbage!"), 0o600))
	}},
	{"a link", aLink},
}

// aLink puts a symbolic link to the file in its place.
func aLink(path string) error {
	return errors.Join(os.Rename(path, path+".away"), os.Symlink(path+".away", path))
}

// targets are what the outsider does it to, while there are several segments.
var targets = []struct {
	name  string
	deeds []deed
	path  func(t *testing.T, dir string) string
}{
	{"control file", fileDeeds, in("walq.ctl")},
	{"lock file", fileDeeds, in("walq.lock")},
	{"live segment", fileDeeds, func(t *testing.T, dir string) string { return slices.Max(segments(t, dir)) }},
	{"sealed segment", fileDeeds, func(t *testing.T, dir string) string { return slices.Min(segments(t, dir)) }},
	{"log", directoryDeeds, in("log")},
	{"wake", directoryDeeds, in("wake")},
	{"socket", directoryDeeds, func(t *testing.T, dir string) string {
		var all []string
		testx.Eventually(t, patience, func() bool {
			all, _ = filepath.Glob(filepath.Join(dir, "wake", "*.sock"))
			return len(all) > 0
		}, "somebody sleeps")
		return all[0]
	}},
}

func in(name string) func(*testing.T, string) string {
	return func(_ *testing.T, dir string) string { return filepath.Join(dir, name) }
}

// segments are the files of the log; there is at least one.
func segments(t *testing.T, dir string) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(dir, "log", "*.seg"))
	if err != nil || len(all) == 0 {
		t.Fatalf("no segments: %v", err)
	}
	return all
}

// One process appends, another syncs, a third follows; an outsider meddles with a
// file. Whoever meets it ends with an error that names a file of the queue, nobody
// crashes or hangs, and no reader is given anything but messages.
func TestAnOutsiderMeddlesWithAFile(t *testing.T) {
	needProcesses(t)
	bin := testx.BuildBinary(t)
	for _, target := range targets {
		for _, d := range target.deeds {
			t.Run(target.name+" "+d.name, func(t *testing.T) {
				t.Parallel()
				meddle(t, bin, target.path, d.do)
			})
		}
	}
}

func meddle(t *testing.T, bin string, target func(*testing.T, string) string, do func(string) error) {
	c := newCrew(t, bin, "", "--segment-size", "64K")
	printed := new(faults.Text)
	follower := faults.Start(t, "follower", exec.Command(bin, "cat", c.dir, "-f", "-o", "json"), printed)
	syncer, writer := c.put(nil, "syncer"), c.put(nil, "writer", "--sync", "never")
	c.await(syncer, 300)
	c.await(writer, 300)
	path := target(t, c.dir)
	near := filepath.Dir(path) // who meets it names it, or a file that does not fit it
	if err := do(path); err != nil {
		t.Fatal(err)
	}
	for _, p := range c.putters {
		goOnOrEnd(t, p, 300)
	}
	for _, p := range c.putters {
		p.Finish(0)
	}
	for _, p := range c.putters {
		endsWell(t, near, p.Process)
	}
	if follower.Running() {
		_ = follower.Cmd.Process.Signal(syscall.SIGINT) // it may just have ended
	}
	endsWell(t, near, follower)
	onlyMessages(t, printed.String(), c.putters)

	// Whoever comes later gets what is left, or a sentence.
	for _, command := range []string{"verify", "stat", "cat"} {
		code, _, talk := c.run(command)
		saysWhich(t, c.dir, command, code, talk)
	}
	later := faults.Put(t, nil, bin, c.dir, "later")
	goOnOrEnd(t, later, 10)
	later.Finish(0)
	endsWell(t, c.dir, later.Process)
}

// goOnOrEnd waits until the putter has n more acknowledgements, or has ended.
func goOnOrEnd(t *testing.T, p *faults.Putter, n int) {
	t.Helper()
	n += len(p.Acks())
	testx.Eventually(t, patience, func() bool { return !p.Running() || len(p.Acks()) >= n }, p.Name+" goes on or ends")
}

// endsWell waits for the end of a process, which is an orderly one, or with an error
// that names the path.
func endsWell(t *testing.T, path string, p *faults.Process) {
	t.Helper()
	p.Await(t)
	if how := p.Crashed(false); how != "" {
		t.Errorf("%s crashed (%s):\n%s", p.Name, how, p.Talk())
		return
	}
	saysWhich(t, path, p.Name, p.Code(), p.Talk())
}

// saysWhich fails unless a status that is not 0 comes with the path, or at least the
// name of a segment.
func saysWhich(t *testing.T, path, who string, code int, talk string) {
	t.Helper()
	t.Logf("%s: exit %d %s", who, code, talk)
	switch code {
	case 0, 130:
	case 1, 3:
		if !strings.Contains(talk, path) && !strings.Contains(talk, ".seg ") {
			t.Errorf("%s: exit %d, and it does not name %s: %q", who, code, path, talk)
		}
	default:
		t.Errorf("%s: exit %d: %s", who, code, talk)
	}
}

// onlyMessages fails unless what was printed are messages that somebody appended,
// whole, in order and under the numbers that they were acknowledged with.
func onlyMessages(t *testing.T, printed string, putters []*faults.Putter) {
	t.Helper()
	acks := map[string][]uint64{}
	for _, p := range putters {
		acks[p.Name] = p.Acks()
	}
	last := uint64(0)
	for line := range strings.Lines(printed) {
		var m struct {
			Seq  uint64
			Body string
		}
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("printed %.60q: %v", line, err)
		}
		who, n, err := faults.ParseLine(m.Body)
		if err != nil || m.Seq <= last {
			t.Fatalf("message %d behind %d: %v", m.Seq, last, err)
		}
		if a := acks[who]; n <= len(a) && a[n-1] != m.Seq {
			t.Fatalf("line %d of %s was acknowledged as %d and is read as %d", n, who, a[n-1], m.Seq)
		}
		last = m.Seq
	}
}
