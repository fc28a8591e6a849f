//go:build walqsteps

package step

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
)

func TestAStepWithoutHookDoesNothing(t *testing.T) {
	if !Enabled {
		t.Fatal("not Enabled with the tag walqsteps")
	}
	for _, id := range IDs() {
		At(id)
		if err := Err(id); err != nil {
			t.Errorf("%v: got %v, want nil", id, err)
		}
	}
}

func TestSetActsOnItsOwnStepOnly(t *testing.T) {
	want := errors.New("injected")
	defer Set(SyncFlushed, func() error { return want })()
	if got := Err(SyncFlushed); got != want {
		t.Errorf("SyncFlushed: got %v, want %v", got, want)
	}
	if got := Err(SyncFlushBefore); got != nil {
		t.Errorf("SyncFlushBefore: got %v, want nil", got)
	}
}

func TestRestoreWorksInAnyOrderAndTwice(t *testing.T) {
	first, second, third := errors.New("first"), errors.New("second"), errors.New("third")
	giving := func(err error) func() { return Set(RollLinked, func() error { return err }) }
	expect := func(when string, want error) {
		t.Helper()
		if got := Err(RollLinked); got != want {
			t.Errorf("%s: got %v, want %v", when, got, want)
		}
	}
	restoreFirst, restoreSecond, restoreThird := giving(first), giving(second), giving(third)
	expect("all hang", third)
	restoreSecond()
	expect("without the second", third)
	restoreThird()
	expect("without the second and third", first)
	restoreThird()
	expect("after a second restore", first)
	restoreFirst()
	expect("without any", nil)
}

func TestAnErrorWhereNoneCanBeTakenPanics(t *testing.T) {
	defer Set(ClaimAfter, func() error { return errors.New("injected") })()
	defer func() {
		if recover() == nil {
			t.Error("At swallowed an injected error")
		}
	}()
	At(ClaimAfter)
}

func TestAPanicOfTheHookPassesThrough(t *testing.T) {
	defer Set(ClaimAfter, func() error { panic("asked for") })()
	defer func() {
		if got := recover(); got != "asked for" {
			t.Errorf("got %v, want the hook's panic", got)
		}
	}()
	At(ClaimAfter)
}

func TestAStepWithoutNameIsRefused(t *testing.T) {
	for name, use := range map[string]func(){
		"Err": func() { Err(9999) },
		"Set": func() { Set(0, func() error { return nil }) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s accepted it", name)
				}
			}()
			use()
		}()
	}
}

func TestSetAndPassagesAtOnce(t *testing.T) {
	var calls atomic.Int64
	done := make(chan struct{})
	var passers sync.WaitGroup
	for range 2 {
		passers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					At(CommitAfter)
				}
			}
		})
	}
	var setters sync.WaitGroup
	for range 2 {
		setters.Go(func() {
			for range 1000 {
				Set(CommitAfter, func() error { calls.Add(1); return nil })()
			}
		})
	}
	setters.Wait()
	close(done)
	passers.Wait()
	calls.Store(0)
	At(CommitAfter)
	if got := calls.Load(); got != 0 {
		t.Errorf("a hook hangs after every restore")
	}
}
