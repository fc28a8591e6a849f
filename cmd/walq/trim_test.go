package main

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"
)

func numbers(from, to int) string {
	var b strings.Builder
	for n := from; n <= to; n++ {
		b.WriteString(strconv.Itoa(n) + strings.Repeat(" x", 50) + "\n")
	}
	return b.String()
}

func TestSetAndTrimKeepTheLastFiles(t *testing.T) {
	dir := t.TempDir() + "/q"
	must(t, numbers(1, 5000), "put", dir, "--segment-size", "64K", "--sync", "never")
	if r := call(t, "", "set", dir); r.code != exitUsage {
		t.Errorf("set without anything to set: exit %d, want %d", r.code, exitUsage)
	}
	var s created
	if err := json.Unmarshal([]byte(must(t, "", "set", dir, "--max-bytes", "256K", "--max-age", "7d", "-o", "json")), &s); err != nil {
		t.Fatal(err)
	}
	if s.Settings.MaxBytes != 256<<10 || s.Settings.MaxAgeNanos != 7*int64(day) {
		t.Errorf("settings %+v", s.Settings)
	}
	must(t, "", "set", dir, "--max-age", "0") // and leaves the other limit
	var r trimmed
	if err := json.Unmarshal([]byte(must(t, "", "trim", dir, "-o", "json")), &r); err != nil {
		t.Fatal(err)
	}
	if r.Removed == 0 || r.FirstSeq <= 1 || r.Bytes > 256<<10 || uint64(r.FirstSeq)+r.Messages != 5001 {
		t.Errorf("trimmed %+v", r)
	}
	first, _, _ := strings.Cut(must(t, "", "cat", dir, "--count", "1"), " ")
	if first != strconv.Itoa(int(r.FirstSeq)) {
		t.Errorf("the oldest message is %s, want %d", first, r.FirstSeq)
	}
	gap := call(t, "", "cat", dir, "--from", "1", "--count", "1")
	if gap.code != exitOK || !strings.Contains(gap.talk, "trimmed") || !strings.HasPrefix(gap.out, first+" ") {
		t.Errorf("cat from what was trimmed: exit %d, %q, %q", gap.code, gap.out, gap.talk)
	}
	if r := call(t, "", "trim", dir, "--before", "5000"); r.code != exitUsage {
		t.Errorf("trim --before without --yes: exit %d, want %d", r.code, exitUsage)
	}
	must(t, "", "trim", dir, "--before", "5000", "--yes")
	if n := strings.Count(must(t, "", "cat", dir), "\n"); n == 0 || uint64(n) >= r.Messages {
		t.Errorf("%d messages are left, want those of the last file", n)
	}
	must(t, "", "verify", dir)
	if r := call(t, "", "trim", dir+"/none"); r.code != exitError {
		t.Errorf("trim of nothing: exit %d, want %d", r.code, exitError)
	}
}
