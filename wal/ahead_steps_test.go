//go:build walqsteps && !race

package wal

import (
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/walq/walq/internal/step"
)

// startWriteOf starts a write ahead of the tail of l.
func startWriteOf(t *testing.T, l *Log) error {
	t.Helper()
	s := tailOf(t, l)
	return l.startWrite(s, s.ownTail().Off, 4096)
}

func TestAWriteAheadThatCannotBeginPoisonsTheQueue(t *testing.T) {
	for _, cause := range []error{syscall.EIO, syscall.ENOSPC, syscall.EUCLEAN, syscall.EROFS} {
		dir := newQueue(t)
		a, b := create(t, dir, Options{}), open(t, dir, Options{})
		appendDurable(t, a, "before")
		x := appendText(t, a, "in the pages that may be lost")
		restore := step.Set(step.AheadWriteBefore, func() error { return cause })
		err := startWriteOf(t, a)
		restore()
		var p *PoisonError
		if !errors.Is(err, ErrPoisoned) || !errors.As(err, &p) || !strings.Contains(p.Reason, cause.Error()) {
			t.Fatalf("%v: got %v, want ErrPoisoned with the cause", cause, err)
		}
		for name, l := range map[string]*Log{"the one that failed": a, "another handle": b} {
			if err := l.WaitAppended(t.Context(), x); !errors.Is(err, ErrPoisoned) {
				t.Errorf("%v: wait by %s: got %v, want ErrPoisoned", cause, name, err)
			}
			if _, err := l.Append(nil, nil); !errors.Is(err, ErrPoisoned) {
				t.Errorf("%v: append by %s: got %v, want ErrPoisoned", cause, name, err)
			}
		}
		closeLog(t, a)
		closeLog(t, b)
	}
}

// After ENOMEM the pages are dirty still, or so the kernel says: the next sync doubts.
func TestAWriteAheadWithoutMemoryIsDoubted(t *testing.T) {
	l := create(t, newQueue(t), Options{})
	appendDurable(t, l, "before")
	defer step.Set(step.AheadWriteBefore, func() error { return syscall.ENOMEM })()
	if err := startWriteOf(t, l); err != nil {
		t.Fatal(err)
	}
	if got := l.ctl.word(ctlIntentOwner).Load(); got != standingIntent {
		t.Errorf("the intent is %#x, want a standing one", got)
	}
	appendDurable(t, l, "after")
}

// Nobody calls the keeper: what it is told reaches those who append.
func TestTheKeeperPoisonsAfterAWriteAheadThatCannotBegin(t *testing.T) {
	l := open(t, newQueue(t), Options{Create: &Settings{SegmentSize: 8 << 20, Durability: SyncAlways}})
	defer step.Set(step.AheadWriteBefore, func() error { return syscall.EIO })()
	for range 10_000 {
		a, err := l.Append(nil, make([]byte, 4000))
		if err == nil {
			err = l.WaitAppended(t.Context(), a)
		}
		if errors.Is(err, ErrPoisoned) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Error("nothing was written ahead, or nobody was told")
}
