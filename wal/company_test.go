package wal

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

// enrolled gives riders for these ends, behind a leader.
func enrolled(t *testing.T, r *rounds, ends ...Position) (all []*rider) {
	t.Helper()
	if lead, _ := r.enrol(target{end: 1}, true); !lead {
		t.Fatal("the first one does not lead")
	}
	for _, end := range ends {
		lead, w := r.enrol(target{end: end}, true)
		if lead || w == nil {
			t.Fatalf("lead %v, rider %v, want one that rides along", lead, w)
		}
		all = append(all, w)
	}
	return all
}

func wantWoken(t *testing.T, w *rider, woken, lead bool) {
	t.Helper()
	if len(w.wake) > 0 != woken || w.lead != lead {
		t.Errorf("waiting for %v: woken %v, called to lead %v, want %v, %v", w.t.end, len(w.wake) > 0, w.lead, woken, lead)
	}
}

func TestARoundWakesWhomItServedAndOneToLead(t *testing.T) {
	var r rounds
	all := enrolled(t, &r, 20, 10, 30, 40)
	r.end(20, 0)
	for i, want := range []struct{ woken, lead bool }{{true, false}, {true, false}, {true, true}, {false, false}} {
		wantWoken(t, all[i], want.woken, want.lead)
	}
	if r.aboard.Load() != 2 || r.before != 5 {
		t.Errorf("%d are aboard after a round of %d, want 2 and 5", r.aboard.Load(), r.before)
	}
	r.pass() // who was called left
	wantWoken(t, all[3], true, true)
	r.end(40, 0)
	if lead, _ := r.enrol(target{end: 50}, true); !lead {
		t.Error("nobody leads, and the next one does not either")
	}
}

func TestWhoLeavesARoundIsNotCalled(t *testing.T) {
	for leaves := range 3 {
		var r rounds
		all := enrolled(t, &r, 10, 20, 30)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if r.ride(ctx, all[leaves]) {
			t.Error("called to lead before the round was over")
		}
		if r.aboard.Load() != 3 {
			t.Errorf("%d are aboard, want 3", r.aboard.Load())
		}
		rest := append(append([]*rider(nil), all[:leaves]...), all[leaves+1:]...)
		r.end(0, 0)
		wantWoken(t, rest[0], true, true)
		wantWoken(t, rest[1], false, false)
		r.close()
		wantWoken(t, rest[1], true, false)
		if lead, w := r.enrol(target{end: 40}, true); lead || w != nil {
			t.Error("a closed log takes somebody aboard")
		}
	}
}

// Whoever is called to lead may be about to leave: nobody must wait for it for ever.
func TestNobodyIsLeftBehindByThoseWhoLeave(t *testing.T) {
	l := create(t, newQueue(t), Options{})
	var wg sync.WaitGroup
	for i := range 24 {
		wg.Go(func() {
			for n := range 60 {
				ctx, cancel := t.Context(), context.CancelFunc(func() {})
				if (i+n)%2 == 0 {
					ctx, cancel = context.WithTimeout(ctx, time.Duration(rand.IntN(400))*time.Microsecond)
				}
				a, err := l.Append(nil, []byte("body"))
				if err == nil {
					err = l.WaitAppended(ctx, a)
				}
				cancel()
				if err != nil && !errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	wg.Go(func() { // what is never appended is awaited until Close
		if err := l.WaitDurable(context.Background(), 1<<30); !errors.Is(err, ErrClosed) {
			t.Errorf("got %v, want ErrClosed", err)
		}
	})
	wg.Go(func() {
		if err := l.WaitDurable(context.Background(), 1<<30); !errors.Is(err, ErrClosed) {
			t.Errorf("got %v, want ErrClosed", err)
		}
	})
	time.Sleep(time.Millisecond) // either order is right
	closeLog(t, l)
	wg.Wait()
}
