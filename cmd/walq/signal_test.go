package main

import (
	"bufio"
	"fmt"
	"os"
	"syscall"
	"testing"
)

func TestASignalEndsCat(t *testing.T) {
	for sig, want := range map[os.Signal]int{os.Interrupt: 130, syscall.SIGTERM: 143} {
		dir := newDir(t)
		must(t, "a\n", "put", dir)
		c := start(t, "cat", dir, "-f")
		c.lines(t, 1)
		if err := c.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		if rest, code := c.end(t); code != want || rest != "" || c.talk.Len() > 0 {
			t.Errorf("%v: got exit %d, %q, %q, want %d and silence", sig, code, rest, c.talk.String(), want)
		}
	}
}

func TestCtrlCEndsPutWithEverythingThatWasSubmitted(t *testing.T) {
	for _, flags := range [][]string{{"--sync", "always"}, {"--sync", "never"}, {"--sync", "always", "--topic", "t"}} {
		dir := newDir(t)
		p := start(t, append([]string{"put", dir, "--ack"}, flags...)...)
		// An input that does not end.
		fed := make(chan struct{})
		go func() {
			defer close(fed)
			w := bufio.NewWriter(p.in)
			for i := 1; ; i++ {
				if _, err := fmt.Fprintf(w, "line %d\n", i); err != nil {
					return
				}
			}
		}()
		acks := p.lines(t, 1000)
		if err := p.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		rest, code := p.end(t)
		<-fed
		if code != 130 || p.talk.Len() > 0 {
			t.Errorf("%v: got exit %d, %q, want 130 and silence", flags, code, p.talk.String())
		}
		acked := len(acks)
		for _, c := range rest {
			if c == '\n' {
				acked++
			}
		}
		all := bodies(t, dir)
		if len(all) != acked {
			t.Errorf("%v: got %d acks for %d messages", flags, acked, len(all))
		}
		for i, body := range all {
			if want := fmt.Sprintf("line %d", i+1); body != want {
				t.Fatalf("%v: message %d is %q, want %q", flags, i+1, body, want)
			}
		}
	}
}

func TestCtrlCEndsPutThatWaitsForInput(t *testing.T) {
	for _, flags := range [][]string{{"--sync", "always"}, {"--sync", "never"}, {"--batch", "2"}} {
		dir := newDir(t)
		p := start(t, append([]string{"put", dir, "--ack"}, flags...)...)
		if _, err := fmt.Fprint(p.in, "a\nb\n"); err != nil {
			t.Fatal(err)
		}
		p.lines(t, 2)
		if err := p.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		if rest, code := p.end(t); code != 130 || rest != "" {
			t.Errorf("%v: got exit %d, %q, want 130", flags, code, rest)
		}
		if got := bodies(t, dir); len(got) != 2 {
			t.Errorf("%v: got %q", flags, got)
		}
	}
}
