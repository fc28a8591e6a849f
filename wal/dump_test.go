package wal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/walq/walq/internal/testx"
	"github.com/walq/walq/segment"
)

// A view is what Dump told of a file.
type view struct {
	values map[string]string // of the fields, by area, record and name
	frames []segment.Laid
	faults []error
	err    error
}

func viewOf(path string) *view {
	v := &view{values: map[string]string{}}
	record := ""
	v.err = Dump(path, Viewer{
		Field: func(f segment.Field) error {
			if name, ok := strings.CutPrefix(f.Name, "record "); ok {
				record = " " + name
				f.Name = "is"
			} else if f.What != "settings" && f.What != "boot" {
				record = ""
			}
			v.values[f.What+record+": "+f.Name] = fmt.Sprint(f.Value)
			return nil
		},
		Frame: func(l segment.Laid) error { v.frames = append(v.frames, l); return nil },
		Fault: func(err error) { v.faults = append(v.faults, err) },
	})
	return v
}

// want fails unless the dump shows these values.
func (v *view) want(t *testing.T, want map[string]string) {
	t.Helper()
	for name, value := range want {
		if got, ok := v.values[name]; got != value {
			t.Errorf("%s: got %q (shown: %v), want %q", name, got, ok, value)
		}
	}
}

// writeFile puts a file somewhere.
func writeFile(t *testing.T, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestADumpShowsTheGoldenControlFile(t *testing.T) {
	v := viewOf(writeFile(t, readGoldenControl(t)))
	if v.err != nil || len(v.faults) != 0 {
		t.Fatalf("got %v, %v", v.err, v.faults)
	}
	v.want(t, map[string]string{
		"header: magic": controlMagic, "header: version": "1", "header: checksum algorithm": "1",
		"header: queue": "00112233-4455-4677-8899-aabbccddeeff", "header: slots": "1024",
		"header: created": "2023-11-14 22:13:20 +0000 UTC",
		"settings A: is":  "counts", "settings A: generation": "1", "settings A: segment size": "1048576",
		"settings A: max bytes": "8589934592", "settings A: max age": "1h0m0s", "settings A: durability": "interval",
		"settings A: group access": "true", "settings B: is": "never written",
		"boot A: is": "counts", "boot A: boot id": "b0000000-0000-0000-0000-000000000001", "boot A: epoch": "5",
		"boot A: clean": "true", "boot B: is": "never written",
		"shared: durable": "segment 7 offset 8192", "shared: durable sequence": "1000",
		"shared: settled": "segment 7 offset 8192", "shared: oldest": "1000", "shared: poison": "0",
		"shared: intent owner": "nobody", "shared: intent end": "segment 0 offset 0", "shared: gather": "nobody",
	})
	for name := range v.values {
		if strings.HasPrefix(name, "participant") {
			t.Errorf("%s is shown: nobody is there", name)
		}
	}
}

func TestADumpShowsWhoIsThereAndWhyTheQueueIsPoisoned(t *testing.T) {
	dir := newQueue(t)
	l := create(t, dir, Options{Role: "dumped"})
	appendDurable(t, l, "x")
	l.ctl.poison(l.slot, errors.New("the disk is on fire"))
	l.ctl.word(ctlIntentOwner).Store(standingIntent)
	l.ctl.word(ctlGather).Store(l.tag())
	crash(t, l)
	v := viewOf(filepath.Join(dir, controlName))
	if v.err != nil || len(v.faults) != 0 {
		t.Errorf("got %v, %v", v.err, v.faults)
	}
	v.want(t, map[string]string{
		"shared: poison": "2", "shared: poison reason": "the disk is on fire", "shared: poison slot": "0", "shared: poison length": "19",
		"shared: intent owner": "standing: a syncer that nobody knows", "shared: gather": "slot 0, incarnation 1",
		"shared: durable": fmt.Sprint(makePosition(1, 8192+32)),
		"boot B: is":      "counts", "boot A: is": "valid, older",
	})
	if who := v.values["participant: slot 0"]; !strings.Contains(who, fmt.Sprintf("pid %d,", os.Getpid())) || !strings.Contains(who, `role "dumped"`) {
		t.Errorf("the participant: got %q", who)
	}
}

func TestADumpOfADamagedControlFileShowsTheRest(t *testing.T) {
	change := func(f func(p []byte)) string {
		p := readGoldenControl(t)
		f(p)
		return writeFile(t, p)
	}
	for _, c := range []struct {
		what  string
		path  string
		fault string // empty: none
		off   int64  // of the fault
		shown string // a field that is shown all the same
	}{
		{"a bit of the identity", change(func(p []byte) { p[ctlQueue] ^= 1 }), "checksum of the identity", 0, "shared: durable"},
		{"a bit of the settings", change(func(p []byte) { p[ctlSettings+setMaxAge] ^= 1 }), "settings: neither", ctlSettings, "settings A: segment size"},
		{"a bit of the boot record", change(func(p []byte) { p[ctlBoot+bootEpoch] ^= 1 }), "boot: neither", ctlBoot, "boot B: epoch"},
		{"settings that cannot be", change(func(p []byte) {
			encodeSettings(p[ctlSettings:ctlSettings+recordBytes], 1, Settings{SegmentSize: 5, Durability: SyncAlways})
		}), "segment size 5", ctlSettings, "settings A: durability"},
		{"a torn record beside one that counts", change(func(p []byte) { p[ctlBoot+recordSpacing] = 9 }), "", 0, "boot A: epoch"},
		{"a file that is cut short", writeFile(t, readGoldenControl(t)[:8200]), "8200 bytes, want 81920", 8200, "shared: durable"},
		{"a file of the magic alone", writeFile(t, readGoldenControl(t)[:8]), "8 bytes, want 81920", 8, "header: magic"},
		{"a file that is too long", writeFile(t, append(readGoldenControl(t), 0)), "81921 bytes", 81921, "shared: oldest"},
	} {
		v := viewOf(c.path)
		_, shown := v.values[c.shown]
		if !shown {
			t.Errorf("%s: %s is not shown", c.what, c.shown)
		}
		if c.fault == "" {
			if v.err != nil || len(v.faults) != 0 {
				t.Errorf("%s: got %v, %v, want no fault", c.what, v.err, v.faults)
			}
			continue
		}
		var fault *CorruptError
		if len(v.faults) != 1 || !errors.As(v.faults[0], &fault) || !strings.Contains(fault.Reason, c.fault) || fault.Offset != c.off || !errors.Is(v.err, ErrCorrupt) {
			t.Errorf("%s: got %v, faults %v, want one of %q at %d", c.what, v.err, v.faults, c.fault, c.off)
		}
	}
	v := viewOf(change(func(p []byte) { p[ctlVersion] = controlVersion + 1 }))
	if !errors.Is(v.err, ErrVersion) || errors.Is(v.err, ErrCorrupt) || v.values["header: version"] != "2" {
		t.Errorf("a newer version: got %v, shown as %q", v.err, v.values["header: version"])
	}
}

func TestADumpOfASegmentShowsEveryMessage(t *testing.T) {
	dir := newQueue(t)
	l := create(t, dir, Options{Durability: SyncNever})
	bodies := map[uint64]string{}
	for i := 0; tailOf(t, l).Ordinal < 3; i++ {
		body := fmt.Sprint(i, strings.Repeat("b", 100*(i%50)))
		bodies[appendText(t, l, body).Seq] = body
	}
	held, err := l.ClaimInPlace(nil, 100)
	if err != nil {
		t.Fatal(err)
	}
	held.Abort()
	closeLog(t, l)
	last := segment.Laid{}
	for n := range 3 {
		v := viewOf(segmentFile(t, dir, n))
		if v.err != nil || len(v.faults) != 0 {
			t.Fatalf("segment %d: got %v, %v", n, v.err, v.faults)
		}
		v.want(t, map[string]string{"header: ordinal": fmt.Sprint(n + 1), "shared: allocated": fmt.Sprint(small.SegmentSize)})
		for _, f := range v.frames {
			if last = f; f.Filled && bodies[f.Seq] == string(f.Body) && f.CRCMatches {
				delete(bodies, f.Seq)
			}
		}
		if n < 2 && last.Word.State() != segment.Seal {
			t.Errorf("segment %d ends with %v, want SEAL", n, last.Word)
		}
	}
	if len(bodies) != 0 || last.Word != 0 {
		t.Errorf("%d messages are not shown; the last is followed by %v, want FREE", len(bodies), last.Word)
	}
}

func TestADumpOfADamagedSegmentShowsTheRest(t *testing.T) {
	dir := newQueue(t)
	l := create(t, dir, Options{Durability: SyncNever})
	for range 10 {
		appendText(t, l, "0123456789abcdef") // frames of 40 bytes from 8192 on
	}
	closeLog(t, l)
	path := segmentFile(t, dir, 0)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what   string
		change func(p []byte) []byte
		off    int64
		frames int
	}{
		{"a bit of a body", func(p []byte) []byte { p[8192+40+30] ^= 1; return p }, 8192 + 40, 11},
		{"a bit of a word", func(p []byte) []byte { p[8192+80] ^= 1; return p }, 8192 + 80, 3},
		{"cut short within a frame", func(p []byte) []byte { return p[:8192+130] }, 4224, 4},
		{"a bit of the header", func(p []byte) []byte { p[100] ^= 1; return p }, 0, 0},
		{"cut short within the header", func(p []byte) []byte { return p[:100] }, 0, 0},
	} {
		v := viewOf(writeFile(t, c.change(append([]byte(nil), whole...))))
		var fault *CorruptError
		if len(v.faults) == 0 || !errors.As(v.faults[0], &fault) || fault.Offset != c.off || !errors.Is(v.err, ErrCorrupt) {
			t.Errorf("%s: got %v, faults %v, want one at %d", c.what, v.err, v.faults, c.off)
		}
		if len(v.frames) != c.frames || v.values["header: ordinal"] != "1" {
			t.Errorf("%s: got %d frames, ordinal %q, want %d, 1", c.what, len(v.frames), v.values["header: ordinal"], c.frames)
		}
	}
	t.Run("longer than any segment", func(t *testing.T) {
		path := writeFile(t, whole)
		if err := os.Truncate(path, 1<<40); err != nil { // a hole: it takes no room
			testx.Skip(t, err.Error())
		}
		if v := viewOf(path); len(v.faults) != 1 || !errors.Is(v.err, ErrCorrupt) || v.values["header: ordinal"] != "1" {
			t.Errorf("got %v, %v", v.err, v.faults)
		}
	})
}

func TestWhatIsNoFileOfAQueueIsNotDumped(t *testing.T) {
	dir := newQueue(t)
	closeLog(t, create(t, dir, Options{}))
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(filepath.Join(dir, controlName), link); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]error{
		dir:                                    ErrNotFile,
		filepath.Join(dir, lockName):           ErrNotFile,
		writeFile(t, nil):                      ErrNotFile,
		writeFile(t, []byte("walq")):           ErrNotFile,
		writeFile(t, make([]byte, 100_000)):    ErrNotFile,
		filepath.Join(dir, "nothing"):          fs.ErrNotExist,
		filepath.Join(dir, "nothing", "there"): fs.ErrNotExist,
		link:                                   ErrSymlink,
	} {
		if v := viewOf(path); !errors.Is(v.err, want) || len(v.values)+len(v.faults) != 0 {
			t.Errorf("%s: got %v, %d fields, want %v", path, v.err, len(v.values), want)
		}
	}
}

func TestAViewerEndsADump(t *testing.T) {
	dir := newQueue(t)
	l := create(t, dir, Options{})
	appendText(t, l, "x")
	closeLog(t, l)
	enough := errors.New("enough")
	for path, v := range map[string]Viewer{
		filepath.Join(dir, controlName): {Field: func(segment.Field) error { return enough }},
		segmentFile(t, dir, 0): {
			Field: func(segment.Field) error { return nil },
			Frame: func(segment.Laid) error { return enough },
		},
	} {
		if err := Dump(path, v); !errors.Is(err, enough) {
			t.Errorf("%s: got %v, want the viewer's error", path, err)
		}
	}
}
