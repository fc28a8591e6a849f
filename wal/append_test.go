package wal

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/walq/walq/internal/testx"
	"github.com/walq/walq/segment"
)

func TestMessagesOfEverySizeComeBackWhole(t *testing.T) {
	dir := newQueue(t)
	l := create(t, dir, Options{})
	largest := int(l.MaxContent())
	rnd := rand.New(rand.NewPCG(testx.Seed(t), 0))
	var want [][]byte
	for _, n := range []int{0, 1, 7, 8, 9, 100, 4096, largest, 0, largest, largest - 1, 3} {
		body := make([]byte, n)
		for i := range body {
			body[i] = byte(rnd.Uint32())
		}
		want = append(want, body)
		if _, err := l.Append(nil, body); err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
	}
	r, err := l.NewReader(false)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for i, body := range want {
		if m := next(t, r); m.Seq != uint64(i+1) || !bytes.Equal(m.Body, body) {
			t.Fatalf("message %d: got number %d with %d bytes, want %d bytes", i+1, m.Seq, len(m.Body), len(body))
		}
	}
	closeLog(t, l)
	wantSound(t, dir, len(want))
}

func TestOneByteTooManyIsRefusedAndNothingIsAppended(t *testing.T) {
	l := create(t, newQueue(t), Options{})
	for name, err := range map[string]error{
		"message":  second(l.Append(nil, make([]byte, l.MaxContent()+1))),
		"metadata": second(l.Append(make([]byte, segment.MaxMeta+1), nil)),
		"batch":    second(l.AppendBatch([]Part{{Body: make([]byte, l.MaxContent()/2)}, {Body: make([]byte, l.MaxContent()/2)}})),
		"count":    second(l.AppendBatch(make([]Part, segment.MaxCount+1))),
	} {
		if !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: got %v, want ErrTooLarge", name, err)
		}
	}
	if a := appendText(t, l, "x"); a.Seq != 1 {
		t.Errorf("got number %d, want 1", a.Seq)
	}
}

func second[T any](_ T, err error) error { return err }

func TestABatchThatDoesNotFitTheRestGoesWholeToTheNextSegment(t *testing.T) {
	dir := newQueue(t)
	l := create(t, dir, Options{})
	appendText(t, l, strings.Repeat("a", int(l.MaxContent())*2/3))
	var parts []Part
	for i := range 10 {
		parts = append(parts, Part{Meta: []byte{0x80}, Body: bytes.Repeat([]byte{byte(i)}, int(l.MaxContent())/20)})
	}
	a, err := l.AppendBatch(parts)
	if err != nil {
		t.Fatal(err)
	}
	if a.Seq != 2 || a.End.ordinal() != 2 {
		t.Errorf("the batch is at %d, %v; want 2 in segment 2", a.Seq, a.End)
	}
	r, err := l.NewReader(false)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	next(t, r)
	for i, p := range parts {
		m := next(t, r)
		if m.Seq != uint64(i+2) || !bytes.Equal(m.Body, p.Body) || !bytes.Equal(m.Meta, p.Meta) {
			t.Fatalf("message %d of the batch: number %d, %d and %d bytes", i, m.Seq, len(m.Meta), len(m.Body))
		}
	}
	if err := r.SeekSeq(5); err != nil {
		t.Fatal(err)
	}
	if m := next(t, r); m.Seq != 5 {
		t.Errorf("seek into a batch: got %d, want 5", m.Seq)
	}
	closeLog(t, l)
	wantSound(t, dir, 11)
}

// The storm of the package: several handles of one queue, several goroutines
// each, rolling small segments hundreds of times, while readers follow.
func TestStormEveryMessageComesOnceInOneOrder(t *testing.T) {
	const handles, goroutines = 3, 3
	per := 2000
	if testx.Race {
		per = 400
	}
	dir := newQueue(t)
	closeLog(t, create(t, dir, Options{}))
	var mu sync.Mutex
	want := map[uint64]string{}
	var wg sync.WaitGroup
	readers := make([][]string, 2)
	for i := range readers {
		l := open(t, dir, Options{ReadOnly: i == 1})
		r, err := l.NewReader(i == 0)
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			defer r.Close()
			for range handles * goroutines * per {
				m := next(t, r)
				readers[i] = append(readers[i], fmt.Sprint(m.Seq, string(m.Body)))
			}
		})
	}
	for h := range handles {
		l := open(t, dir, Options{Durability: Durability(1 + h)})
		var in sync.WaitGroup
		for g := range goroutines {
			in.Go(func() {
				for i := range per {
					body := fmt.Sprintf("%d/%d/%d/%s", h, g, i, strings.Repeat("y", (i*7919)%700))
					a, err := l.Append(nil, []byte(body))
					if err == nil && h == 0 && i%20 == 0 {
						err = l.WaitAppended(t.Context(), a)
					}
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					if other, taken := want[a.Seq]; taken {
						t.Errorf("number %d was given to %.20q and %.20q", a.Seq, other, body)
					}
					want[a.Seq] = body
					mu.Unlock()
				}
			})
		}
		wg.Go(func() {
			in.Wait()
			if err := l.Sync(t.Context()); err != nil { // the durable reader waits for it
				t.Error(err)
			}
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for i := range readers[0] {
		if readers[0][i] != readers[1][i] {
			t.Fatalf("the readers differ at %d: %.40q and %.40q", i, readers[0][i], readers[1][i])
		}
	}
	l := open(t, dir, Options{})
	got := readAll(t, l)
	wantAll(t, got, want)
	if len(got) != len(want) {
		t.Errorf("got %d messages, want %d", len(got), len(want))
	}
	closeLog(t, l)
	wantSound(t, dir, len(want))
}

func TestAFailingFillAppendsNothingAndHoldsNobodyUp(t *testing.T) {
	l := create(t, newQueue(t), Options{StallTimeout: -1}) // nobody would free the log of it
	broken := errors.New("broken")
	if _, err := l.AppendFunc(nil, 10, func([]byte) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("got %v, want the error of fill", err)
	}
	func() {
		defer func() {
			if recover() != "boom" {
				t.Error("the panic of fill did not come through")
			}
		}()
		l.AppendFunc(nil, 10, func([]byte) error { panic("boom") })
	}()
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.AppendFunc(nil, 10, func([]byte) error { runtime.Goexit(); return nil })
	}()
	<-done
	a, err := l.AppendFunc([]byte{0x80}, 3, func(b []byte) error { copy(b, "abc"); return nil })
	if err != nil {
		t.Fatal(err)
	}
	within(t, "WaitAppended", func() {
		if err := l.WaitAppended(t.Context(), a); err != nil {
			t.Error(err)
		}
	})
	if got := readAll(t, l); len(got) != 1 || got[a.Seq] != "abc" {
		t.Errorf("got %v, want only abc", got)
	}
}

func TestClaimsInPlace(t *testing.T) {
	dir := newQueue(t)
	l := create(t, dir, Options{})
	c, err := l.ClaimInPlace([]byte{0x80}, 5)
	if err != nil {
		t.Fatal(err)
	}
	copy(c.Bytes(), "hello")
	a, err := c.Commit()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Commit(); !errors.Is(err, ErrClaimOver) {
		t.Errorf("second commit: got %v, want ErrClaimOver", err)
	}
	c.Abort()
	aborted, err := l.ClaimInPlace(nil, 5)
	if err != nil {
		t.Fatal(err)
	}
	aborted.Abort()
	if _, err := aborted.Commit(); !errors.Is(err, ErrClaimOver) {
		t.Errorf("commit after abort: got %v, want ErrClaimOver", err)
	}
	if _, err := l.ClaimInPlace(nil, 7); err != nil { // forgotten at once
		t.Fatal(err)
	}
	last := appendText(t, l, "behind")
	testx.Eventually(t, 20*time.Second, func() bool {
		runtime.GC()
		return len(readAllNow(t, l)) == 2
	}, "a forgotten claim is aborted")
	open, err := l.ClaimInPlace(nil, 9)
	if err != nil {
		t.Fatal(err)
	}
	closeLog(t, l)
	if _, err := open.Commit(); !errors.Is(err, ErrClosed) {
		t.Errorf("commit after Close: got %v, want ErrClosed", err)
	}
	again := create(t, dir, Options{})
	got := readAll(t, again)
	if len(got) != 2 || got[a.Seq] != "hello" || got[last.Seq] != "behind" {
		t.Errorf("got %v", got)
	}
}

// readAllNow reads up to the first claim without waiting for it.
func readAllNow(t *testing.T, l *Log) (all []Message) {
	r, err := l.NewReader(false)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for {
		m, ok, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return all
		}
		all = append(all, m)
	}
}

func TestTheGateWaitsForThoseInside(t *testing.T) {
	var g gate
	ticket, ok := g.enter()
	if !ok {
		t.Fatal("the gate is closed")
	}
	period := g.begin()
	if g.over(&period) {
		t.Fatal("a grace period ended while somebody was inside")
	}
	late, ok := g.enter()
	if !ok {
		t.Fatal("the gate is closed")
	}
	g.exit(ticket)
	if g.over(&period) {
		t.Fatal("a grace period flipped once only: who counts late in the first counter would be missed")
	}
	later, ok := g.enter() // does not hold the grace period up
	g.exit(late)
	if !ok || !g.over(&period) {
		t.Fatal("a grace period waits for somebody who came after it began")
	}
	g.exit(later)
	if !g.close() || g.close() {
		t.Error("close must be true once")
	}
	if _, ok := g.enter(); ok {
		t.Error("a closed gate let somebody in")
	}
	g.drainAll()
}
