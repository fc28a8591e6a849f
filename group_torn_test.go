//go:build walqsteps && !race

package walq

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/walq/walq/group"
	"github.com/walq/walq/internal/step"
	"github.com/walq/walq/internal/testx"
	"github.com/walq/walq/internal/torn"
)

var tornSeed = flag.Uint64("torn.seed", 0, "the one crew of torn images to run, by the seed that a failure printed")

// check opens what a cut left, on another boot, and looks whether the promises hold; in
// the middle of that the power may be cut again.
func (w *tornCrew) check(c tornCut, level int) {
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
	making := false
	restore := hangOnGroupSteps(func(id step.ID) {
		disk.Look()
		making = making || ofBases(id)
		p := 0.02
		if ofBases(id) {
			p = 0.1
		}
		if level < 3 && !c.killed && len(again) < 4-level && w.chance(p*w.often(id)/float64(level)) {
			next := c
			next.at, next.cut, next.making = c.at+", then "+id.String(), disk.Cut(w.random), c.making || making
			again = append(again, next)
		}
	})
	defer restore()
	w.checkImage(c, dir, restore)
	remove()
	for _, a := range again {
		w.check(a, level+1)
	}
}

// checkImage opens a queue, and has the group hand out what is there.
func (w *tornCrew) checkImage(c tornCut, dir string, joined func()) {
	fail := func(format string, args ...any) {
		w.t.Helper()
		w.t.Fatalf(c.at+" (killed %v, window %d, topic %q): "+format+"; replay with -torn.seed %d;",
			append(append([]any{c.killed, w.group.Window, w.group.Topic}, args...), w.seed)...)
	}
	q, err := Open(context.Background(), dir, w.o)
	if err != nil {
		fail("open: %v", err)
	}
	q.log.WithoutKeeper()
	q.times = newFakeTimes()
	q.times.(*fakeTimes).suspend(time.Hour) // no lease and no delay lasts
	there := w.readAll(q, fail)
	infos, err := q.Groups()
	if err != nil || len(infos) > 1 {
		fail("look at the groups: %v, %v", infos, err)
	}
	g, err := q.Group("g", w.group)
	if err != nil {
		fail("open the group: %v", err)
	}
	came := map[Seq]bool{}
	for range 10 * (len(there) + 10) {
		d, err := tryReceive(g)
		if err != nil {
			fail("receive: %v", err)
		}
		joined() // what is acknowledged from here on is of no image
		if d == nil {
			break
		}
		if body, ok := there[d.Seq]; !ok || body != string(d.Body) || came[d.Seq] {
			fail("message %d %q is handed out; in the log is %q (%v); it came before: %v", d.Seq, d.Body, body, ok, came[d.Seq])
		}
		if !c.killed && d.Attempt() != 1 && !c.facts.delayed(d.Seq) {
			fail("message %d is handed out as attempt %d: a lease was not dropped", d.Seq, d.Attempt())
		}
		came[d.Seq] = true
		if err := d.Ack(); err != nil {
			fail("acknowledge %d: %v", d.Seq, err)
		}
	}
	for _, m := range c.facts.all {
		_, ok := there[m.seq]
		switch {
		case !ok && m.mine && (w.o.Durability == SyncAlways || c.killed):
			fail("message %d is not in the log", m.seq)
		case ok && m.mustCome() && !came[m.seq]:
			fail("message %d was not acknowledged and is lost", m.seq)
		case came[m.seq] && (m.mustStay(c.killed, c.making) || !m.mine):
			fail("message %d comes again (%+v)", m.seq, m)
		}
		if ok && m.mustCome() && !m.delayed && len(infos) > 0 && infos[0].Floor > m.seq {
			fail("message %d is not finished, the floor was said to be %d", m.seq, infos[0].Floor)
		}
	}
	w.checkNew(q, g, fail)
	if err := q.Close(); err != nil {
		fail("close: %v", err)
	}
}

func (f *tornFacts) delayed(seq Seq) bool {
	return slices.ContainsFunc(f.all, func(m tornMessage) bool { return m.seq == seq && m.delayed })
}

// readAll is what the log has for the group.
func (w *tornCrew) readAll(q *Queue, fail func(string, ...any)) map[Seq]string {
	r, err := q.Reader(Oldest, ReaderOptions{})
	if err != nil {
		fail("reader: %v", err)
	}
	defer r.Close()
	there := map[Seq]string{}
	for m, err := range r.All(context.Background()) {
		if err != nil {
			fail("read: %v", err)
		}
		if w.group.Topic == "" || strings.HasPrefix(string(m.Body), "mine") {
			there[m.Seq] = string(m.Body)
		}
	}
	return there
}

// checkNew: what is appended from now on is handed out, once, and stays finished.
func (w *tornCrew) checkNew(q *Queue, g *Group, fail func(string, ...any)) {
	for range 3 {
		seq, err := q.Publish(context.Background(), Draft{Topic: "mine", Body: []byte("new")})
		if err != nil {
			fail("publish: %v", err)
		}
		d, err := tryReceive(g)
		if err != nil || d == nil || d.Seq != seq {
			fail("new message %d: got %+v, %v", seq, d, err)
		}
		if err := d.AckSync(context.Background()); err != nil {
			fail("acknowledge new message %d: %v", seq, err)
		}
	}
	if d, err := tryReceive(g); d != nil || err != nil {
		fail("after the last message: got %+v, %v", d, err)
	}
}

// tornCrews checks images of crews, each of which leaves some dozens.
func tornCrews(t *testing.T, seed uint64, deadline time.Time, images int) {
	checked := 0
	for checked < images && time.Now().Before(deadline) {
		w := newCrew(t, seed)
		w.run(60 + w.random.IntN(200))
		for _, c := range w.cuts {
			w.check(c, 1)
		}
		checked += len(w.cuts)
		if err := os.RemoveAll(filepath.Dir(w.dir)); err != nil {
			t.Fatal(err)
		}
		seed++
	}
	t.Logf("%d images", checked)
}

func TestNoPowerCutBringsBackWhatAGroupFinished(t *testing.T) {
	defer group.SetPatience(0)()
	defer func(was time.Duration) { syncPatience = was }(syncPatience)
	syncPatience = 0
	images, patience := 400, 20*time.Second
	if n, err := strconv.Atoi(os.Getenv("WALQ_CRASH")); err == nil {
		images, patience = n, 24*time.Hour
	}
	if *tornSeed != 0 {
		tornCrews(t, *tornSeed, time.Now().Add(time.Hour), 1)
		return
	}
	tornCrews(t, testx.Seed(t)>>16, time.Now().Add(patience), images)
}
