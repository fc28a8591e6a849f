package wal

import (
	"context"
	"errors"
	"testing"
	"time"
)

func TestRepairLooksAfterWhatLiesBesideTheLogWhileNobodyCanOpenTheQueue(t *testing.T) {
	dir := newQueue(t)
	l := create(t, dir, Options{})
	last := appendText(t, l, "one")
	want := Scene{Queue: l.Queue(), Boot: l.BootID(), Epoch: 1, Next: last.Seq + 1}
	if used, err := InUse(dir); err != nil || !used {
		t.Errorf("it is in use: %v, %v", used, err)
	}
	if report, err := Verify(t.Context(), dir, nil); err != nil || report.Scene != (Scene{Queue: want.Queue, Boot: want.Boot, Epoch: 1, InUse: true}) {
		t.Errorf("in use: %+v, %v", report.Scene, err)
	}
	closeLog(t, l)
	if report, err := Verify(t.Context(), dir, nil); err != nil || report.Scene != want {
		t.Errorf("verify: got %+v, %v, want %+v", report.Scene, err, want)
	}
	if used, err := InUse(dir); err != nil || used {
		t.Errorf("nobody uses it: %v, %v", used, err)
	}
	mine := errors.New("mine")
	for _, dry := range []bool{true, false} {
		called := 0
		_, err := Repair(t.Context(), dir, RepairOptions{DryRun: dry, Besides: func(s Scene) error {
			called++
			if s != want {
				t.Errorf("dry %v: got %+v, want %+v", dry, s, want)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			if l, err := Open(ctx, dir, Options{}); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("somebody opened it: %v, %v", l, err)
			}
			return mine
		}})
		if called != 1 || !errors.Is(err, mine) {
			t.Errorf("dry %v: called %d times, %v", dry, called, err)
		}
	}
}
