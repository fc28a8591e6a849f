package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/walq/walq"
	"github.com/walq/walq/internal/testx"
)

func TestWhatPutTakesCatGives(t *testing.T) {
	dir := newDir(t)
	in := "a\n\n\xff\xfe\x00\n" + strings.Repeat("long", 100_000) + "\nlast\n"
	must(t, in, "put", dir)
	if out := must(t, "", "cat", dir); out != in {
		t.Errorf("got %.99q, want %.99q", out, in)
	}
	if out := must(t, "", "cat", dir, "--durable"); out != in {
		t.Errorf("durable: got %.99q, want %.99q", out, in)
	}
	null := newDir(t)
	must(t, "a\nb\x00\x00c\x00", "put", null, "--null")
	if out := must(t, "", "cat", null, "--null"); out != "a\nb\x00\x00c\x00" {
		t.Errorf("null: got %q", out)
	}
}

func TestCatBeginsAndEndsWhereItIsTold(t *testing.T) {
	dir := newDir(t)
	must(t, "1\n2\n3\n4\n5\n", "put", dir)
	for flags, want := range map[string]string{
		"":                            "12345",
		"--from oldest":               "12345",
		"--from newest":               "",
		"--from 3":                    "345",
		"--from 0":                    "12345",
		"--from 6":                    "",
		"--from 99":                   "",
		"--from -2":                   "45",
		"--from=-2":                   "45",
		"--from -99":                  "12345",
		"--from -0":                   "",
		"--from 1999-01-01T00:00:00Z": "12345",
		"--from 2200-01-01T00:00:00Z": "",
		"--count 0":                   "",
		"--count 2":                   "12",
		"--count 99":                  "12345",
		"--count 1 --from -2":         "4",
		"--count 5 --follow":          "12345",
		"-f --count 2 --from 2":       "23",
	} {
		out := must(t, "", append([]string{"cat", dir}, strings.Fields(flags)...)...)
		if got := strings.ReplaceAll(out, "\n", ""); got != want {
			t.Errorf("%s: got %s, want %s", flags, got, want)
		}
	}
}

func TestCatBeginsAtATime(t *testing.T) {
	dir := newDir(t)
	must(t, "1\n2\n", "put", dir)
	time.Sleep(10 * time.Millisecond) // the clock of messages ticks in milliseconds
	at := time.Now()
	must(t, "3\n", "put", dir)
	if out := must(t, "", "cat", dir, "--from", at.Format(time.RFC3339Nano)); out != "3\n" {
		t.Errorf("got %q, want the message behind", out)
	}
}

func TestCatFilters(t *testing.T) {
	dir := newDir(t)
	for i, topic := range []string{"eu.a", "eu.b", "us.a", ""} {
		for _, key := range []string{"x", "y"} {
			must(t, fmt.Sprintf("%d%s\n", i, key), "put", dir, "--sync", "never", "--topic", topic, "--key", key)
		}
	}
	for flags, want := range map[string]string{
		"--topic eu.a":             "0x 0y",
		"--topic eu.*":             "0x 0y 1x 1y",
		"--topic eu":               "",
		"--topic *":                "0x 0y 1x 1y 2x 2y 3x 3y",
		"--key x":                  "0x 1x 2x 3x",
		"--key x --topic eu.*":     "0x 1x",
		"--key x --count 2":        "0x 1x",
		"--topic us.a --count 1":   "2x",
		"--key none --from oldest": "",
	} {
		out := must(t, "", append([]string{"cat", dir}, strings.Fields(flags)...)...)
		if got := strings.Join(strings.Fields(out), " "); got != want {
			t.Errorf("%s: got %q, want %q", flags, got, want)
		}
	}
}

func TestCatJSON(t *testing.T) {
	dir := newDir(t)
	q, err := walq.Open(context.Background(), dir, walq.Options{Create: &walq.QueueOptions{}})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	for _, d := range []walq.Draft{
		{Body: []byte("<plain> \u2028")},
		{Body: []byte("\xff")},
		{
			Topic: "t", ID: "i", Key: []byte("k"), Headers: map[string]string{"h": "v"}, ContentType: "text/plain",
			ReplyTo: "r", CorrelationID: "c", Body: []byte("all"),
		},
		{Key: []byte("\xfe"), Body: nil},
	} {
		if _, err := q.Publish(context.Background(), d); err != nil {
			t.Fatal(err)
		}
	}
	lines := strings.Split(strings.TrimSuffix(must(t, "", "cat", dir, "-o", "json"), "\n"), "\n")
	want := []string{
		`{"body":"<plain> \u2028","seq":1}`,
		`{"body_base64":"/w==","seq":2}`,
		`{"body":"all","content_type":"text/plain","correlation_id":"c","headers":{"h":"v"},"id":"i","key":"k","reply_to":"r","seq":3,"topic":"t"}`,
		`{"body":"","key_base64":"/g==","seq":4}`,
	}
	if len(lines) != len(want) {
		t.Fatalf("got %d lines, want %d", len(lines), len(want))
	}
	for i, line := range lines {
		var m map[string]any
		decode(t, line, &m)
		at, err := time.Parse(time.RFC3339Nano, fmt.Sprint(m["time"]))
		if err != nil || time.Since(at).Abs() > time.Hour {
			t.Errorf("line %d: time %v, %v", i, m["time"], err)
		}
		delete(m, "time")
		var b strings.Builder
		e := json.NewEncoder(&b) // sorts the keys
		e.SetEscapeHTML(false)
		if err := e.Encode(m); err != nil {
			t.Fatal(err)
		}
		if got := strings.TrimSpace(b.String()); got != want[i] {
			t.Errorf("line %d: got %s, want %s", i, got, want[i])
		}
	}
}

func TestCatFollowsAndShowsEachLineAtOnce(t *testing.T) {
	dir := newDir(t)
	must(t, "old\n", "put", dir)
	c := start(t, "cat", dir, "--follow")
	lines := bufio.NewReader(c.out)
	for i, want := range []string{"old\n", "1\n", "2\n"} {
		if i > 0 {
			must(t, want, "put", dir)
		}
		if got, err := lines.ReadString('\n'); err != nil || got != want {
			t.Fatalf("got %q, %v, want %q", got, err, want)
		}
	}
}

func TestCatEndsWellWhenNobodyReads(t *testing.T) {
	dir := newDir(t)
	must(t, "", "put", dir, "--sync", "never", "--file", numbered(t, "line", 50_000))
	// More to come than a pipe holds, and nothing more to come at all.
	for _, args := range [][]string{{"cat", dir}, {"cat", dir, "-o", "json"}, {"cat", dir, "-f"}, {"cat", dir, "-f", "--from", "-1"}} {
		c := start(t, args...)
		if _, err := bufio.NewReaderSize(c.out, 16).ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		c.out.Close()
		if code := wait(t, c.Wait()); code != exitOK || c.talk.Len() > 0 {
			t.Errorf("%v: got exit %d and %q, want 0 and silence", args[2:], code, c.talk.String())
		}
	}
}

func TestCatToAFullDiskIsAnError(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		testx.Skip(t, "there is no /dev/full")
	}
	defer full.Close()
	dir := newDir(t)
	must(t, "a\n", "put", dir)
	c := command(t, "cat", dir)
	c.Stdout = full
	if code := wait(t, c.Run()); code != exitError {
		t.Errorf("got exit %d, want 1", code)
	}
}

func TestReadersOfAMissingQueueMakeNothing(t *testing.T) {
	parent := t.TempDir()
	for _, command := range []string{"cat", "stat", "verify", "dump", "trim", "set --max-age 1h", "consume --group g", "group ls"} {
		for _, dir := range []string{parent + "/none", parent} {
			if r := call(t, "", append(strings.Fields(command), dir)...); r.code != exitError || r.out != "" || r.talk == "" {
				t.Errorf("%s %s: got %+v", command, dir, r)
			}
		}
	}
	if entries, err := os.ReadDir(parent); err != nil || len(entries) > 0 {
		t.Errorf("got %v, %v, want an empty directory", entries, err)
	}
}

// readLines takes n lines of what a program prints.
func (r *running) lines(t *testing.T, n int) []string {
	t.Helper()
	all := make([]string, 0, n)
	b := bufio.NewReaderSize(r.out, 64<<10)
	for len(all) < n {
		line, err := b.ReadString('\n')
		if err != nil {
			t.Fatalf("line %d of %d: %v", len(all)+1, n, err)
		}
		all = append(all, line)
	}
	r.out = struct {
		io.Reader
		io.Closer
	}{b, r.out}
	return all
}
