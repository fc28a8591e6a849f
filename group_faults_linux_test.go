//go:build !race

package walq_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/walq/walq"
	"github.com/walq/walq/mmap"
	"github.com/walq/walq/wal"
	"github.com/walq/walq/walqtest"
)

// protectRing takes away, or gives back, what this process may do with the ring of the
// groups that it has mapped.
func protectRing(t *testing.T, prot int) {
	t.Helper()
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	done := false
	for line := range strings.Lines(string(maps)) {
		var from, to, off uint64
		var perm string
		if !strings.Contains(line, ".grp") {
			continue
		}
		if _, err := fmt.Sscanf(line, "%x-%x %s %x", &from, &to, &perm, &off); err != nil {
			t.Fatal(err)
		}
		const ring = 12288
		if from += ring - min(off, ring); from >= to {
			continue
		}
		if _, _, errno := syscall.Syscall(syscall.SYS_MPROTECT, uintptr(from), uintptr(to-from), uintptr(prot)); errno != 0 {
			t.Fatal(errno)
		}
		done = true
	}
	if !done {
		t.Fatal("no group is mapped")
	}
}

// The walk may have gone past a message when the claim faults: it must not go on
// counting from there.
func TestAFaultInTheRingCostsNoMessage(t *testing.T) {
	q := create(t, newDir(t), walq.Options{Durability: walq.SyncNever})
	g := newGroup(t, q, "g", walq.GroupOptions{})
	appendText(t, q, "1")
	ack(t, receive(t, g))
	for _, body := range []string{"2", "3", "4"} {
		appendText(t, q, body)
	}
	protectRing(t, syscall.PROT_NONE)
	_, err := g.TryReceive(t.Context())
	protectRing(t, syscall.PROT_READ|syscall.PROT_WRITE)
	if fault := new(mmap.FaultError); !errors.As(err, &fault) {
		t.Fatalf("got %v, want a fault", err)
	}
	got := []string{string(receive(t, g).Body)}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	if all := drain(t, newGroup(t, q, "g", walq.GroupOptions{})); got[0] != "2" || !slices.Equal(all, []string{"2", "3", "4"}) {
		t.Errorf("got %v, then %v", got, all)
	}
}

// Repair takes messages out of the log that the group had counted.
func TestAfterARepairAGroupCountsAnew(t *testing.T) {
	dir := newDir(t)
	q := create(t, dir, walq.Options{Durability: walq.SyncNever})
	g := newGroup(t, q, "g", walq.GroupOptions{})
	seqs := walqtest.Fill(t, q, 10)
	for i := range 9 {
		if d := receive(t, g); i != 2 && i != 7 {
			ack(t, d)
		}
	}
	closeQueue(t, q)
	walqtest.Flip(t, dir, seqs[5])
	if rep, err := wal.Repair(t.Context(), dir, wal.RepairOptions{}); err != nil || rep.Lost != 1 {
		t.Fatalf("repair: %+v, %v", rep, err)
	}
	q = open(t, dir, walq.Options{})
	g = newGroup(t, q, "g", walq.GroupOptions{})
	for _, i := range []int{2, 7, 9} {
		d := receive(t, g)
		if d.Seq != seqs[i] {
			t.Errorf("got message %d, want %d", d.Seq, seqs[i])
		}
		ack(t, d)
	}
	if more := drain(t, g); len(more) > 0 {
		t.Errorf("there was more: %q", more)
	}
}

func TestADelayedMessageIsDeliveredForTheFirstTimeWhenItIsDue(t *testing.T) {
	q := create(t, newDir(t), walq.Options{Durability: walq.SyncNever})
	g := newGroup(t, q, "g", walq.GroupOptions{MaxDeliver: 1, DeadLetter: newDir(t)})
	due := time.Now().Add(time.Second)
	for _, d := range []walq.Draft{{Body: []byte("later"), NotBefore: due}, {Body: []byte("gone"), Expire: time.Now()}, {Body: []byte("now")}} {
		if _, err := q.Publish(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	if d := receive(t, g); string(d.Body) != "now" {
		t.Errorf("got %q first, want what may be worked on now", d.Body)
	}
	d := receive(t, g)
	if late := time.Since(due); string(d.Body) != "later" || d.Attempt() != 1 || late < 0 {
		t.Errorf("got %q, attempt %d, %v after it was due", d.Body, d.Attempt(), late)
	}
}

func TestTheLongestLeasesAndDelaysAreNotOver(t *testing.T) {
	q := create(t, newDir(t), walq.Options{Durability: walq.SyncNever})
	g := newGroup(t, q, "g", walq.GroupOptions{Lease: math.MaxInt64})
	other := newGroup(t, q, "g", walq.GroupOptions{})
	appendText(t, q, "mine for ever")
	d := receive(t, g)
	wantNothing := func(what string) {
		t.Helper()
		for range 3 {
			if got, err := other.TryReceive(t.Context()); got != nil || err != nil {
				t.Fatalf("%s: another consumer got %v, %v", what, got, err)
			}
		}
	}
	wantNothing("the longest lease")
	if err := d.Extend(math.MaxInt64); err != nil {
		t.Fatal(err)
	}
	wantNothing("the longest extension")
	if err := d.Nak(math.MaxInt64); err != nil {
		t.Fatal(err)
	}
	wantNothing("the longest delay")
}

// Who holds the lock of the checkpoints may have been stopped.
func TestAStoppedCheckpointHoldsNobodyUp(t *testing.T) {
	dir := newDir(t)
	q := create(t, dir, walq.Options{Durability: walq.SyncNever})
	g := newGroup(t, q, "g", walq.GroupOptions{})
	appendText(t, q, "1")
	appendText(t, q, "2")
	groups, err := mmap.OpenDir(filepath.Join(dir, "groups"))
	if err != nil {
		t.Fatal(err)
	}
	defer groups.Close()
	f, err := groups.Open("g.grp", false)
	if err != nil {
		t.Fatal(err)
	}
	locks := mmap.NewLockFile(f)
	defer locks.Close()
	if ok, err := locks.TryLock(1, true); !ok || err != nil {
		t.Fatal(ok, err)
	}
	ack(t, receive(t, g))
	time.Sleep(1200 * time.Millisecond) // the timer's checkpoint is due by now
	begun := time.Now()
	d := receive(t, g)
	if took := time.Since(begun); took > time.Second {
		t.Errorf("Receive took %v", took)
	}
	if err := d.AckSync(t.Context()); !errors.Is(err, walq.ErrNotDurable) {
		t.Errorf("AckSync: got %v, want ErrNotDurable", err)
	}
}

func TestWhatTheDeadLetterQueueCannotTakeIsTriedAgainAndStopsNobody(t *testing.T) {
	for name, dead := range map[string]func(dir string) string{
		"the queue itself": func(dir string) string { return dir },
		"no directory":     func(string) string { return "/dev/null/dead" },
	} {
		t.Run(name, func(t *testing.T) {
			dir := newDir(t)
			q := create(t, dir, walq.Options{Durability: walq.SyncNever})
			g := newGroup(t, q, "g", walq.GroupOptions{MaxDeliver: 1, DeadLetter: dead(dir), BackOff: []time.Duration{0}})
			appendText(t, q, "bad")
			appendText(t, q, "good")
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			tries := map[string]int{}
			if err := g.Consume(ctx, func(_ context.Context, d *walq.Delivery) error {
				if tries[string(d.Body)]++; len(tries) == 2 {
					time.AfterFunc(200*time.Millisecond, cancel) // time enough to be handed out again
				}
				if string(d.Body) == "bad" {
					return errors.New("it is bad")
				}
				return nil
			}); err != nil {
				t.Error(err)
			}
			if tries["bad"] != 1 || tries["good"] != 1 {
				t.Errorf("got %v", tries)
			}
			if s := stats(t, q); s.Messages != 2 {
				t.Errorf("there are %d messages, want 2", s.Messages)
			}
		})
	}
	t.Run("a long reason", func(t *testing.T) {
		q := create(t, newDir(t), walq.Options{Durability: walq.SyncNever})
		dead := newDir(t)
		g := newGroup(t, q, "g", walq.GroupOptions{DeadLetter: dead})
		appendText(t, q, "bad")
		if err := receive(t, g).Term(strings.Repeat("because ", 20_000)); err != nil {
			t.Fatal(err)
		}
		if s := stats(t, open(t, dead, walq.Options{ReadOnly: true})); s.Messages != 1 {
			t.Errorf("%d dead letters", s.Messages)
		}
	})
}

// Dead-letter paths that make a circle do not send a message round for ever: it stays in
// the last queue, and nothing is lost.
func TestADeadLetterGoesThroughNoQueueTwice(t *testing.T) {
	dirs := []string{newDir(t), newDir(t), newDir(t)}
	queues := make([]*walq.Queue, 3)
	for i, dir := range dirs {
		queues[i] = create(t, dir, walq.Options{Durability: walq.SyncNever})
	}
	group := func(from, to int) *walq.Group {
		return newGroup(t, queues[from], "g", walq.GroupOptions{DeadLetter: dirs[to]})
	}
	appended := appendOne(t, queues[0], walq.Draft{Headers: map[string]string{"h": "1"}, Body: []byte("bad")})
	for i := range 2 {
		if err := receive(t, group(i, i+1)).Term("no"); err != nil {
			t.Fatal(err)
		}
	}
	last := group(2, 0)
	d := receive(t, last)
	want := fmt.Sprint(queues[0].ID(), ",", queues[1].ID())
	if got := d.Header(walq.HeaderOriginPath); got != want || d.Header("h") != "1" {
		t.Errorf("the path is %q, want %q", got, want)
	}
	if err := d.Term("no"); !errors.Is(err, walq.ErrDeadLetter) {
		t.Errorf("back to where it comes from: got %v, want ErrDeadLetter", err)
	}
	if g := groupOf(t, queues[2], "g"); g.Lag != 1 || g.InFlight != 1 || g.DeadLettered != 0 {
		t.Errorf("got %+v, want that the message stays", g)
	}
	if s := stats(t, queues[0]); s.Messages != 1 || s.LastSeq != appended {
		t.Errorf("the first queue has %d messages, want its own", s.Messages)
	}
	// Redrive is somebody's will: the message may go the same way once more.
	if n, err := queues[1].Redrive(t.Context(), queues[2]); n != 1 || err != nil {
		t.Errorf("redrive: %d, %v", n, err)
	}
	d = receive(t, group(1, 2))
	if got := d.Header(walq.HeaderOriginPath); got != "" {
		t.Errorf("after a redrive the path is %q", got)
	}
	if err := d.Term("no"); err != nil {
		t.Error(err)
	}
}

// A context ends a walk over what is not the group's.
func TestALongWalkHonoursTheContext(t *testing.T) {
	q := create(t, newDir(t), walq.Options{Durability: walq.SyncNever})
	drafts := slices.Repeat([]walq.Draft{{Topic: "other"}}, 1000)
	for range 200 {
		if _, err := q.Publish(t.Context(), drafts...); err != nil {
			t.Fatal(err)
		}
	}
	g := newGroup(t, q, "g", walq.GroupOptions{Topic: "mine"})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := g.Receive(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	appended := appendOne(t, q, walq.Draft{Topic: "mine", Body: []byte("x")})
	if d := receive(t, g); d.Seq != appended {
		t.Errorf("got message %d, want %d", d.Seq, appended)
	}
}

func appendOne(t *testing.T, q *walq.Queue, d walq.Draft) walq.Seq {
	t.Helper()
	seq, err := q.Publish(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	return seq
}
