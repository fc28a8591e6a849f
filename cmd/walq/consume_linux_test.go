package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A held consumer runs a command that says its process and ends when the test lets go.
type held struct {
	*running
	gate    string // a pipe from which the command reads
	command int    // its process
}

func hold(t *testing.T, dir string) *held {
	t.Helper()
	h := &held{gate: filepath.Join(t.TempDir(), "gate")}
	if err := unix.Mkfifo(h.gate, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := command(t, "consume", dir, "--group", "g", "--exec", fmt.Sprintf("echo $$; read line < %s; echo done $line", h.gate))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // as a shell does
	h.running = &running{Cmd: cmd}
	var err error
	if h.out, err = cmd.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = &h.talk
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	h.command, err = strconv.Atoi(strings.TrimSpace(h.lines(t, 1)[0]))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(-h.command, syscall.SIGKILL) }) // its own group
	return h
}

// release lets the command end.
func (h *held) release(t *testing.T) {
	t.Helper()
	if err := os.WriteFile(h.gate, []byte("well\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestTheMessageOfAKilledConsumerGoesToAnother(t *testing.T) {
	for _, c := range []struct{ flags, want string }{
		{"", `"body":"a","attempt":2,"deaths":1}`},
		{"--max-deaths 2 --dead-letter DEAD", `"body":"a","attempt":2,"deaths":1}`},
		{"--max-deaths 1 --dead-letter DEAD", ""},
	} {
		dir := newDir(t)
		must(t, "a\n", "put", dir)
		h := hold(t, dir)
		if out := must(t, "", "consume", dir, "--group", "g", "--no-wait"); out != "" {
			t.Errorf("while somebody works on it: got %q", out)
		}
		if err := h.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = h.Wait()
		flags := strings.ReplaceAll(c.flags, "DEAD", dir+"-dead")
		out := must(t, "", append([]string{"consume", dir, "--group", "g", "--no-wait", "-o", "json"}, strings.Fields(flags)...)...)
		if !strings.Contains(out, c.want) || (out == "") != (c.want == "") {
			t.Errorf("%q: got %q, want %s", flags, out, c.want)
		}
		if c.want == "" {
			if got := must(t, "", "cat", dir+"-dead"); got != "a\n" {
				t.Errorf("dead letters: got %q", got)
			}
		}
	}
}

// Ctrl-C reaches the whole process group.
func TestCtrlCLetsTheCommandEnd(t *testing.T) {
	for sig, want := range map[syscall.Signal]int{syscall.SIGINT: 130, syscall.SIGTERM: 143} {
		dir := newDir(t)
		must(t, "a\n", "put", dir)
		h := hold(t, dir)
		if err := syscall.Kill(-h.Process.Pid, sig); err != nil {
			t.Fatal(err)
		}
		h.release(t)
		rest, code := h.end(t)
		if rest != "done well\n" || code != want || h.talk.Len() > 0 {
			t.Errorf("%v: got exit %d, %q and %q, want %d and what the command prints", sig, code, rest, h.talk.String(), want)
		}
		if g := groupOf(t, dir, "g"); g.Finished != 1 || g.Lag != 0 {
			t.Errorf("%v: got %+v, want the message finished", sig, g)
		}
	}
}

func TestCtrlCEndsAConsumerThatWaits(t *testing.T) {
	dir := newDir(t)
	must(t, "a\n", "put", dir)
	c := start(t, "consume", dir, "--group", "g")
	c.lines(t, 1)
	if err := c.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if rest, code := c.end(t); code != 130 || rest != "" || c.talk.Len() > 0 {
		t.Errorf("got exit %d, %q, %q, want 130 and silence", code, rest, c.talk.String())
	}
	if g := groupOf(t, dir, "g"); g.Lag != 0 {
		t.Errorf("got %+v, want the message finished", g)
	}
}

// The pipe is full, and nobody reads on.
func TestCtrlCSendsBackWhatCannotBePrinted(t *testing.T) {
	dir := newDir(t)
	must(t, strings.Repeat("large", 50_000)+"\n", "put", dir)
	c := start(t, "consume", dir, "--group", "g")
	buf := make([]byte, 5)
	if _, err := c.out.Read(buf); err != nil {
		t.Fatal(err)
	}
	if err := c.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if code := wait(t, c.Wait()); code != 130 {
		t.Errorf("got exit %d, want 130", code)
	}
	if g := groupOf(t, dir, "g"); g.Finished != 0 || g.Lag != 1 {
		t.Errorf("got %+v, want nothing finished", g)
	}
}

func TestAGroupIsNotRemovedWhileSomebodyWorks(t *testing.T) {
	dir := newDir(t)
	must(t, "a\n", "put", dir)
	h := hold(t, dir)
	r := call(t, "", "group", "rm", dir, "g", "--yes")
	if g := groupOf(t, dir, "g"); r.code != exitError || !strings.Contains(r.talk, "at work") || g.Paused || g.InFlight != 1 {
		t.Errorf("got %+v and %+v, want that somebody is at work", r, g)
	}
	h.release(t)
	h.lines(t, 1)
	if err := h.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	h.end(t)
	must(t, "", "group", "rm", dir, "g", "--yes")
	if out := must(t, "", "group", "ls", dir); out != "" {
		t.Errorf("got %q, want no group", out)
	}
	if out := must(t, "", "consume", dir, "--group", "g", "--no-wait"); out != "a\n" {
		t.Errorf("one of the same name: got %q, want all anew", out)
	}
}
