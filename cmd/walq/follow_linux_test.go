package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/walq/walq"
	"github.com/walq/walq/internal/testx"
)

// ticks is the processor time that a process has used so far, in clock ticks,
// a hundredth of a second each.
func ticks(t *testing.T, pid int) int {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		testx.Skip(t, "there is no /proc: "+err.Error())
	}
	// The name of the program may hold anything, and ends with the last bracket.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	user, uerr := strconv.Atoi(fields[11])
	system, serr := strconv.Atoi(fields[12])
	if uerr != nil || serr != nil {
		t.Fatalf("%q: %v, %v", stat, uerr, serr)
	}
	return user + system
}

func TestCatThatFollowsSleepsAndWakesAtOnce(t *testing.T) {
	dir := newDir(t)
	q, err := walq.Open(context.Background(), dir, walq.Options{Create: &walq.QueueOptions{Durability: walq.SyncNever}})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	say := func(line string) {
		t.Helper()
		if _, err := q.Append(context.Background(), []byte(line)); err != nil {
			t.Fatal(err)
		}
	}
	say("first")
	c := start(t, "cat", dir, "-f")
	lines := bufio.NewReader(c.out)
	want := func(line string) {
		t.Helper()
		if got, err := lines.ReadString('\n'); err != nil || got != line+"\n" {
			t.Fatalf("got %q, %v, want %q", got, err, line)
		}
	}
	want("first")
	// Once it sleeps, what it used to start is used.
	before := ticks(t, c.Process.Pid)
	testx.Eventually(t, patience, func() bool {
		was := before
		time.Sleep(50 * time.Millisecond) // several ticks of the clock that counts
		before = ticks(t, c.Process.Pid)
		return before == was
	}, "cat is asleep")
	const pause, most = 5 * time.Second, 2
	time.Sleep(pause) // this is what is measured
	if used := ticks(t, c.Process.Pid) - before; used > most {
		t.Errorf("asleep for %v it used %d ticks of processor time, want at most %d", pause, used, most)
	}
	// Whoever only looked once a second would take nearly that long for most lines,
	// because all but the first come when it has just looked.
	var took []time.Duration
	for i := range 5 {
		line := fmt.Sprint("line ", i)
		at := time.Now()
		say(line)
		want(line)
		took = append(took, time.Since(at))
	}
	slices.Sort(took)
	if middle := took[len(took)/2]; middle > 500*time.Millisecond {
		t.Errorf("five lines took %v: it was not woken", took)
	}
}
