package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/walq/walq/internal/testx"
)

// A screen is a terminal that a test looks at, and types into.
type screen struct {
	tty  *os.File // what a program has
	keys *os.File

	mu   sync.Mutex
	seen bytes.Buffer
}

func newScreen(t *testing.T) *screen {
	t.Helper()
	keys, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		testx.Skip(t, "no terminals: "+err.Error())
	}
	number, err := unix.IoctlGetInt(int(keys.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(keys.Fd()), unix.TIOCSPTLCK, 0)
	}
	var tty *os.File
	if err == nil {
		tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		keys.Close()
		testx.Skip(t, "no terminals: "+err.Error())
	}
	s := &screen{tty: tty, keys: keys}
	var reading sync.WaitGroup
	reading.Go(func() {
		buf := make([]byte, 4096)
		for {
			n, err := keys.Read(buf)
			s.mu.Lock()
			s.seen.Write(buf[:n])
			s.mu.Unlock()
			if err != nil {
				return
			}
		}
	})
	t.Cleanup(func() {
		tty.Close() // the last one who has it: reading the other end fails
		reading.Wait()
		keys.Close()
	})
	return s
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen.String()
}

// shows waits until the text was there.
func (s *screen) shows(t *testing.T, text string) {
	t.Helper()
	testx.Eventually(t, patience, func() bool { return strings.Contains(s.String(), text) }, "the terminal shows "+text)
}

// rest is what can be read after all lines of progress: what was written over or
// taken away is gone.
func (s *screen) rest() string {
	var lines []string
	for line := range strings.SplitSeq(strings.ReplaceAll(s.String(), "\r\n", "\n"), "\n") {
		line = line[strings.LastIndexByte(line, '\r')+1:]
		lines = append(lines, strings.TrimSuffix(strings.TrimPrefix(line, "\x1b[K"), "\x1b[K"))
	}
	return strings.Join(lines, "\n")
}

// showAlways makes every step of progress show.
func showAlways(t *testing.T) {
	t.Helper()
	was := progressEvery
	progressEvery = 0
	t.Cleanup(func() { progressEvery = was })
}

// in runs the program in this process, with a terminal as standard error.
func (s *screen) in(t *testing.T, in io.Reader, out io.Writer, args ...string) {
	t.Helper()
	if code := run(context.Background(), args, in, out, s.tty); code != exitOK {
		t.Fatalf("walq %s: got exit %d, want 0\n%s", strings.Join(args, " "), code, s)
	}
}

func TestOnlyATerminalIsOne(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	for _, c := range []struct {
		name             string
		stream           any
		terminal, onDisk bool
	}{
		{"a file", file, false, true},
		{"a file as standard output", stdout{file, t.Context()}, false, true},
		{"/dev/null", null, false, false},
		{"a pipe", w, false, false},
		{"a buffer", new(bytes.Buffer), false, false},
		{"a terminal", newScreen(t).tty, true, false},
		{"a terminal as standard output", stdout{newScreen(t).tty, t.Context()}, true, false},
	} {
		if got := isTerminal(c.stream); got != c.terminal {
			t.Errorf("%s: terminal: got %v, want %v", c.name, got, c.terminal)
		}
		if got := isRegular(c.stream); got != c.onDisk {
			t.Errorf("%s: a file on disk: got %v, want %v", c.name, got, c.onDisk)
		}
	}
}

func TestPutShowsProgressUnlessLinesAreTyped(t *testing.T) {
	showAlways(t)
	s := newScreen(t)
	var out bytes.Buffer
	s.in(t, strings.NewReader("a\nbc\n"), &out, "put", newDir(t))
	s.shows(t, "seq 1..2")
	if got := s.String(); !strings.Contains(got, "\rappended 1 message, 1 B") || !strings.Contains(got, "\rappended 2 messages, 3 B") {
		t.Errorf("got %q, want a line after each message", got)
	}
	testx.Eventually(t, patience, func() bool {
		got := s.rest()
		return strings.HasPrefix(got, "appended 2 messages, seq 1..2") && strings.Count(got, "\n") == 1
	}, "only the summary stays")
	var plain bytes.Buffer
	if code := run(context.Background(), []string{"put", newDir(t)}, strings.NewReader("a\n"), &out, &plain); code != exitOK || strings.Contains(plain.String(), "\r") {
		t.Errorf("without a terminal: got exit %d and %q, want no progress", code, plain.String())
	}
	typed := newScreen(t)
	if _, err := typed.keys.WriteString("a\nb\n\x04"); err != nil {
		t.Fatal(err)
	}
	typed.in(t, typed.tty, &out, "put", newDir(t))
	typed.shows(t, "seq 1..2")
	if strings.Contains(typed.String(), " B/s") {
		t.Errorf("typed lines: got %q, want no progress", typed)
	}
	acks := newScreen(t)
	acks.in(t, strings.NewReader("a\n"), stdout{acks.tty, t.Context()}, "put", newDir(t), "--ack")
	acks.shows(t, "1\r\n")
	if strings.Contains(acks.String(), " B/s") {
		t.Errorf("acks on the terminal: got %q, want no progress", acks)
	}
}

func TestCatShowsProgressWhenItPrintsToAFile(t *testing.T) {
	showAlways(t)
	dir := newDir(t)
	must(t, "a\nbc\n", "put", dir)
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	s := newScreen(t)
	s.in(t, nil, stdout{file, t.Context()}, "cat", dir)
	s.shows(t, "\rprinted 2 messages, 3 B")
	testx.Eventually(t, patience, func() bool { return s.rest() == "" }, "nothing stays on the terminal")
	if got, err := os.ReadFile(file.Name()); err != nil || string(got) != "a\nbc\n" {
		t.Errorf("printed %q, %v", got, err)
	}
	for name, args := range map[string][]string{"a pipe": {"cat", dir}, "a follower": {"cat", dir, "-f", "--count", "2"}} {
		s := newScreen(t)
		var out io.Writer = new(bytes.Buffer)
		if name == "a follower" {
			out = stdout{file, t.Context()}
		}
		s.in(t, nil, out, args...)
		fmt.Fprint(s.tty, "end")
		s.shows(t, "end")
		if got := s.String(); got != "end" {
			t.Errorf("%s: got %q, want nothing", name, got)
		}
	}
}

func TestVerifyShowsProgress(t *testing.T) {
	showAlways(t)
	dir := newDir(t)
	must(t, "a\n", "put", dir)
	s := newScreen(t)
	var out bytes.Buffer
	s.in(t, nil, &out, "verify", dir)
	fmt.Fprint(s.tty, "end")
	s.shows(t, "end")
	if got := s.String(); !strings.Contains(got, " checked") || s.rest() != "end" {
		t.Errorf("got %q, want progress that goes", got)
	}
}

func TestADemoShowsProgress(t *testing.T) {
	s := newScreen(t)
	t.Setenv("TMPDIR", t.TempDir())
	cmd := command(t, "demo", "--messages", "5000000")
	cmd.Stderr = s.tty
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.shows(t, " of 5000000 lines acknowledged\x1b[K")
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if code := wait(t, cmd.Wait()); code != 130 {
		t.Errorf("got exit %d, want 130", code)
	}
	testx.Eventually(t, patience, func() bool { return !strings.Contains(s.rest(), "acknowledged") }, "the progress goes")
}

// What is said while a line of progress stands there has a line of its own.
func TestTalkTakesThePlaceOfProgress(t *testing.T) {
	var b bytes.Buffer
	p := &progress{t: &talk{w: &b, terminal: true}, since: time.Now()}
	p.show("half")
	fmt.Fprintln(p.t, "a warning")
	p.show("all")
	p.end()
	p.end()
	if got, want := b.String(), "\rhalf\x1b[K\r\x1b[Ka warning\n\rall\x1b[K\r\x1b[K"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	var none *progress
	none.show("nothing")
	none.count("nothing", 1, 1)
	none.end()
	if none.due() {
		t.Error("what shows nothing is due")
	}
}
