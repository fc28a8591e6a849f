package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/walq/walq/internal/testx"
	"github.com/walq/walq/wal"
)

// damagedQueue has one message with a wrong byte in its body.
func damagedQueue(t *testing.T) (dir string) {
	t.Helper()
	dir = newDir(t)
	must(t, numbers(1, 1500), "put", dir, "--sync", "never")
	seg, err := filepath.Glob(filepath.Join(dir, "log", "*.seg"))
	if err != nil || len(seg) != 1 {
		t.Fatal(seg, err)
	}
	b, err := os.ReadFile(seg[0])
	if err != nil {
		t.Fatal(err)
	}
	at := strings.Index(string(b), "1203 x x")
	b[at] = 'y'
	if err := os.WriteFile(seg[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestRepairSaysFirstAndActsOnlyWithYes(t *testing.T) {
	dir := damagedQueue(t)
	before := testx.Fingerprint(t, dir)
	dry := call(t, "", "repair", dir)
	if dry.code != exitCorrupt || !strings.Contains(dry.out, "lost seq 1203 to 1203: ") || !strings.HasSuffix(dry.out, "would be lost 1 of 1,500\n") || !strings.Contains(dry.talk, "--yes") {
		t.Errorf("dry run: exit %d, %q, %q", dry.code, dry.out, dry.talk)
	}
	if testx.Fingerprint(t, dir) != before {
		t.Error("the dry run changed files")
	}
	if r := call(t, "", "verify", dir); r.code != exitCorrupt {
		t.Errorf("verify before: exit %d, want %d", r.code, exitCorrupt)
	}
	var report wal.RepairReport
	if err := json.Unmarshal([]byte(must(t, "", "repair", dir, "--yes", "-o", "json")), &report); err != nil {
		t.Fatal(err)
	}
	if report.Lost != 1 || report.Messages != 1499 || report.DryRun || len(report.Ranges) != 1 || len(report.Quarantined) != 2 { // of the segment and the control file
		t.Errorf("got %+v", report)
	}
	if _, err := os.Stat(report.Quarantined[0]); err != nil {
		t.Errorf("the original: %v", err)
	}
	must(t, "", "verify", dir)
	if out := must(t, "", "repair", dir); out != "nothing to repair, 1499 messages\n" {
		t.Errorf("again: %q", out)
	}
	must(t, "after\n", "put", dir)
	out := must(t, "", "cat", dir)
	if n := strings.Count(out, "\n"); n != 1500 || strings.Contains(out, "1203 x") || !strings.HasSuffix(out, "after\n") {
		t.Errorf("%d lines, want 1500, all but the damaged one", n)
	}
}

func TestTheJSONOfRepairHasItsKeys(t *testing.T) {
	r := call(t, "", "repair", damagedQueue(t), "-o", "json")
	var keys map[string]any
	if err := json.Unmarshal([]byte(r.out), &keys); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"lost", "messages", "ranges", "repaired", "quarantined", "dry_run"} {
		if _, ok := keys[key]; !ok {
			t.Errorf("no key %q in %s", key, r.out)
		}
	}
}

func TestRepairNamesWhoHasTheQueueOpen(t *testing.T) {
	dir := newDir(t)
	must(t, "", "create", dir)
	holder := start(t, "put", dir, "--ack")
	fmt.Fprintln(holder.in, "one")
	if _, err := bufio.NewReader(holder.out).ReadString('\n'); err != nil { // it is in
		t.Fatal(err)
	}
	r := call(t, "", "repair", dir, "--yes")
	if r.code != exitError || !strings.Contains(r.talk, fmt.Sprintf("slot 0, process %d put", holder.Process.Pid)) {
		t.Errorf("exit %d, %q; want the slot, the process and its role", r.code, r.talk)
	}
	if err := holder.in.Close(); err != nil {
		t.Fatal(err)
	}
	if _, code := holder.end(t); code != exitOK {
		t.Errorf("the holder: exit %d", code)
	}
	must(t, "", "repair", dir)
}

func TestRepairOfNothingIsAnError(t *testing.T) {
	if r := call(t, "", "repair", newDir(t)); r.code != exitError || !strings.Contains(r.talk, "there is no queue") {
		t.Errorf("exit %d, %q", r.code, r.talk)
	}
	if r := call(t, "", "repair", t.TempDir(), "--yes"); r.code != exitError {
		t.Errorf("exit %d, want %d", r.code, exitError)
	}
}

func TestNumbersAreGroupedForPeople(t *testing.T) {
	for n, want := range map[uint64]string{0: "0", 999: "999", 1000: "1,000", 1204551: "1,204,551"} {
		if got := thousands(n); got != want {
			t.Errorf("%d: got %q, want %q", n, got, want)
		}
	}
}
