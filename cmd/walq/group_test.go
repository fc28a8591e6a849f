package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/walq/walq"
)

func TestAPausedGroupHandsOutNothing(t *testing.T) {
	dir := newDir(t)
	must(t, "a\n", "put", dir)
	c := start(t, "consume", dir, "--group", "g")
	c.lines(t, 1)
	must(t, "", "group", "pause", dir, "g")
	must(t, "b\n", "put", dir)
	if out := must(t, "", "consume", dir, "--group", "g", "--no-wait"); out != "" {
		t.Errorf("paused: got %q, want nothing", out)
	}
	if g := groupOf(t, dir, "g"); !g.Paused || g.Lag != 1 || g.OldestUnfinishedSeconds <= 0 {
		t.Errorf("paused: got %+v", g)
	}
	var g walq.GroupInfo
	decode(t, must(t, "", "group", "resume", dir, "g", "-o", "json"), &g)
	if g.Paused || g.Name != "g" {
		t.Errorf("resumed: got %+v", g)
	}
	if got := c.lines(t, 1); got[0] != "b\n" {
		t.Errorf("resumed: got %q", got)
	}
}

func TestResetMovesAGroupAndItsConsumers(t *testing.T) {
	dir := newDir(t)
	must(t, "1\n2\n3\n4\n5\n", "put", dir)
	c := start(t, "consume", dir, "--group", "g")
	c.lines(t, 5)
	dry := groupReset{Name: "g", Floor: 6, NewFloor: 4, NewLag: 2, DryRun: true}
	var r groupReset
	if decode(t, must(t, "", "group", "reset", dir, "g", "--from", "-2", "-o", "json"), &r); r != dry {
		t.Errorf("dry run: got %+v, want %+v", r, dry)
	}
	if g := groupOf(t, dir, "g"); g.Floor != 6 || g.Lag != 0 {
		t.Errorf("a dry run changed it: %+v", g)
	}
	must(t, "", "group", "reset", dir, "g", "--from", "-2", "--yes")
	if got := strings.Join(c.lines(t, 2), ""); got != "4\n5\n" {
		t.Errorf("the consumer: got %q", got)
	}
	must(t, "", "group", "pause", dir, "g")
	for to, want := range map[string]walq.GroupInfo{
		"oldest": {Floor: 1, Lag: 5}, "3": {Floor: 3, Lag: 3}, "newest": {Floor: 6},
		"1999-01-01T00:00:00Z": {Floor: 1, Lag: 5}, "2200-01-01T00:00:00Z": {Floor: 6},
	} {
		must(t, "", "group", "reset", dir, "g", "--from", to, "--yes")
		if g := groupOf(t, dir, "g"); g.Floor != want.Floor || g.Lag != want.Lag {
			t.Errorf("to %s: got floor %d, lag %d, want %d, %d", to, g.Floor, g.Lag, want.Floor, want.Lag)
		}
	}
}

func TestStatShowsTheGroups(t *testing.T) {
	dir := newDir(t)
	must(t, "a\nb\nc\n", "put", dir)
	must(t, "", "consume", dir, "--group", "mail", "--count", "2")
	must(t, "", "consume", dir, "--group", "audit", "--topic", "x", "--no-wait")
	var s struct{ Groups []walq.GroupInfo }
	decode(t, must(t, "", "stat", dir, "-o", "json"), &s)
	if len(s.Groups) != 2 || s.Groups[0].Name != "audit" || s.Groups[0].Topic != "x" || s.Groups[0].Lag != 0 ||
		s.Groups[1].Name != "mail" || s.Groups[1].Lag != 1 || s.Groups[1].Floor != 3 {
		t.Errorf("got %+v", s.Groups)
	}
	for _, command := range []string{"stat", "group ls"} {
		text := must(t, "", append(strings.Fields(command), dir)...)
		if !strings.Contains(text, "\nmail ") || !strings.Contains(text, "\naudit ") {
			t.Errorf("%s: got\n%s", command, text)
		}
	}
}

func TestRemovingAGroupAsksFirst(t *testing.T) {
	dir := newDir(t)
	must(t, "a\nb\n", "put", dir)
	must(t, "", "consume", dir, "--group", "g", "--count", "1")
	r := call(t, "", "group", "rm", dir, "g")
	if r.code != exitUsage || !strings.Contains(r.talk, "1 message not finished") || r.out != "" {
		t.Errorf("without --yes: got %+v", r)
	}
	if g := groupOf(t, dir, "g"); g.Lag != 1 || g.Paused {
		t.Errorf("without --yes: %+v", g)
	}
	if out := must(t, "", "group", "rm", dir, "g", "--yes", "-o", "json"); out != `{"removed":"g"}`+"\n" {
		t.Errorf("got %q", out)
	}
	if r := call(t, "", "group", "rm", dir, "g", "--yes"); r.code != exitError || r.talk != "walq: there is no group g\n" {
		t.Errorf("once more: got %+v", r)
	}
}

func TestADamagedGroupIsToldAndCanBeRemoved(t *testing.T) {
	dir := newDir(t)
	must(t, "a\n", "put", dir)
	for _, name := range []string{"bad", "good"} {
		must(t, "", "consume", dir, "--group", name, "--no-wait")
	}
	path := filepath.Join(dir, "groups", "bad.grp")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[100] ^= 1
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"group", "ls", dir}, {"stat", dir}} {
		if r := call(t, "", args...); r.code != exitCorrupt || !strings.Contains(r.out, "\ngood ") || !strings.Contains(r.talk, "bad.grp") {
			t.Errorf("%v: got %+v, want 3 and the other group", args, r)
		}
	}
	for _, args := range [][]string{{"group", "pause", dir, "bad"}, {"consume", dir, "--group", "bad", "--no-wait"}} {
		if r := call(t, "", args...); r.code != exitCorrupt || !strings.Contains(r.talk, "bad.grp") {
			t.Errorf("%v: got %+v, want 3", args, r)
		}
	}
	must(t, "", "group", "pause", dir, "good")
	must(t, "", "group", "rm", dir, "bad", "--yes")
	must(t, "", "group", "ls", dir)
}

func TestAFullQueueSaysWhoHoldsItAndWhatToDo(t *testing.T) {
	dir := newDir(t)
	must(t, "", "create", dir, "--segment-size", "64K", "--max-bytes", "192K", "--durability", "never")
	must(t, "a\n", "put", dir)
	must(t, "", "consume", dir, "--group", "slow", "--count", "0", "--no-wait")
	lines := strings.Repeat(strings.Repeat("x", 999)+"\n", 300)
	if r := call(t, lines, "put", dir); r.code != 1 || !strings.Contains(r.talk, "group slow") || !strings.Contains(r.talk, "walq group set") {
		t.Errorf("put: exit %d, %q", r.code, r.talk)
	}
	var s struct {
		Settings walq.Settings    `json:"settings"`
		HeldBy   *walq.Held       `json:"held_by"`
		Groups   []walq.GroupInfo `json:"groups"`
	}
	decode(t, must(t, "", "stat", dir, "-o", "json"), &s)
	if h := s.HeldBy; h == nil || *h != (walq.Held{By: "group slow", From: 1, Bytes: 192 << 10}) || s.Groups[0].HeldBytes != h.Bytes {
		t.Errorf("stat: held by %+v, groups %+v", s.HeldBy, s.Groups)
	}
	if text := must(t, "", "stat", dir); !strings.Contains(text, "192 KiB, from seq 1 on, by group slow") || !strings.Contains(text, "appends fail") {
		t.Errorf("stat: %s", text)
	}
	if r := call(t, "", "trim", dir, "--before", "50", "--yes"); r.code != 0 || !strings.Contains(r.talk, "group slow needs what is there from seq 1 on") {
		t.Errorf("trim: exit %d, %q", r.code, r.talk)
	}
	must(t, "", "set", dir, "--when-full", "wait")
	p := start(t, "put", dir)
	go func() {
		_, _ = io.WriteString(p.in, lines) // it may end before
		_ = p.in.Close()                   // broken then
	}()
	var g walq.GroupInfo
	decode(t, must(t, "", "group", "set", dir, "slow", "--may-lose", "-o", "json"), &g)
	if !g.MayLose || g.HeldBytes != 0 {
		t.Errorf("group set: %+v", g)
	}
	if code := wait(t, p.Wait()); code != 0 {
		t.Errorf("put that waited: exit %d: %s", code, p.talk.String())
	}
	if text := must(t, "", "group", "ls", dir); !strings.Contains(text, "may lose") {
		t.Errorf("group ls: %s", text)
	}
	must(t, "", "group", "set", dir, "slow", "--must-keep")
	if g := groupOf(t, dir, "slow"); g.MayLose {
		t.Errorf("must keep: %+v", g)
	}
	for _, wrong := range []string{"group set DIR slow", "group set DIR slow --may-lose --must-keep"} {
		if r := call(t, "", strings.Fields(strings.ReplaceAll(wrong, "DIR", dir))...); r.code != 2 {
			t.Errorf("%s: exit %d, want 2", wrong, r.code)
		}
	}
}
