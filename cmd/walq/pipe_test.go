package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/walq/walq"
	"github.com/walq/walq/internal/testx"
)

// onQueue are calls of all commands on the queue in DIR, which has something in it.
var onQueue = []string{
	"put DIR", "put DIR --ack", "put DIR -o json", "cat DIR", "cat DIR -o json", "cat DIR -f", "stat DIR", "stat DIR -o json",
	"verify DIR", "verify DIR -o json", "dump DIR/walq.ctl", "dump DIR/walq.ctl -o json", "trim DIR -o json",
	"trim DIR --before 1 --yes -o json",
	"consume DIR --group g", "consume DIR --group g --no-wait", "consume DIR --group g --no-wait -o json",
	"group ls DIR", "group ls DIR -o json", "group rm DIR old --yes -o json", "group reset DIR old --from oldest -o json",
	"group pause DIR old -o json", "group resume DIR old -o json", "redrive DIR DIR -o json", "set DIR --max-age 7d -o json", "create DIR-new -o json", "completion bash",
	"help", "put --help", "demo --messages 10 -o json", "demo --messages 10",
}

// fill puts something into a queue, and a group if the call is about one.
func fill(t *testing.T, dir, line string) {
	t.Helper()
	must(t, "a\nb\n", "put", dir)
	if strings.HasPrefix(line, "group") {
		must(t, "", "consume", dir, "--group", "old", "--count", "1")
	}
}

func TestAClosedPipeIsNoError(t *testing.T) {
	for _, line := range onQueue {
		t.Run(line, func(t *testing.T) {
			dir := newDir(t)
			fill(t, dir, line)
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			r.Close() // nobody ever reads
			var talk bytes.Buffer
			cmd := command(t, strings.Fields(strings.ReplaceAll(line, "DIR", dir))...)
			cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader("c\n"), w, &talk
			err = cmd.Run()
			w.Close()
			if code := wait(t, err); code != exitOK || strings.Contains(talk.String(), "clos") {
				t.Errorf("got exit %d and %q, want 0 and no word about it", code, talk.String())
			}
		})
	}
}

func TestCorruptionIsToldEvenToAClosedPipe(t *testing.T) {
	dir := newDir(t)
	must(t, "first\nsecond\n", "put", dir)
	flip(t, dir, "second")
	for _, args := range [][]string{{"verify", dir}, {"verify", dir, "-o", "json"}, {"dump", firstSegment(dir)}} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		var talk bytes.Buffer
		cmd := command(t, args...)
		cmd.Stdout, cmd.Stderr = w, &talk
		err = cmd.Run()
		w.Close()
		if code := wait(t, err); code != exitCorrupt || !strings.Contains(talk.String(), "fault") || strings.Contains(talk.String(), "clos") {
			t.Errorf("%v: got exit %d and %q, want 3 and the faults", args, code, talk.String())
		}
	}
}

func TestCorruptionIsTheFirstThingThatAnExitStatusTells(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errPipeClosed)
	for _, c := range []struct {
		err  error
		want int
	}{
		{errors.Join(errPipeClosed, errFaults), exitCorrupt},
		{errors.Join(errPipeClosed, walq.ErrCorrupt), exitCorrupt},
		{errPipeClosed, exitOK},
		{context.Canceled, exitOK},
	} {
		if got := exitCode(ctx, c.err); got != c.want {
			t.Errorf("%v: got exit %d, want %d", c.err, got, c.want)
		}
	}
}

func TestAFullDiskUnderTheOutputIsOneError(t *testing.T) {
	for _, line := range onQueue {
		if strings.Contains(line, "help") || line == "put DIR" {
			continue // the one is not worth it, the other prints nothing
		}
		t.Run(line, func(t *testing.T) {
			dir := newDir(t)
			fill(t, dir, line)
			full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
			if err != nil {
				testx.Skip(t, "there is no /dev/full")
			}
			defer full.Close()
			var talk bytes.Buffer
			cmd := command(t, strings.Fields(strings.ReplaceAll(line, "DIR", dir))...)
			cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader("c\n"), full, &talk
			err = cmd.Run()
			if code, n := wait(t, err), strings.Count(talk.String(), "no space left"); code != exitError || n != 1 {
				t.Errorf("got exit %d and\n%s\nwant 1 and the reason once", code, talk.String())
			}
		})
	}
}

// A context that ended as Ctrl-C ends it, before there was anything to do.
func TestCtrlCEndsEveryCommand(t *testing.T) {
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(signalled{"SIGINT", 130})
	input, feed := io.Pipe() // nothing ever comes
	t.Cleanup(func() { feed.Close() })
	for _, line := range onQueue {
		switch name, _, _ := strings.Cut(line, " "); {
		case name == "create", name == "set", name == "stat", name == "dump", name == "completion", name == "group", strings.Contains(line, "help"):
			continue // over at once: there is nothing to end
		}
		t.Run(line, func(t *testing.T) {
			dir := newDir(t)
			fill(t, dir, line)
			var out, talk bytes.Buffer
			args := strings.Fields(strings.ReplaceAll(line, "DIR", dir))
			if code := run(ctx, args, input, &out, &talk); code != 130 || strings.Contains(talk.String(), "walq:") {
				t.Errorf("got exit %d and %q, want 130 and silence", code, talk.String())
			}
		})
	}
	t.Run("dump of a segment", func(t *testing.T) {
		dir := newDir(t)
		must(t, "a\nb\n", "put", dir)
		var out, talk bytes.Buffer
		if code := run(ctx, []string{"dump", firstSegment(dir)}, input, &out, &talk); code != 130 || talk.Len() > 0 {
			t.Errorf("got exit %d and %q, want 130 and silence", code, talk.String())
		}
	})
}

func TestEveryCommandSpeaksJSON(t *testing.T) {
	tried := map[string]bool{}
	for _, line := range onQueue {
		if !strings.Contains(line, "-o json") {
			continue
		}
		dir := newDir(t)
		must(t, "\xff\n", "put", dir)
		fill(t, dir, line)
		args := strings.Fields(strings.ReplaceAll(line, "DIR", dir))
		tried[args[0]] = true
		out := must(t, "c\n", args...)
		for object := range strings.Lines(out) {
			if !json.Valid([]byte(object)) || object[0] != '{' {
				t.Errorf("%s: %q is no object", line, object)
			}
		}
		if out == "" {
			t.Errorf("%s: printed nothing", line)
		}
	}
	visible(t, func(cmd *cobra.Command) {
		if !cmd.HasParent() || cmd.Name() == "help" || cmd.Name() == "completion" || cmd.HasAvailableSubCommands() {
			return // what they print is a text or a script
		}
		if f := cmd.Flags().ShorthandLookup("o"); f == nil || f.Name != "output" {
			t.Errorf("%s has no -o", cmd.CommandPath())
		} else if err := f.Value.Set("json"); err != nil {
			t.Errorf("%s -o json: %v", cmd.CommandPath(), err)
		}
	})
	for _, name := range []string{"demo", "create", "set", "put", "cat", "stat", "verify", "dump", "trim", "consume", "group", "redrive"} {
		if !tried[name] {
			t.Errorf("%s -o json was not tried", name)
		}
	}
}
