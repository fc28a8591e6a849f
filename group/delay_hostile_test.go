package group

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/walq/walq/internal/crc32c"
	"github.com/walq/walq/internal/testx"
	"github.com/walq/walq/mmap"
)

// delayImage is a group with a delay file that has a message in each state, and the
// delay file's content.
func delayImage(t testing.TB) (path string, content []byte) {
	t.Helper()
	smallDelays(t, 2)
	path, _ = image(t)
	dir, err := mmap.OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	f, err := Open(dir, "g", false)
	if err != nil {
		t.Fatal(err)
	}
	ring, _, err := f.Ring()
	if err != nil {
		t.Fatal(err)
	}
	d, err := f.MakeDelays("tmp", 0o600)
	if err != nil {
		t.Fatal(err)
	}
	o := Owner{1, 1}
	now := f.Created/1e6 + 1000
	for i := range uint64(4) {
		l, _ := ring.Claim(8+i, 5+i, o, 1000)
		if out, err := d.Move(ring, &l, 5+i, o, false, now+int64(i), now); out != Arrived || err != nil {
			t.Fatal(out, err)
		}
	}
	look := &Looker{Ring: ring, Now: now + 1, Dead: func(Word) (bool, error) { return false, nil }, Left: func(uint64, Word) int64 { return 9 }}
	for range 2 {
		found, ok, _, err := d.Next(look)
		if !ok || err != nil {
			t.Fatal(ok, err)
		}
		l, _, ok, err := d.Take(&found, o, 1000)
		if !ok || err != nil {
			t.Fatal(ok, err)
		}
		if l.Ordinal == 0 {
			d.SendBack(&l, 0)
		}
	}
	if _, w, err := d.claim(o, 0); w == 0 || err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if content, err = os.ReadFile(filepath.Join(path, "g.dly")); err != nil {
		t.Fatal(err)
	}
	return path, content
}

// useDelayFile does with a delay file what consumers do, and fails if that takes too
// many steps. Whatever the file holds is an error that says so, or serves.
func useDelayFile(t testing.TB, path string) {
	t.Helper()
	dir, err := mmap.OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	g, err := Open(dir, "g", false)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	bad := new(CorruptError)
	d, err := g.MakeDelays("tmp", 0o600)
	if err != nil {
		if !errors.As(err, &bad) && !errors.Is(err, ErrVersion) {
			t.Fatalf("an error of another kind: %v", err)
		}
		return
	}
	ring, ok, err := g.Ring()
	if !ok || err != nil {
		t.Fatal(ok, err)
	}
	err = Guarded(func() error {
		work(t, ring, d)
		if _, n := d.DelayedFrom(); n > 2*cellsPerBlock {
			t.Fatalf("%d are delayed", n)
		}
		d.CheckClock(1<<40, 5)
		if err := g.Checkpoint(ring, 6, time.Second); err != nil {
			return err
		}
		err := g.Rebase(func(Before) (Base, bool, error) { return Base{Seq: 7, Boot: [16]byte{1}}, true, nil },
			func(Base, map[uint64]bool) ([]Mark, error) { return nil, nil })
		if err != nil {
			return err
		}
		if ring, ok, err = g.Ring(); !ok || err != nil {
			t.Fatal(ok, err)
		}
		if from, n := d.DelayedFrom(); n > 0 && from >= 7 {
			t.Fatalf("message %d is delayed, and comes by the ring", from)
		}
		work(t, ring, d)
		return nil
	})
	if err != nil && !errors.As(err, &bad) && !errors.Is(err, mmap.ErrFault) {
		t.Fatalf("an error of another kind: %v", err)
	}
}

// work moves a message if there is room, and finishes all that can be had.
func work(t testing.TB, ring *Ring, d *Delays) {
	t.Helper()
	o := Owner{3, 4}
	n := ring.Floor()
	l, out := ring.Claim(n, 7, o, 1000)
	for ; out == Taken; n++ {
		l, out = ring.Claim(n+1, 8, o, 1000)
	}
	if out == Claimed {
		if _, err := d.Move(ring, &l, 8, o, true, 2000, 1000); err != nil {
			t.Fatal(err)
		}
	}
	look := &Looker{
		Ring: ring, Now: 1 << 62, Boot: 1 << 50, Left: func(uint64, Word) int64 { return 0 },
		Dead: func(w Word) (bool, error) { return w.Slot() != 3, nil },
	}
	bad := new(CorruptError)
	for range 4 * cellsPerBlock {
		found, ok, at, err := d.Next(look)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			if at <= look.Now {
				t.Fatalf("nothing, and it is to be looked at again at once, %d", at)
			}
			return
		}
		l, _, ok, err := d.Take(&found, o, 1<<51)
		switch {
		case err != nil && !errors.As(err, &bad):
			t.Fatal(err)
		case !ok && err == nil:
			t.Fatal("nobody else is there, and it cannot be taken")
		case ok && !d.Finish(ring, &l):
			t.Fatal("the lease is lost, and nobody else is there")
		}
	}
	t.Fatal("there is no end")
}

func TestADamagedDelayFileIsAnErrorOrServes(t *testing.T) {
	path, content := delayImage(t)
	name := filepath.Join(path, "g.dly")
	group, err := os.ReadFile(filepath.Join(path, "g.grp"))
	if err != nil {
		t.Fatal(err)
	}
	try := func(p []byte) {
		t.Helper()
		if err := errors.Join(os.WriteFile(name, p, 0o600), os.WriteFile(filepath.Join(path, "g.grp"), group, 0o600)); err != nil {
			t.Fatal(err)
		}
		useDelayFile(t, path)
	}
	try(content)
	if testx.Race {
		return
	}
	cells := delayIdentity{Blocks: 2}.blocksAt()
	for at := range len(content) {
		switch {
		case at >= 80 && at < dlyChecksum, at > dlyOffset+8 && at < dlySummaries, at > dlySummaries+32 && at < int(cells), at > int(cells)+6*cellBytes:
			continue // zeros, or cells like the first
		}
		p := bytes.Clone(content)
		p[at] ^= 1 << (at % 8)
		try(p)
		if t.Failed() {
			t.Fatalf("with a flipped bit at %d", at)
		}
	}
	for _, n := range []int{0, 1, 4095, 4096, int(cells) - 1, int(cells), len(content) - 1, len(content) + 1} {
		try(append(bytes.Clone(content), 0)[:n])
	}
}

// FuzzDelay: whatever a delay file holds, it is refused with an error that says what it
// is, or serves: no panic, no endless loop, nothing that the ring brings again.
func FuzzDelay(f *testing.F) {
	path, content := delayImage(f)
	cell := uint32(delayIdentity{Blocks: 2}.blocksAt() / 8)
	f.Add(uint32(0), uint64(0), uint32(0), uint64(0))
	f.Add(uint32(dlyBlocks/8), ^uint64(0), uint32(dlySummaries/8), ^uint64(0))
	f.Add(uint32(dlyBlocksAtMost/8), uint64(1), cell, uint64(Moving))
	f.Add(uint32(grpCreated/8), ^uint64(0)>>1, cell+2, ^uint64(0))
	f.Add(cell, uint64(Leased)|^uint64(7), cell+4, uint64(Pending))
	f.Add(uint32(dlySummaries/8+1), ^uint64(0), cell+3, ^uint64(0))
	group, err := os.ReadFile(filepath.Join(path, "g.grp"))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, a uint32, v uint64, b uint32, w uint64) {
		p := bytes.Clone(content)
		for off, v := range map[int]uint64{int(a) * 8: v, int(b) * 8: w} {
			if off+8 <= len(p) {
				binary.LittleEndian.PutUint64(p[off:], v)
			}
		}
		binary.LittleEndian.PutUint32(p[dlyChecksum:], crc32c.Update(0, p[:dlyChecksum]))
		err := errors.Join(os.WriteFile(filepath.Join(path, "g.dly"), p, 0o600), os.WriteFile(filepath.Join(path, "g.grp"), group, 0o600))
		if err != nil {
			t.Fatal(err)
		}
		useDelayFile(t, path)
	})
}

func TestEachFieldOfADelayFilesIdentityHasItsOwnError(t *testing.T) {
	want := delayIdentity{Queue: [16]byte{0: 1, 15: 0xff}, Created: 1_700_000_000_000_000_000, Blocks: MaxDelayBlocks}
	for _, c := range []struct {
		off     int
		value   byte
		because string
	}{
		{grpMagic, 'x', "magic"},
		{grpVersion, 2, "newer version"},
		{grpVersion, 0, "version 0"},
		{grpAlgorithm, 2, "checksum algorithm 2"},
		{grpIncompatible, 1, "features 0x1"},
		{grpReadCompat, 1, "features 0x1"},
		{dlyBlocksAtMost + 1, 0, "at most 0 blocks"},
		{dlyBlocksAtMost + 2, 1, "at most 73728 blocks"},
	} {
		page := make([]byte, identityBytes)
		encodeDelayIdentity(page, want)
		if id, err := decodeDelayIdentity(page); err != nil || id != want {
			t.Fatalf("got %+v, %v", id, err)
		}
		page[c.off] = c.value
		if _, err := decodeDelayIdentity(page); err == nil {
			t.Errorf("offset %d: a wrong checksum is not noticed", c.off)
		}
		binary.LittleEndian.PutUint32(page[dlyChecksum:], crc32c.Update(0, page[:dlyChecksum]))
		if _, err := decodeDelayIdentity(page); err == nil || !strings.Contains(err.Error(), c.because) {
			t.Errorf("offset %d: got %v, want an error about %q", c.off, err, c.because)
		}
	}
}

func TestABoundIsNeverTooLate(t *testing.T) {
	for _, created := range []int64{0, 1_700_000_000_000_000_000, -5, 1<<63 - 1} {
		id := delayIdentity{Created: created}
		for _, ms := range []int64{0, 1, created / 1e6, created/1e6 + 5, 1 << 47, 1 << 61} {
			b := id.bound(7, ms)
			if got := id.boundTime(b); got > max(ms, created/1e6) {
				t.Errorf("made at %d: the bound of %d is %d", created, ms, got)
			}
			if b&(1<<versionBits-1) != 8 {
				t.Errorf("the version is %d, want 8", b&(1<<versionBits-1))
			}
		}
		if got := id.boundTime(id.bound(0, Never)); got != Never {
			t.Errorf("never is %d", got)
		}
	}
	if b := (delayIdentity{}).bound(1<<versionBits-1, 3); b != 3<<versionBits {
		t.Errorf("a version that is over changes the time: %x", b)
	}
	cell, lap := placeOf(makePlace(MaxDelayBlocks*cellsPerBlock-1, 1<<lapBits-1))
	if cell != MaxDelayBlocks*cellsPerBlock-1 || lap != 1<<lapBits-1 {
		t.Errorf("a place comes back as %d, %d", cell, lap)
	}
	if _, ms := timeOf(makeTime(0, makePlace(MaxDelayBlocks*cellsPerBlock-1, 1<<lapBits-1))); ms != makePlace(cell, lap) {
		t.Error("a time word has no room for a place")
	}
}

// The golden values of format version 1.
func TestADelayFileIsWrittenAsEver(t *testing.T) {
	id := delayIdentity{Queue: [16]byte{0: 1, 15: 0xff}, Created: 1_700_000_000_000_000_000, Blocks: 64}
	page := make([]byte, identityBytes)
	encodeDelayIdentity(page, id)
	for what, c := range map[string][2]uint64{
		"identity": {uint64(binary.LittleEndian.Uint32(page[dlyChecksum:])), 0x95dd6443},
		"cell":     {id.checkCell(513, 7, 1<<33+5, 4095), 0xfffd8c682c0},
		"bound":    {id.bound(41, 1_700_000_060_000), 0xea6000002a},
		"room":     {room(9, 300), 0x12c00000000000a},
		"place":    {uint64(makePlace(513, 7)), 0x201000007},
		"blocks":   {uint64(id.blocksAt()), 12288},
	} {
		if c[0] != c[1] {
			t.Errorf("%s: got %#x, want %#x", what, c[0], c[1])
		}
	}
}
