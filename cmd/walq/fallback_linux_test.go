package main

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/walq/walq/internal/testx"
)

// nobody is a user to whom nothing belongs.
const nobody = 65534

func TestWhoMayOnlyReadCanCatAndStat(t *testing.T) {
	// A place that everybody can come to, unlike the directories of a test.
	place, err := os.MkdirTemp("", "walq-test-")
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
	must(t, "a\nb\n", "put", dir)
	readable := func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chmod(path, map[bool]fs.FileMode{true: 0o555, false: 0o444}[d.IsDir()])
	}
	if err := errors.Join(os.Chmod(place, 0o755), os.Chmod(program, 0o755), filepath.WalkDir(dir, readable)); err != nil {
		t.Fatal(err)
	}
	defer os.Chmod(dir, 0o700) // so that it can be removed
	as := &syscall.SysProcAttr{}
	if os.Geteuid() == 0 { // may do anything, so become somebody else
		as.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	}
	for args, want := range map[string]string{
		"cat":              "a\nb\n",
		"cat --from -1":    "b\n",
		"cat -f --count 2": "a\nb\n",
		"verify":           "2 messages in 1 segment, 0 faults\n",
		"stat":             "",
	} {
		words := strings.Fields(args)
		cmd := exec.Command(program, append([]string{words[0], dir}, words[1:]...)...)
		cmd.SysProcAttr = as
		out, err := cmd.Output()
		if code := wait(t, err); code != exitOK || want != "" && string(out) != want {
			t.Errorf("%s: got exit %d, %q, want %q", args, code, out, want)
		}
	}
	cmd := exec.Command(program, "put", dir)
	cmd.SysProcAttr = as
	cmd.Stdin = strings.NewReader("c\n")
	if code := wait(t, cmd.Run()); code != exitError {
		t.Errorf("put: got exit %d, want 1", code)
	}
}
