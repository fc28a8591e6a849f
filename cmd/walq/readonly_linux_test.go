package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/walq/walq/internal/testx"
)

// member is somebody in a group that a queue can belong to, and nobody else.
var member = &syscall.Credential{Uid: nobody, Gid: 42424}

// A readOnlyPlace is a queue that this process may write and another call of the
// program may only read.
type readOnlyPlace struct {
	dir  string // as the one who writes sees it
	seen string // as the one who reads sees it
	as   *syscall.Credential
	bin  string
}

// reader prepares a run of the program by the one who may only read.
func (p readOnlyPlace) reader(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	args = slices.Clone(args)
	for i := range args {
		args[i] = strings.Replace(args[i], "DIR", p.seen, 1)
	}
	cmd := command(t, args...)
	cmd.Path, cmd.Args[0] = p.bin, p.bin
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.as}
	return cmd
}

// onReadOnlyPlaces runs the test on a read-only mount, and as a member of the
// queue's group who may not write.
func onReadOnlyPlaces(t *testing.T, test func(t *testing.T, p readOnlyPlace)) {
	t.Helper()
	if os.Geteuid() != 0 {
		testx.Skip(t, "only root can mount and become somebody else")
	}
	t.Run("a read-only mount", func(t *testing.T) {
		p := readOnlyPlace{dir: newDir(t), seen: t.TempDir(), bin: testx.BuildBinary(t)}
		must(t, "a\nb\n", "put", p.dir)
		must(t, "", "consume", p.dir, "--group", "g", "--count", "1")
		if err := unix.Mount(p.dir, p.seen, "", unix.MS_BIND, ""); err != nil {
			testx.Skip(t, "cannot mount: "+err.Error())
		}
		t.Cleanup(func() {
			if err := unix.Unmount(p.seen, 0); err != nil {
				t.Error(err)
			}
		})
		if err := unix.Mount("", p.seen, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			t.Fatal(err)
		}
		test(t, p)
	})
	t.Run("a member of the group", func(t *testing.T) {
		// Others cannot come to the directories of a test.
		place, err := os.MkdirTemp("", "walq-test-")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(place) })
		p := readOnlyPlace{dir: filepath.Join(place, "q"), seen: filepath.Join(place, "q"), bin: filepath.Join(place, "walq"), as: member}
		data, err := os.ReadFile(testx.BuildBinary(t))
		if err == nil {
			err = os.WriteFile(p.bin, data, 0o700)
		}
		// What is made in the directory belongs to its group.
		err = errors.Join(err, os.Chown(place, -1, int(member.Gid)), os.Chmod(place, 0o755|fs.ModeSetgid), os.Chmod(p.bin, 0o755))
		if err != nil {
			t.Fatal(err)
		}
		must(t, "", "create", p.dir, "--group-access")
		must(t, "a\nb\n", "put", p.dir)
		must(t, "", "consume", p.dir, "--group", "g", "--count", "1")
		err = filepath.WalkDir(p.dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			return os.Chmod(path, map[bool]fs.FileMode{true: 0o750 | fs.ModeSetgid, false: 0o640}[d.IsDir()])
		})
		if err != nil {
			t.Fatal(err)
		}
		test(t, p)
	})
}

func TestWhoMayOnlyReadReadsAndChangesNotAByte(t *testing.T) {
	onReadOnlyPlaces(t, func(t *testing.T, p readOnlyPlace) {
		before := testx.Fingerprint(t, p.dir)
		for args, want := range map[string]string{
			"cat DIR":              "a\nb\n",
			"cat DIR --from -1":    "b\n",
			"cat DIR --durable":    "a\nb\n",
			"cat DIR -f --count 2": "a\nb\n",
			"stat DIR":             "messages      2\n",
			"stat DIR -o json":     `"messages":2,`,
			"group ls DIR -o json": `"name":"g","topic":"","window":4095,"ordered_by_key":false,"floor":2,"lag":1,`,
			"group reset DIR g --from oldest -o json": `"new_lag":2,"dry_run":true}`,
			"verify DIR":               "2 messages in 1 segment, 0 faults\n",
			"dump DIR/walq.ctl":        "magic",
			"dump DIR/log/" + seg(1):   "seq 2",
			"verify DIR -o json":       `"faults":[]`,
			"cat DIR -o json":          `"body":"b"`,
			"cat DIR --from 2":         "b\n",
			"cat DIR --key nobody":     "",
			"cat DIR --from newest":    "",
			"dump DIR/walq.ctl -ojson": `"magic"`,
		} {
			out, err := p.reader(t, strings.Fields(args)...).Output()
			same := strings.Contains(string(out), want)
			if strings.HasPrefix(args, "cat") && !strings.Contains(args, "json") {
				same = string(out) == want
			}
			if code := wait(t, err); code != exitOK || !same {
				t.Errorf("%s: got exit %d, %q, want %q", args, code, out, want)
			}
		}
		for _, args := range []string{"put DIR", "set DIR --max-age 1h", "trim DIR --before 2 --yes", "consume DIR --group g --no-wait", "group pause DIR g"} {
			cmd := p.reader(t, strings.Fields(args)...)
			var talk bytes.Buffer
			cmd.Stdin, cmd.Stderr = strings.NewReader("c\n"), &talk
			if code := wait(t, cmd.Run()); code != exitError || strings.Count(talk.String(), "\n") != 1 {
				t.Errorf("%s: got exit %d and %q, want 1 and one line", args, code, talk.String())
			}
		}
		if testx.Fingerprint(t, p.dir) != before {
			t.Error("the queue changed")
		}
	})
}

// seg is the name of the segment that begins with the message.
func seg(first int) string { return fmt.Sprintf("%020d.seg", first) }

// A writer dies with a claim in the log, which nobody who only reads can take
// away. The next writer does, and the reader goes on.
func TestWhoMayOnlyReadFollowsWhileAWriterDiesAndAnotherRecovers(t *testing.T) {
	killed := testx.BuildBinary(t, "walqsteps")
	onReadOnlyPlaces(t, func(t *testing.T, p readOnlyPlace) {
		cmd := p.reader(t, "cat", "DIR", "-f")
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewReader(out)
		want := func(line string) {
			t.Helper()
			if got, err := lines.ReadString('\n'); err != nil || got != line+"\n" {
				t.Fatalf("got %q, %v, want %q", got, err, line)
			}
		}
		want("a")
		want("b")
		for round := 1; round <= 2; round++ {
			victim := exec.Command(killed, "put", p.dir, "--sync", "never")
			victim.Env = append(os.Environ(), "WALQ_STEP=ClaimAfter:100=kill")
			var input strings.Builder
			for i := range 1000 {
				fmt.Fprintf(&input, "%d of round %d\n", i, round)
			}
			victim.Stdin = strings.NewReader(input.String())
			if err := victim.Run(); victim.ProcessState == nil || victim.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
				t.Fatalf("the writer was not killed: %v", err)
			}
			for i := range 99 { // the hundredth was claimed only
				want(fmt.Sprintf("%d of round %d", i, round))
			}
			must(t, "recovered\n", "put", p.dir)
			want("recovered")
		}
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		if code := wait(t, cmd.Wait()); code != 130 {
			t.Errorf("got exit %d, want 130", code)
		}
	})
}
