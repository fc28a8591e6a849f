package walq

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/walq/walq/group"
)

// timed is a queue whose groups go by the fake clocks, and a second handle of it: to
// each the other is another participant.
func timed(t *testing.T) (f *fakeTimes, q, other *Queue) {
	t.Helper()
	f = newFakeTimes()
	dir := t.TempDir() + "/q"
	handle := func() *Queue {
		q, err := Open(t.Context(), dir, Options{Create: &QueueOptions{SegmentSize: 64 << 10}, Durability: SyncNever})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := q.Close(); err != nil {
				t.Error(err)
			}
		})
		q.times = f
		return q
	}
	return f, handle(), handle()
}

func timedGroup(t *testing.T, q *Queue, o GroupOptions) *Group {
	t.Helper()
	g, err := q.Group("g", o)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func publish(t *testing.T, q *Queue, d Draft) Seq {
	t.Helper()
	seq, err := q.Publish(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	return seq
}

// got is what a group hands out now, and nothing is an error.
func got(t *testing.T, g *Group, attempt int) *Delivery {
	t.Helper()
	d, err := g.TryReceive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if d == nil {
		t.Fatal("nothing is handed out")
	}
	if d.Attempt() != attempt {
		t.Fatalf("message %d: attempt %d, want %d", d.Seq, d.Attempt(), attempt)
	}
	return d
}

// gotNothing fails if something is handed out, or if the group does not plan to look
// again just then; 0: whenever.
func gotNothing(t *testing.T, g *Group, plan time.Duration) {
	t.Helper()
	d, err := g.TryReceive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if d != nil {
		t.Fatalf("message %d is handed out, attempt %d", d.Seq, d.Attempt())
	}
	if at := g.untilScan(); plan != 0 && at != plan {
		t.Fatalf("the next look is planned in %v, want %v", at, plan)
	}
}

func finish(t *testing.T, d *Delivery) {
	t.Helper()
	if err := d.Ack(); err != nil {
		t.Fatalf("message %d: Ack: %v", d.Seq, err)
	}
}

func wantLost(t *testing.T, d *Delivery) {
	t.Helper()
	if err := d.Ack(); !errors.Is(err, ErrLeaseLost) {
		t.Fatalf("Ack: got %v, want ErrLeaseLost", err)
	}
}

// Times are kept in milliseconds: what lasts d ends in the millisecond after it.
const tick = time.Millisecond

func TestALeaseEndsAtItsTimeAndNotBefore(t *testing.T) {
	f, q, q2 := timed(t)
	a, same, other := timedGroup(t, q, GroupOptions{Lease: 30 * time.Second}), timedGroup(t, q, GroupOptions{}), timedGroup(t, q2, GroupOptions{})
	publish(t, q, Draft{})
	d := got(t, a, 1)
	gotNothing(t, same, time.Second)   // it looks once a second, whatever happens
	gotNothing(t, other, deathWatch)   // and whether others live
	f.pass(29*time.Second + 600*tick)  // nobody looks meanwhile
	gotNothing(t, same, 400*tick+tick) // just when the lease ends
	gotNothing(t, other, deathWatch)
	f.pass(395 * tick)
	gotNothing(t, same, 5*tick+tick)
	gotNothing(t, other, 5*tick+tick)
	f.pass(5 * tick)
	gotNothing(t, other, tick) // 30 s are over just now
	f.pass(tick)
	second := got(t, other, 2)
	gotNothing(t, same, deathWatch) // it is the other's now
	wantLost(t, d)
	f.pass(30 * time.Second)
	gotNothing(t, a, tick)
	f.pass(tick) // the second lease ends like the first
	third := got(t, same, 3)
	wantLost(t, second)
	finish(t, third)
	f.pass(time.Hour)
	gotNothing(t, a, 0)
	gotNothing(t, other, time.Second) //
}

func TestExtendCountsFromWhenItIsCalled(t *testing.T) {
	f, q, q2 := timed(t)
	a, other := timedGroup(t, q, GroupOptions{Lease: 10 * time.Second}), timedGroup(t, q2, GroupOptions{})
	publish(t, q, Draft{})
	d := got(t, a, 1)
	extend := func(by time.Duration) {
		t.Helper()
		if err := d.Extend(by); err != nil {
			t.Fatal(err)
		}
	}
	f.pass(9 * time.Second)
	extend(time.Minute)
	f.pass(time.Minute)
	gotNothing(t, other, tick)
	extend(0) // the group's lease
	f.pass(10 * time.Second)
	gotNothing(t, other, tick)
	extend(time.Second) // from now on, though there was less left
	f.pass(500 * tick)
	extend(100 * tick) // shorter than what is left
	f.pass(100 * tick)
	gotNothing(t, other, tick)
	f.pass(tick)
	finish(t, got(t, other, 2))
	if err := d.Extend(time.Hour); !errors.Is(err, ErrLeaseLost) {
		t.Errorf("got %v, want ErrLeaseLost", err)
	}
}

func TestALeaseWhoseTimeIsOverIsStillItsHoldersUntilSomebodyTakesIt(t *testing.T) {
	f, q, q2 := timed(t)
	a, other := timedGroup(t, q, GroupOptions{Lease: time.Second}), timedGroup(t, q2, GroupOptions{})
	publish(t, q, Draft{})
	d := got(t, a, 1)
	gotNothing(t, other, 0)
	f.pass(time.Hour)
	finish(t, d)
	gotNothing(t, other, 0)
}

func TestWhatIsSentBackWithADelayIsDueAtItsTime(t *testing.T) {
	f, q, q2 := timed(t)
	a, other := timedGroup(t, q, GroupOptions{}), timedGroup(t, q2, GroupOptions{})
	publish(t, q, Draft{})
	d := got(t, a, 1)
	if err := d.Nak(700 * tick); err != nil {
		t.Fatal(err)
	}
	for _, g := range []*Group{a, other} {
		gotNothing(t, g, 700*tick+tick)
	}
	f.pass(700 * tick)
	for _, g := range []*Group{a, other} {
		gotNothing(t, g, tick)
	}
	f.pass(tick)
	d = got(t, other, 2)
	if err := d.Nak(0); err != nil {
		t.Fatal(err)
	}
	finish(t, got(t, a, 3))
}

// Who looks late is told at once, and who has planned another look is not late.
func TestALookIsPlannedForWhateverIsDueFirst(t *testing.T) {
	f, q, _ := timed(t)
	g := timedGroup(t, q, GroupOptions{Lease: 300 * tick})
	for _, delay := range []time.Duration{900 * tick, 500 * tick, 700 * tick} {
		publish(t, q, Draft{})
		if err := got(t, g, 1).Nak(delay); err != nil {
			t.Fatal(err)
		}
	}
	publish(t, q, Draft{})
	got(t, g, 1)
	gotNothing(t, g, 301*tick) // the lease
	f.pass(301 * tick)
	finish(t, got(t, g, 2))
	gotNothing(t, g, 200*tick)
	for range 3 {
		f.pass(200 * tick)
		finish(t, got(t, g, 2))
	}
	gotNothing(t, g, time.Second)
}

func TestEachFailureInConsumeWaitsForItsStepOfTheBackOff(t *testing.T) {
	for _, c := range []struct{ set, want []time.Duration }{
		{nil, []time.Duration{0, time.Second, 5 * time.Second, 30 * time.Second, 30 * time.Second, 30 * time.Second}},
		{[]time.Duration{time.Minute, 0, 5 * tick}, []time.Duration{time.Minute, 0, 5 * tick, 5 * tick, 5 * tick}},
		{[]time.Duration{}, []time.Duration{0, 0, 0}}, // none, not as if nothing were said
	} {
		f, q, q2 := timed(t)
		g, other := timedGroup(t, q, GroupOptions{BackOff: c.set}), timedGroup(t, q2, GroupOptions{})
		publish(t, q, Draft{})
		for i, want := range c.want {
			d := got(t, g, i+1)
			fail := func(context.Context, *Delivery) error { return errors.New("it failed") }
			if err := g.handle(t.Context(), d, fail); err != nil {
				t.Fatal(err)
			}
			if want > 0 {
				plan := want + tick
				if want >= farAhead { // in the delay file: who has just let go of it is watched once more
					plan = 0
				}
				gotNothing(t, other, plan)
				f.pass(want)
				gotNothing(t, other, tick)
				f.pass(tick)
			}
		}
		finish(t, got(t, g, len(c.want)+1))
	}
}

func TestConsumeKeepsTheLeaseAsLongAsItsHandlerRuns(t *testing.T) {
	f, q, q2 := timed(t)
	g, other := timedGroup(t, q, GroupOptions{Lease: 3 * time.Second}), timedGroup(t, q2, GroupOptions{})
	publish(t, q, Draft{})
	d := got(t, g, 1)
	err := g.handle(t.Context(), d, func(context.Context, *Delivery) error {
		for range 100 {
			f.pass(900 * tick)
			gotNothing(t, other, 0)
		}
		return nil
	})
	if err != nil || !d.done {
		t.Fatal(err, d.done)
	}
	f.pass(time.Hour)
	gotNothing(t, other, 0)
	for _, x := range f.timers {
		if x.at > 0 {
			t.Error("a timer goes on after the handler")
		}
	}
}

func TestAMessageIsNotHandedOutBeforeItsTime(t *testing.T) {
	f, q, q2 := timed(t)
	g, other := timedGroup(t, q, GroupOptions{}), timedGroup(t, q2, GroupOptions{})
	now, _ := f.now()
	late := publish(t, q, Draft{NotBefore: now.Add(600 * tick)})
	early := publish(t, q, Draft{NotBefore: now})
	d := got(t, g, 1)
	if d.Seq != early {
		t.Fatalf("got message %d, want %d", d.Seq, early)
	}
	finish(t, d)
	for _, g := range []*Group{g, other} {
		gotNothing(t, g, 600*tick+tick)
	}
	f.pass(600 * tick)
	gotNothing(t, g, tick)
	f.pass(tick)
	d = got(t, other, 1) // it counts as handed out only now
	if d.Seq != late {
		t.Fatalf("got message %d, want %d", d.Seq, late)
	}
	finish(t, d)
}

func TestAMessageThatExpiredIsNotHandedOutAnyMore(t *testing.T) {
	f, q, _ := timed(t)
	g := timedGroup(t, q, GroupOptions{})
	now, _ := f.now()
	var all []Seq
	for range 3 {
		all = append(all, publish(t, q, Draft{Expire: now.Add(10 * time.Second)}))
	}
	d := got(t, g, 1)
	back := got(t, g, 1)
	f.pass(10*time.Second - tick)
	last := got(t, g, 1)
	if seqs := []Seq{d.Seq, back.Seq, last.Seq}; !slices.Equal(seqs, all) {
		t.Fatalf("got %v, want %v", seqs, all)
	}
	publish(t, q, Draft{Expire: now.Add(10 * time.Second)})
	if err := back.Nak(0); err != nil {
		t.Fatal(err)
	}
	f.pass(tick)
	gotNothing(t, g, 0) // neither what came back nor what was never handed out
	finish(t, d)        // who has one can finish it
	finish(t, last)
	gotNothing(t, g, time.Second)
	if r := g.walk.ring; r.Floor() != r.Base.Ordinal+4 || r.Counts().Finished != 4 {
		t.Errorf("%d are finished, the floor is %d above its base, want 4", r.Counts().Finished, r.Floor()-r.Base.Ordinal)
	}
}

// Leases go by the time since the boot, which all processes read the same, and which
// goes on while the machine is suspended.
func TestASuspensionOfTheMachineEndsLeases(t *testing.T) {
	f, q, q2 := timed(t)
	a, other := timedGroup(t, q, GroupOptions{Lease: 30 * time.Second}), timedGroup(t, q2, GroupOptions{})
	publish(t, q, Draft{})
	d := got(t, a, 1)
	gotNothing(t, other, deathWatch)
	f.suspend(time.Hour)
	second := got(t, other, 2)
	wantLost(t, d)
	finish(t, second)
}

func TestALeaseThatBeginsAfterASuspensionLastsInFull(t *testing.T) {
	f, q, q2 := timed(t)
	a, other := timedGroup(t, q, GroupOptions{Lease: 30 * time.Second}), timedGroup(t, q2, GroupOptions{})
	publish(t, q, Draft{})
	finish(t, got(t, a, 1)) // it has looked at the clock just now
	for _, slept := range []time.Duration{time.Hour, 2 * time.Second, 50 * tick} {
		f.pass(100 * tick)
		f.suspend(slept)
		publish(t, q, Draft{})
		d := got(t, a, 1)
		f.pass(30 * time.Second)
		gotNothing(t, other, tick)
		finish(t, d)
	}
}

func TestAWallClockThatIsSetMovesNoLease(t *testing.T) {
	for _, set := range []time.Duration{-time.Hour, time.Hour, -300 * tick, 300 * tick} {
		f, q, q2 := timed(t)
		a, other := timedGroup(t, q, GroupOptions{Lease: 30 * time.Second}), timedGroup(t, q2, GroupOptions{})
		publish(t, q, Draft{})
		got(t, a, 1)
		f.pass(10 * time.Second)
		gotNothing(t, other, 0)
		f.setWall(set)
		gotNothing(t, other, deathWatch)
		f.pass(20 * time.Second)
		gotNothing(t, other, tick)
		f.pass(tick)
		finish(t, got(t, other, 2))
	}
}

// When a message is due is a time of the wall clock: if that is set back it is late by as
// much, and somebody looks once a second all the time.
func TestAWallClockThatIsSetBackMakesDueMessagesLateAndLosesNone(t *testing.T) {
	f, q, _ := timed(t)
	g := timedGroup(t, q, GroupOptions{})
	now, _ := f.now()
	publish(t, q, Draft{})
	publish(t, q, Draft{NotBefore: now.Add(10 * time.Second)})
	if err := got(t, g, 1).Nak(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	f.setWall(-time.Hour)
	for range 36 {
		gotNothing(t, g, time.Second)
		f.pass(100 * time.Second)
	}
	gotNothing(t, g, time.Second)
	f.pass(10*time.Second + tick)
	finish(t, got(t, g, 2))
	finish(t, got(t, g, 1))
}

func TestAWallClockThatIsSetForwardMakesMessagesDueThatMuchEarlier(t *testing.T) {
	f, q, _ := timed(t)
	g := timedGroup(t, q, GroupOptions{})
	publish(t, q, Draft{})
	if err := got(t, g, 1).Nak(30 * time.Minute); err != nil {
		t.Fatal(err)
	}
	gotNothing(t, g, time.Second) // the longest anybody waits before he looks
	f.setWall(time.Hour)
	f.pass(wallEvery)
	finish(t, got(t, g, 2))
}

func TestTheRealClockGoesOnEvenlyAndIsReadAnewBeforeLong(t *testing.T) {
	c := groupClock{times: realTimes{}}
	m := c.now()
	for range 1000 {
		n := c.now()
		if n.boot < m.boot || n.ran < m.ran {
			t.Fatalf("it went back from %+v to %+v", m, n)
		}
		m = n
	}
	f := newFakeTimes()
	c = groupClock{times: f}
	first := c.now()
	f.boot += time.Minute // as if it went faster than the machine runs
	f.pass(bootEvery - tick)
	if n := c.now(); n.boot != first.boot+bootEvery-tick {
		t.Errorf("the time since boot was read again after %v", n.boot-first.boot)
	}
	f.pass(tick)
	if n := c.now(); n.boot != f.boot {
		t.Errorf("the time since boot was not read after %v", bootEvery)
	}
}

// A checkpoint is made a second after the first message is finished, not later because
// of others that follow.
func TestWhatIsFinishedIsPutOnDiskAfterASecond(t *testing.T) {
	f, q, _ := timed(t)
	g := timedGroup(t, q, GroupOptions{})
	before := func() (was group.Before) {
		t.Helper()
		was, err := g.file.Before()
		if err != nil {
			t.Fatal(err)
		}
		return was
	}
	start := before().From
	var last Seq
	for range 9 {
		last = publish(t, q, Draft{})
		finish(t, got(t, g, 1))
		f.pass(checkpointEvery / 9)
	}
	if from := before().From; from != start {
		t.Fatalf("a checkpoint was made after %v: %d", 9*(checkpointEvery/9), from)
	}
	f.pass(time.Millisecond)
	if from := before().From; from != uint64(last)+1 {
		t.Fatalf("the checkpoint is at %d, want %d", from, last+1)
	}
}

// Who looks may have been stopped between the clock and the look: what it saw first then
// was not there for so long.
func TestALeaseWhoseEndIsNotKnownIsBorneWithFromWhenItWasSeen(t *testing.T) {
	f, q, _ := timed(t)
	g := timedGroup(t, q, GroupOptions{})
	before := g.clock.now()
	f.pass(2 * shyLease)
	if left := g.bearWith(1, 5, before); left != shyLease {
		t.Errorf("borne with for %v after the first look, want %v", left, shyLease)
	}
	f.pass(shyLease / 4)
	if left := g.bearWith(1, 5, g.clock.now()); left != shyLease*3/4 {
		t.Errorf("borne with for %v more, want %v", left, shyLease*3/4)
	}
}
