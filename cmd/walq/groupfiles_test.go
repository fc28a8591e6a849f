package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/walq/walq/internal/testx"
	"github.com/walq/walq/wal"
)

// queueWithGroups has messages 1 to 20, of which the group "mail" has finished ten, and
// "bill" none.
func queueWithGroups(t *testing.T) (dir string) {
	t.Helper()
	dir = newDir(t)
	must(t, numbers(1, 20), "put", dir)
	must(t, "", "consume", dir, "--group", "mail", "--no-wait", "--count", "10")
	must(t, "", "consume", dir, "--group", "bill", "--no-wait", "--count", "0")
	return dir
}

func groupFile(dir, name string) string { return filepath.Join(dir, "groups", name+".grp") }

func rewrite(t *testing.T, path string, f func(b []byte) []byte) (damaged []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b = f(b)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return b
}

func flipAt(at int) func([]byte) []byte {
	return func(b []byte) []byte { b[at] ^= 0x10; return b }
}

func TestVerifyAndRepairGoOverGroupsToo(t *testing.T) {
	dir := queueWithGroups(t)
	must(t, "", "verify", dir)
	damaged := rewrite(t, groupFile(dir, "mail"), flipAt(8192+7)) // the floor
	r := call(t, "", "verify", dir)
	if r.code != exitCorrupt || !strings.Contains(r.out, "mail.grp: offset 8192: the floor is at ") || !strings.HasSuffix(r.out, ", 1 fault\n") {
		t.Fatalf("verify: %+v", r)
	}
	var report wal.Report
	if err := json.Unmarshal([]byte(call(t, "", "verify", dir, "-o", "json").out), &report); err != nil || len(report.Faults) != 1 || report.Faults[0].Offset != 8192 {
		t.Errorf("verify -o json: %+v, %v", report, err)
	}
	before := testx.Fingerprint(t, dir)
	r = call(t, "", "repair", dir)
	if r.code != exitCorrupt || !strings.Contains(r.out, "mail.grp: offset 8192: the floor is at ") || !strings.Contains(r.out, "to be kept as ") || !strings.Contains(r.out, "mail.grp.bad\n") {
		t.Errorf("dry run: %+v", r)
	}
	if testx.Fingerprint(t, dir) != before {
		t.Error("the dry run changed files")
	}
	out := must(t, "", "repair", dir, "--yes")
	if !strings.Contains(out, "kept as "+groupFile(dir, "mail")+".bad\n") || !strings.HasSuffix(out, "lost 0 of 20\n") {
		t.Errorf("repair: %q", out)
	}
	if b, err := os.ReadFile(groupFile(dir, "mail") + ".bad"); err != nil || !bytes.Equal(b, damaged) {
		t.Errorf("the damaged file is not kept: %v", err)
	}
	must(t, "", "verify", dir)
	if out := must(t, "", "repair", dir); out != "nothing to repair, 20 messages\n" {
		t.Errorf("again: %q", out)
	}
	if got := strings.Fields(must(t, "", "consume", dir, "--group", "mail", "--no-wait")); !slices.Contains(got, "11") || slices.Contains(got, "10") {
		t.Errorf("the group goes on with %v, want 11 to 20", got)
	}
}

// Each damage is mended, and the group gives what it had not finished.
func TestAMendedGroupHandsOutWhatItHadNotFinished(t *testing.T) {
	for name, at := range map[string]int{"identity": 70, "settings": 4100, "base": 6150, "passed": 8323, "generation": 8448, "entry": 12290} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := queueWithGroups(t)
			rewrite(t, groupFile(dir, "bill"), flipAt(at))
			rewrite(t, groupFile(dir, "mail"), flipAt(at))
			if r := call(t, "", "verify", dir); r.code != exitCorrupt {
				t.Errorf("verify: %+v", r)
			}
			r := call(t, "", "repair", dir, "--yes")
			if name == "base" { // bill never made a checkpoint, so nobody knows how far it was
				if r.code != exitCorrupt || !strings.Contains(r.out, "not mended: "+groupFile(dir, "bill")) {
					t.Errorf("repair: %+v", r)
				}
				must(t, "", "group", "rm", dir, "bill", "--yes")
			} else if r.code != exitOK {
				t.Errorf("repair: %+v", r)
			}
			must(t, "", "verify", dir)
			for group, first := range map[string]string{"mail": "11", "bill": "1"} {
				got := strings.Split(must(t, "", "consume", dir, "--group", group, "--no-wait"), "\n")
				if !strings.HasPrefix(got[0], first+" ") || !strings.HasPrefix(got[len(got)-2], "20 ") {
					t.Errorf("%s hands out %q, want from %s on", group, got, first)
				}
			}
		})
	}
}

func TestAGroupThatCannotBeMendedIsSaidAndLeft(t *testing.T) {
	dir := queueWithGroups(t)
	damaged := rewrite(t, groupFile(dir, "mail"), func(b []byte) []byte { return b[:5000] })
	rewrite(t, groupFile(dir, "bill"), flipAt(8192))
	r := call(t, "", "repair", dir, "--yes")
	if r.code != exitCorrupt || !strings.Contains(r.out, "not mended: "+groupFile(dir, "mail")) || !strings.Contains(r.out, "`walq group rm`") || !strings.Contains(r.talk, "cannot be mended") {
		t.Errorf("repair: %+v", r)
	}
	if b, err := os.ReadFile(groupFile(dir, "mail")); err != nil || !bytes.Equal(b, damaged) {
		t.Errorf("it was changed: %v", err)
	}
	if out := call(t, "", "verify", dir).out; strings.Contains(out, "bill") || !strings.Contains(out, "mail") {
		t.Errorf("verify afterwards: %q, want that the other one is mended", out)
	}
	var keys map[string]any
	decode(t, call(t, "", "repair", dir, "-o", "json").out, &keys)
	if left, ok := keys["left"].([]any); !ok || len(left) == 0 {
		t.Errorf("-o json: %v", keys)
	}
	must(t, "", "group", "rm", dir, "mail", "--yes")
	must(t, "", "verify", dir)
}

func TestVerifyOfAQueueInUseSeesDamageAndNothingElse(t *testing.T) {
	dir := queueWithGroups(t)
	worker := start(t, "consume", dir, "--group", "mail")
	if _, err := worker.out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		must(t, numbers(1, 100), "put", dir)
		must(t, "", "verify", dir)
	}
	f, err := os.OpenFile(groupFile(dir, "mail"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte{1}, 5120); err != nil { // where a second record of settings would be
		t.Fatal(err)
	}
	if r := call(t, "", "verify", dir); r.code != exitCorrupt || !strings.Contains(r.out, "mail.grp: offset 5120: a record of the settings is damaged") {
		t.Errorf("%+v", r)
	}
}

func TestDumpShowsTheFileOfAGroup(t *testing.T) {
	dir := queueWithGroups(t)
	text := must(t, "", "dump", groupFile(dir, "mail"))
	for _, want := range []string{
		"identity\n", "         0  magic                  \"walqgrp\\n\"\n", "\nsettings A\n", "  lease                  30s\n", "  back-off               0s 1s 5s 30s\n",
		"\nbase A\n", "\ncheckpoint A\n", "\nshared words\n", "      8192  floor  ", "\nentries of the ring that were used\n", "     12288  entry 0                lap 1 FINISHED, distance 0 of lap 1",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	_, fields := dumped(t, must(t, "", "dump", groupFile(dir, "mail"), "-o", "json"))
	if fields["magic"] != `"walqgrp\n"` || fields["entries"] != "4096" || !strings.HasPrefix(fields["entry 9"], `"lap 1 FINISHED`) {
		t.Errorf("fields: got %v", fields)
	}
	rewrite(t, groupFile(dir, "mail"), flipAt(12288+3*32))
	r := call(t, "", "dump", groupFile(dir, "mail"))
	if r.code != exitCorrupt || !strings.Contains(r.out, "entry 9") || !strings.Contains(r.talk, "corrupt at offset 12384: entry 3: ") {
		t.Errorf("damaged: %+v", r)
	}
	must(t, "", "repair", dir, "--yes")
	if r := call(t, "", "dump", groupFile(dir, "mail")+".bad"); r.code != exitCorrupt || !strings.Contains(r.out, "entry 9") {
		t.Errorf("the kept one: %+v", r)
	}
}
