package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/walq/walq/internal/testx"
)

// A disk that is full stops put at a line that it names; what came before is
// there, can be read and checked, and with room again put goes on.
func TestPutOnAFullDiskKeepsWhatItSaysAndGoesOn(t *testing.T) {
	disk := t.TempDir()
	if err := unix.Mount("none", disk, "tmpfs", 0, "size=1m"); err != nil {
		testx.Skip(t, "cannot mount: "+err.Error())
	}
	defer func() {
		if err := unix.Unmount(disk, 0); err != nil {
			t.Error(err)
		}
	}()
	filler := filepath.Join(disk, "filler")
	if err := os.WriteFile(filler, make([]byte, 512<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(disk, "q")
	in, err := os.ReadFile(numbered(t, "line", 200_000))
	if err != nil {
		t.Fatal(err)
	}
	r := call(t, string(in), "put", dir, "--segment-size", "64K", "--ack", "--sync", "never")
	n := strings.Count(r.out, "\n")
	if r.code != exitError || strings.Count(r.talk, "\n") != 1 || !strings.Contains(r.talk, "no space left") || n == 0 {
		t.Fatalf("got exit %d, %d acknowledged lines, %q", r.code, n, r.talk)
	}
	lines := strings.SplitAfter(string(in), "\n")
	wantLines := func(n int) {
		t.Helper()
		if got := must(t, "", "cat", dir); got != strings.Join(lines[:n], "") {
			t.Errorf("got %d lines, want the first %d", strings.Count(got, "\n"), n)
		}
	}
	wantLines(n)
	must(t, "", "verify", dir)
	must(t, "", "stat", dir)
	if r := call(t, "", "create", filepath.Join(disk, "another")); r.code != exitError || !strings.Contains(r.talk, "no space left") {
		t.Errorf("create: got exit %d and %q", r.code, r.talk)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	must(t, lines[n], "put", dir)
	wantLines(n + 1)
	must(t, "", "create", filepath.Join(disk, "another"), "--segment-size", "64K") // over what the first try left
}

// Somebody else's queue is not read, and one line says why.
func TestWhoMayNotReadIsToldSo(t *testing.T) {
	if os.Geteuid() != 0 {
		testx.Skip(t, "only root can become somebody else")
	}
	place, err := os.MkdirTemp("", "walq-test-") // where everybody can come
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(place)
	program, dir := filepath.Join(place, "walq"), filepath.Join(place, "q")
	data, err := os.ReadFile(testx.BuildBinary(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, data, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{place, program} {
		if err := os.Chmod(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	must(t, "secret\n", "put", dir)
	for _, args := range []string{
		"cat DIR", "cat DIR -f", "stat DIR", "verify DIR", "dump DIR/walq.ctl", "put DIR", "trim DIR",
		"set DIR --max-age 1h", "consume DIR --group g", "group ls DIR", "group rm DIR g --yes", "redrive DIR DIR", "create DIR", "create DIR-2",
	} {
		cmd := exec.Command(program, strings.Fields(strings.ReplaceAll(args, "DIR", dir))...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		var out, talk bytes.Buffer
		cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader("x\n"), &out, &talk
		code := wait(t, cmd.Run())
		if code != exitError || out.Len() > 0 || !strings.Contains(talk.String(), "permission denied") || strings.Count(talk.String(), "\n") != 1 {
			t.Errorf("%s: got exit %d, %q and %q, want 1 and a line that says why", args, code, out.String(), talk.String())
		}
	}
}

// Whoever reads the output has stopped reading, and the pipe is full.
func TestCtrlCEndsWhatNobodyReads(t *testing.T) {
	dir := newDir(t)
	lines := numbered(t, "line", 50_000)
	must(t, "", "put", dir, "--sync", "never", "--file", lines)
	for _, args := range [][]string{
		{"cat", dir},
		{"cat", dir, "-f", "-o", "json"},
		{"dump", firstSegment(dir)},
		{"put", newDir(t), "--ack", "--file", lines},
		{"put", newDir(t), "--ack", "--file", lines, "--sync", "never"},
	} {
		c := start(t, args...)
		pipe := int(c.out.(*os.File).Fd())
		waiting := 0
		testx.Eventually(t, patience, func() bool {
			was := waiting
			n, err := unix.IoctlGetInt(pipe, unix.TIOCINQ)
			if err != nil {
				t.Fatal(err)
			}
			waiting = n
			return waiting > 32<<10 && waiting == was // no more of the output fits
		}, "the pipe is full")
		if err := c.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		if code := wait(t, c.Wait()); code != 130 || c.talk.Len() > 0 && !strings.HasPrefix(c.talk.String(), "appended ") {
			t.Fatalf("%v: got exit %d and %q, want 130 and silence", args, code, c.talk.String())
		}
	}
}
