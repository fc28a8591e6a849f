package main

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// firstSegment is the file of a queue's first segment.
func firstSegment(dir string) string { return filepath.Join(dir, "log", fmt.Sprintf("%020d.seg", 1)) }

// A record is a line of dump -o json.
type record struct {
	What    string
	Offset  int64
	Field   string
	Value   json.RawMessage
	Seq     uint64
	State   string
	Kind    string
	InBatch bool  `json:"in_batch"`
	CRC     *bool `json:"crc_ok"`
	Meta    struct {
		Topic, ID, Key string
		Headers        map[string]string
	}
	Body       *string
	BodyBase64 []byte `json:"body_base64"`
	BodyBytes  int    `json:"body_bytes"`
	Time       time.Time
	Fault      string
}

func dumped(t *testing.T, out string) (frames []record, fields map[string]string) {
	t.Helper()
	fields = map[string]string{}
	for line := range strings.Lines(out) {
		var r record
		decode(t, line, &r)
		if r.What == "frame" {
			frames = append(frames, r)
			continue
		}
		if _, twice := fields[r.Field]; !twice {
			fields[r.Field] = string(r.Value)
		}
	}
	return frames, fields
}

func TestDumpShowsFramesAsTheyLie(t *testing.T) {
	dir := newDir(t)
	must(t, "one\ntwo\n", "put", dir, "--segment-size", "64K", "--batch", "2", "--topic", "eu.orders", "--key", "k", "--header", "a=b")
	must(t, "ab\xc3\n"+strings.Repeat("é", 100)+"\n", "put", dir)
	text := must(t, "", "dump", firstSegment(dir))
	for _, want := range []string{
		"header\n", "magic                  \"walqseg\\n\"\n", "shared words\n", "frames\n",
		"      8192  seq 1  COMMITTED  slot 0  count 2  length ", "  batch  flags 0  ",
		"\n      8216    seq 1  COMMITTED  slot 0  count 1", `  topic="eu.orders"`, ` ok  headers="map[a:b]"  key="k"`, `  "one"`,
		`  "ab\xc3"`, `"... of 200`, "  FREE  the end of what is written\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	frames, fields := dumped(t, must(t, "", "dump", firstSegment(dir), "-o", "json", "--body", "3"))
	if fields["ordinal"] != "1" || fields["magic"] != `"walqseg\n"` || fields["durable"] != `{"segment":0,"offset":0}` {
		t.Errorf("fields: got %v", fields)
	}
	if len(frames) != 6 {
		t.Fatalf("got %d frames, want the batch, two in it, two messages and the end", len(frames))
	}
	batch, one, bytes, long, end := frames[0], frames[1], frames[3], frames[4], frames[5]
	if batch.Offset != 8192 || batch.Kind != "batch" || batch.InBatch || batch.CRC == nil || !*batch.CRC || batch.Body != nil {
		t.Errorf("batch: got %+v", batch)
	}
	if one.Seq != 1 || !one.InBatch || one.Meta.Topic != "eu.orders" || one.Meta.Key != "k" || one.Meta.Headers["a"] != "b" || *one.Body != "one" || time.Since(one.Time) > time.Hour {
		t.Errorf("in the batch: got %+v", one)
	}
	if bytes.Body != nil || string(bytes.BodyBase64) != "ab\xc3" || bytes.BodyBytes != 3 {
		t.Errorf("what is no text: got %+v", bytes)
	}
	if long.Body == nil || *long.Body != "é" || long.BodyBytes != 200 {
		t.Errorf("a limit within a letter: got %+v", long)
	}
	if end.State != "FREE" || end.Seq != 5 || end.CRC != nil {
		t.Errorf("the end: got %+v", end)
	}
	for n, want := range map[string]int{"0": 0, "1": 3, "2": 4, "9": 6} {
		if frames, _ := dumped(t, must(t, "", "dump", firstSegment(dir), "-o", "json", "--frames", n)); len(frames) != want {
			t.Errorf("--frames %s: got %d frames, want %d", n, len(frames), want)
		}
	}
}

func TestDumpShowsTheControlFileOfAQueueInUse(t *testing.T) {
	dir := newDir(t)
	must(t, "x\n", "put", dir)
	follower := start(t, "cat", dir, "-f")
	if _, err := follower.out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	text := must(t, "", "dump", filepath.Join(dir, "walq.ctl"))
	for _, want := range []string{"settings\n", "boot\n", "  counts\n", "participants in use\n", `role "cat"`, "segment 1 offset "} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	_, fields := dumped(t, must(t, "", "dump", filepath.Join(dir, "walq.ctl"), "-o", "json"))
	var who struct {
		Role string
		PID  int
	}
	decode(t, fields["slot 0"], &who)
	if who.Role != "cat" || who.PID != follower.Process.Pid {
		t.Errorf("slot 0: got %+v, want cat and %d", who, follower.Process.Pid)
	}
}

func TestDumpExitsWith3ForACorruptFileAndShowsTheRest(t *testing.T) {
	dir := newDir(t)
	must(t, "first\nsecond\nthird\n", "put", dir, "--segment-size", "64K")
	flip(t, dir, "second")
	for _, o := range []string{"text", "json"} {
		r := call(t, "", "dump", firstSegment(dir), "-o", o)
		if r.code != exitCorrupt || !strings.Contains(r.out, "first") || !strings.Contains(r.out, "third") || !strings.Contains(r.talk, "corrupt at offset 8") {
			t.Errorf("%s: got exit %d, %s\n%s", o, r.code, r.out, r.talk)
		}
		if r := call(t, "", "dump", firstSegment(dir), "-o", o, "--frames", "2"); r.code != exitCorrupt {
			t.Errorf("%s, limited: got exit %d, want %d", o, r.code, exitCorrupt)
		}
	}
	frames, _ := dumped(t, call(t, "", "dump", firstSegment(dir), "-o", "json").out)
	if len(frames) != 4 || *frames[1].CRC || frames[1].Fault == "" || !*frames[2].CRC {
		t.Errorf("got %+v", frames)
	}
}

func TestDumpOfWhatIsNoFileOfAQueueIsASentence(t *testing.T) {
	dir := newDir(t)
	must(t, "x\n", "put", dir)
	for args, want := range map[string]result{
		dir:                               {exitError, "", "a directory, not a file of a walq queue"},
		filepath.Join(dir, "walq.lock"):   {exitError, "", "not a file of a walq queue"},
		filepath.Join(dir, "nothing"):     {exitError, "", "no such file"},
		"":                                {exitUsage, "", "PATH is missing"},
		firstSegment(dir) + " --body -1":  {exitUsage, "", "want 0 or more"},
		firstSegment(dir) + " --frames x": {exitUsage, "", "frames"},
	} {
		r := call(t, "", append([]string{"dump"}, strings.Fields(args)...)...)
		if r.code != want.code || r.out != "" || !strings.Contains(r.talk, want.talk) {
			t.Errorf("dump %s: got exit %d, %q, %q, want exit %d and %q", args, r.code, r.out, r.talk, want.code, want.talk)
		}
	}
	if out := must(t, "", "dump", "--help"); !strings.Contains(out, "Examples:\n  walq dump ") {
		t.Errorf("--help: got %q", out)
	}
}
