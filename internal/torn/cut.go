package torn

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
)

// A Cut is what a power cut left: a directory in memory.
type Cut struct {
	dirs  []string          // relative, those that hold others first
	files map[string][]byte // by relative path
}

// Cut makes one of the directories that a power cut at this moment could leave.
func (d *Disk) Cut(random *rand.Rand) *Cut {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.look()
	c := &Cut{files: map[string][]byte{}}
	ch := newChooser(random)
	done := map[*file][]byte{} // two names of a file have the same bytes
	d.cutDir(c, ch, done, ".")
	return c
}

func (d *Disk) cutDir(c *Cut, ch chooser, done map[*file][]byte, rel string) {
	dir := d.dirs[rel]
	names := dir.after(ch.keepsChange)
	for _, name := range slices.Sorted(keysOf(names)) {
		f, path := names[name], filepath.Join(rel, name)
		if f == nil {
			c.dirs = append(c.dirs, path)
			d.cutDir(c, ch, done, path)
			continue
		}
		if done[f] == nil {
			done[f] = f.cut(ch, d.now)
		}
		c.files[path] = done[f]
	}
}

func keysOf(names map[string]*file) func(func(string) bool) {
	return func(yield func(string) bool) {
		for name := range names {
			if !yield(name) {
				return
			}
		}
	}
}

func (f *file) cut(ch chooser, now int) []byte {
	size := f.sizes[ch.pick(len(f.sizes))].size
	content := make([]byte, size)
	var at int // the moment of the unit that holds the sector
	unit := int64(-1)
	for off := int64(0); off < size; off += sectorBytes {
		if u := off / ch.unit; u != unit {
			unit, at = u, ch.moment(f.since(u*ch.unit, ch.unit), now)
		}
		if s := f.sectors[off]; s != nil {
			copy(content[off:], s.asOf(at)[:])
		}
	}
	return content
}

// since lists the moments at which the sectors of a unit got their values.
func (f *file) since(off, n int64) (moments []int) {
	for at := off; at < off+n && at < int64(len(f.now)); at += sectorBytes {
		if s := f.sectors[at]; s != nil {
			for _, v := range s.values {
				moments = append(moments, v.at)
			}
		}
	}
	return moments
}

// asOf is the last value up to a moment, the synced one at least.
func (s *sector) asOf(at int) *[sectorBytes]byte {
	n := len(s.values) - 1
	for n > 0 && s.values[n].at > at {
		n--
	}
	return &s.values[n].value
}

// A chooser decides what a power cut keeps. Pure chance over all would hardly ever
// leave everything but one thing, so each has its own taste.
type chooser struct {
	random *rand.Rand
	unit   int64   // bytes that are written together
	newest float64 // probability that something is as it was last
	oldest float64 // or else as it was when it was synced
	names  float64 // probability that a change of a name is kept
}

func newChooser(random *rand.Rand) chooser {
	tastes := []float64{0, 0.05, 0.5, 0.95, 1}
	return chooser{
		random: random,
		unit:   []int64{sectorBytes, 4096, 4096, 1 << 40}[random.IntN(4)],
		newest: tastes[random.IntN(len(tastes))],
		oldest: tastes[random.IntN(len(tastes))],
		names:  tastes[random.IntN(len(tastes))],
	}
}

func (ch chooser) keepsChange(change) bool { return ch.random.Float64() < ch.names }

// pick chooses one of n values in the order of time.
func (ch chooser) pick(n int) int {
	switch {
	case n == 1 || ch.random.Float64() < ch.newest:
		return n - 1
	case ch.random.Float64() < ch.oldest:
		return 0
	}
	return ch.random.IntN(n)
}

func (ch chooser) moment(moments []int, now int) int {
	if len(moments) == 0 {
		return now
	}
	slices.Sort(moments)
	moments = slices.Compact(moments)
	return moments[ch.pick(len(moments))]
}

// Write makes the directory on a file system; it must not exist.
func (c *Cut) Write(path string) error {
	err := os.Mkdir(path, 0o700)
	for _, dir := range c.dirs {
		err = errors.Join(err, os.Mkdir(filepath.Join(path, dir), 0o700))
	}
	for name, content := range c.files {
		err = errors.Join(err, os.WriteFile(filepath.Join(path, name), content, 0o600))
	}
	return err
}

// Files are the files by path, for a test that looks at them.
func (c *Cut) Files() map[string][]byte { return c.files }

// Now is the directory as it is at this moment, with everything in memory: what is
// there when processes die and the machine goes on.
func (d *Disk) Now() *Cut {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.look()
	c := &Cut{files: map[string][]byte{}}
	ch := chooser{random: rand.New(rand.NewPCG(0, 0)), unit: 1 << 40, newest: 1.1, names: 1.1}
	d.cutDir(c, ch, map[*file][]byte{}, ".")
	return c
}
