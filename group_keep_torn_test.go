//go:build walqsteps && !race

package walq_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/walq/walq"
	"github.com/walq/walq/internal/step"
	"github.com/walq/walq/internal/testx"
	"github.com/walq/walq/internal/torn"
)

// A keepWorld is a full queue on a disk whose power may go at any step: two handles
// append, trim and work for a group that must keep its messages.
type keepWorld struct {
	dir    string
	disk   *torn.Disk
	handle [2]*walq.Queue
	group  [2]*walq.Group
	held   []*walq.Delivery
	other  *walq.Group // a consumer that works while somebody is stopped

	mu     sync.Mutex // keepers pass steps too
	random *rand.Rand
	within bool
	left   map[walq.Seq]bool // appended, and not finished by the group
	cuts   []keepCut
}

type keepCut struct {
	at   string
	cut  *torn.Cut
	want []walq.Seq // what the group must still be handed
}

const keepLimit = 4 * smallest

func newKeepWorld(t *rapid.T, place string) *keepWorld {
	w := &keepWorld{dir: filepath.Join(place, "q"), left: map[walq.Seq]bool{}, random: rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "cuts"), 0))}
	if err := os.Mkdir(w.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	disk, remove, err := torn.New(w.dir, 1)
	if err != nil {
		t.Fatal(err)
	}
	w.disk = disk
	t.Cleanup(remove)
	for i := range w.handle {
		q, err := walq.Open(context.Background(), w.dir, walq.Options{Create: &walq.QueueOptions{SegmentSize: smallest, MaxBytes: keepLimit}})
		if err != nil {
			t.Fatal(err)
		}
		w.handle[i] = q
	}
	w.open(t, 0)
	if w.other, err = w.handle[1].Group("k", walq.GroupOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, id := range []step.ID{
		step.TrimAsked, step.TrimOldestSet, step.TrimControlSynced, step.TrimUnlinked, step.GroupCheckpointReady,
		step.CheckpointWritten, step.GroupBaseWritten, step.GroupRingReset, step.GroupFloorSet, step.GroupBaseCounts, step.RollLinked,
	} {
		t.Cleanup(step.Set(id, func() error { w.passed(t, id); return nil }))
	}
	t.Cleanup(func() {
		w.mu.Lock()
		w.within = true
		w.mu.Unlock()
		for _, q := range w.handle {
			if err := q.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	return w
}

// passed is called at the steps of trimming, checkpoints and bases: the other handle may
// trim there, and the power may go.
func (w *keepWorld) passed(t *rapid.T, id step.ID) {
	w.mu.Lock()
	nested := w.within
	w.within = true
	others := !nested && (id == step.GroupCheckpointReady || id == step.CheckpointWritten) && w.random.IntN(2) == 0
	n := w.random.IntN(60)
	w.mu.Unlock()
	if others {
		w.goOn(t, n)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.within = nested
	w.disk.Look()
	for range 1 + 3*boolInt(others) {
		if w.random.IntN(4) == 0 {
			w.cutNow(id.String())
		}
	}
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// goOn is what others do while one is stopped in a checkpoint: a consumer finishes so many
// messages, and somebody trims.
func (w *keepWorld) goOn(t *rapid.T, messages int) {
	for range messages {
		d, err := w.other.TryReceive(context.Background())
		if err != nil {
			t.Errorf("a group that must keep its messages got: %v", err)
		}
		if d == nil {
			break
		}
		w.mu.Lock()
		delete(w.left, d.Seq)
		w.mu.Unlock()
		if err := d.Ack(); err != nil {
			t.Errorf("message %d: %v", d.Seq, err)
		}
	}
	// In vain if it is a trimmer that makes the checkpoint.
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Millisecond)
	defer cancel()
	if _, err := w.handle[1].Trim(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

func (w *keepWorld) cutNow(at string) {
	var want []walq.Seq
	for seq := range w.left {
		want = append(want, seq)
	}
	slices.Sort(want)
	w.cuts = append(w.cuts, keepCut{at, w.disk.Cut(w.random), want})
}

func (w *keepWorld) open(t *rapid.T, i int) {
	if w.group[i] != nil {
		return
	}
	g, err := w.handle[i].Group("k", walq.GroupOptions{Window: 127})
	if err != nil {
		t.Fatal(err)
	}
	w.group[i] = g
}

func (w *keepWorld) append(t *rapid.T) {
	body := make([]byte, rapid.IntRange(100, 20_000).Draw(t, "size"))
	for range rapid.IntRange(1, 12).Draw(t, "messages") {
		seq, err := w.handle[rapid.IntRange(0, 1).Draw(t, "handle")].Append(context.Background(), body)
		if errors.Is(err, walq.ErrFull) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		w.mu.Lock()
		w.left[seq] = true
		w.mu.Unlock()
	}
}

func (w *keepWorld) receive(t *rapid.T) {
	i := rapid.IntRange(0, 1).Draw(t, "consumer")
	w.open(t, i)
	for range rapid.IntRange(1, 25).Draw(t, "messages") {
		d, err := w.group[i].TryReceive(context.Background())
		if err != nil {
			t.Fatalf("a group that must keep its messages got: %v", err)
		}
		if d == nil {
			return
		}
		w.held = append(w.held, d)
	}
}

func (w *keepWorld) finish(t *rapid.T) {
	for range rapid.IntRange(1, 40).Draw(t, "messages") {
		if len(w.held) == 0 {
			return
		}
		i := 0
		if rapid.IntRange(0, 9).Draw(t, "not the oldest") == 0 {
			i = rapid.IntRange(0, len(w.held)-1).Draw(t, "which")
		}
		d := w.held[i]
		w.held = slices.Delete(w.held, i, i+1)
		w.mu.Lock()
		was := w.left[d.Seq]  // else another consumer finished it
		delete(w.left, d.Seq) // from here on it may be finished
		w.mu.Unlock()
		end := d.Ack
		if rapid.IntRange(0, 15).Draw(t, "on disk") == 0 {
			end = func() error { return d.AckSync(context.Background()) }
		}
		if err := end(); errors.Is(err, walq.ErrLeaseLost) || errors.Is(err, walq.ErrClosed) {
			w.mu.Lock()
			if was { // it was sent back, or the group was reset
				w.left[d.Seq] = true
			}
			w.mu.Unlock()
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

func (w *keepWorld) trim(t *rapid.T) {
	if _, err := w.handle[rapid.IntRange(0, 1).Draw(t, "handle")].Trim(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func (w *keepWorld) leave(t *rapid.T) {
	i := rapid.IntRange(0, 1).Draw(t, "consumer")
	if w.group[i] == nil {
		return
	}
	if err := w.group[i].Close(); err != nil {
		t.Fatal(err)
	}
	w.group[i] = nil
}

// reset lets the group begin anew with the oldest message.
func (w *keepWorld) reset(t *rapid.T) {
	q := w.handle[rapid.IntRange(0, 1).Draw(t, "handle")]
	if err := q.ResetGroup(context.Background(), "k", walq.Oldest); err != nil {
		t.Fatal(err)
	}
	w.held = nil
	r, err := q.Reader(walq.Oldest, walq.ReaderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var all []walq.Seq
	for m, err := range r.All(context.Background()) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, m.Seq)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, seq := range all {
		w.left[seq] = true
	}
}

// holds is what must be so between operations.
func (w *keepWorld) holds(t *rapid.T) {
	size := func() int64 {
		files, err := filepath.Glob(filepath.Join(w.dir, "log", "*.seg"))
		if err != nil {
			t.Fatal(err)
		}
		return int64(len(files)) * smallest
	}
	if size() > keepLimit { // a keeper may be at it
		if _, err := w.handle[0].Trim(context.Background()); err != nil {
			t.Fatal(err)
		}
		if n := size(); n > keepLimit {
			t.Errorf("%d bytes on disk, want at most %d", n, keepLimit)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.random.IntN(10) == 0 {
		w.cutNow("rest")
	}
}

// judge opens what a power cut left: the group is handed all that it had not finished.
func (c *keepCut) judge(t *rapid.T, dir string) {
	if err := c.cut.Write(dir); err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	q, err := walq.Open(context.Background(), dir, walq.Options{Snapshot: true})
	if err != nil {
		t.Fatalf("power cut at %s: %v", c.at, err)
	}
	defer q.Close()
	g, err := q.Group("k", walq.GroupOptions{})
	if err != nil {
		t.Fatalf("power cut at %s: %v", c.at, err)
	}
	got := map[walq.Seq]bool{}
	for {
		d, err := g.TryReceive(context.Background())
		if err != nil {
			t.Fatalf("power cut at %s, %d messages to be handed out: %v", c.at, len(c.want), err)
		}
		if d == nil {
			break
		}
		got[d.Seq] = true
		if err := d.Ack(); err != nil {
			t.Fatal(err)
		}
	}
	for _, seq := range c.want {
		if !got[seq] {
			t.Fatalf("power cut at %s: message %d was not finished and is not handed out; the oldest is %d", c.at, seq, c.want[0])
		}
	}
}

// Whenever the power goes, nothing is missing of what a group must keep, and the queue is
// never larger than its limit.
func TestNoPowerCutTakesWhatAGroupMustKeep(t *testing.T) {
	place := testx.InMemory(t)
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		dir := filepath.Join(place, fmt.Sprint(n))
		if err := os.Mkdir(dir, 0o700); err != nil {
			rt.Fatal(err)
		}
		w := newKeepWorld(rt, dir)
		rt.Repeat(map[string]func(*rapid.T){
			"append": w.append, "append more": w.append, "receive": w.receive, "receive more": w.receive,
			"finish": w.finish, "finish more": w.finish, "trim": w.trim, "leave": w.leave, "reset": w.reset, "": w.holds,
		})
		w.mu.Lock()
		cuts := w.cuts
		w.mu.Unlock()
		for i := range cuts {
			cuts[i].judge(rt, filepath.Join(dir, fmt.Sprint("cut", i)))
		}
	})
}
