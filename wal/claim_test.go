package wal

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/walq/walq/internal/testx"
)

func TestADeadWritersClaimHoldsNobodyUp(t *testing.T) {
	dir := newQueue(t)
	a := create(t, dir, Options{StallTimeout: -1})
	b := open(t, dir, Options{StallTimeout: -1}) // never by time: only death counts
	ro := open(t, dir, Options{ReadOnly: true})
	for _, l := range []*Log{a, b} {
		appendText(t, l, "x")
	}
	if _, err := a.ClaimInPlace(nil, 50); err != nil {
		t.Fatal(err)
	}
	behind := appendText(t, b, "behind")
	if got := readAllNow(t, ro); len(got) != 2 {
		t.Fatalf("a read-only reader passed a live claim: %d messages", len(got))
	}
	crash(t, a)
	if got := readAllNow(t, ro); len(got) != 3 {
		t.Errorf("a read-only reader does not pass a dead claim: %d messages", len(got))
	}
	if err := b.WaitAppended(t.Context(), behind); err != nil { // who waits for durability frees the log
		t.Fatal(err)
	}
	if got := readAll(t, b); len(got) != 3 || got[behind.Seq] != "behind" {
		t.Errorf("got %v", got)
	}
}

func TestWhoeverTakesASlotFirstPadsItsDeadClaims(t *testing.T) {
	dir := newQueue(t)
	b := create(t, dir, Options{StallTimeout: -1}) // slot 0
	a := open(t, dir, Options{StallTimeout: -1})   // slot 1
	if _, err := a.ClaimInPlace(nil, 50); err != nil {
		t.Fatal(err)
	}
	appendText(t, b, "behind")
	crash(t, a)
	c := open(t, dir, Options{StallTimeout: -1})
	if c.slot != 1 || c.incarnation < 2 {
		t.Fatalf("slot %d incarnation %d, want the dead one's slot", c.slot, c.incarnation)
	}
	r, err := b.NewReader(false)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	// Its owner lives again: only the padding before makes the claim pass.
	if m, ok, err := r.Next(); !ok || err != nil || string(m.Body) != "behind" {
		t.Errorf("got %v %v %v, want the message behind the dead claim", m, ok, err)
	}
}

func TestAStoppedOwnerIsFencedAndItsMessageComesOnceAllTheSame(t *testing.T) {
	dir := newQueue(t)
	stall := 60 * time.Millisecond
	a, b := create(t, dir, Options{}), open(t, dir, Options{StallTimeout: stall})
	first, err := a.ClaimInPlace(nil, 7)
	if err != nil {
		t.Fatal(err)
	}
	copy(first.Bytes(), "stopped")
	filled := make(chan struct{})
	resume := make(chan struct{})
	done := make(chan Appended, 1)
	go func() {
		calls := 0
		got, err := a.AppendFunc(nil, 4, func(p []byte) error {
			copy(p, "fill")
			if calls++; calls == 1 {
				close(filled)
				<-resume
			}
			return nil
		})
		if err != nil || calls != 2 {
			t.Errorf("AppendFunc: %v after %d calls, want 2", err, calls)
		}
		done <- got
	}()
	<-filled
	behind := appendText(t, b, "behind")
	start := time.Now()
	if err := b.WaitAppended(t.Context(), behind); err != nil {
		t.Fatal(err)
	}
	if waited := time.Since(start); waited < stall {
		t.Errorf("fenced after %v, want not before %v", waited, stall)
	}
	close(resume)
	again := <-done
	got, err := first.Commit()
	if err != nil {
		t.Fatal(err)
	}
	if got.Seq <= behind.Seq || again.Seq <= behind.Seq {
		t.Errorf("the fenced are %d and %d, want them behind %d", got.Seq, again.Seq, behind.Seq)
	}
	all := readAll(t, b)
	wantNoneTwice(t, all)
	if len(all) != 3 || all[got.Seq] != "stopped" || all[again.Seq] != "fill" {
		t.Errorf("got %v", all)
	}
}

func TestSyncIntervalReachesTheDiskWithoutAnotherAppend(t *testing.T) {
	l := create(t, newQueue(t), Options{Durability: SyncInterval, SyncEvery: 5 * time.Millisecond})
	for range 20 { // the last append of each burst must not be forgotten
		a := appendText(t, l, "x")
		testx.Eventually(t, 20*time.Second, func() bool { return l.ctl.durable() >= a.End }, "an append is synced by and by")
	}
}

func TestADurableReaderStopsAtWhatAPowerLossCouldUndo(t *testing.T) {
	l := create(t, newQueue(t), Options{Durability: SyncNever})
	appendText(t, l, "a")
	if err := l.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	b := appendText(t, l, "b")
	r, err := l.NewReader(true)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if m := next(t, r); string(m.Body) != "a" {
		t.Fatalf("got %q", m.Body)
	}
	if m, ok, err := r.Next(); ok || err != nil {
		t.Errorf("got %q, %v before it is durable", m.Body, err)
	}
	if err := l.WaitDurable(t.Context(), b.Seq); err != nil {
		t.Fatal(err)
	}
	if m := next(t, r); string(m.Body) != "b" {
		t.Errorf("got %q, want b", m.Body)
	}
}

func TestSeeking(t *testing.T) {
	l := create(t, newQueue(t), Options{Durability: SyncNever})
	const n = 3000
	var times []int64
	for i := range n {
		appendText(t, l, fmt.Sprint(i+1, strings.Repeat("s", i%200)))
	}
	r, err := l.NewReader(false)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for range n {
		times = append(times, next(t, r).Time)
	}
	at := func(what string, seek error, want uint64) {
		t.Helper()
		if seek != nil {
			t.Fatal(seek)
		}
		m, ok, err := r.Next()
		if err != nil || ok != (want <= n) || ok && m.Seq != want {
			t.Errorf("%s: got %d %v %v, want %d", what, m.Seq, ok, err, want)
		}
	}
	for _, seq := range []uint64{1, 2, 500, 1453, 1454, 1455, 2999, 3000, 3001, 9000} {
		at(fmt.Sprint("seq ", seq), r.SeekSeq(seq), seq)
	}
	for _, back := range []uint64{0, 1, 2, 100, 2000, 2999, 3000} {
		at(fmt.Sprint("last ", back), r.SeekLast(back), n-back+1)
	}
	at("last, too many", r.SeekLast(5000), 1)
	at("newest", r.SeekNewest(), n+1)
	at("oldest", r.SeekOldest(), 1)
	for _, i := range []int{0, 1, 1000, 2500, n - 1} {
		want := i
		for want > 0 && times[want-1] >= times[i] {
			want--
		}
		at(fmt.Sprint("time of ", i+1), r.SeekTime(times[i]), uint64(want+1))
	}
	at("a time to come", r.SeekTime(times[n-1]+1), n+1)
}
