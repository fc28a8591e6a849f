package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/walq/walq"
	"github.com/walq/walq/internal/testx"
)

// groupOf is how the group of this name is.
func groupOf(t *testing.T, dir, name string) (g walq.GroupInfo) {
	t.Helper()
	for line := range strings.Lines(must(t, "", "group", "ls", dir, "-o", "json")) {
		if decode(t, line, &g); g.Name == name {
			return g
		}
	}
	t.Fatalf("there is no group %s", name)
	return g
}

func TestConsumePrintsEachMessageOnce(t *testing.T) {
	dir := newDir(t)
	must(t, "a\n\n\xff\nb\n", "put", dir, "--topic", "t", "--key", "k")
	if out := must(t, "", "consume", dir, "--group", "g", "--count", "3"); out != "a\n\n\xff\n" {
		t.Errorf("got %q, want the first three", out)
	}
	out := must(t, "", "consume", dir, "--group", "g", "--no-wait", "-o", "json")
	var m map[string]any
	decode(t, out, &m)
	if m["seq"] != 4.0 || m["body"] != "b" || m["topic"] != "t" || m["key"] != "k" || m["attempt"] != 1.0 || m["deaths"] != 0.0 || m["time"] == nil {
		t.Errorf("got %s", out)
	}
	for _, flags := range []string{"--no-wait", "--count 0", "--no-wait -o json", "--no-wait --exec cat"} {
		if out := must(t, "", append([]string{"consume", dir, "--group", "g"}, strings.Fields(flags)...)...); out != "" {
			t.Errorf("%s: got %q, want nothing", flags, out)
		}
	}
	for flags, want := range map[string]string{
		"--group h":                        "a b",
		"--group i --from -2":              "b",
		"--group j --from 4":               "b",
		"--group k --from newest":          "",
		"--group l --topic x*":             "",
		"--group m --topic t* --ordered":   "a b",
		"--group n --window 2 --lease 10s": "a b",
		"--group o --ordered-by-key":       "a b",
	} {
		out := must(t, "", append([]string{"consume", dir, "--no-wait"}, strings.Fields(flags)...)...)
		if got := strings.Join(strings.Fields(strings.ReplaceAll(out, "\xff", "")), " "); got != want {
			t.Errorf("%s: got %q, want %q", flags, got, want)
		}
	}
}

func TestConsumeOfAnEmptyQueueDoesNotWaitIfToldSo(t *testing.T) {
	dir := newDir(t)
	must(t, "", "create", dir)
	for _, flags := range []string{"", "-o json", "--exec cat", "--exec cat --handlers 3"} {
		args := append([]string{"consume", dir, "--group", "g", "--no-wait"}, strings.Fields(flags)...)
		if r := call(t, "", args...); r.code != exitOK || r.out != "" || r.talk != "" {
			t.Errorf("%s: got %+v, want nothing", flags, r)
		}
	}
}

func TestTwoConsumersShareTheLines(t *testing.T) {
	const n = 10_000 // more than the pipes of one consumer hold
	dir := newDir(t)
	must(t, "", "create", dir)
	var all [2]*running
	for i := range all {
		all[i] = start(t, "consume", dir, "--group", "g")
	}
	file := numbered(t, strings.Repeat("line ", 20), n)
	must(t, "", "put", dir, "--sync", "never", "--file", file)
	var got [2][]string
	for i, c := range all {
		got[i] = c.lines(t, 1)
	}
	var reading sync.WaitGroup
	for i, c := range all {
		reading.Go(func() {
			rest, code := c.end(t)
			if code != 130 || c.talk.Len() > 0 {
				t.Errorf("consumer %d: got exit %d and %q, want 130 and silence", i, code, c.talk.String())
			}
			got[i] = slices.AppendSeq(got[i], strings.Lines(rest))
		})
	}
	testx.Eventually(t, patience, func() bool { return groupOf(t, dir, "g").Lag == 0 }, "all is finished")
	for _, c := range all {
		if err := c.Process.Signal(os.Interrupt); err != nil {
			t.Error(err)
		}
	}
	reading.Wait()
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	both := slices.Concat(got[0], got[1])
	slices.Sort(both)
	if lines := slices.Sorted(strings.Lines(string(want))); !slices.Equal(both, lines) {
		t.Errorf("got %d and %d lines, want %d, each once", len(got[0]), len(got[1]), n)
	}
	if g := groupOf(t, dir, "g"); g.Finished != n || g.InFlight != 0 || g.Redelivered != 0 {
		t.Errorf("got %+v, want %d finished", g, n)
	}
}

func TestAFailedCommandIsRunAgain(t *testing.T) {
	dir, file := newDir(t), filepath.Join(t.TempDir(), "out")
	must(t, "body\n", "put", dir, "--topic", "t", "--key", "k", "--id", "i")
	command := fmt.Sprintf(`exec >> %s; cat; echo " $WALQ_SEQ $WALQ_ATTEMPT $WALQ_TOPIC $WALQ_KEY $WALQ_ID"; test $WALQ_ATTEMPT = 3`, file)
	r := call(t, "", "consume", dir, "--group", "g", "--count", "1", "--exec", command)
	out, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if want := "body 1 1 t k i\nbody 1 2 t k i\nbody 1 3 t k i\n"; r.code != exitOK || string(out) != want {
		t.Errorf("got exit %d and %q, want 0 and %q", r.code, out, want)
	}
	if r.talk != "walq: message 1, attempt 1: exit status 1\nwalq: message 1, attempt 2: exit status 1\n" || r.out != "" {
		t.Errorf("got %q and %q", r.out, r.talk)
	}
	if g := groupOf(t, dir, "g"); g.Lag != 0 || g.Finished != 1 || g.Redelivered != 2 {
		t.Errorf("got %+v, want one finished at the third time", g)
	}
}

func TestWhatACommandPrintsIsPassedThrough(t *testing.T) {
	dir := newDir(t)
	must(t, "a\nb\n", "put", dir)
	// The second command ends by a closed pipe, which it could not if that signal
	// were ignored.
	r := call(t, "", "consume", dir, "--group", "g", "--no-wait", "--exec", "cat; echo ' out'; echo err >&2; yes | head -1")
	if r.code != exitOK || r.out != "a out\ny\nb out\ny\n" || r.talk != "err\nerr\n" {
		t.Errorf("got %+v", r)
	}
	r = call(t, "", "consume", dir, "--group", "h", "--no-wait", "--exec", "exit 0") // which does not read
	if g := groupOf(t, dir, "h"); r.code != exitOK || g.Finished != 2 {
		t.Errorf("got %+v and %+v, want both finished", r, g)
	}
}

func TestHandlersRunAtOnce(t *testing.T) {
	dir, place := newDir(t), t.TempDir()
	must(t, "a\nb\n", "put", dir)
	// Each command waits for the other one.
	command := fmt.Sprintf("cd %s; touch $WALQ_SEQ; until [ -e 1 ] && [ -e 2 ]; do sleep 0.01; done", place)
	must(t, "", "consume", dir, "--group", "g", "--count", "2", "--handlers", "2", "--exec", command)
	if g := groupOf(t, dir, "g"); g.Lag != 0 || g.Finished != 2 || g.Redelivered != 0 {
		t.Errorf("got %+v, want two finished", g)
	}
}

// With two commands at once, of the one key one runs at a time.
func TestConsumeKeepsTheOrderOfEachKey(t *testing.T) {
	dir := newDir(t)
	place := t.TempDir()
	for _, line := range []string{"a1 a", "b1 b", "a2 a", "a3 a", "b2 b"} {
		body, key, _ := strings.Cut(line, " ")
		must(t, body+"\n", "put", dir, "--key", key)
	}
	command := fmt.Sprintf("mkdir %s/$WALQ_KEY && read body; echo $body; sleep 0.02; rmdir %s/$WALQ_KEY", place, place)
	out := must(t, "", "consume", dir, "--group", "g", "--count", "5", "--handlers", "2", "--ordered-by-key", "--exec", command)
	var a, b []string
	for line := range strings.Lines(out) {
		if line[0] == 'a' {
			a = append(a, strings.TrimSpace(line))
		} else {
			b = append(b, strings.TrimSpace(line))
		}
	}
	if fmt.Sprint(a, b) != "[a1 a2 a3] [b1 b2]" {
		t.Errorf("got %q, want the order of each key", out)
	}
	if g := groupOf(t, dir, "g"); !g.OrderedByKey || g.Redelivered != 0 || g.Lag != 0 {
		t.Errorf("got %+v, want it ordered by key, and all finished at once", g)
	}
}

func TestWhatIsGivenUpIsPutBackByRedrive(t *testing.T) {
	dir := newDir(t)
	dead := dir + "-dead"
	must(t, "good\nbad\n", "put", dir, "--topic", "t", "--header", "h=v")
	r := call(t, "", "consume", dir, "--group", "g", "--no-wait", "--max-deliver", "1", "--dead-letter", dead, "--exec", "grep -q good")
	if r.code != exitOK || strings.Count(r.talk, "\n") != 1 || !strings.Contains(r.talk, "message 2, attempt 1") {
		t.Errorf("got exit %d and %q", r.code, r.talk)
	}
	if g := groupOf(t, dir, "g"); g.DeadLettered != 1 || g.Lag != 0 {
		t.Errorf("got %+v, want one given up", g)
	}
	var m shown
	decode(t, must(t, "", "cat", dead, "-o", "json"), &m)
	if m.Headers[walq.HeaderOriginSeq] != "2" || m.Headers[walq.HeaderReason] == "" || m.Headers["h"] != "v" || *m.Body != "bad" {
		t.Errorf("the dead letter: got %+v", m)
	}
	for _, want := range []string{"1", "0"} {
		if out := must(t, "", "redrive", dir, dead, "-o", "json"); out != `{"redriven":`+want+"}\n" {
			t.Errorf("redrive: got %s, want %s", out, want)
		}
	}
	decode(t, must(t, "", "cat", dir, "--from", "-1", "-o", "json"), &m)
	if m.Seq != 3 || *m.Body != "bad" || m.Topic != "t" {
		t.Errorf("put back: got %+v", m)
	}
	r = call(t, "", "redrive", dir, dead)
	if r.code != exitOK || r.out != "" || r.talk != "put back 0 messages\n" {
		t.Errorf("got %+v", r)
	}
}

func TestWhatNobodyReadsIsSentBack(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		testx.Skip(t, "there is no /dev/full")
	}
	defer full.Close()
	closed, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	defer w.Close()
	for _, c := range []struct {
		out  *os.File
		code int
	}{{w, exitOK}, {full, exitError}} {
		dir := newDir(t)
		must(t, "a\nb\n", "put", dir)
		cmd := command(t, "consume", dir, "--group", "g", "--no-wait")
		cmd.Stdout = c.out
		if code := wait(t, cmd.Run()); code != c.code {
			t.Errorf("got exit %d, want %d", code, c.code)
		}
		if g := groupOf(t, dir, "g"); g.Finished != 0 || g.Lag != 2 {
			t.Errorf("got %+v, want nothing finished", g)
		}
		if out := must(t, "", "consume", dir, "--group", "g", "--no-wait"); out != "a\nb\n" {
			t.Errorf("the next one: got %q", out)
		}
	}
}
