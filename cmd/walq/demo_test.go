package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/walq/walq/internal/testx"
)

// demoIn prepares a demo that has its temporary directory in dir.
func demoIn(t *testing.T, dir string, args ...string) *running {
	t.Helper()
	t.Setenv("TMPDIR", dir)
	return start(t, append([]string{"demo"}, args...)...)
}

func TestDemoLosesNothing(t *testing.T) {
	n := "20000"
	if testing.Short() {
		n = "3000"
	}
	temp := t.TempDir()
	d := demoIn(t, temp, "-o", "json", "--messages", n)
	out, code := d.end(t)
	if code != exitOK {
		t.Fatalf("got exit %d\n%s%s", code, out, d.talk.String())
	}
	got := make(map[string]json.Number)
	decode(t, out, &got)
	for key, want := range map[string]json.Number{
		"appended": json.Number(n), "delivered": json.Number(n), "lost": "0", "duplicates": "0", "torn": "0",
		"disordered": "0", "unacknowledged": "0", "faults": "0", "killed": "3", "producers": "3", "consumers": "3",
	} {
		if got[key] != want {
			t.Errorf("%s: got %q, want %s", key, got[key], want)
		}
	}
	for _, key := range []string{"msgs_per_s", "latency_p50_ns", "latency_p99_ns", "seed"} {
		if v, err := got[key].Float64(); err != nil || v <= 0 {
			t.Errorf("%s: got %q", key, got[key])
		}
	}
	if strings.Count(d.talk.String(), "SIGKILL") != 3 || strings.Count(d.talk.String(), "takes its place") != 3 {
		t.Errorf("got\n%s\nwant three deaths and three replacements", d.talk.String())
	}
	wantEmpty(t, temp)
}

func wantEmpty(t *testing.T, dir string) {
	t.Helper()
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestDemoWithOtherCasts(t *testing.T) {
	input := filepath.Join(t.TempDir(), "input")
	if err := os.WriteFile(input, []byte("one: two\n\n"+strings.Repeat("long ", longestLine)+"\nno newline"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range []string{
		"--messages 1 --producers 1 --consumers 1",
		"--messages 2 --producers 3 --consumers 2",
		"--messages 100 --producers 1 --consumers 1",
		"--messages 500 --producers 5 --consumers 1 --input " + input,
		"--messages 500 --seed 7",
	} {
		d := demoIn(t, t.TempDir(), strings.Fields(args)...)
		if out, code := d.end(t); code != exitOK || !strings.Contains(out, "0 lost, 0 twice, 0 torn") {
			t.Errorf("%s: got exit %d\n%s%s", args, code, out, d.talk.String())
		}
	}
}

func TestDemoKeepsWhatItMayAndOnlyInAnEmptyDirectory(t *testing.T) {
	keep := filepath.Join(t.TempDir(), "new", "keep")
	must(t, "", "demo", "--keep", keep, "--messages", "300")
	for _, name := range []string{"queue", "acked-1.txt", "acked-3.txt", "seen-1.txt", "input.txt", "demo.json"} {
		if _, err := os.Stat(filepath.Join(keep, name)); err != nil {
			t.Error(err)
		}
	}
	if out := must(t, "", "verify", filepath.Join(keep, "queue")); !strings.Contains(out, "0 faults") {
		t.Errorf("verify: got %s", out)
	}
	if r := call(t, "", "demo", "--keep", keep); r.code != exitError || !strings.Contains(r.talk, "not empty") {
		t.Errorf("again: got exit %d, %s", r.code, r.talk)
	}
}

// The accounting of a demo notices whatever is done to what the demo left.
func TestTheAccountOfADemoCanFail(t *testing.T) {
	keep := filepath.Join(t.TempDir(), "keep")
	must(t, "", "demo", "--keep", keep, "--messages", "300")
	must(t, "", "demo", "account", keep)
	for _, c := range []struct {
		name  string
		plant func(t *testing.T, dir string)
		want  func(a account) bool
	}{
		{"a number that is not the line's", func(t *testing.T, dir string) {
			edit(t, dir+"/acked-1.txt", func(lines []string) []string {
				lines[3] = "9" + lines[3]
				return lines
			})
		}, func(a account) bool { return a.Lost == 1 }},
		{"the number of another line", func(t *testing.T, dir string) {
			edit(t, dir+"/acked-2.txt", func(lines []string) []string {
				seq, _, _ := strings.Cut(lines[3], " ")
				_, rest, _ := strings.Cut(lines[4], " ")
				lines[4] = seq + " " + rest
				return lines
			})
		}, func(a account) bool { return a.Lost == 1 }},
		{"a line that was not acknowledged", func(t *testing.T, dir string) {
			edit(t, dir+"/acked-3.txt", func(lines []string) []string { return lines[1:] })
		}, func(a account) bool { return a.Unacknowledged == 1 }},
		{"a consumer that saw another order", func(t *testing.T, dir string) {
			edit(t, dir+"/seen-1.txt", func(lines []string) []string {
				lines[5], lines[6] = lines[6], lines[5]
				return lines
			})
		}, func(a account) bool { return a.Delivered == 5 }},
		{"a consumer that missed the last", func(t *testing.T, dir string) {
			edit(t, dir+"/seen-2.txt", func(lines []string) []string { return lines[:len(lines)-1] })
		}, func(a account) bool { return a.Delivered == a.Appended-1 }},
		{"a consumer that saw one twice", func(t *testing.T, dir string) {
			edit(t, dir+"/seen-3.txt", func(lines []string) []string { return append(lines, lines[len(lines)-1]) })
		}, func(a account) bool { return a.Delivered < a.Appended }},
		{"a line twice", func(t *testing.T, dir string) {
			s, err := readScript(dir)
			if err != nil {
				t.Fatal(err)
			}
			must(t, string(s.body(2, 10)), "put", dir+"/queue", "--whole")
		}, func(a account) bool { return a.Duplicates == 1 }},
		{"half a line", func(t *testing.T, dir string) {
			must(t, "producer 1 line 1: half of i", "put", dir+"/queue")
		}, func(a account) bool { return a.Torn == 1 }},
		{"a line that was never due", func(t *testing.T, dir string) {
			edit(t, dir+"/demo.json", func(lines []string) []string {
				lines[0] = strings.Replace(lines[0], `"messages":300`, `"messages":303`, 1)
				return lines
			})
		}, func(a account) bool { return a.Lost == 3 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(keep)); err != nil {
				t.Fatal(err)
			}
			c.plant(t, dir)
			r := call(t, "", "demo", "account", dir)
			var a account
			decode(t, r.out, &a)
			if r.code != exitError || !c.want(a) || len(a.Findings) == 0 {
				t.Errorf("got exit %d, %s", r.code, r.out)
			}
		})
	}
}

func edit(t *testing.T, path string, change func(lines []string) []string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := change(strings.Split(strings.TrimSuffix(string(data), "\n"), "\n"))
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// slowDemo starts a demo that takes long enough to be stopped on the way, and
// returns when its processes are at work.
func slowDemo(t *testing.T, temp string) *running {
	t.Helper()
	d := demoIn(t, temp, "--messages", "5000000")
	testx.Eventually(t, patience, func() bool {
		lists, _ := filepath.Glob(filepath.Join(temp, "*", "seen-*.txt"))
		return len(lists) == 3
	}, "three consumers at work")
	return d
}

func TestCtrlCEndsADemoAndLeavesNothing(t *testing.T) {
	temp := t.TempDir()
	d := slowDemo(t, temp)
	if err := d.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if out, code := d.end(t); code != 130 || out != "" {
		t.Errorf("got exit %d, %q, want 130\n%s", code, out, d.talk.String())
	}
	wantEmpty(t, temp)
	wantNobody(t, temp, 0)
}

func TestNobodyIsLeftOfADemoThatIsKilled(t *testing.T) {
	temp := t.TempDir()
	d := slowDemo(t, temp)
	if err := d.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	d.end(t)
	wantNobody(t, temp, 10*time.Second)
}

// wantNobody waits until no process has the directory in its command line.
func wantNobody(t *testing.T, dir string, deadline time.Duration) {
	t.Helper()
	if _, err := os.Stat("/proc/self/cmdline"); err != nil {
		testx.Skip(t, "there is no /proc")
	}
	testx.Eventually(t, deadline, func() bool {
		processes, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, p := range processes {
			if line, err := os.ReadFile(p); err == nil && strings.Contains(string(line), dir) {
				return false
			}
		}
		return true
	}, "all processes of the demo gone")
}
