package walq

import (
	"slices"
	"testing"
	"time"
)

// What had to stay in the window leaves it as soon as it can, and has not been handed out
// by that.
func TestADelayedMessageThatCouldNotLeaveTheWindowLeavesItLater(t *testing.T) {
	f, q, _ := timed(t)
	g := timedGroup(t, q, GroupOptions{})
	g.mu.Lock()
	g.delayed.without = f.ran() + time.Hour // as if another made the file for so long
	g.mu.Unlock()
	wall, _ := f.now()
	var want []Seq
	for i := range 5 {
		want = append(want, publish(t, q, Draft{NotBefore: wall.Add(time.Minute + time.Duration(i)*time.Second)}))
	}
	gotNothing(t, g, time.Second)
	if i := infoOf(t, q); i.InFlight != 5 || i.Delayed != 0 {
		t.Fatalf("they left the window: %+v", i)
	}
	g.mu.Lock()
	g.delayed.without = 0
	g.mu.Unlock()
	f.pass(time.Second)
	gotNothing(t, g, time.Second)
	if i := infoOf(t, q); i.InFlight != 0 || i.Delayed != 5 {
		t.Fatalf("they are in the window: %+v", i)
	}
	for _, seq := range want {
		f.pass(time.Minute / 4)
		f.pass(time.Minute)
		d := got(t, g, 1)
		if d.Seq != seq || d.Deaths() != 0 {
			t.Errorf("message %d with %d deaths, want %d with none", d.Seq, d.Deaths(), seq)
		}
		finish(t, d)
	}
}

// Messages that are due soon stay in the window, but not when it is full of them.
func TestWhatIsDueSoonDoesNotFillTheWindow(t *testing.T) {
	f, q, _ := timed(t)
	g := timedGroup(t, q, GroupOptions{Window: 31})
	wall, _ := f.now()
	for range 100 {
		publish(t, q, Draft{NotBefore: wall.Add(500 * time.Millisecond)})
	}
	now := publish(t, q, Draft{})
	if got := takeAll(t, g); !slices.Equal(got, []Seq{now}) {
		t.Fatalf("got %v, want %d alone", got, now)
	}
	f.pass(time.Second)
	if got := takeAll(t, g); len(got) != 100 {
		t.Errorf("%d came when they were due, want 100", len(got))
	}
}
