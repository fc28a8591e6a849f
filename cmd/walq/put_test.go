package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/walq/walq"
)

// bodies reads a queue to its end, through the library.
func bodies(t *testing.T, dir string) (all []string) {
	t.Helper()
	for _, m := range messages(t, dir, walq.Oldest) {
		all = append(all, string(m.Body))
	}
	return all
}

func messages(t *testing.T, dir string, from walq.Position) (all []walq.Message) {
	t.Helper()
	q, err := walq.Open(context.Background(), dir, walq.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	r, err := q.Reader(from, walq.ReaderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for m, err := range r.All(context.Background()) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, m.Clone())
	}
	return all
}

func TestPutTakesEachLineAsItIs(t *testing.T) {
	huge := strings.Repeat("long ", 1<<20/5)
	for _, c := range []struct {
		name, in string
		flags    string
		want     []string
	}{
		{"nothing", "", "", nil},
		{"empty lines", "\n\na\n", "", []string{"", "", "a"}},
		{"last line without newline", "a\nb", "", []string{"a", "b"}},
		{"bytes that are no text", "\xff\x00\xfe\n\r\n", "", []string{"\xff\x00\xfe", "\r"}},
		{"huge line", "a\n" + huge + "\nb\n", "", []string{"a", huge, "b"}},
		{"huge line, metadata", "a\n" + huge + "\nb\n", "--topic t", []string{"a", huge, "b"}},
		{"null", "a\nb\x00\x00c", "--null", []string{"a\nb", "", "c"}},
		{"whole", "a\nb\n", "--whole", []string{"a\nb\n"}},
		{"whole of nothing", "", "--whole", []string{""}},
		{"batches, the last one short", "a\nb\nc\nd\ne", "--batch 2", []string{"a", "b", "c", "d", "e"}},
		{"batch larger than the input", "a\nb\n", "--batch 8191", []string{"a", "b"}},
	} {
		for _, sync := range []string{"always", "interval", "never"} {
			t.Run(c.name+" "+sync, func(t *testing.T) {
				dir := newDir(t)
				args := append([]string{"put", dir, "--sync", sync}, strings.Fields(c.flags)...)
				must(t, c.in, args...)
				got := bodies(t, dir)
				if fmt.Sprintf("%.99q", got) != fmt.Sprintf("%.99q", c.want) || strings.Join(got, "") != strings.Join(c.want, "") {
					t.Errorf("got %.99q, want %.99q", got, c.want)
				}
			})
		}
	}
}

func TestPutReadsAFile(t *testing.T) {
	dir, file := newDir(t), filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, []byte("a\nb\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	must(t, "not this\n", "put", dir, "--file", file)
	if got := bodies(t, dir); strings.Join(got, "|") != "a|b" {
		t.Errorf("got %q", got)
	}
}

func TestPutGivesMetadata(t *testing.T) {
	dir := newDir(t)
	must(t, "a\nb\n", "put", dir, "--topic", "eu.orders", "--key", "k1", "--id", "i1", "--header", "h=1=2", "--header", "g=")
	for _, m := range messages(t, dir, walq.Oldest) {
		if m.Topic() != "eu.orders" || string(m.Key()) != "k1" || m.ID() != "i1" || m.Header("h") != "1=2" {
			t.Errorf("message %d: got topic %q, key %q, id %q, header %q", m.Seq, m.Topic(), m.Key(), m.ID(), m.Header("h"))
		}
	}
}

func TestPutMakesTheQueueWithItsLimits(t *testing.T) {
	dir := newDir(t)
	must(t, "a\n", "put", dir, "--segment-size", "64K", "--max-bytes", "1M", "--sync", "never")
	s := look(t, dir)
	want := walq.Settings{SegmentSize: 64 << 10, MaxBytes: 1 << 20, Durability: walq.SyncAlways}
	if s.Settings != want {
		t.Errorf("got %+v, want %+v", s.Settings, want)
	}
}

func TestPutStopsAtALineThatIsTooLarge(t *testing.T) {
	for _, flags := range []string{"", "--sync never", "--batch 3", "--sync never --batch 3", "--topic t"} {
		dir := newDir(t)
		must(t, "", "create", dir, "--segment-size", "64K")
		large := largest(t, dir)
		in := "a\nb\nc\nd\n" + large + "x\nlater\n"
		r := call(t, in, append([]string{"put", dir}, strings.Fields(flags)...)...)
		if r.code != exitError || !strings.Contains(r.talk, "line 5") {
			t.Errorf("%q: got exit %d, %q, want 1 and line 5", flags, r.code, r.talk)
		}
		if got := strings.Join(bodies(t, dir), "|"); got != "a|b|c|d" {
			t.Errorf("%q: got %.99q, want all lines before", flags, got)
		}
	}
	dir := newDir(t)
	must(t, "", "create", dir, "--segment-size", "64K")
	large := largest(t, dir)
	if must(t, large+"\n", "put", dir); strings.Join(bodies(t, dir), "|") != large {
		t.Errorf("the largest message did not get in")
	}
}

// largest is the largest message that the queue takes.
func largest(t *testing.T, dir string) string {
	t.Helper()
	q, err := walq.Open(context.Background(), dir, walq.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	return strings.Repeat("m", int(q.MaxMessage()))
}

func TestPutSaysWhatItDid(t *testing.T) {
	dir := newDir(t)
	if r := call(t, "", "put", dir); r.out != "" || !strings.Contains(r.talk, "appended no messages") {
		t.Errorf("nothing: got %q, %q", r.out, r.talk)
	}
	if r := call(t, "a\nb\n", "put", dir); r.out != "" || !strings.HasPrefix(r.talk, "appended 2 messages, seq 1..2, in ") {
		t.Errorf("text: got %q, %q", r.out, r.talk)
	}
	var done map[string]float64
	decode(t, must(t, "a\nb\nc", "put", dir, "-o", "json"), &done)
	if _, ok := done["seconds"]; !ok || done["appended"] != 3 || done["first_seq"] != 3 || done["last_seq"] != 5 {
		t.Errorf("json: got %v", done)
	}
	if r := call(t, "a\nb\n", "put", dir, "--ack"); r.out != "6\n7\n" || r.talk != "" {
		t.Errorf("ack: got %q, %q", r.out, r.talk)
	}
	if out := must(t, "a\n", "put", dir, "--ack", "-o", "json"); !strings.HasPrefix(out, "{\"seq\":8}\n{\"appended\":1,\"first_seq\":8,\"last_seq\":8,") {
		t.Errorf("ack and json: got %q", out)
	}
}

func TestAcksOfAFastInputAreCompleteAndAscend(t *testing.T) {
	n := 200_000
	if testing.Short() {
		n = 20_000
	}
	file := numbered(t, "line", n)
	for _, flags := range []string{"", "--batch 7", "--sync never", "--sync interval --batch 100", "--topic t --sync never"} {
		dir := newDir(t)
		out := must(t, "", append([]string{"put", dir, "--file", file, "--ack", "--segment-size", "1M"}, strings.Fields(flags)...)...)
		lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
		if len(lines) != n {
			t.Fatalf("%q: got %d acks, want %d", flags, len(lines), n)
		}
		// One writer: nothing can come between.
		for i, line := range lines {
			if line != fmt.Sprint(i+1) {
				t.Fatalf("%q: ack %d is %q", flags, i, line)
			}
		}
		if s := look(t, dir); s.Messages != uint64(n) {
			t.Errorf("%q: got %d messages, want %d", flags, s.Messages, n)
		}
	}
}

// numbered makes a file of n lines: the prefix and their number, from 1.
func numbered(t *testing.T, prefix string, n int) string {
	t.Helper()
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "%s %d\n", prefix, i+1)
	}
	file := filepath.Join(t.TempDir(), "lines")
	if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestEachLineOfASlowInputIsAcknowledgedAtOnce(t *testing.T) {
	for _, sync := range []string{"always", "interval", "never"} {
		p := start(t, "put", newDir(t), "--ack", "--sync", sync)
		acks := bufio.NewReader(p.out)
		for i := range 3 {
			if _, err := fmt.Fprintf(p.in, "line %d\n", i); err != nil {
				t.Fatal(err)
			}
			// The input stays open: whoever waits for more of it never prints.
			if got, err := acks.ReadString('\n'); err != nil || got != fmt.Sprintf("%d\n", i+1) {
				t.Fatalf("%s: got ack %q, %v, want %d", sync, got, err, i+1)
			}
		}
		p.in.Close()
		if rest, code := p.end(t); rest != "" || code != exitOK {
			t.Errorf("%s: got %q, exit %d", sync, rest, code)
		}
	}
}

func TestAnAckMeansThatTheLineIsOnStableStorage(t *testing.T) {
	dir := newDir(t)
	p := start(t, "put", dir, "--ack", "--sync", "always")
	acks := bufio.NewReader(p.out)
	var q *walq.Queue
	for i := range 100 {
		if _, err := fmt.Fprintln(p.in, "line"); err != nil {
			t.Fatal(err)
		}
		if _, err := acks.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		if q == nil {
			var err error
			if q, err = walq.Open(context.Background(), dir, walq.Options{ReadOnly: true}); err != nil {
				t.Fatal(err)
			}
			defer q.Close()
		}
		if s, err := q.Stats(); err != nil || s.DurableSeq < walq.Seq(i+1) {
			t.Fatalf("ack %d came while %d is durable (%v)", i+1, s.DurableSeq, err)
		}
	}
}

func TestPutEndsWhenNobodyReadsItsAcks(t *testing.T) {
	for _, sync := range []string{"always", "never"} {
		p := start(t, "put", newDir(t), "--ack", "--sync", sync)
		if _, err := fmt.Fprintln(p.in, "first"); err != nil {
			t.Fatal(err)
		}
		if _, err := bufio.NewReader(p.out).ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		p.out.Close()
		go func() {
			for {
				if _, err := fmt.Fprintln(p.in, "more"); err != nil {
					return
				}
			}
		}()
		if code := wait(t, p.Wait()); code != exitOK || p.talk.Len() > 0 {
			t.Errorf("%s: got exit %d and %q, want 0 and silence", sync, code, p.talk.String())
		}
	}
}
