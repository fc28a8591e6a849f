package group

import (
	"bytes"
	"encoding/binary"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/walq/walq/internal/crc32c"
	"github.com/walq/walq/mmap"
)

func TestMendSaysWhatWasWrongAndNothingIsLost(t *testing.T) {
	entry := func(i, field int) int { return grpRing + i*entryBytes + field }
	for _, c := range []struct {
		name   string
		damage func([]byte) []byte
		reason string
		offset int64
		from   uint64 // below which all counts as finished afterwards
		kept   []uint64
	}{
		{"the newer settings", wipe(grpSettings+settingsSpacing+5, 1), "a record of the settings is damaged", grpSettings + settingsSpacing, 20, []uint64{23, 24}},
		{"all settings", both(wipe(grpSettings, 9), wipe(grpSettings+settingsSpacing, 9)), "neither record of the settings is valid", grpSettings, 20, []uint64{23, 24}},
		{"the checkpoint", wipe(grpCheckpoint+9, 1), "a record of a checkpoint is damaged", grpCheckpoint, 20, []uint64{23, 24}},
		{"the older base", wipe(grpBase+9, 1), "a record of a base is damaged", grpBase, 20, []uint64{23, 24}},
		{"the base in force", wipe(grpBase+recordSpacing+9, 1), "the record of the base in force is damaged", grpBase + recordSpacing, 18, nil},
		{"both bases", both(wipe(grpBase, 64), wipe(grpBase+recordSpacing, 64)), "the record of the base in force is damaged", grpBase, 18, nil},
		{"the generation", put(grpGeneration, 77), "the base in force is said to be that of generation 77, of which there is no record", grpGeneration, 20, []uint64{23, 24}},
		{"the floor is low", put(grpFloor, 3), "the floor is at 3 of a base that begins at 32, and does not go with the entry before it", grpFloor, 20, []uint64{23, 24}},
		{"the floor is high", put(grpFloor, 1<<63), "the floor is at 9223372036854775808 of a base that begins at 32, and does not go with the entry before it", grpFloor, 20, []uint64{23, 24}},
		{"the floor is far away, at the same laps", put(grpFloor, 39|1<<60), "the floor is at 1152921504606847015 of a base that begins at 32, and does not go with the entry before it", grpFloor, 20, []uint64{23, 24}},
		{"passed is behind the log", put(grpPassed, 2<<passedBits|1<<30), "everything before message 1073741837 is said to be finished, and the log ends at 100", grpPassed, 20, []uint64{23, 24}},
		{"passed is of no base", put(grpPassed, 9<<passedBits), "what was passed is of a base of generation 9, not 2, modulo 2^16", grpPassed, 20, []uint64{23, 24}},
		{"a state", put(entry(0, entryWord), 6), "entry 0: a state of 6", int64(entry(0, 0)), 20, []uint64{23, 24}},
		{"finished with more", put(entry(2, entryWord), 5<<lapShift|1<<deliveriesShift), "entry 2: it is finished, and says more than its lap: 0x50000002000", int64(entry(2, 0)), 20, []uint64{24}},
		{"ready with an owner", put(entry(0, entryWord), 5<<lapShift|1<<slotShift|2), "entry 0: it is READY, and has an owner: 0x5000000000a", int64(entry(0, 0)), 20, []uint64{23, 24}},
		{"a lap", put(entry(2, entryWord), 6<<lapShift), "entry 2: lap 6, want 5", int64(entry(2, 0)), 20, []uint64{24}},
		{"whose message is not known", put(entry(2, entrySeq), 4<<distBits|2), "entry 2: it is finished, and says not which message it was", int64(entry(2, 0)), 20, []uint64{24}},
		{"messages out of order", put(entry(2, entrySeq), 5<<distBits|80), "entry 2: its message is not before that of the next one", int64(entry(2, 0)), 20, nil},
		{"a message behind the log", put(entry(3, entrySeq), 5<<distBits|800), "entry 3: its message is 813, and the log ends at 100", int64(entry(3, 0)), 20, []uint64{23}},
		{"one bit of the identity", func(b []byte) []byte { b[70] ^= 4; return b }, "one bit of the identity is wrong, and the checksum proves which", 70, 20, []uint64{23, 24}},
		{"its end is missing", func(b []byte) []byte { return b[:entry(3, 0)] }, "it has 12384 bytes, want 12544", int64(entry(3, 0)), 20, []uint64{23}},
		{"more behind its end", func(b []byte) []byte { return append(b, 1, 2, 3) }, "it has 12547 bytes, want 12544", FileBytes(8), 20, []uint64{23, 24}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPatient(t)
			damaged := c.damage(p.content())
			p.write(damaged)
			x := p.inspect(scene)
			if len(x.Findings) == 0 || x.Findings[0].Reason != c.reason || x.Findings[0].Offset != c.offset || x.Findings[0].Means == "" || x.Findings[0].Path != p.path {
				t.Fatalf("found %+v, want %q at %d first", x.Findings, c.reason, c.offset)
			}
			dry, err := Mend(p.path, scene, lostSettings, true)
			if err != nil || !slices.Equal(dry.Done, x.Findings) || dry.Kept != p.path+".bad" {
				t.Fatalf("dry: %+v, %v", dry, err)
			}
			if b := p.content(); !bytes.Equal(b, damaged) {
				t.Fatal("the dry run changed the file")
			}
			m, err := Mend(p.path, scene, lostSettings, false)
			if err != nil || !slices.Equal(m.Done, x.Findings) || m.Kept != dry.Kept || len(m.Left) != 0 {
				t.Fatalf("%+v, %v", m, err)
			}
			if b, err := os.ReadFile(m.Kept); err != nil || !bytes.Equal(b, damaged) {
				t.Errorf("the damaged file is not kept: %v", err)
			}
			if info, err := os.Stat(p.path); err != nil || info.Mode() != 0o640 {
				t.Errorf("the mended file: %v, %v", info, err)
			}
			was, ok := p.before()
			if kept := slices.Sorted(maps.Keys(was.Finished)); !ok || was.From != c.from || !slices.Equal(slices.DeleteFunc(kept, func(seq uint64) bool { return seq < was.From }), c.kept) {
				t.Errorf("finished: below %d and %v, want below %d and %v", was.From, kept, c.from, c.kept)
			}
			if again, err := Mend(p.path, scene, lostSettings, false); err != nil || len(again.Done)+len(again.Left) != 0 || again.Kept != "" {
				t.Errorf("once more: %+v, %v", again, err)
			}
			use(t, filepath.Dir(p.path))
		})
	}
}

func TestARingThatIsMadeAnewKeepsWhatIsNotOfTheRing(t *testing.T) {
	p := newPatient(t)
	if _, err := p.f.MakeDelays("tmp", 0o600); err != nil {
		t.Fatal(err)
	}
	b := p.content()
	b = both(wipe(grpBase+recordSpacing+9, 1), put(grpPaused, 1))(b)
	p.write(b)
	if m, err := Mend(p.path, scene, lostSettings, false); err != nil || len(m.Done) != 1 {
		t.Fatalf("%+v, %v", m, err)
	}
	now := p.content()
	for name, at := range map[string]int{"finished": grpFinished, "paused": grpPaused, "delays": grpDelays} {
		if !bytes.Equal(now[at:at+8], b[at:at+8]) {
			t.Errorf("%s: got %x, want %x", name, now[at:at+8], b[at:at+8])
		}
	}
	if bytes.Equal(now[grpFloor:grpFloor+8], b[grpFloor:grpFloor+8]) {
		t.Error("the floor is as it was")
	}
}

func TestAGroupIsHeldAgainstItsDelayFile(t *testing.T) {
	for _, c := range []struct {
		name    string
		file    bool // there is one
		touched bool // and something was in it
		mark    uint64
		reason  string // empty: nothing is wrong
		mended  uint64
	}{
		{"a file", true, true, 1, "", 1},
		{"none", false, false, 0, "", 0},
		{"whoever made it died before he said so", true, false, 0, "", 0},
		{"it is forgotten", true, true, 0, "it is said to have no delayed messages, and there is a file of them", 1},
		{"it is missing", false, false, 1, "the file of its delayed messages is missing", 0},
		{"another number", true, true, 3, "the mark of the delay file is 3, want 0 or 1", 1},
		{"another number, and no file", false, false, 2, "the mark of the delay file is 2, want 0 or 1", 0},
	} {
		p := newPatient(t)
		if _, err := p.f.MakeDelays("tmp", 0o600); err != nil {
			t.Fatal(err)
		}
		p.write(put(grpDelays, c.mark)(p.content()))
		delays := filepath.Join(filepath.Dir(p.path), DelayFileName("g"))
		if !c.file {
			if err := os.Remove(delays); err != nil {
				t.Fatal(err)
			}
		} else if c.touched {
			b, err := os.ReadFile(delays)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(delays, wipe(len(b)-9, 1)(b), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if x := p.inspect(scene); (len(x.Findings) == 0) != (c.reason == "") || len(x.Findings) > 0 && (x.Findings[0].Reason != c.reason || x.Findings[0].Offset != grpDelays) {
			t.Errorf("%s: found %+v, want %q", c.name, x.Findings, c.reason)
		}
		if _, err := Mend(p.path, scene, lostSettings, false); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if now := binary.LittleEndian.Uint64(p.content()[grpDelays:]); now != c.mended {
			t.Errorf("%s: after mending the mark is %d, want %d", c.name, now, c.mended)
		}
	}
}

func TestSettingsThatAreLostAreThoseGiven(t *testing.T) {
	p := newPatient(t)
	for _, c := range []struct {
		damage func([]byte) []byte
		want   time.Duration
	}{
		{wipe(grpSettings, 1), 2 * time.Minute}, // the older
		{wipe(grpSettings+settingsSpacing, 1), time.Minute},
		{both(wipe(grpSettings, 1), wipe(grpSettings+settingsSpacing, 1)), lostSettings.Lease},
	} {
		p := newPatient(t)
		p.write(c.damage(p.content()))
		if _, err := Mend(p.path, scene, lostSettings, false); err != nil {
			t.Fatal(err)
		}
		dir, err := mmap.OpenDir(filepath.Dir(p.path))
		if err != nil {
			t.Fatal(err)
		}
		f, err := Open(dir, "g", false)
		if err != nil {
			t.Fatal(err)
		}
		if s, err := f.Settings(); err != nil || s.Lease != c.want {
			t.Errorf("%+v, %v, want a lease of %v", s, err, c.want)
		}
		if err := errors.Join(f.Close(), dir.Close()); err != nil {
			t.Fatal(err)
		}
	}
	p.leave()
}

func TestWhatCannotBeMendedStaysAsItIs(t *testing.T) {
	for name, damage := range map[string]func([]byte) []byte{
		"identity":                        wipe(70, 2),
		"another queue":                   func(b []byte) []byte { b[grpQueue] = 1; putSum(b); return b },
		"the base without its checkpoint": both(wipe(grpBase+recordSpacing, 9), wipe(grpCheckpoint, 9)),
		"a bit of the settings too":       both(wipe(70, 2), wipe(grpSettings, 1)),
		"nearly all":                      func(b []byte) []byte { return b[:grpSettings-1] },
		"empty":                           func(b []byte) []byte { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			p := newPatient(t)
			damaged := damage(p.content())
			p.write(damaged)
			m, err := Mend(p.path, scene, lostSettings, false)
			if err != nil || len(m.Left) == 0 || len(m.Done) != 0 || m.Kept != "" {
				t.Fatalf("%+v, %v", m, err)
			}
			if !slices.ContainsFunc(m.Left, func(f Finding) bool { return strings.Contains(f.Means, "walq group rm") }) {
				t.Errorf("nothing says what to do: %+v", m.Left)
			}
			if b := p.content(); !bytes.Equal(b, damaged) {
				t.Error("it was changed")
			}
			if names, err := filepath.Glob(filepath.Dir(p.path) + "/*"); err != nil || len(names) != 1 {
				t.Errorf("there are %v, %v", names, err)
			}
		})
	}
}

func putSum(b []byte) {
	binary.LittleEndian.PutUint32(b[grpChecksum:], crc32c.Update(0, b[:grpChecksum]))
}

func TestAGroupOfANewerVersionIsNotCalledDamaged(t *testing.T) {
	p := newPatient(t)
	b := p.content()
	b[grpVersion] = 9
	putSum(b)
	p.write(b)
	if _, err := Inspect(p.path, scene); !errors.Is(err, ErrVersion) {
		t.Errorf("got %v", err)
	}
	if _, err := Mend(p.path, scene, lostSettings, false); !errors.Is(err, ErrVersion) {
		t.Errorf("got %v", err)
	}
	b[grpVersion] = 9 // and nothing vouches for it
	b[grpChecksum]++
	p.write(b)
	if x, err := Inspect(p.path, scene); err != nil || len(x.Findings) == 0 {
		t.Errorf("got %+v, %v", x.Findings, err)
	}
}

func TestWhatAPowerLossTearsIsNoDamage(t *testing.T) {
	p := newPatient(t)
	b := p.content()
	b = both(both(wipe(grpSettings+3, 2), wipe(grpBase+3, 2)), wipe(grpCheckpoint+recordSpacing, 3))(b)
	p.write(b)
	if x := p.inspect(Scene{Queue: scene.Queue, Boot: [16]byte{8}, Epoch: scene.Epoch, PowerLoss: true}); len(x.Findings) != 0 {
		t.Errorf("found %+v", x.Findings)
	}
	if x := p.inspect(scene); len(x.Findings) != 3 {
		t.Errorf("without a power loss: found %+v", x.Findings)
	}
}

func TestEachMendKeepsWhatWasThere(t *testing.T) {
	p := newPatient(t)
	content := p.content()
	for i, want := range []string{".bad", ".bad2", ".bad3"} {
		p.write(wipe(grpCheckpoint, i+1)(bytes.Clone(content)))
		m, err := Mend(p.path, scene, lostSettings, false)
		if err != nil || m.Kept != p.path+want {
			t.Fatalf("%+v, %v, want %s", m, err, want)
		}
	}
}

func TestWithoutTheRecordOfItsBaseARingIsNotReadByAnOlderOne(t *testing.T) {
	p := newPatient(t)
	p.write(wipe(grpBase+recordSpacing+9, 1)(p.content()))
	dir, err := mmap.OpenDir(filepath.Dir(p.path))
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	f, err := Open(dir, "g", false)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	bad := new(CorruptError)
	if _, _, err := f.Ring(); !errors.As(err, &bad) {
		t.Errorf("Ring: got %v", err)
	}
	if was, err := f.Before(); !errors.As(err, &bad) {
		t.Errorf("Before: got %+v, %v", was, err)
	}
	err = f.Rebase(func(Before) (Base, bool, error) { t.Error("a base was chosen"); return Base{}, true, nil }, nil)
	if !errors.As(err, &bad) {
		t.Errorf("Rebase: got %v", err)
	}
}

// FuzzInspectGroup: whatever a group's file holds, Inspect ends and changes nothing, and
// what Mend calls mended is found sound, and serves consumers.
func FuzzInspectGroup(f *testing.F) {
	f.Add([]byte{}, uint16(0), true)
	for _, at := range []int{grpMagic, grpVersion, grpQueue, grpTopicLength, grpSettings + 9, grpBase + 9, grpBase + recordSpacing + 9, grpCheckpoint + 9, grpFloor, grpPassed + 5, grpGeneration, grpRing, grpRing + 8, grpRing + 70} {
		f.Add([]byte{byte(at), byte(at >> 8), 0x41}, uint16(0), false)
		f.Add([]byte{byte(at), byte(at >> 8), 0x41, byte(at + 2), byte(at >> 8), 0xff}, uint16(0), true)
	}
	f.Add([]byte{}, uint16(9000), true)
	p := newPatient(f)
	content := p.content()
	f.Fuzz(func(t *testing.T, edits []byte, cut uint16, seals bool) {
		p.t = t
		b := bytes.Clone(content)
		for ; len(edits) >= 3 && len(edits) < 300; edits = edits[3:] {
			b[(int(edits[0])|int(edits[1])<<8)%len(b)] ^= edits[2]
		}
		if seals { // as who knows how would
			putSum(b)
			for _, r := range [][2]int{{grpSettings, settingsBytes}, {grpSettings + settingsSpacing, settingsBytes}, {grpBase, recordBytes}, {grpBase + recordSpacing, recordBytes}, {grpCheckpoint, recordBytes}} {
				end := r[0] + r[1] - 4
				binary.LittleEndian.PutUint32(b[end:], crc32c.Update(0, b[r[0]:end]))
			}
		}
		b = b[:max(len(b)-int(cut), 0)]
		p.write(b)
		x, err := Inspect(p.path, scene)
		if err != nil && !errors.Is(err, ErrVersion) {
			t.Fatal(err)
		}
		if now := p.content(); !bytes.Equal(now, b) {
			t.Fatal("it was changed")
		}
		if len(x.Findings) > 3*mostEntries {
			t.Fatalf("%d findings", len(x.Findings))
		}
		m, err := Mend(p.path, scene, lostSettings, false)
		if err != nil && !errors.Is(err, ErrVersion) {
			t.Fatal(err)
		}
		if m.Kept != "" {
			if err := os.Remove(m.Kept); err != nil {
				t.Fatal(err)
			}
		}
		if len(m.Left) == 0 && err == nil {
			if x := p.inspect(scene); len(x.Findings) > 0 {
				t.Fatalf("still there: %+v", x.Findings)
			}
			use(t, filepath.Dir(p.path))
		}
	})
}
