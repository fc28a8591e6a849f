package wal

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/walq/walq/internal/testx"
	"github.com/walq/walq/mmap"
	"github.com/walq/walq/segment"
)

// Under the race detector, which is blind in mappings, the whole protocol runs
// over heap memory that the handles of this process share.
func TestMain(m *testing.M) {
	if dir := os.Getenv("WALQ_TEST_CHILD"); dir != "" {
		os.Exit(child(dir))
	}
	mmap.UseHeapFiles(testx.Race)
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(goleak.IgnoreAnyFunction("github.com/walq/walq/wal.neverAgain")); err != nil {
			fmt.Println(err)
			code = 1
		}
		if n := mmap.Mappings(); n != 0 && !killedWithin.Load() {
			fmt.Printf("%d mappings are left behind\n", n)
			code = 1
		}
	}
	os.Exit(code)
}

// killedWithin: a handle was killed within this process, and what it had not made
// known to anyone stays mapped.
var killedWithin atomic.Bool

// child is a writer process: it appends as many messages as the environment
// says, waits for each to be durable, and prints its number.
func child(dir string) int {
	ctx := context.Background()
	l, err := Open(ctx, dir, Options{Role: "child"})
	if err != nil {
		fmt.Fprintln(os.Stderr, "child:", err)
		return 1
	}
	name, count := os.Getenv("WALQ_TEST_NAME"), 0
	if _, err := fmt.Sscan(os.Getenv("WALQ_TEST_COUNT"), &count); err != nil {
		fmt.Fprintln(os.Stderr, "child:", err)
		return 2
	}
	for i := range count {
		body := fmt.Sprintf("%s-%d-%s", name, i, strings.Repeat("x", i%300))
		a, err := l.Append(nil, []byte(body))
		if err == nil {
			err = l.WaitAppended(ctx, a)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "child:", err)
			return 1
		}
		fmt.Println(a.Seq, body)
	}
	if err := l.Close(); err != nil {
		fmt.Fprintln(os.Stderr, "child:", err)
		return 1
	}
	return 0
}

// childCommand is a writer process, and a function that gives what it
// acknowledged so far, once it has ended.
func childCommand(t *testing.T, dir, name string, count int, env ...string) (*exec.Cmd, func() map[uint64]string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "WALQ_TEST_CHILD="+dir, "WALQ_TEST_NAME="+name, "WALQ_TEST_COUNT="+strconv.Itoa(count))
	cmd.Env = append(cmd.Env, env...)
	out := filepath.Join(t.TempDir(), "acks")
	f, err := os.Create(out)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout = f
	stderr := &strings.Builder{}
	cmd.Stderr = stderr
	t.Cleanup(func() {
		if t.Failed() && stderr.Len() > 0 {
			t.Logf("%s wrote: %s", name, stderr)
		}
	})
	return cmd, func() map[uint64]string {
		if err := f.Close(); err != nil && !errors.Is(err, fs.ErrClosed) {
			t.Fatal(err)
		}
		acks := map[uint64]string{}
		in, err := os.Open(out)
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		for sc := bufio.NewScanner(in); sc.Scan(); {
			seq, body, ok := strings.Cut(sc.Text(), " ")
			n, err := strconv.ParseUint(seq, 10, 64)
			if !ok || err != nil {
				continue // a line cut short by the kill
			}
			acks[n] = body
		}
		return acks
	}
}

var small = Settings{SegmentSize: segment.MinSize, Durability: SyncAlways}

func newQueue(t testing.TB) string { return filepath.Join(t.TempDir(), "q") }

func open(t testing.TB, dir string, o Options) *Log {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	l, err := Open(ctx, dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil && !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	})
	return l
}

func create(t testing.TB, dir string, o Options) *Log {
	t.Helper()
	o.Create = &small
	return open(t, dir, o)
}

func closeLog(t testing.TB, l *Log) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func appendText(t testing.TB, l *Log, body string) Appended {
	t.Helper()
	a, err := l.Append(nil, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func appendDurable(t testing.TB, l *Log, body string) Appended {
	t.Helper()
	a := appendText(t, l, body)
	if err := l.WaitAppended(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	return a
}

// tailOf is the segment where the handle appends.
func tailOf(t testing.TB, l *Log) *seg {
	t.Helper()
	s, err := l.findTail()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// crash makes the handle go as a killed process goes: nothing is synced, padded
// or marked, the kernel frees the locks.
func crash(t testing.TB, l *Log) {
	t.Helper()
	l.gate.close()
	close(l.closing)
	l.gate.drainAll()
	l.keeper.stop()
	l.drainLanes()
	l.releaseAll()
	l.pending.mu.Lock()
	for p := range l.pending.open {
		l.table.release(p.own.s)
		p.own.s = nil
	}
	l.pending.mu.Unlock()
	if p := l.keeper.prepared; p != nil {
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.files.close(); err != nil {
		t.Fatal(err)
	}
}

// powerLoss makes the queue one that another boot of the machine left without
// an orderly end. Nobody has it open.
func powerLoss(t testing.TB, dir string) {
	t.Helper()
	changeBoot(t, dir, func(b *boot) { b.id[0] ^= 0xff; b.clean = false })
}

func changeBoot(t testing.TB, dir string, f func(*boot)) {
	t.Helper()
	d, err := mmap.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	c, err := openControl(d, false)
	if err != nil {
		t.Fatal(err)
	}
	b, err := c.boot()
	if err != nil {
		t.Fatal(err)
	}
	f(&b)
	if err := errors.Join(c.writeBoot(b), c.close(), d.Close()); err != nil {
		t.Fatal(err)
	}
}

// next waits for the next message as a consumer would.
func next(t testing.TB, r *Reader) Message {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for time.Now().Before(deadline) {
		m, ok, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			return m
		}
		blocked, err := r.Blocked()
		if err != nil {
			t.Fatal(err)
		}
		if !blocked {
			time.Sleep(100 * time.Microsecond)
		}
	}
	t.Fatal("no message within 20 s")
	return Message{}
}

// readAll reads what there is, freeing the log of dead claims on the way.
func readAll(t testing.TB, l *Log) map[uint64]string {
	t.Helper()
	r, err := l.NewReader(false)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	all := map[uint64]string{}
	var last uint64
	for {
		m, ok, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			if m.Seq <= last {
				t.Fatalf("message %d after %d", m.Seq, last)
			}
			last = m.Seq
			all[m.Seq] = string(m.Body)
			continue
		}
		blocked, err := r.Blocked()
		if err != nil {
			t.Fatal(err)
		}
		if !blocked {
			return all
		}
	}
}

// wantAll fails unless every acknowledged message is there under its number.
func wantAll(t testing.TB, got, want map[uint64]string) {
	t.Helper()
	for seq, body := range want {
		if got[seq] != body {
			t.Errorf("message %d: got %.40q, want %.40q", seq, got[seq], body)
		}
	}
}

// wantNoneTwice fails if a body occurs under two numbers.
func wantNoneTwice(t testing.TB, got map[uint64]string) {
	t.Helper()
	seen := map[string]uint64{}
	for seq, body := range got {
		if other, ok := seen[body]; ok {
			t.Errorf("%.40q is there as %d and as %d", body, other, seq)
		}
		seen[body] = seq
	}
}

func wantSound(t testing.TB, dir string, messages int) {
	t.Helper()
	rep, err := Verify(t.Context(), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range rep.Faults {
		t.Errorf("verify: %s at %d: %s", f.Path, f.Offset, f.Reason)
	}
	if messages >= 0 && rep.Messages != uint64(messages) {
		t.Errorf("verify counts %d messages, want %d", rep.Messages, messages)
	}
}
