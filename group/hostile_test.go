package group

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/walq/walq/internal/crc32c"
	"github.com/walq/walq/internal/testx"
	"github.com/walq/walq/mmap"
)

func TestMain(m *testing.M) {
	mmap.UseHeapFiles(testx.Race)
	os.Exit(m.Run())
}

// image is the file of a new group.
func image(t testing.TB) (path string, content []byte) {
	t.Helper()
	path = testx.InMemory(t)
	dir, err := mmap.OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	id := goldenIdentity()
	id.Entries = 8
	if err := Create(dir, "g", "tmp", 0o600, id, Settings{Lease: 1e9}, Base{Seq: 5, Epoch: 1}); err != nil {
		t.Fatal(err)
	}
	if content, err = os.ReadFile(filepath.Join(path, "g.grp")); err != nil {
		t.Fatal(err)
	}
	return path, content
}

// use does with a group file what a consumer does, and fails if it takes too many steps.
func use(t testing.TB, path string) {
	t.Helper()
	dir, err := mmap.OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	g, err := Open(dir, "g", false)
	if bad := new(CorruptError); err != nil {
		if !errors.As(err, &bad) && !errors.Is(err, ErrVersion) {
			t.Fatalf("an error of another kind: %v", err)
		}
		return
	}
	defer g.Close()
	_, _ = g.Settings()
	if was, err := g.Before(); err == nil && len(was.Finished) > g.Entries {
		t.Fatalf("%d messages are finished in a ring of %d", len(was.Finished), g.Entries)
	}
	err = g.Rebase(func(Before) (Base, bool, error) { return Base{Seq: 7, Epoch: 2}, true, nil },
		func(Base, map[uint64]bool) ([]Mark, error) { return []Mark{{1, 9}, {1 << 40, 3}}, nil })
	if bad := new(CorruptError); errors.As(err, &bad) {
		return
	}
	if err != nil {
		t.Fatalf("rebase: %v", err)
	}
	ring, ok, err := g.Ring()
	if err != nil || !ok {
		t.Fatalf("after a rebase: %v, %v", ok, err)
	}
	n, seq, ok := ring.Start()
	if !ok || seq != 7 {
		t.Fatalf("after a rebase: start at %d, %d, %v", n, seq, ok)
	}
	l, out := ring.Claim(n, 7, Owner{3, 4}, 1000)
	if out != Claimed || !ring.Finish(&l) {
		t.Fatalf("after a rebase: %v", out)
	}
	if floor := ring.Advance(); floor != n+2 { // the mark stands behind it
		t.Fatalf("the floor is %d, want %d", floor, n+2)
	}
	if err := g.Checkpoint(ring, 8, time.Second); err != nil {
		t.Fatal(err)
	}
}

func TestADamagedGroupFileIsAnErrorOrServesAfterARebase(t *testing.T) {
	path, content := image(t)
	if testx.Race {
		use(t, path)
		return
	}
	for at := range len(content) {
		if at >= 400 && at < grpChecksum || at > grpRing+64 {
			continue // zeros, or entries like the first two
		}
		p := bytes.Clone(content)
		p[at] ^= 1 << (at % 8)
		if err := os.WriteFile(filepath.Join(path, "g.grp"), p, 0o600); err != nil {
			t.Fatal(err)
		}
		use(t, path)
		if t.Failed() {
			t.Fatalf("with a flipped bit at %d", at)
		}
	}
	for _, n := range []int{0, 1, 4095, 4096, 12287, len(content) - 1, len(content) + 1} {
		p := append(bytes.Clone(content), 0)[:n]
		if err := os.WriteFile(filepath.Join(path, "g.grp"), p, 0o600); err != nil {
			t.Fatal(err)
		}
		use(t, path)
	}
}

// FuzzGroup: whatever a group's file holds, opening it is refused with an error that
// says what it is, or a rebase makes a ring of it that works.
func FuzzGroup(f *testing.F) {
	f.Add(uint16(0), uint64(0), uint16(0), uint64(0))
	f.Add(uint16(grpFloor/8), ^uint64(0), uint16(grpGeneration/8), uint64(1)<<63)
	f.Add(uint16(grpRing/8), ^uint64(0), uint16(grpRing/8+4), uint64(1)<<63)
	f.Add(uint16(grpBase/8), ^uint64(0)-1, uint16(grpPassed/8), ^uint64(0))
	path, content := image(f)
	f.Fuzz(func(t *testing.T, a uint16, v uint64, b uint16, w uint64) {
		p := bytes.Clone(content)
		for off, v := range map[int]uint64{int(a) * 8: v, int(b) * 8: w} {
			if off+8 <= len(p) {
				binary.LittleEndian.PutUint64(p[off:], v)
			}
		}
		for _, rec := range []int{grpBase, grpBase + recordSpacing, grpCheckpoint} {
			binary.LittleEndian.PutUint32(p[rec+recChecksum:], crc32c.Update(0, p[rec:rec+recChecksum]))
		}
		binary.LittleEndian.PutUint32(p[grpChecksum:], crc32c.Update(0, p[:grpChecksum]))
		if err := os.WriteFile(filepath.Join(path, "g.grp"), p, 0o600); err != nil {
			t.Fatal(err)
		}
		use(t, path)
	})
}
