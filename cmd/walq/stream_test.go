package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Three processes append at once while two others follow: each of them prints
// every line once, both in the same order, and each writer's lines in its order.
func TestFollowersSeeAllWritersInOneOrder(t *testing.T) {
	const writers, readers = 3, 2
	n := 200_000
	if testing.Short() {
		n = 20_000
	}
	dir := newDir(t)
	must(t, "", "create", dir, "--segment-size", "4M")
	var putting sync.WaitGroup
	for w := range writers {
		file := numbered(t, fmt.Sprint("writer ", w), n)
		cmd := command(t, "put", dir, "--sync", "never", "--file", file)
		putting.Go(func() {
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("writer %d: %v: %s", w, err, out)
			}
		})
	}
	var reading sync.WaitGroup
	seen := make([][]string, readers)
	for r := range readers {
		c := start(t, "cat", dir, "-f")
		reading.Go(func() {
			seen[r] = c.lines(t, writers*n)
			putting.Wait()
			if err := c.Process.Signal(os.Interrupt); err != nil {
				t.Error(err)
			}
			if rest, code := c.end(t); rest != "" || code != 130 || c.talk.Len() > 0 {
				t.Errorf("reader %d: got %.99q more, exit %d, %q", r, rest, code, c.talk.String())
			}
		})
	}
	reading.Wait()
	if t.Failed() {
		return
	}
	if !slices.Equal(seen[0], seen[1]) {
		t.Error("the readers saw different orders")
	}
	var next [writers]int
	for i, line := range seen[0] {
		var w, number int
		if _, err := fmt.Sscanf(line, "writer %d %d\n", &w, &number); err != nil || number != next[w]+1 {
			t.Fatalf("line %d is %q behind the writer's line %d (%v)", i, strings.TrimSpace(line), next[w], err)
		}
		next[w] = number
	}
}
