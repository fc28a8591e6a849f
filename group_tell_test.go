package walq

import (
	"sync"
	"testing"
	"time"
)

// Who waits for the floor to rise is told by whoever raises it: also if that one only puts
// the group's state on disk, and the one who finished the message finds it raised.
func TestWhoeverRaisesTheFloorTellsWhoWaitsForIt(t *testing.T) {
	checkpoint := func(g *Group) error { return g.checkpoint(g.walk.ring, time.Second) }
	for _, c := range []struct {
		name  string
		moved uint64 // messages that are moved, behind the one that is finished
		raise func(*Group) error
	}{
		{"a checkpoint", 0, checkpoint},
		{"a checkpoint, over what was moved", 1, checkpoint},
		{"a pause", 1, func(g *Group) error { return g.q.PauseGroup("g", true) }},
		{"who trims", 1, func(g *Group) error { g.q.hold(1 << 60); return nil }},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, q, _ := timed(t)
			g := timedGroup(t, q, GroupOptions{})
			publish(t, q, Draft{})
			d := got(t, g, 1)
			for range c.moved {
				publish(t, q, Draft{NotBefore: time.Unix(1<<33, 0)})
			}
			if d, err := g.TryReceive(t.Context()); d != nil || err != nil {
				t.Fatalf("got %v, %v, want nothing", d, err)
			}
			ring := g.walk.ring
			floor := ring.Floor()
			if !d.finish() { // and is stopped before it looks at the floor
				t.Fatal("the lease is lost")
			}
			ring.WantRoom()
			if err := c.raise(g); err != nil {
				t.Fatal(err)
			}
			if n := ring.Floor(); n != floor+1+c.moved {
				t.Errorf("the floor is %d, want %d", n, floor+1+c.moved)
			}
			if ring.RoomMayBeWanted() {
				t.Error("the floor was raised, and who waits for it was not told")
			}
		})
	}
}

// Under the race detector.
func TestConsumersOfOneGroupMayPutItOnDiskAtOnce(t *testing.T) {
	_, q, _ := timed(t)
	g := timedGroup(t, q, GroupOptions{Window: 7})
	for range 200 {
		publish(t, q, Draft{})
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for {
				d, err := g.TryReceive(t.Context())
				if err != nil {
					t.Error(err)
				}
				if d == nil || err != nil {
					return
				}
				if err := d.AckSync(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if n := infoOf(t, q).Lag; n != 0 {
		t.Errorf("%d messages are left", n)
	}
}

// Who finishes a message raises the floor if somebody waits for that, and tells.
func TestWhoFinishesAMessageRaisesTheFloorForWhoWaitsForIt(t *testing.T) {
	_, q, _ := timed(t)
	g := timedGroup(t, q, GroupOptions{})
	publish(t, q, Draft{})
	publish(t, q, Draft{})
	first, second := got(t, g, 1), got(t, g, 1)
	ring := g.walk.ring
	floor := ring.Floor()
	ackNow := func(d *Delivery, want uint64) {
		t.Helper()
		if err := d.Ack(); err != nil {
			t.Fatal(err)
		}
		if n := ring.Floor(); n != want {
			t.Errorf("the floor is at %d, want %d", n, want)
		}
	}
	ackNow(first, floor) // nobody waits: it is raised in runs
	ring.WantRoom()
	ackNow(second, floor+2)
	if ring.RoomWanted() {
		t.Error("who waits was not told")
	}
}
