package group

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/walq/walq/internal/testx"
	"github.com/walq/walq/mmap"
)

// scene is where the groups of these tests are: nobody uses them.
var scene = Scene{Queue: [16]byte{9}, Boot: [16]byte{7}, Epoch: 3, Next: 100}

var lostSettings = Settings{Lease: 30 * time.Second}

// A patient is the file of a group that consumers used and left.
type patient struct {
	t    testing.TB
	path string
	f    *File
	ring *Ring
}

// newPatient: message 10+i is that of the i-th ordinal. Of the first ten all are
// finished, by two bases; of the next, one is leased, one ready, one waiting, two are
// finished, and one was never handed out. A checkpoint is at message 18.
func newPatient(t testing.TB) *patient {
	t.Helper()
	path := testx.InMemory(t)
	dir, err := mmap.OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	id := Identity{Queue: scene.Queue, Entries: 8, Topic: "t"}
	b := Base{Seq: 10, Epoch: scene.Epoch, Boot: scene.Boot}
	if err := Create(dir, "g", "tmp", 0o640, id, Settings{Lease: time.Minute, MaxDeliver: 4, DeadLetter: "/dead"}, b); err != nil {
		t.Fatal(err)
	}
	p := &patient{t: t, path: filepath.Join(path, "g.grp")}
	if p.f, err = Open(dir, "g", false); err != nil {
		t.Fatal(err)
	}
	p.join()
	p.claim(3, func(_ int, l Lease) { p.ring.Finish(&l) })
	if err := p.f.SetSettings(Settings{Lease: 2 * time.Minute, MaxDeliver: 4, DeadLetter: "/dead"}); err != nil {
		t.Fatal(err)
	}
	if err := p.f.Rebase(func(was Before) (Base, bool, error) {
		b.Seq = 13
		return b, true, nil
	}, nil); err != nil {
		t.Fatal(err)
	}
	p.join()
	p.claim(7, func(_ int, l Lease) { p.ring.Finish(&l) })
	p.ring.Advance()
	p.ring.Pass(20)
	if err := p.f.Checkpoint(p.ring, 18, time.Second); err != nil {
		t.Fatal(err)
	}
	p.claim(5, func(i int, l Lease) {
		switch i {
		case 1:
			p.ring.SendBack(&l, 0)
		case 2:
			p.ring.SendBack(&l, 1_900_000_000_000)
		case 3, 4:
			p.ring.Finish(&l)
		}
	})
	t.Cleanup(func() { p.leave() })
	return p
}

func (p *patient) join() {
	p.t.Helper()
	ring, ok, err := p.f.Ring()
	if err != nil || !ok {
		p.t.Fatal(ok, err)
	}
	p.ring = ring
}

// claim hands out the next n messages.
func (p *patient) claim(n int, f func(i int, l Lease)) {
	p.t.Helper()
	ord := p.ring.Advance()
	for i := range n {
		n := ord + uint64(i)
		l, out := p.ring.Claim(n, p.ring.Base.Seq+n-p.ring.Base.Ordinal, Owner{3, 5}, 1e6)
		if out != Claimed {
			p.t.Fatalf("ordinal %d: %v", n, out)
		}
		f(i, l)
	}
}

func (p *patient) leave() {
	if p.f != nil {
		p.f.Close()
		p.f = nil
	}
}

// content is the file, which nobody uses any more.
func (p *patient) content() []byte {
	p.t.Helper()
	p.leave()
	b, err := os.ReadFile(p.path)
	if err != nil {
		p.t.Fatal(err)
	}
	return b
}

func (p *patient) write(b []byte) {
	p.t.Helper()
	if err := os.WriteFile(p.path, b, 0o640); err != nil {
		p.t.Fatal(err)
	}
}

func (p *patient) inspect(s Scene) Inspection {
	p.t.Helper()
	x, err := Inspect(p.path, s)
	if err != nil {
		p.t.Fatal(err)
	}
	return x
}

// before is what is finished, as a new consumer would see it. ok is false if nobody can
// open the group.
func (p *patient) before() (was Before, ok bool) {
	p.t.Helper()
	dir, err := mmap.OpenDir(filepath.Dir(p.path))
	if err != nil {
		p.t.Fatal(err)
	}
	defer dir.Close()
	f, err := Open(dir, "g", true)
	if err != nil {
		return was, false
	}
	defer f.Close()
	was, err = f.Before()
	return was, err == nil
}

// done are the messages that count as finished, of the first hundred.
func (b Before) done() map[uint64]bool {
	all := maps.Clone(b.Finished)
	for seq := range min(b.From, 100) {
		all[seq] = true
	}
	return all
}

// invented are messages that count as finished, and were not.
func invented(now, was map[uint64]bool) (all []uint64) {
	for seq := range now {
		if !was[seq] {
			all = append(all, seq)
		}
	}
	slices.Sort(all)
	return all
}

func TestInspectFindsNothingInASoundFile(t *testing.T) {
	p := newPatient(t)
	for _, s := range []Scene{scene, {}, {InUse: true}, {PowerLoss: true, Boot: [16]byte{1}}} {
		if x := p.inspect(s); len(x.Findings) != 0 || len(x.Fields) < 60 {
			t.Errorf("%+v: %d fields, findings %+v", s, len(x.Fields), x.Findings)
		}
	}
}

func TestInspectShowsEveryFieldWhereItStands(t *testing.T) {
	got := map[string]string{}
	for _, f := range newPatient(t).inspect(scene).Fields {
		got[fmt.Sprint(f.What, " ", f.Name)] = fmt.Sprint(f.Offset, " ", f.Value)
	}
	for name, want := range map[string]string{
		"identity magic":          "0 walqgrp\n",
		"identity topic":          "80 t",
		"identity entries":        "64 8",
		"settings A lease":        "4104 1m0s",
		"settings B lease":        "5128 2m0s",
		"settings B dead letters": "5288 /dead",
		"settings B valid":        "6140 true",
		"base A generation":       "6144 1",
		"base B sequence":         "6672 13",
		"checkpoint A sequence":   "7176 18",
		"checkpoint A valid":      "7228 true",
		"checkpoint B valid":      "7740 false",
		"shared passed":           "8320 base 2 distance 7",
		"shared generation":       "8448 2",
		"shared finished":         "8704 12",
		"ring entry 7":            "12512 lap 4 LEASED slot 3 incarnation 5 deliveries 1 deaths 0, distance 7 of lap 4, ends 16m40s after the boot of tag 0x2001",
		"ring entry 0":            "12288 lap 5 READY deliveries 1 deaths 0, distance 8 of lap 5, ends 16m40s after the boot of tag 0x2801",
		"ring entry 1":            "12320 lap 5 WAITING deliveries 1 deaths 0, distance 9 of lap 5, due 2030-03-17T17:46:40.000Z of tag 0xa801",
		"ring entry 2":            "12352 lap 5 FINISHED, distance 10 of lap 5, ends 16m40s after the boot of tag 0x2801",
	} {
		if got[name] != want {
			t.Errorf("%s: got %q, want %q", name, got[name], want)
		}
	}
}

// Each bit of the file is flipped. What is found is mended; what is not found makes no
// message count as finished that was not. The log ends behind what was handed out: the
// file alone does not tell that a message is not the last one's but one further behind.
func TestNoFlippedBitOfAGroupFileLosesAMessage(t *testing.T) {
	scene := scene
	scene.Next = 25
	p := newPatient(t)
	content := p.content()
	was, _ := p.before()
	silent := map[int]int{}
	mended, left := 0, 0
	fields := []int{ // all but what nobody reads
		0, grpTopic + 9, grpChecksum, grpChecksum + 4, grpSettings, grpSettings + 200, grpSettings + settingsBytes - 40, grpSettings + settingsSpacing + 200,
		grpBase, grpBase + recordBytes, grpBase + recordSpacing, grpBase + recordSpacing + recordBytes, grpCheckpoint, grpCheckpoint + recordBytes,
		grpFloor, grpFloor + 8, grpPassed, grpPassed + 8, grpGeneration, grpGeneration + 8, grpRing, grpRing + 6*entryBytes,
	}
	for bit := range len(content) * 8 {
		at := bit / 8
		if i, found := slices.BinarySearch(fields, at); i%2 == 0 && !found || found && i%2 == 1 || testx.Race && bit%17 != 0 {
			continue
		}
		b := bytes.Clone(content)
		b[at] ^= 1 << (bit % 8)
		p.write(b)
		x := p.inspect(scene)
		if len(x.Findings) == 0 {
			silent[at/8*8]++
			if now, ok := p.before(); !ok || len(invented(now.done(), was.done())) > 0 {
				t.Fatalf("bit %d of %d: nothing was found, and messages %v count as finished (%v)", bit%8, at, invented(now.done(), was.done()), ok)
			}
			continue
		}
		m, err := Mend(p.path, scene, lostSettings, false)
		if err != nil {
			t.Fatalf("bit %d of %d: %v", bit%8, at, err)
		}
		if len(m.Left) > 0 {
			left++
			t.Fatalf("bit %d of %d: not mended: %+v", bit%8, at, m.Left)
		}
		mended++
		now, ok := p.before()
		if !ok || len(invented(now.done(), was.done())) > 0 {
			t.Fatalf("bit %d of %d: %+v: after mending messages %v count as finished (%v)", bit%8, at, x.Findings, invented(now.done(), was.done()), ok)
		}
		if kept, err := os.ReadFile(m.Kept); err != nil || !bytes.Equal(kept, b) {
			t.Fatalf("bit %d of %d: %s is not as the file was (%v)", bit%8, at, m.Kept, err)
		}
		if err := os.Remove(m.Kept); err != nil {
			t.Fatal(err)
		}
		if bit%61 == 0 {
			use(t, filepath.Dir(p.path))
		}
	}
	t.Logf("%d bits were mended, %d words have bits whose change nobody sees: %v", mended, len(silent), slices.Sorted(maps.Keys(silent)))
	if !testx.Race && mended < 6000 {
		t.Errorf("only %d bits were seen", mended)
	}
}

func put(at int, v uint64) func([]byte) []byte {
	return func(b []byte) []byte { binary.LittleEndian.PutUint64(b[at:], v); return b }
}

func wipe(at, n int) func([]byte) []byte {
	return func(b []byte) []byte {
		for i := range n {
			b[at+i] ^= 0x55
		}
		return b
	}
}

func both(f, g func([]byte) []byte) func([]byte) []byte {
	return func(b []byte) []byte { return g(f(b)) }
}

func TestInspectAllGoesOverGroupsAndNothingElse(t *testing.T) {
	if all, err := InspectAll(filepath.Join(t.TempDir(), "none"), scene); err != nil || len(all) != 0 {
		t.Errorf("%v, %v", all, err)
	}
	p := newPatient(t)
	content := p.content()
	dir := filepath.Dir(p.path)
	for name, b := range map[string][]byte{
		"b.grp": wipe(grpCheckpoint, 1)(bytes.Clone(content)), "c.grp.bad": nil, ".d.grp": nil, "tmp.0.1.2": nil, "e.grp": {1},
		"new.grp": func() []byte { b := bytes.Clone(content); b[grpVersion] = 2; putSum(b); return b }(),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Symlink("g.grp", filepath.Join(dir, "link.grp")), os.Mkdir(filepath.Join(dir, "dir.grp"), 0o700)); err != nil {
		t.Fatal(err)
	}
	all, err := InspectAll(dir, scene)
	got := []string{}
	for _, x := range all {
		got = append(got, fmt.Sprint(filepath.Base(x.Path), " ", len(x.Findings)))
	}
	if !slices.Equal(got, []string{"b.grp 1", "e.grp 1", "g.grp 0"}) {
		t.Errorf("got %v", got)
	}
	if !errors.Is(err, ErrVersion) || !errors.Is(err, mmap.ErrSymlink) || !errors.Is(err, mmap.ErrNotRegular) {
		t.Errorf("got %v", err)
	}
	if _, err := Inspect(filepath.Join(dir, "nothing.grp"), scene); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// Whatever consumers do, and whenever they leave, verify finds nothing.
func TestInspectFindsNothingWhateverConsumersDid(t *testing.T) {
	seed := testx.Seed(t)
	for round := range uint64(100) {
		rnd := rand.New(rand.NewPCG(seed, round))
		p := newPatient(t)
		next := p.ring.Advance()
		for n := next; ; n++ {
			if look, ok := p.ring.Look(n); !ok || look.Word.lap() != p.ring.lap(n) {
				next = n
				break
			}
		}
		held := []Lease{}
		for range rnd.IntN(60) {
			switch rnd.IntN(9) {
			case 0, 1, 2:
				if l, out := p.ring.Claim(next, p.ring.Base.Seq+next-p.ring.Base.Ordinal, Owner{1, 2}, 5); out == Claimed {
					held, next = append(held, l), next+1
				}
			case 3, 4:
				if i := len(held); i > 0 {
					p.ring.Finish(&held[i-1])
					held = held[:i-1]
				}
			case 5:
				if i := len(held); i > 0 {
					p.ring.SendBack(&held[0], int64(rnd.IntN(2)*1000))
					held = held[1:]
				}
			case 6:
				for n := p.ring.Advance(); n < next; n++ {
					look, ok := p.ring.Look(n)
					if !ok {
						continue
					}
					p.ring.Release(n, look.Word, true)
					if look, ok = p.ring.Look(n); ok {
						if l, ok := p.ring.Take(n, look.Word, p.ring.Base.Seq+n-p.ring.Base.Ordinal, Owner{2, 9}, 7); ok {
							held = append(held, l)
						}
					}
				}
			case 7:
				if _, seq, ok := p.ring.Start(); ok {
					if err := p.f.Checkpoint(p.ring, seq, time.Second); err != nil {
						t.Fatal(err)
					}
				}
			case 8:
				if rnd.IntN(4) == 0 {
					if err := p.f.Rebase(func(was Before) (Base, bool, error) {
						return Base{Seq: was.From, Epoch: scene.Epoch, Boot: scene.Boot}, true, nil
					}, func(b Base, finished map[uint64]bool) (marks []Mark, err error) {
						for seq := range finished {
							if seq >= b.Seq {
								marks = append(marks, Mark{int(seq - b.Seq), seq})
							}
						}
						return marks, nil
					}); err != nil {
						t.Fatal(err)
					}
					p.join()
					next, held = p.ring.Floor(), nil
				}
			}
		}
		s := scene
		s.Next = 1000
		if x := p.inspect(s); len(x.Findings) != 0 {
			t.Fatalf("round %d of seed %d: %+v", round, seed, x.Findings)
		}
		p.leave()
	}
}
