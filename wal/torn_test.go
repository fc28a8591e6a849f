//go:build walqsteps

package wal

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/walq/walq/internal/step"
	"github.com/walq/walq/internal/testx"
	"github.com/walq/walq/internal/torn"
	"github.com/walq/walq/mmap"
	"github.com/walq/walq/segment"
)

var tornSeed = flag.Uint64("torn.seed", 0, "the one world of torn images to run, by the seed that a failure printed")

// check opens what a cut left, on another boot, and looks whether the promises
// hold; in the middle of that, and after it, the power may be cut again.
func (w *world) check(c tornCut, level int) {
	dir := filepath.Join(filepath.Dir(w.dir), "cut"+strconv.Itoa(level))
	defer os.RemoveAll(dir)
	w.must(c.cut.Write(dir), "write the image")
	boot := byte(level + 1)
	if c.killed {
		boot--
	}
	disk, remove, err := torn.New(dir, boot)
	w.must(err, "look at the image")
	defer remove()
	var again []tornCut
	cut := func(at string, next tornCut) {
		next.at, next.killed, next.cut = c.at+", then "+at, false, disk.Cut(w.random)
		again = append(again, next)
	}
	restore := hangOnEveryStep(func(id step.ID) {
		disk.Look()
		if p := map[bool]float64{false: 0.02, true: 0.08}[seldom(id)]; level < 3 && w.chance(p/float64(level)) {
			cut(id.String(), c)
		}
	})
	l, err := Open(context.Background(), dir, Options{Create: &Settings{SegmentSize: segment.MinSize, Durability: SyncAlways}})
	restore()
	if err != nil {
		w.fail(c, level, "open: %v", err)
	}
	withoutKeeper(l)
	got := w.read(c, level, l)
	w.checkPromises(c, level, l, got)
	w.checkAnother(c, level, dir, got)
	next := w.appendOn(c, level, l, got)
	if level < 3 && w.chance(0.1) {
		cut("appending", next.cut(""))
	}
	if err := l.Close(); err != nil {
		w.fail(c, level, "close: %v", err)
	}
	if rep, err := Verify(context.Background(), dir, nil); err != nil || len(rep.Faults) > 0 {
		w.fail(c, level, "verify: %v, %+v", err, rep.Faults)
	}
	remove()
	for _, a := range again {
		w.check(a, level+1)
	}
}

// checkDamaged: where also something below the durable position is not what was
// synced, there is an error that says so, or it was nothing that counts.
func (w *world) checkDamaged(c tornCut) {
	c.at += ", and damage"
	dir := filepath.Join(filepath.Dir(w.dir), "damaged")
	defer os.RemoveAll(dir)
	w.must(c.cut.Write(dir), "write the image")
	if !w.damageDurable(dir) {
		return
	}
	_, remove, err := torn.New(dir, 2)
	w.must(err, "look at the image")
	defer remove()
	l, err := Open(context.Background(), dir, Options{})
	if errors.Is(err, ErrCorrupt) {
		return
	}
	if err != nil {
		w.fail(c, 1, "open: %v", err)
	}
	withoutKeeper(l)
	got, err := w.readUntil(c, 1, l)
	if err == nil {
		w.checkPromises(c, 1, l, got)
	} else if !errors.Is(err, ErrCorrupt) {
		w.fail(c, 1, "read: %v", err)
	}
	if err := l.Close(); err != nil && !errors.Is(err, ErrCorrupt) {
		w.fail(c, 1, "close: %v", err)
	}
}

// damageDurable writes garbage over a sector that lies below the durable position.
func (w *world) damageDurable(dir string) bool {
	page, err := os.ReadFile(filepath.Join(dir, controlName))
	if err != nil || len(page) < controlBytes {
		return false
	}
	durable := Position(getWord(page[ctlDurable:]))
	log, err := mmap.OpenDir(filepath.Join(dir, logName))
	w.must(err, "open the log")
	defer log.Close()
	firsts, err := segmentNames(log)
	w.must(err, "list the log")
	for _, first := range firsts {
		s, err := segment.Open(log, segment.Name(first), false)
		if err != nil || first < getWord(page[ctlOldest:]) {
			continue
		}
		from, to := s.Start().Off, s.Size
		if s.Ordinal == durable.ordinal() {
			to = durable.off()
		}
		w.must(s.Close(), "close the segment")
		if s.Ordinal > durable.ordinal() || to-from < 512 || w.chance(0.5) {
			continue
		}
		garbage := make([]byte, 512)
		if w.chance(0.5) {
			for i := range garbage {
				garbage[i] = byte(w.random.Uint32())
			}
		}
		f, err := os.OpenFile(filepath.Join(dir, logName, segment.Name(first)), os.O_WRONLY, 0)
		w.must(err, "open the segment")
		_, err = f.WriteAt(garbage, from+w.random.Int64N((to-from)/512)*512)
		w.must(errors.Join(err, f.Close()), "damage the segment")
		return true
	}
	return false
}

func (w *world) fail(c tornCut, level int, format string, args ...any) {
	w.t.Helper()
	keep := filepath.Join(w.t.TempDir(), "image")
	where := keep
	if os.Getenv("WALQ_TORN_KEEP") != "" {
		where = os.Getenv("WALQ_TORN_KEEP")
	}
	if err := c.cut.Write(where); err != nil {
		where = err.Error()
	}
	w.t.Fatalf("seed %d (replay with -torn.seed %d; WALQ_TORN_KEEP=DIR keeps the image): power cut at %s, killed %v, level %d, image in %s: %s",
		w.seed, w.seed, c.at, c.killed, level, where, fmt.Sprintf(format, args...))
}

func (w *world) read(c tornCut, level int, l *Log) []promise {
	got, err := w.readUntil(c, level, l)
	if err != nil {
		w.fail(c, level, "read behind %d: %v", len(got), err)
	}
	return got
}

// readUntil reads everything, until an error.
func (w *world) readUntil(c tornCut, level int, l *Log) (got []promise, err error) {
	r, err := l.NewReader(false)
	w.must(err, "reader")
	defer r.Close()
	for {
		m, ok, err := r.Next()
		if !ok || err != nil {
			return got, err
		}
		if n := len(got); n > 0 && m.Seq <= got[n-1].seq {
			w.fail(c, level, "message %d comes behind %d", m.Seq, got[n-1].seq)
		}
		got = append(got, promise{m.Seq, string(m.Body)})
	}
}

// checkPromises: what was acknowledged is there; what is there was appended, whole
// and under its number; and it is a prefix. Where only processes died everything
// that was visible is there.
func (w *world) checkPromises(c tornCut, level int, l *Log, got []promise) {
	truth := make(map[uint64]string, len(c.facts.appended))
	for _, p := range c.facts.appended {
		truth[p.seq] = p.body
	}
	there := make(map[uint64]bool, len(got))
	for _, p := range got {
		there[p.seq] = true
		if body, ok := truth[p.seq]; ok && body != p.body || !ok && !c.facts.maybe[p.body] {
			w.fail(c, level, "message %d is %.40q, want %.40q (appended: %v)", p.seq, p.body, body, ok)
		}
	}
	w.checkTogether(c, level, got)
	must := c.facts.acked[:c.acked]
	if c.killed {
		must = c.facts.appended[:c.appended]
	}
	for _, p := range must {
		if !there[p.seq] && p.seq >= c.gone {
			w.fail(c, level, "message %d was promised and is lost; there are %d of %d, oldest kept %d", p.seq, len(got), c.appended, l.ctl.oldest())
		}
	}
	if len(got) == 0 || c.killed {
		return
	}
	for _, p := range c.facts.appended[:c.appended] {
		if p.seq >= got[0].seq && p.seq < got[len(got)-1].seq && !there[p.seq] {
			w.fail(c, level, "message %d is missing, %d behind it is there", p.seq, got[len(got)-1].seq)
		}
	}
	for _, p := range c.facts.appended[:c.appended] {
		if p.seq >= c.gone && p.seq < got[0].seq {
			w.fail(c, level, "message %d is missing, nobody trimmed it, the first is %d", p.seq, got[0].seq)
		}
	}
}

// checkTogether: a batch is there whole or not at all, and nothing is there twice.
func (w *world) checkTogether(c tornCut, level int, got []promise) {
	bodies := make(map[string]bool, len(got))
	for _, p := range got {
		if bodies[p.body] {
			w.fail(c, level, "%.40q is there twice", p.body)
		}
		bodies[p.body] = true
	}
	for _, batch := range c.facts.together {
		n := 0
		for _, b := range batch {
			if bodies[b] {
				n++
			}
		}
		if n != 0 && n != len(batch) {
			w.fail(c, level, "%d of the %d messages of a batch are there", n, len(batch))
		}
	}
}

// checkAnother: who opens the queue after the recovery sees the same.
func (w *world) checkAnother(c tornCut, level int, dir string, want []promise) {
	l, err := Open(context.Background(), dir, Options{ReadOnly: true})
	if err != nil {
		w.fail(c, level, "open for reading: %v", err)
	}
	if got := w.read(c, level, l); !slices.Equal(got, want) {
		w.fail(c, level, "another handle reads %d messages, want the same %d", len(got), len(want))
	}
	if err := l.Close(); err != nil {
		w.fail(c, level, "close: %v", err)
	}
}

// appendOn appends behind what was recovered: the numbers are new. It returns the
// facts from here on: what was recovered, and what was appended, is on stable
// storage.
func (w *world) appendOn(c tornCut, level int, l *Log, got []promise) *tornFacts {
	last := uint64(0)
	for _, p := range c.facts.appended[:c.appended] {
		last = max(last, p.seq)
	}
	all := slices.Clone(got)
	for range 2 {
		b := w.body()
		a, err := l.Append(nil, b)
		if w.broken && errors.Is(err, ErrPoisoned) {
			break
		}
		if err != nil {
			w.fail(c, level, "append: %v", err)
		}
		if a.Seq <= last {
			w.fail(c, level, "number %d is given again; %d had been handed out", a.Seq, last)
		}
		last = a.Seq
		if err := l.WaitAppended(context.Background(), a); err != nil {
			w.fail(c, level, "wait until durable: %v", err)
		}
		all = append(all, promise{a.Seq, string(b)})
	}
	return &tornFacts{appended: all, acked: all, gone: l.ctl.oldest(), maybe: map[string]bool{}}
}

// tornImages checks n worlds, each with some dozens of images.
func tornImages(t *testing.T, seed uint64, deadline time.Time, images int) {
	checked := 0
	for checked < images && time.Now().Before(deadline) {
		w := newWorld(t, seed)
		w.run(40)
		for _, c := range w.cuts {
			w.check(c, 1)
			if !c.killed && w.chance(0.15) {
				w.checkDamaged(c)
			}
		}
		checked += len(w.cuts)
		w.cuts, w.facts, w.disk = nil, tornFacts{}, nil // the goroutines of the killed hold the world
		if err := os.RemoveAll(filepath.Dir(w.dir)); err != nil {
			t.Fatal(err)
		}
		seed++
	}
	t.Logf("%d images", checked)
}

func TestNoPowerCutLosesWhatWasAcknowledged(t *testing.T) {
	if testx.Race {
		testx.Skip(t, "heap-backed files are not what a disk has")
	}
	images, patience := 400, 20*time.Second
	if n, err := strconv.Atoi(os.Getenv("WALQ_CRASH")); err == nil {
		images, patience = n, 24*time.Hour
	}
	if *tornSeed != 0 {
		tornImages(t, *tornSeed, time.Now().Add(time.Hour), 1)
		return
	}
	tornImages(t, testx.Seed(t)>>16, time.Now().Add(patience), images)
}
