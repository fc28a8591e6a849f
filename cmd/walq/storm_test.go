package main

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/walq/walq"
	"github.com/walq/walq/internal/testx"
)

// Of two writers one is killed at a random moment, again and again. Every line
// whose number it printed is in the queue once, under that number; the other
// writer does not notice; the queue stays sound.
func TestStormKillsOneOfTwoWriters(t *testing.T) {
	rounds := 5
	if os.Getenv("WALQ_STORM") != "" {
		rounds = 50
	}
	random := rand.New(rand.NewPCG(testx.Seed(t), 0))
	dir := newDir(t)
	must(t, "", "create", dir, "--segment-size", "256K")
	from := walq.Oldest
	for round := range rounds {
		delay := time.Duration(random.Int64N(int64(40 * time.Millisecond)))
		acks := killOne(t, dir, round, delay)
		all := messages(t, dir, from)
		checkWriter(t, round, "victim", acks[0], all, false)
		checkWriter(t, round, "other", acks[1], all, true)
		if t.Failed() {
			t.Fatalf("round %d: killed after %v", round, delay)
		}
		from = walq.After(all[len(all)-1].Seq)
	}
	if s := look(t, dir); s.Poisoned != nil {
		t.Errorf("the queue is poisoned: %v", s.Poisoned)
	}
	if r := call(t, "", "verify", dir); r.code != exitOK {
		t.Errorf("verify: got exit %d\n%s%s", r.code, r.out, r.talk)
	}
}

// otherLines is how many lines the writer that lives has to append.
const otherLines = 2000

// killOne runs a round and returns the numbers that both writers printed.
func killOne(t *testing.T, dir string, round int, delay time.Duration) (acks [2][]walq.Seq) {
	t.Helper()
	var printed [2]bytes.Buffer
	victim, first := writer(t, dir, &printed[0])
	victim.Stdin = &stormLines{prefix: fmt.Sprintf("round %d victim ", round)}
	other, _ := writer(t, dir, &printed[1])
	other.Stdin = &stormLines{prefix: fmt.Sprintf("round %d other ", round), end: otherLines}
	for _, cmd := range []*exec.Cmd{victim, other} {
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-first:
	case <-time.After(patience):
		t.Error("the victim printed nothing")
	}
	time.Sleep(delay) // the kill is to come at any moment
	if err := victim.Process.Kill(); err != nil {
		t.Error(err)
	}
	if code := wait(t, victim.Wait()); code != -1 {
		t.Errorf("the victim ended with exit %d before it was killed", code)
	}
	if err := other.Wait(); err != nil {
		t.Errorf("the other writer: %v", err)
	}
	for i := range acks {
		acks[i] = parseAcks(t, printed[i].String())
	}
	return acks
}

// writer prepares a put that prints to the buffer; the channel is closed with the
// first byte.
func writer(t *testing.T, dir string, printed *bytes.Buffer) (*exec.Cmd, <-chan struct{}) {
	t.Helper()
	cmd := command(t, "put", dir, "--ack", "--sync", "always")
	cmd.Stderr = os.Stderr
	first := &firstWrite{w: printed, happened: make(chan struct{})}
	cmd.Stdout = first
	return cmd, first.happened
}

type firstWrite struct {
	w        io.Writer
	happened chan struct{}
	closed   bool
}

func (f *firstWrite) Write(p []byte) (int, error) {
	if !f.closed {
		f.closed = true
		close(f.happened)
	}
	return f.w.Write(p)
}

// stormLines is an input of numbered lines, without an end if end is 0.
type stormLines struct {
	prefix string
	n, end int
	rest   []byte
}

func (s *stormLines) Read(p []byte) (int, error) {
	if len(s.rest) == 0 {
		if s.end > 0 && s.n == s.end {
			return 0, io.EOF
		}
		s.n++
		s.rest = fmt.Appendf(nil, "%s%d\n", s.prefix, s.n)
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

// parseAcks takes whole lines only: the last one may have been cut short.
func parseAcks(t *testing.T, printed string) (acks []walq.Seq) {
	t.Helper()
	whole := printed[:strings.LastIndexByte(printed, '\n')+1]
	for line := range strings.Lines(whole) {
		seq, err := strconv.ParseUint(strings.TrimSuffix(line, "\n"), 10, 64)
		if err != nil {
			t.Fatalf("ack %q: %v", line, err)
		}
		if n := len(acks); n > 0 && acks[n-1] >= walq.Seq(seq) {
			t.Errorf("ack %d comes behind %d", seq, acks[n-1])
		}
		acks = append(acks, walq.Seq(seq))
	}
	return acks
}

// checkWriter looks for a writer's lines among the messages of a round: they are
// its first ones, in order, each once, and the acknowledged ones have the numbers
// that it printed.
func checkWriter(t *testing.T, round int, name string, acks []walq.Seq, all []walq.Message, complete bool) {
	t.Helper()
	prefix := fmt.Sprintf("round %d %s ", round, name)
	n := 0
	for _, m := range all {
		number, ok := strings.CutPrefix(string(m.Body), prefix)
		if !ok {
			continue
		}
		if number != strconv.Itoa(n+1) {
			t.Errorf("%s: seq %d is its line %s, want line %d", name, m.Seq, number, n+1)
			return
		}
		if n < len(acks) && acks[n] != m.Seq {
			t.Errorf("%s: line %d was acknowledged as seq %d and is seq %d", name, n+1, acks[n], m.Seq)
		}
		n++
	}
	if n < len(acks) {
		t.Errorf("%s: %d lines were acknowledged, %d are in the queue", name, len(acks), n)
	}
	if complete && (n != otherLines || len(acks) != otherLines) {
		t.Errorf("%s: got %d acks and %d messages, want %d", name, len(acks), n, otherLines)
	}
}

// The check of the storm notices what it is for.
func TestStormCheckCanFail(t *testing.T) {
	m := func(seq walq.Seq, body string) walq.Message { return walq.Message{Seq: seq, Body: []byte(body)} }
	good := []walq.Message{m(1, "round 0 victim 1"), m(2, "round 0 other 1"), m(3, "round 0 victim 2")}
	for _, c := range []struct {
		name string
		acks []walq.Seq
		all  []walq.Message
		ok   bool
	}{
		{"sound", []walq.Seq{1, 3}, good, true},
		{"one more than acknowledged", []walq.Seq{1}, good, true},
		{"lost", []walq.Seq{1, 3, 4}, good, false},
		{"wrong number", []walq.Seq{1, 2}, good, false},
		{"twice", []walq.Seq{1, 3}, append(good[:3:3], m(4, "round 0 victim 2")), false},
		{"hole", []walq.Seq{1}, append(good[:3:3], m(4, "round 0 victim 4")), false},
		{"torn", []walq.Seq{1, 3}, append(good[:2:2], m(3, "round 0 victim x")), false},
	} {
		var w testing.T
		if checkWriter(&w, 0, "victim", c.acks, c.all, false); w.Failed() == c.ok {
			t.Errorf("%s: failed %v", c.name, w.Failed())
		}
	}
}
