package walq

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/walq/walq/internal/testx"
)

// infoOf looks at the group "g".
func infoOf(t *testing.T, q *Queue) GroupInfo {
	t.Helper()
	all, err := q.Groups()
	if err != nil || len(all) != 1 {
		t.Fatal(all, err)
	}
	return all[0]
}

// takeAll finishes all that is handed out now.
func takeAll(t *testing.T, g *Group) (seqs []Seq) {
	t.Helper()
	for {
		d, err := g.TryReceive(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if d == nil {
			return seqs
		}
		seqs = append(seqs, d.Seq)
		if err := d.Ack(); err != nil {
			t.Fatal(err)
		}
	}
}

// Far more messages are delayed than the window has room for. Others are handed out
// meanwhile, and the delayed ones in the order in which they are due, each at its time.
func TestDelayedMessagesHoldNobodyUp(t *testing.T) {
	random := rand.New(rand.NewPCG(testx.Seed(t), 0))
	f, q, other := timed(t)
	g, g2 := timedGroup(t, q, GroupOptions{Window: 31}), timedGroup(t, other, GroupOptions{})
	start, _ := f.now()
	due := map[Seq]time.Time{}
	for range 2000 {
		at := start.Add(time.Duration(random.IntN(60_000)) * time.Millisecond).Add(5 * time.Second)
		due[publish(t, q, Draft{NotBefore: at})] = at
	}
	now := publish(t, q, Draft{Body: []byte("now")})
	if got := append(takeAll(t, g), takeAll(t, g2)...); !slices.Equal(got, []Seq{now}) {
		t.Fatalf("got %v, want %d alone", got, now)
	}
	if i := infoOf(t, q); i.Delayed != 2000 || i.Lag != 2000 || i.InFlight != 0 {
		t.Errorf("got %+v", i)
	}
	var last time.Time
	for at := time.Duration(0); len(due) > 0; at += 250 * time.Millisecond {
		if at > 70*time.Second {
			t.Fatalf("%d did not come", len(due))
		}
		f.pass(250 * time.Millisecond)
		wall, _ := f.now()
		for i, consumer := range []*Group{g, g2} {
			if at/(250*time.Millisecond)%2 == time.Duration(i) {
				continue
			}
			for _, seq := range takeAll(t, consumer) {
				if due[seq].After(wall) || due[seq].Before(last) {
					t.Fatalf("message %d is due at %v, came at %v behind one of %v", seq, due[seq], wall, last)
				}
				last = due[seq]
				delete(due, seq)
			}
		}
		for seq, at := range due {
			if wall.Sub(at) > 2*time.Millisecond {
				t.Fatalf("message %d was due at %v, and has not come at %v", seq, at, wall)
			}
		}
	}
	if i := infoOf(t, q); i.Delayed != 0 || i.Lag != 0 || i.Finished != 2001 || i.Redelivered != 0 {
		t.Errorf("at the end: %+v", i)
	}
}

func TestNewMessagesAndDelayedOnesTakeTurns(t *testing.T) {
	f, q, _ := timed(t)
	g := timedGroup(t, q, GroupOptions{})
	wall, _ := f.now()
	for range 10 {
		publish(t, q, Draft{NotBefore: wall.Add(5 * time.Second)})
	}
	gotNothing(t, g, 0)
	f.pass(6 * time.Second)
	for range 10 {
		publish(t, q, Draft{})
	}
	for i, seq := range takeAll(t, g) {
		if want := Seq(i/2 + 1 + i%2*10); seq != want {
			t.Errorf("the %d-th is message %d, want %d", i, seq, want)
		}
	}
}

func TestADelayedMessageIsSentBackExtendedAndGivenUpLikeAnother(t *testing.T) {
	f, q, other := timed(t)
	dead := t.TempDir() + "/dead"
	g := timedGroup(t, q, GroupOptions{Lease: time.Second, MaxDeliver: 4, DeadLetter: dead})
	g2 := timedGroup(t, other, GroupOptions{})
	seq := publish(t, q, Draft{Body: []byte("x")})
	if err := got(t, g, 1).Nak(time.Minute); err != nil {
		t.Fatal(err)
	}
	if i := infoOf(t, q); i.Delayed != 1 || i.InFlight != 0 || i.Lag != 1 {
		t.Errorf("got %+v", i)
	}
	f.pass(59 * time.Second)
	gotNothing(t, g2, 0)
	f.pass(2 * time.Second)
	d := got(t, g2, 2)
	if d.Seq != seq || string(d.Body) != "x" {
		t.Errorf("got message %d, %q", d.Seq, d.Body)
	}
	if err := d.Extend(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	f.pass(5 * time.Second)
	gotNothing(t, g, 0)
	f.pass(6 * time.Second)
	third := got(t, g, 3) // its lease is over
	if err := d.Ack(); !errors.Is(err, ErrLeaseLost) {
		t.Errorf("the late one: got %v, want ErrLeaseLost", err)
	}
	if err := third.Nak(0); err != nil {
		t.Fatal(err)
	}
	if err := got(t, g2, 4).Nak(time.Hour); err != nil {
		t.Fatal(err)
	}
	f.pass(2 * time.Hour)
	gotNothing(t, g, 0)
	if i := infoOf(t, q); i.DeadLettered != 1 || i.Lag != 0 || i.Delayed != 0 {
		t.Errorf("at the end: %+v", i)
	}
}

func TestADelayedMessageExpires(t *testing.T) {
	f, q, _ := timed(t)
	g := timedGroup(t, q, GroupOptions{})
	wall, _ := f.now()
	publish(t, q, Draft{NotBefore: wall.Add(time.Minute), Expire: wall.Add(2 * time.Minute)})
	gotNothing(t, g, 0)
	f.pass(time.Hour)
	gotNothing(t, g, 0)
	if i := infoOf(t, q); i.Lag != 0 || i.Finished != 1 {
		t.Errorf("got %+v", i)
	}
}

func TestInAnOrderedGroupADelayedMessageHoldsUpTheOthers(t *testing.T) {
	f, q, _ := timed(t)
	g := timedGroup(t, q, GroupOptions{Ordered: true})
	wall, _ := f.now()
	first := publish(t, q, Draft{NotBefore: wall.Add(time.Minute)})
	publish(t, q, Draft{})
	gotNothing(t, g, 0)
	if i := infoOf(t, q); i.Delayed != 0 || i.InFlight != 1 {
		t.Errorf("got %+v", i)
	}
	f.pass(2 * time.Minute)
	if d := got(t, g, 1); d.Seq != first {
		t.Errorf("got message %d", d.Seq)
	}
}

// A process ends, in either way, with delayed messages handed out; and all do.
func TestDelayedMessagesOutliveTheirConsumers(t *testing.T) {
	f, q, other := timed(t)
	g := timedGroup(t, q, GroupOptions{Window: 7})
	wall, _ := f.now()
	var want []Seq
	for i := range 100 {
		want = append(want, publish(t, q, Draft{NotBefore: wall.Add(time.Minute + time.Duration(i)*time.Millisecond)}))
	}
	gotNothing(t, g, 0)
	f.pass(2 * time.Minute)
	for i := range 3 {
		if d := got(t, g, 1); d.Seq != want[i] {
			t.Fatalf("got message %d, want %d", d.Seq, want[i])
		}
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	g2 := timedGroup(t, other, GroupOptions{})
	if i := infoOf(t, q); i.Delayed != 100 {
		t.Errorf("got %+v", i)
	}
	all := takeAll(t, g2)
	slices.Sort(all)
	if !slices.Equal(all, want) {
		t.Errorf("got %d messages, want 100", len(all))
	}
}

func TestARewoundGroupForgetsWhatWasDelayed(t *testing.T) {
	f, q, _ := timed(t)
	g := timedGroup(t, q, GroupOptions{})
	wall, _ := f.now()
	publish(t, q, Draft{NotBefore: wall.Add(time.Minute)})
	publish(t, q, Draft{NotBefore: wall.Add(time.Hour)})
	gotNothing(t, g, 0)
	f.pass(2 * time.Minute)
	d := got(t, g, 1)
	if err := q.ResetGroup(t.Context(), "g", At(2)); err != nil {
		t.Fatal(err)
	}
	if err := d.Ack(); !errors.Is(err, ErrLeaseLost) {
		t.Errorf("a lease of before: %v", err)
	}
	gotNothing(t, g, 0)
	if i := infoOf(t, q); i.Delayed != 1 || i.Lag != 1 {
		t.Errorf("got %+v", i)
	}
	if err := q.RemoveGroup("g"); err != nil {
		t.Fatal(err)
	}
	dir, err := q.log.OpenGroups()
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if names, err := dir.Names(); err != nil || len(names) != 0 {
		t.Errorf("left: %v, %v", names, err)
	}
}

func TestAGroupWhoseDelayedMessagesAreHandedOutIsNotRemoved(t *testing.T) {
	f, q, other := timed(t)
	g := timedGroup(t, q, GroupOptions{})
	wall, _ := f.now()
	publish(t, q, Draft{NotBefore: wall.Add(time.Minute)})
	gotNothing(t, g, 0)
	f.pass(2 * time.Minute)
	d := got(t, g, 1)
	if err := other.RemoveGroup("g"); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if err := d.Ack(); err != nil {
		t.Fatal(err)
	}
	if err := other.RemoveGroup("g"); err != nil {
		t.Error(err)
	}
}

func TestADelayedMessageThatWasTrimmedIsAGap(t *testing.T) {
	f, q, _ := timed(t)
	g := timedGroup(t, q, GroupOptions{})
	wall, _ := f.now()
	first := publish(t, q, Draft{NotBefore: wall.Add(time.Minute), Body: make([]byte, 30_000)})
	gotNothing(t, g, 0)
	for i := range 5 {
		publish(t, q, Draft{Body: make([]byte, 40_000), ID: fmt.Sprint(i)})
	}
	takeAll(t, g)
	if err := q.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n, err := q.TrimBefore(t.Context(), first+4); n != 0 || err != nil {
		t.Fatalf("a delayed message is trimmed: %d, %v", n, err)
	}
	if err := q.SetGroupMayLose("g", true); err != nil {
		t.Fatal(err)
	}
	if n, err := q.TrimBefore(t.Context(), first+4); n == 0 || err != nil {
		t.Fatal(n, err)
	}
	f.pass(2 * time.Minute)
	gap := new(GapError)
	if d, err := g.TryReceive(t.Context()); !errors.As(err, &gap) || gap.From != uint64(first) {
		t.Errorf("got %v, %v", d, err)
	}
	if i := infoOf(t, q); i.Delayed != 0 {
		t.Errorf("got %+v", i)
	}
}
