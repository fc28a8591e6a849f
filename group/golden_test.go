package group

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/walq/walq/mmap"
)

var update = flag.Bool("update", false, "write testdata anew")

var (
	goldenSettings = Settings{
		Lease: 30 * time.Second, MaxDeliver: 5, MaxDeaths: 3, MayLose: true,
		BackOff: []time.Duration{time.Second, time.Minute}, DeadLetter: "/var/lib/dead",
	}
	goldenBase  = Base{Seq: 1000, Epoch: 2, Boot: [16]byte{0: 0xb0, 15: 0x07}}
	goldenOwner = Owner{Slot: 3, Incarnation: 0x1ff}
)

// goldenFile makes the file that the golden one holds: a ring of eight entries in its
// second base, with something in each state, and a checkpoint of each.
func goldenFile(t *testing.T) []byte {
	t.Helper()
	at := t.TempDir()
	dir, err := mmap.OpenDir(at)
	must(t, err)
	defer dir.Close()
	id := goldenIdentity()
	id.Entries = 8
	must(t, Create(dir, "g", "tmp", 0o600, id, Settings{Lease: time.Second}, goldenBase))
	g, err := Open(dir, "g", false)
	must(t, err)
	must(t, g.SetSettings(goldenSettings))
	claimTo(t, g, 6, 0, 1, 3)
	must(t, g.Rebase(func(Before) (Base, bool, error) {
		b := goldenBase
		b.Epoch, b.Seq = 3, 1004
		return b, true, nil
	}, func(b Base, finished map[uint64]bool) (marks []Mark, err error) {
		for _, seq := range slices.Sorted(maps.Keys(finished)) {
			if seq >= b.Seq {
				marks = append(marks, Mark{int(seq-b.Seq) / 2, seq})
			}
		}
		return marks, nil
	}))
	claimTo(t, g, 7, 0)
	must(t, g.Close())
	p, err := os.ReadFile(filepath.Join(at, "g.grp"))
	must(t, err)
	return p
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// claimTo claims so many ordinals, each second number being a message of the group, and
// finishes some of them; one is sent back, and one for a time. Then it writes a checkpoint.
func claimTo(t *testing.T, g *File, count int, finish ...int) {
	t.Helper()
	ring, ok, err := g.Ring()
	must(t, err)
	if !ok {
		t.Fatal("the ring does not count")
	}
	for i := range count {
		n, seq := ring.Base.Ordinal+uint64(i), ring.Base.Seq+2*uint64(i)
		l, out := ring.Claim(n, seq, goldenOwner, 90_000+int64(i))
		if out == Taken {
			continue
		}
		if out != Claimed {
			t.Fatalf("ordinal %d: %v", n, out)
		}
		switch {
		case slices.Contains(finish, i):
			ring.Finish(&l)
		case i == 4:
			ring.SendBack(&l, 0)
		case i == 5:
			ring.SendBack(&l, 1_700_000_000_123)
		}
	}
	ring.Advance()
	_, seq, _ := ring.Start()
	ring.Pass(seq)
	must(t, g.Checkpoint(ring, seq, time.Second))
}

func TestTheGoldenGroupIsMadeAgainByteForByte(t *testing.T) {
	got, path := goldenFile(t), filepath.Join("testdata", "v1.grp.hex")
	if *update {
		must(t, os.WriteFile(path, dump(got), 0o644))
	}
	want := golden(t)
	if len(got) != len(want) {
		t.Fatalf("got %d bytes, want %d", len(got), len(want))
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("at offset %d: got %02x, want %02x; a change of the format needs a new golden file beside this one", i, got[i], want[i])
		}
	}
}

func TestTheGoldenGroupIsReadFieldByField(t *testing.T) {
	p := golden(t)
	at := t.TempDir()
	must(t, os.WriteFile(filepath.Join(at, "g.grp"), p, 0o600))
	dir, err := mmap.OpenDir(at)
	must(t, err)
	defer dir.Close()
	g, err := Open(dir, "g", true)
	must(t, err)
	defer g.Close()
	id := goldenIdentity()
	id.Entries = 8
	if g.Identity != id {
		t.Errorf("identity: got %+v, want %+v", g.Identity, id)
	}
	if s, err := g.Settings(); err != nil || fmt.Sprint(s) != fmt.Sprint(goldenSettings) {
		t.Errorf("settings: got %+v (%v), want %+v", s, err, goldenSettings)
	}
	was, err := g.Before()
	must(t, err)
	base := Base{Generation: 2, Ordinal: 32, Seq: 1004, Epoch: 3, Boot: goldenBase.Boot}
	if was.Base != base || was.From != 1007 || fmt.Sprint(slices.Sorted(maps.Keys(was.Finished))) != "[1004 1006]" {
		t.Errorf("got base %+v, all before %d and %v finished, want %+v, 1007, [1004 1006]", was.Base, was.From, was.Finished, base)
	}
	ring, ok, err := g.Ring()
	must(t, err)
	if n, seq, fine := ring.Start(); !ok || !fine || n != 34 || seq != 1007 {
		t.Errorf("the floor is ordinal %d, message %d (%v, %v), want 34, 1007", n, seq, ok, fine)
	}
	for i, want := range []string{
		"FINISHED lap 4 slot 0, delivered 0 times, 0 deaths; 1004",
		"FINISHED lap 4 slot 0, delivered 0 times, 0 deaths; 1006",
		"LEASED lap 4 slot 3, delivered 1 times, 0 deaths; 1008; 90002",
		"LEASED lap 4 slot 3, delivered 1 times, 0 deaths; 1010; 90003",
		"READY lap 4 slot 0, delivered 1 times, 0 deaths; 1012; 90004",
		"WAITING lap 4 slot 0, delivered 1 times, 0 deaths; 1014; 1700000000123",
		"LEASED lap 4 slot 3, delivered 1 times, 0 deaths; 1016; 90006",
		"FINISHED lap 3 slot 0, delivered 0 times, 0 deaths; 1000",
	} {
		look, _ := ring.Look(32 + uint64(i))
		got := fmt.Sprintf("%v; %d", look.Word, ring.Base.Seq+ring.at(uint64(i), entrySeq).Load()&maxDistance)
		if look.Word.State() != Finished {
			got += fmt.Sprintf("; %d", look.Ends)
		}
		if got != want && i < 7 || i == 7 && !strings.HasPrefix(got, "FINISHED lap 3 ") {
			t.Errorf("entry %d: got %s\nwant %s", i, got, want)
		}
	}
}

// What the golden records say is written again as it stands there.
func TestTheGoldenRecordsAreWrittenAgain(t *testing.T) {
	p := golden(t)
	same := func(what string, at, n int, encode func(rec []byte) error) {
		t.Helper()
		rec := make([]byte, n)
		if err := encode(rec); err != nil || !bytes.Equal(rec, p[at:at+n]) {
			t.Errorf("%s: got %x (%v)\nwant %x", what, rec, err, p[at:at+n])
		}
	}
	same("identity", 0, identityBytes, func(rec []byte) error {
		id, err := decodeIdentity(p[:identityBytes])
		encodeIdentity(rec, id)
		return err
	})
	for i := range 2 {
		at := grpSettings + i*settingsSpacing
		same("settings", at, settingsBytes, func(rec []byte) error {
			s, err := decodeSettings(p[at : at+settingsBytes])
			encodeSettings(rec, binary.LittleEndian.Uint64(p[at:]), s)
			return err
		})
		at = grpBase + i*recordSpacing
		same("base", at, recordBytes, func(rec []byte) error {
			encodeBase(rec, decodeBase(p[at:at+recordBytes]))
			return nil
		})
		at = grpCheckpoint + i*recordSpacing
		same("checkpoint", at, recordBytes, func(rec []byte) error {
			seq, base := decodeCheckpoint(p[at : at+recordBytes])
			encodeCheckpoint(rec, binary.LittleEndian.Uint64(p[at:]), seq, base)
			return nil
		})
	}
}

// dump writes the lines of 16 bytes that are not all zero.
func dump(p []byte) []byte {
	b := fmt.Appendf(nil, "size %d\n", len(p))
	for at := 0; at < len(p); at += 16 {
		if line := p[at : at+16]; !bytes.Equal(line, make([]byte, 16)) {
			b = fmt.Appendf(b, "%08x %x\n", at, line)
		}
	}
	return b
}

func golden(t *testing.T) (p []byte) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "v1.grp.hex"))
	must(t, err)
	for line := range strings.Lines(string(text)) {
		at, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		if at == "size" {
			n, err := strconv.Atoi(rest)
			must(t, err)
			p = make([]byte, n)
			continue
		}
		off, err := strconv.ParseInt(at, 16, 64)
		must(t, err)
		line, err := hex.DecodeString(rest)
		must(t, err)
		copy(p[off:], line)
	}
	return p
}
