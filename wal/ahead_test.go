//go:build !race

package wal

import (
	"bytes"
	"context"
	"os"
	"testing"
	"time"

	"github.com/walq/walq/mmap"
	"github.com/walq/walq/segment"
)

// Under the race detector files lie in ordinary memory, which has no blocks.

// aheadOf appends some bytes, lets the keeper's work be done once, and returns how far
// blocks were written beyond the tail, or 0 if none were.
func aheadOf(t *testing.T, durability Durability, synced int64) (ahead, size int64) {
	t.Helper()
	l := open(t, newQueue(t), Options{Create: &Settings{SegmentSize: 8 << 20, Durability: durability}})
	body := bytes.Repeat([]byte("walq"), 1000)
	var last Appended
	for range 5 {
		var err error
		if last, err = l.Append(nil, body); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.WaitAppended(context.Background(), last); err != nil {
		t.Fatal(err)
	}
	l.syncer.spanBytes.Store(synced)
	s, w := tailOf(t, l), watch{pace: pace{rate: 1000}}
	if err := l.writeAhead(&w, s, last.End); err != nil {
		t.Fatal(err)
	}
	size, err := s.File().Size()
	if err != nil {
		t.Fatal(err)
	}
	for range 5 { // what lies there now is as good as what did
		appendDurable(t, l, string(body))
	}
	if got := len(readAll(t, l)); got != 10 {
		t.Errorf("%d messages are there, want 10", got)
	}
	if w.written == 0 {
		return 0, size
	}
	return w.written.off() - last.End.off(), size
}

func TestBlocksAreWrittenAheadWhereEachSyncIsSmall(t *testing.T) {
	ahead, size := aheadOf(t, SyncAlways, 4096)
	if ahead <= 0 || ahead > minWriteAhead {
		t.Errorf("%d bytes were written ahead of the tail, want some, at most %d", ahead, minWriteAhead)
	}
	if size > 2*minWriteAhead {
		t.Errorf("the file of a small queue has %d bytes", size)
	}
	for _, c := range []struct {
		durability Durability
		synced     int64
	}{{SyncNever, 4096}, {SyncInterval, 4096}, {SyncAlways, writeAheadSpan + 1}} {
		if ahead, _ := aheadOf(t, c.durability, c.synced); ahead != 0 {
			t.Errorf("durability %v, syncs of %d bytes: %d bytes were written ahead, want none", c.durability, c.synced, ahead)
		}
	}
}

func TestAPaceIsBelievedAtOnceOnlyWhereMuchIsAppended(t *testing.T) {
	const size = 64 << 20
	start := time.Now()
	at := func(off int64) Position { return makePosition(1, off) }
	slow := pace{}
	for i := range int64(100) {
		end := at(1<<20 + i*10_000)
		slow.note(end, start.Add(time.Duration(i)*keeperTick), size)
		if ahead := slow.ahead(end); ahead > 500_000 {
			t.Fatalf("10 KB a tick: %d bytes ahead, want no more than %v bring", ahead, aheadTime)
		}
	}
	var p pace
	p.note(at(32<<10), start, size)
	if p.note(at(64<<10), start.Add(keeperTick), size); p.ahead(at(64<<10)) > 64<<10 {
		t.Errorf("32 KiB in one tick: %d bytes ahead of 64 KiB", p.ahead(at(64<<10)))
	}
	if p.note(at(192<<10), start.Add(keeperTick+keeperTick/10), size); p.ahead(at(192<<10)) < 1<<20 {
		t.Errorf("128 KiB within a tick: %d bytes ahead, want a MiB", p.ahead(at(192<<10)))
	}
	if p.note(at(60<<20), start.Add(keeperTick+keeperTick/5), size); p.ahead(at(192<<10)) != maxStartBytes {
		t.Errorf("60 MiB within a tick: %d bytes ahead, want %d", p.ahead(at(192<<10)), maxStartBytes)
	}
	p = pace{}
	p.note(at(0), start, size)
	p.note(at(4<<20), start.Add(keeperTick), size)
	for i := range restAfter / keeperTick {
		p.note(at(4<<20), start.Add((2+i)*keeperTick), size)
	}
	if p.rate >= minAheadRate {
		t.Errorf("the pace of a queue that comes to rest is still %d bytes a tick", p.rate)
	}
}

func TestARollIsTakenForNoMoreThanWasAppended(t *testing.T) {
	const size, each = 64 << 20, 1 << 20
	start := time.Now()
	var p pace
	for i := range int64(10) { // 5 MiB in front of the seal, and 4 behind it
		end := makePosition(1, size+(i-5)*each)
		if i > 5 {
			end = makePosition(2, (i-5)*each)
		}
		p.note(end, start.Add(time.Duration(i)*keeperTick), size)
		if p.rate > each {
			t.Errorf("after %d MiB: a pace of %d bytes a tick, want %d at most", i, p.rate, each)
		}
	}
	if p.rate < each/2 {
		t.Errorf("a pace of %d bytes a tick, want about %d", p.rate, each)
	}
}

// keeperless is a new log of which nobody but the test looks after the room ahead.
func keeperless(t *testing.T) *Log {
	t.Helper()
	l := open(t, newQueue(t), Options{Create: &Settings{SegmentSize: 16 << 20, Durability: SyncNever}})
	l.keeper.start.Do(func() { close(l.keeper.gone) })
	t.Cleanup(func() { closeLog(t, l) })
	return l
}

func TestTheKeeperGoesAheadOfASuddenStart(t *testing.T) {
	l, body := keeperless(t), make([]byte, 4<<10)
	end, w := appendText(t, l, "first").End, watch{}
	if _, err := l.tickGuarded(&w); err != nil {
		t.Fatal(err)
	}
	before := tailOf(t, l).Allocated()
	for range 50 {
		a, err := l.Append(nil, body)
		if err != nil {
			t.Fatal(err)
		}
		end = a.End
	}
	w.pace.since = time.Now().Add(time.Hour) // the tick is never over, however slow this test is
	for more := true; more; more = w.behind {
		if _, err := l.tickGuarded(&w); err != nil {
			t.Fatal(err)
		}
	}
	ahead := w.touched.off() - end.off()
	if ahead < 200<<10 || ahead > maxStartBytes+mmap.LargePage {
		t.Errorf("%d bytes are ready ahead of 200 KiB that came at once, want as many at least, at most %d", ahead, maxStartBytes)
	}
	size, err := tailOf(t, l).File().Size()
	if err != nil || size < w.touched.off() || size > w.touched.off()+maxStartBytes {
		t.Errorf("the file has %d bytes, %v; it had %d, and is ready up to %d", size, err, before, w.touched.off())
	}
	resting := false
	for w.lastMove = time.Now(); !resting; time.Sleep(keeperTick) {
		if resting, err = l.tickGuarded(&w); err != nil {
			t.Fatal(err)
		}
	}
	if l.keeper.havePrepared() {
		t.Error("at rest the next segment is still held ready")
	}
}

func TestADiskThatHadNoRoomAheadIsLeftAloneForAWhile(t *testing.T) {
	l := keeperless(t)
	end := appendText(t, l, "first").End
	s, w := tailOf(t, l), watch{pace: pace{rate: 4 * startRate}}
	before := s.Allocated()
	if err := os.RemoveAll(l.log.Join("")); err != nil {
		t.Fatal(err)
	}
	if l.prepare(s.Size, 0) || l.keeper.refused.IsZero() {
		t.Fatal("a file was made in a directory that is gone")
	}
	last := l.keeper.refused.Add(refusedFor)
	if l.follow(&w, s, end, last.Add(-1)) || s.Allocated() != before {
		t.Errorf("asked again at once: %d bytes are allocated, %d were", s.Allocated(), before)
	}
	if !l.follow(&w, s, end, last) || s.Allocated() == before {
		t.Error("not asked again")
	}
}

func TestAnAppenderThatMakesRoomItselfCallsTheKeeper(t *testing.T) {
	l, body := keeperless(t), make([]byte, 4<<10)
	appendText(t, l, "first")
	select {
	case <-l.keeper.wake: // the first append does
	default:
	}
	l.keeper.awake.Store(true)
	for before := tailOf(t, l).Allocated(); tailOf(t, l).Allocated() == before; {
		if len(l.keeper.wake) != 0 {
			t.Fatal("called before there is need to")
		}
		if _, err := l.Append(nil, body); err != nil {
			t.Fatal(err)
		}
	}
	if len(l.keeper.wake) != 1 {
		t.Error("not called")
	}
}

func TestTheNextSegmentIsMadeReadyInPiecesAndTakenBetweenThem(t *testing.T) {
	l, body := keeperless(t), make([]byte, 1<<20)
	const ahead = 5 << 20
	pieces := 0
	for l.prepare(16<<20, ahead) {
		pieces++
	}
	if want := segment.DataStart(16<<20) + ahead; pieces < 3 || l.keeper.ready != want {
		t.Errorf("%d pieces up to %d, want several up to %d", pieces, l.keeper.ready, want)
	}
	made := l.keeper.prepared
	for range 20 { // rolls
		if _, err := l.Append(nil, body); err != nil {
			t.Fatal(err)
		}
	}
	if s := tailOf(t, l); s.Segment != made || s.Allocated() < l.keeper.ready {
		t.Errorf("the tail is not what was prepared, or has %d bytes allocated", s.Allocated())
	}
	if l.keeper.extendPrepared(16 << 20) {
		t.Error("what was taken is made longer")
	}
	if got := len(readAll(t, l)); got != 20 {
		t.Errorf("%d messages are there, want 20", got)
	}
}
