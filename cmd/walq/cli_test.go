package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/walq/walq"
	"github.com/walq/walq/internal/testx"
)

// patience is far beyond what any call of the program takes.
const patience = time.Minute

// A result is what a run of the program came to.
type result struct {
	code      int
	out, talk string
}

// command prepares a run of the real program. It is killed when the test ends.
func command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	binary := testx.BuildBinary(t) // which may take longer than patience, on a busy machine
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.WaitDelay = time.Second
	return cmd
}

// call runs the program to its end.
func call(t *testing.T, in string, args ...string) result {
	t.Helper()
	cmd := command(t, args...)
	var out, talk bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(in), &out, &talk
	return result{wait(t, cmd.Run()), out.String(), talk.String()}
}

// must is call for what has to go well. It returns standard output.
func must(t *testing.T, in string, args ...string) string {
	t.Helper()
	r := call(t, in, args...)
	if r.code != exitOK {
		t.Fatalf("walq %s: got exit %d, want 0\n%s", strings.Join(args, " "), r.code, r.talk)
	}
	return r.out
}

// wait gives the exit status out of what Run or Wait returned.
func wait(t *testing.T, err error) int {
	t.Helper()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if exit != nil {
		return exit.ExitCode()
	}
	return 0
}

// A running program is one that the test talks to.
type running struct {
	*exec.Cmd
	in   io.WriteCloser
	out  io.ReadCloser
	talk bytes.Buffer
}

func start(t *testing.T, args ...string) *running {
	t.Helper()
	r := &running{Cmd: command(t, args...)}
	var err error
	if r.in, err = r.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if r.out, err = r.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	r.Stderr = &r.talk
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	return r
}

// end takes the rest of the output and the exit status.
func (r *running) end(t *testing.T) (rest string, code int) {
	t.Helper()
	all, err := io.ReadAll(r.out)
	if err != nil {
		t.Fatal(err)
	}
	return string(all), wait(t, r.Wait())
}

func newDir(t *testing.T) string { return filepath.Join(t.TempDir(), "q") }

func TestExitStatusAndUsage(t *testing.T) {
	dir := newDir(t)
	must(t, "", "create", dir)
	none, file := newDir(t), numbered(t, "line", 1)
	for _, c := range []struct {
		args string
		code int
		talk string // in standard error
	}{
		{"", 2, "which command"},
		{"crate x", 2, `no command "crate"`},
		{"--nonsense", 2, "--nonsense"},
		{"create", 2, "DIR is missing"},
		{"create a b", 2, `"b"`},
		{"create NEW --segment-size 12Q", 2, "want bytes"},
		{"create NEW --max-age soon", 2, "want a duration"},
		{"create NEW --durability sometimes", 2, "always, interval, never"},
		{"create NEW --segment-size 3", 1, "3"},
		{"create DIR", 1, "there is a queue"},
		{"create FILE", 1, "is no directory"},
		{"put FILE", 1, "is no directory"},
		{"cat FILE", 1, "is no directory"},
		{"set FILE --max-age 1h", 1, "is no directory"},
		{"set NEW --max-age 1h", 1, "there is no queue"},
		{"trim NEW", 1, "there is no queue"},
		{"dump NEW", 1, "no such file"},
		{"dump DIR", 1, "a directory"},
		{"help nonsense", 2, `no command "nonsense"`},
		{"help put more", 2, `no command "put more"`},
		{"completion tcsh", 2, "tcsh"},
		{"put DIR --topic \xff", 1, "line 1: append: "},
		{"put", 2, "DIR is missing"},
		{"put DIR --batch 0", 2, "1 to 8191"},
		{"put DIR --batch 8192", 2, "1 to 8191"},
		{"put DIR --null --whole", 2, "exclude"},
		{"put DIR --whole --batch 2", 2, "exclude"},
		{"put DIR --header novalue", 2, "name=value"},
		{"put DIR --sync default", 2, "always, interval, never"},
		{"put DIR --file NEW", 1, "no such file"},
		{"put DIR -o raw", 2, "text, json"},
		{"cat", 2, "DIR is missing"},
		{"cat DIR --from yesterday", 2, "--from"},
		{"cat DIR --from --5", 2, "--from"},
		{"cat DIR --count -1", 2, "count"},
		{"cat DIR -o text", 2, "raw, json"},
		{"cat DIR -o json --null", 2, "--null"},
		{"cat NEW", 1, "there is no queue"},
		{"cat NEW -f --count 0", 1, "there is no queue"},
		{"stat NEW", 1, "there is no queue"},
		{"stat NEW -o json", 1, "there is no queue"},
		{"consume DIR", 2, "--group is missing"},
		{"consume --group g", 2, "DIR is missing"},
		{"consume NEW --group g", 1, "there is no queue"},
		{"consume FILE --group g", 1, "is no directory"},
		{"consume DIR --group a/b", 2, "no name of a group"},
		{"consume DIR --group g --handlers 2", 2, "--exec"},
		{"consume DIR --group g --exec true --handlers 0", 2, "at least 1"},
		{"consume DIR --group g --exec true -o json", 2, "exclude"},
		{"consume DIR --group g --exec=", 2, "--exec is empty"},
		{"consume DIR --group g --ordered --window 9", 2, "exclude"},
		{"consume DIR --group g --ordered --ordered-by-key", 2, "exclude"},
		{"consume DIR --group g --max-deliver -1", 2, "not negative"},
		{"consume DIR --group g --lease soon", 2, "want a duration"},
		{"consume DIR --group g --max-deliver 3", 1, "DeadLetter"},
		{"group", 2, "which command"},
		{"group list DIR", 2, `no command "group list"`},
		{"group ls NEW", 1, "there is no queue"},
		{"group rm DIR", 2, "NAME is missing"},
		{"group rm NEW g", 1, "there is no queue"},
		{"group rm DIR g", 1, "there is no group g"},
		{"group rm DIR g --yes", 1, "there is no group g"},
		{"group rm DIR .g --yes", 2, "no name of a group"},
		{"group pause DIR g", 1, "there is no group g"},
		{"group resume NEW g", 1, "there is no queue"},
		{"group reset DIR g", 2, "--from is missing"},
		{"group reset DIR g --from oldest", 1, "there is no group g"},
		{"group reset DIR g --from oldest --yes", 1, "there is no group g"},
		{"group reset DIR g --from then", 2, "--from"},
		{"redrive DIR", 2, "FROM is missing"},
		{"redrive DIR NEW", 1, "there is no queue"},
		{"redrive NEW DIR", 1, "there is no queue"},
		{"verify NEW", 1, "there is no queue"},
		{"demo now", 2, `"now"`},
		{"demo --messages 0", 2, "at least 1"},
		{"demo --input NEW", 1, "no such file"},
	} {
		args := strings.Fields(strings.NewReplacer("DIR", dir, "NEW", none, "FILE", file).Replace(c.args))
		r := call(t, "x\n", args...)
		if r.code != c.code || !strings.Contains(r.talk, c.talk) || r.out != "" {
			t.Errorf("walq %s: got exit %d, output %q, and\n%s\nwant exit %d, no output, and %q", c.args, r.code, r.out, r.talk, c.code, c.talk)
		}
		if usage := strings.Contains(r.talk, "Usage:\n  walq"); usage != (c.code == exitUsage) {
			t.Errorf("walq %s: exit %d, usage shown: %v", c.args, r.code, usage)
		}
		if c.code == exitError && strings.Count(strings.TrimPrefix(r.talk, "appended no messages\n"), "\n") != 1 {
			t.Errorf("walq %s: got %q, want one line", c.args, r.talk)
		}
		if _, err := os.Stat(none); err == nil {
			t.Fatalf("walq %s: made %s", c.args, none)
		}
	}
}

// A variable that is not set must not name the working directory.
func TestAnEmptyArgumentNamesNothing(t *testing.T) {
	for _, args := range [][]string{{"cat", ""}, {"put", ""}, {"create", ""}, {"dump", ""}, {"trim", "", "--before", "9", "--yes"}} {
		r := call(t, "x\n", args...)
		if r.code != exitUsage || r.out != "" || !strings.Contains(r.talk, " is empty\n") {
			t.Errorf("walq %q: got exit %d, %q and %q, want 2 and why", args, r.code, r.out, r.talk)
		}
	}
}

func TestSizesAndAges(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "65536": 65536, "64K": 64 << 10, "64k": 64 << 10, "64KB": 64 << 10, "64KiB": 64 << 10, "64M": 64 << 20,
		"1G": 1 << 30, "1GiB": 1 << 30, "2 T": 2 << 40, "7B": 7,
		"": -1, "K": -1, "-1": -1, "1.5M": -1, "1I": -1, "9999999T": -1, "1X": -1,
	} {
		var s size
		if err := s.Set(text); (err != nil) != (want < 0) || err == nil && int64(s) != want {
			t.Errorf("size %q: got %d, %v, want %d", text, s, err, want)
		}
	}
	for text, want := range map[string]time.Duration{
		"7d": 7 * day, "90m": 90 * time.Minute, "0": 0, "-1h": -1, "-1d": -1, "d": -1, "7": -1, "999999d": -1,
	} {
		var a age
		if err := a.Set(text); (err != nil) != (want < 0) || err == nil && time.Duration(a) != want {
			t.Errorf("age %q: got %v, %v, want %v", text, time.Duration(a), err, want)
		}
	}
}

func TestCreateWritesSettings(t *testing.T) {
	dir := newDir(t)
	out := must(t, "", "create", dir, "--segment-size", "64K", "--max-bytes", "1M", "--max-age", "2d", "--durability", "interval", "--group-access", "-o", "json")
	var made struct{ ID string }
	decode(t, out, &made)
	out = must(t, "", "stat", dir, "-o", "json")
	var keys map[string]json.RawMessage
	decode(t, out, &keys)
	for _, key := range []string{"id", "epoch", "settings", "first_seq", "last_seq", "durable_seq", "messages", "bytes", "segments", "participants", "groups", "poisoned"} {
		if _, ok := keys[key]; !ok {
			t.Errorf("stat has no %q: %s", key, out)
		}
	}
	if got := string(keys["id"]); got != `"`+made.ID+`"` || made.ID == "" {
		t.Errorf("id: got %s, create said %q", got, made.ID)
	}
	if string(keys["groups"]) != "[]" || string(keys["poisoned"]) != "null" || string(keys["participants"]) != "[]" {
		t.Errorf("got groups %s, poisoned %s, participants %s", keys["groups"], keys["poisoned"], keys["participants"])
	}
	s := look(t, dir)
	want := walq.Settings{SegmentSize: 64 << 10, MaxBytes: 1 << 20, MaxAgeNanos: int64(2 * day), Durability: walq.SyncInterval, GroupAccess: true}
	if s.Settings != want {
		t.Errorf("settings: got %+v, want %+v", s.Settings, want)
	}
	if text := must(t, "", "stat", dir); !strings.Contains(text, made.ID) || !strings.Contains(text, "interval") {
		t.Errorf("stat for people: got\n%s", text)
	}
}

// looked is what the tests want of what stat prints.
type looked struct {
	Settings walq.Settings
	LastSeq  walq.Seq `json:"last_seq"`
	Messages uint64
	Poisoned *walq.Poisoned
}

func look(t *testing.T, dir string) (s looked) {
	t.Helper()
	decode(t, must(t, "", "stat", dir, "-o", "json"), &s)
	return s
}

func TestVerifyExitsWith3ForAFlippedBit(t *testing.T) {
	dir := newDir(t)
	must(t, "first\nsecond\nthird\n", "put", dir)
	if out := must(t, "", "verify", dir, "-o", "json"); out != `{"messages":3,"segments":1,"faults":[]}`+"\n" {
		t.Errorf("a sound queue: got %s", out)
	}
	flip(t, dir, "second")
	r := call(t, "", "verify", dir, "-o", "json")
	var report struct {
		Faults []struct {
			Path   string
			Offset int64
			Reason string
		}
	}
	decode(t, r.out, &report)
	if r.code != exitCorrupt || len(report.Faults) == 0 || report.Faults[0].Offset == 0 || report.Faults[0].Reason == "" {
		t.Errorf("a flipped bit: got exit %d and %s", r.code, r.out)
	}
	if r = call(t, "", "verify", dir); r.code != exitCorrupt || !strings.Contains(r.out, ".seg: offset ") {
		t.Errorf("for people: got exit %d and %s", r.code, r.out)
	}
	if r = call(t, "", "cat", dir); r.code != exitCorrupt || r.out != "first\n" || !strings.Contains(r.talk, ".seg") {
		t.Errorf("cat: got exit %d, %q, %q, want what lies before and exit 3", r.code, r.out, r.talk)
	}
}

// flip changes a bit of the message.
func flip(t *testing.T, dir, message string) {
	t.Helper()
	segments, err := filepath.Glob(filepath.Join(dir, "log", "*.seg"))
	if err != nil || len(segments) == 0 {
		t.Fatalf("%d segments, %v", len(segments), err)
	}
	data, err := os.ReadFile(segments[0])
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(data, []byte(message))
	if at < 0 {
		t.Fatalf("%q is not in %s", message, segments[0])
	}
	data[at] ^= 1
	if err := os.WriteFile(segments[0], data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func decode(t *testing.T, text string, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), v); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
}
