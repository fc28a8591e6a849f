//go:build walqsteps

package walq

import (
	"errors"
	"testing"
	"time"

	"github.com/walq/walq/group"
	"github.com/walq/walq/internal/step"
	"github.com/walq/walq/mmap"
)

// While somebody works on the message at the floor no sync lets the floor rise: messages
// that are moved meanwhile do not cost one each.
func TestMovedMessagesAreNotSyncedOneByOneBehindOneThatTakesLong(t *testing.T) {
	f, q, _ := timed(t)
	g := timedGroup(t, q, GroupOptions{Window: 63})
	start, _ := f.now()
	publish(t, q, Draft{Body: []byte("long")})
	long := got(t, g, 1)
	for range 60 {
		publish(t, q, Draft{NotBefore: start.Add(time.Hour)})
	}
	syncs := 0
	defer step.Set(step.DelayFlushBefore, func() error { syncs++; return nil })()
	if seqs := takeAll(t, g); len(seqs) != 0 {
		t.Fatalf("got %v, want none", seqs)
	}
	if i := infoOf(t, q); i.Delayed != 60 || syncs > 2 {
		t.Errorf("%d messages are delayed, with %d syncs; want 60, with 2 at most", i.Delayed, syncs)
	}
	if err := long.Ack(); err != nil {
		t.Error(err)
	}
}

// Who puts the delay file on disk was stopped in it. The others go on, a second later.
func TestNobodyWaitsForOneWhoIsStoppedWhileItSyncsDelayedMessages(t *testing.T) {
	f, q, _ := timed(t)
	g := timedGroup(t, q, GroupOptions{Window: 15})
	dir, err := q.log.OpenGroups()
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	file, err := dir.Open(group.FileName("g"), false)
	if err != nil {
		t.Fatal(err)
	}
	stopped := mmap.NewLockFile(file)
	defer stopped.Close()
	const checkpoint = 1 // docs/FORMAT.md
	if ok, err := stopped.TryLock(checkpoint, true); !ok || err != nil {
		t.Fatal(ok, err)
	}
	start, _ := f.now()
	for range 100 {
		publish(t, q, Draft{NotBefore: start.Add(time.Hour)})
	}
	now := publish(t, q, Draft{Body: []byte("now")})
	var seqs []Seq
	for i := 0; len(seqs) == 0 && i < 30; i++ { // each time the window is full another second
		seqs = append(seqs, takeAll(t, g)...)
		f.pass(time.Second)
	}
	if len(seqs) != 1 || seqs[0] != now {
		t.Errorf("got %v, want %d", seqs, now)
	}
	if err := errors.Join(stopped.Unlock(checkpoint), g.Close()); err != nil {
		t.Error(err)
	}
}
