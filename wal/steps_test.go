//go:build walqsteps

package wal

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/walq/walq/internal/step"
	"github.com/walq/walq/internal/testx"
	"github.com/walq/walq/mmap"
	"github.com/walq/walq/segment"
)

// writerSteps are those that a writer passes in the course of its work.
var writerSteps = []step.ID{
	step.ClaimBefore, step.ClaimAfter, step.CommitBefore, step.CommitAfter, step.GrowBefore, step.GrowAfter,
	step.SealBefore, step.SealAfter, step.RollTempMade, step.RollHeaderSynced, step.RollLinked, step.RollTempUnlinked, step.RollDirSynced,
	step.SyncIntentSet, step.SyncFlushBefore, step.SyncFlushed, step.SyncDurableRaised, step.SyncIntentCleared,
	step.SlotLocked, step.SlotPadded, step.SlotIncarnationRaised,
}

// Two writer processes on one queue; one dies, or stops, at a step. The other
// goes on, nothing that was acknowledged is lost, nothing comes twice.
func TestAWriterMayDieOrStopAtAnyStep(t *testing.T) {
	if testx.Race {
		testx.Skip(t, "several processes cannot share heap memory")
	}
	rnd := rand.New(rand.NewPCG(testx.Seed(t), 0))
	for _, action := range []string{"kill", "stop"} {
		for _, id := range writerSteps {
			t.Run(fmt.Sprint(action, " at ", id), func(t *testing.T) {
				nth := 1 + rnd.IntN(3)
				if id >= step.GrowBefore && id <= step.RollDirSynced || id >= step.SlotLocked {
					nth = 1 // rare, and shared out among the writers
				}
				t.Parallel()
				for range 20 { // until it is the victim who comes to the step
					if dieOrStop(t, id, action, nth) {
						return
					}
				}
				t.Error("the victim never came to the step")
			})
		}
	}
}

// dieOrStop is false if the victim ended without having come to the step.
func dieOrStop(t *testing.T, id step.ID, action string, nth int) bool {
	dir := newQueue(t)
	settings := small
	if id == step.GrowBefore || id == step.GrowAfter {
		settings.SegmentSize = 1 << 20 // the smallest are never grown
	}
	closeLog(t, open(t, dir, Options{Create: &settings}))
	victim, victimAcks := childCommand(t, dir, "victim", 800, fmt.Sprintf("WALQ_STEP=%v:%d=%s", id, nth, action))
	other, otherAcks := childCommand(t, dir, "other", 400)
	start(t, victim)
	start(t, other)
	if err := waitFor(other, 60*time.Second); err != nil {
		t.Fatalf("the other writer: %v", err)
	}
	if action == "kill" {
		err := waitFor(victim, 60*time.Second)
		var exit *exec.ExitError
		if err == nil {
			return false
		}
		if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Fatalf("the victim: %v", err)
		}
	} else {
		defer resume(victim)() // it may come to the step only now
		if err := waitFor(victim, 60*time.Second); err != nil {
			t.Fatalf("the victim, going on: %v", err)
		}
	}
	want := otherAcks()
	if len(want) != 400 {
		t.Errorf("the other writer got %d messages acknowledged, want 400", len(want))
	}
	acked := victimAcks()
	if action == "stop" && len(acked) != 800 {
		t.Errorf("the stopped writer got %d messages acknowledged, want 800", len(acked))
	}
	for seq, body := range acked {
		want[seq] = body
	}
	l := open(t, dir, Options{})
	if p := l.ctl.poisoned(); p != nil {
		t.Errorf("poisoned: %s", p.Reason)
	}
	got := readAll(t, l)
	wantAll(t, got, want)
	wantNoneTwice(t, got)
	if extra := len(got) - len(want); extra < 0 || extra > 1 {
		t.Errorf("%d messages beyond the acknowledged, want at most the one that was under way", extra)
	}
	closeLog(t, l)
	wantSound(t, dir, len(got))
	return true
}

func start(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill() // it may be gone already
			_ = cmd.Wait()
		}
	})
}

func waitFor(cmd *exec.Cmd, limit time.Duration) error {
	timer := time.AfterFunc(limit, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	return cmd.Wait()
}

// resume lets a stopped process go on again and again, until the function that
// it returns is called.
func resume(cmd *exec.Cmd) (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			_ = cmd.Process.Signal(syscall.SIGCONT) // it may have ended
			select {
			case <-quit:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	return func() { close(quit); <-done }
}

// Recovery itself may die at any step, also again and again.
func TestRecoveryMayDieAtAnyStep(t *testing.T) {
	if testx.Race {
		testx.Skip(t, "several processes cannot share heap memory")
	}
	for id := step.RecoverLocked; id <= step.CleanMarkRemoved; id++ {
		for _, boot := range []string{"same boot", "another boot"} {
			t.Run(fmt.Sprint(id, " on ", boot), func(t *testing.T) {
				t.Parallel()
				dir := newQueue(t)
				l := create(t, dir, Options{})
				want := map[uint64]string{}
				for i := range 50 {
					body := fmt.Sprint("durable ", i, strings.Repeat("d", 3000))
					want[appendDurable(t, l, body).Seq] = body
				}
				var last uint64
				for i := range 5 {
					last = appendText(t, l, fmt.Sprint("tail ", i)).Seq
				}
				crash(t, l)
				if boot == "another boot" {
					powerLoss(t, dir)
				}
				for range 2 {
					victim, _ := childCommand(t, dir, "victim", 1, fmt.Sprintf("WALQ_STEP=%v=kill", id))
					start(t, victim)
					_ = waitFor(victim, 60*time.Second) // some steps are passed on one kind of recovery only
					if boot == "another boot" {
						powerLoss(t, dir)
					}
				}
				l = open(t, dir, Options{})
				got := readAll(t, l)
				wantAll(t, got, want)
				a := appendDurable(t, l, "on")
				if a.Seq <= last {
					t.Errorf("number %d is used again, %d was handed out", a.Seq, last)
				}
				closeLog(t, l)
				wantSound(t, dir, len(got)+1)
			})
		}
	}
}

func TestAFailedSyncPoisonsTheQueueForEveryone(t *testing.T) {
	dir := newQueue(t)
	a, b := create(t, dir, Options{}), open(t, dir, Options{})
	ok := appendDurable(t, a, "before")
	restore := step.Set(step.SyncFlushBefore, func() error { return syscall.EIO })
	x := appendText(t, a, "never acknowledged")
	err := a.WaitAppended(t.Context(), x)
	restore()
	var p *PoisonError
	if !errors.Is(err, ErrPoisoned) || !errors.As(err, &p) || !strings.Contains(p.Reason, "input/output error") {
		t.Fatalf("got %v, want ErrPoisoned with the cause", err)
	}
	for name, l := range map[string]*Log{"the one that failed": a, "another handle": b} {
		if _, err := l.Append(nil, nil); !errors.Is(err, ErrPoisoned) {
			t.Errorf("append by %s: got %v, want ErrPoisoned", name, err)
		}
		if err := l.WaitAppended(t.Context(), x); !errors.Is(err, ErrPoisoned) {
			t.Errorf("wait by %s: got %v, want ErrPoisoned", name, err)
		}
		if err := l.WaitAppended(t.Context(), ok); err != nil {
			t.Errorf("what was durable before is not, to %s: %v", name, err)
		}
		if got := readAll(t, l); len(got) != 2 {
			t.Errorf("%s reads %d messages, want 2", name, len(got))
		}
	}
	closeLog(t, a)
	closeLog(t, b)
	again := open(t, dir, Options{})
	if _, err := again.Append(nil, nil); !errors.Is(err, ErrPoisoned) {
		t.Errorf("after reopening: got %v, want ErrPoisoned", err)
	}
	wantSound(t, dir, 2)
}

// A flush fails, and who asked for it is killed before it can say so: the others do
// not believe what the kernel says next about the same range, but write it again.
func TestASyncerMayDieBeforeItSaysThatASyncFailed(t *testing.T) {
	if testx.Race {
		testx.Skip(t, "several processes cannot share heap memory")
	}
	dir := newQueue(t)
	closeLog(t, create(t, dir, Options{}))
	victim, victimAcks := childCommand(t, dir, "victim", 300, "WALQ_STEP=SyncFlushBefore:5=eio,SyncFailed=kill")
	other, otherAcks := childCommand(t, dir, "other", 300)
	start(t, victim)
	start(t, other)
	if err := waitFor(other, 60*time.Second); err != nil {
		t.Errorf("the other writer: %v", err)
	}
	if err := waitFor(victim, 60*time.Second); err == nil {
		t.Error("the victim was not killed")
	}
	l := open(t, dir, Options{})
	got := readAll(t, l)
	wantAll(t, got, victimAcks())
	wantAll(t, got, otherAcks())
	if p := l.ctl.poisoned(); p != nil {
		t.Errorf("poisoned: %s", p.Reason)
	}
	closeLog(t, l)
	wantSound(t, dir, len(got))
}

// A full disk is told before anything is claimed.
func TestAFullDiskIsToldBeforeAnythingIsClaimed(t *testing.T) {
	dir := newQueue(t)
	l := open(t, dir, Options{Create: &Settings{SegmentSize: 1 << 20, Durability: SyncNever}})
	full := false
	restore := step.Set(step.GrowBefore, func() error {
		if full {
			return mmap.ErrDiskFull
		}
		return nil
	})
	defer restore()
	appendText(t, l, "before")
	full = true
	n := 0
	var err error
	for ; err == nil; n++ {
		_, err = l.Append(nil, make([]byte, 1000))
	}
	if !errors.Is(err, mmap.ErrDiskFull) {
		t.Fatalf("got %v, want ErrDiskFull", err)
	}
	full = false
	appendText(t, l, "after")
	if got := readAll(t, l); len(got) != n+1 {
		t.Errorf("got %d messages, want %d", len(got), n+1)
	}
	closeLog(t, l)
	wantSound(t, dir, n+1)
}

// A syncer is stopped between its walk and what follows, while others sync on:
// nothing is poisoned, nothing acknowledged that is not on disk.
func TestAStoppedSyncerDoesNotPoisonAHealthyQueue(t *testing.T) {
	dir := newQueue(t)
	a, b := create(t, dir, Options{}), open(t, dir, Options{})
	appendText(t, a, "x")
	a.ctl.word(ctlIntentOwner).Store(standingIntent) // as any death leaves it
	stopped, resume := make(chan struct{}), make(chan struct{})
	first := true
	restore := step.Set(step.SyncIntentSet, func() error {
		if first {
			first = false
			close(stopped)
			<-resume
		}
		return nil
	})
	defer restore()
	x := appendText(t, a, "y")
	done := make(chan error, 1)
	go func() { done <- a.WaitAppended(t.Context(), x) }()
	<-stopped
	for range 3 {
		appendDurable(t, b, "z")
	}
	close(resume)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if p := b.ctl.poisoned(); p != nil {
		t.Errorf("poisoned: %s", p.Reason)
	}
}

func TestNobodyFindsTheCleanMarkAndAParticipant(t *testing.T) {
	dir := newQueue(t)
	a := create(t, dir, Options{})
	appendText(t, a, "x")
	joined := make(chan *Log, 1)
	restore := step.Set(step.SlotReleased, func() error {
		go func() {
			l, err := Open(t.Context(), dir, Options{})
			if err != nil {
				t.Error(err)
			}
			joined <- l
		}()
		time.Sleep(20 * time.Millisecond) // the joiner is at the door; either order must do
		return nil
	})
	closeLog(t, a)
	restore()
	b := <-joined
	defer closeLog(t, b)
	if boot, err := b.ctl.boot(); err != nil || boot.clean {
		t.Errorf("the clean mark stands (%v) while a participant is there", err)
	}
}

// The death, or the stop, of who trims, at every step: the others go on, and
// what is kept is whole.
func TestWhoTrimsMayDieOrStopAtAnyStep(t *testing.T) {
	if testx.Race {
		testx.Skip(t, "several processes cannot share heap memory")
	}
	for _, action := range []string{"kill", "stop"} {
		for id := step.TrimOldestSet; id <= step.TrimUnlinked; id++ {
			t.Run(fmt.Sprint(action, " at ", id), func(t *testing.T) {
				t.Parallel()
				dir := newQueue(t)
				settings := small
				settings.MaxBytes = 2 * segment.MinSize
				closeLog(t, open(t, dir, Options{Create: &settings}))
				victim, victimAcks := childCommand(t, dir, "victim", 1500, fmt.Sprintf("WALQ_STEP=%v=%s", id, action))
				other, otherAcks := childCommand(t, dir, "other", 1500)
				start(t, victim)
				start(t, other)
				if err := waitFor(other, 60*time.Second); err != nil {
					t.Fatalf("the other writer: %v", err)
				}
				if action == "stop" {
					defer resume(victim)()
				}
				_ = waitFor(victim, 60*time.Second) // the other one may have done all the trimming
				l := open(t, dir, Options{})
				fillSegments(t, l, 2)
				trim(t, l, 0)
				if n := segments(t, dir); n > 3 {
					t.Errorf("%d segments are left, want 3 at most", n)
				}
				got := readAll(t, l)
				for _, acks := range []map[uint64]string{victimAcks(), otherAcks()} {
					for seq, body := range acks {
						if seq >= l.ctl.oldest() && got[seq] != body {
							t.Errorf("message %d: got %.40q, want %.40q", seq, got[seq], body)
						}
					}
				}
				closeLog(t, l)
				wantSound(t, dir, len(got))
			})
		}
	}
}

// A roller is so slow that its new segment's name was used and trimmed meanwhile.
// Between its link and its look at the oldest number others meet the relic.
func TestTheRelicOfASlowRollerLeadsNobodyAstray(t *testing.T) {
	dir := newQueue(t)
	slow := open(t, dir, Options{Create: &Settings{SegmentSize: segment.MinSize, Durability: SyncNever}})
	fast, looker := open(t, dir, Options{}), open(t, dir, Options{})
	appendBytes(t, slow, 100)
	if err := looker.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	r, err := looker.NewReader(false)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var last Appended
	overtake := step.Set(step.RollTempMade, func() error {
		if last.Seq == 0 {
			last.Seq = 1
			last = fillSegments(t, fast, 4)
			trim(t, fast, last.Seq)
		}
		return nil
	})
	defer overtake()
	met := false
	meet := step.Set(step.RollTempUnlinked, func() error {
		if met || last.Seq <= 1 {
			return nil
		}
		met = true
		if err := looker.WaitDurable(t.Context(), last.Seq); err != nil {
			t.Errorf("a syncer that meets the relic: %v", err)
		}
		for {
			m, ok, err := r.Next()
			if err != nil && !errors.Is(err, ErrTrimmed) {
				t.Errorf("a reader that meets the relic: %v", err)
			}
			if err == nil && !ok || m.Seq == last.Seq {
				if m.Seq != last.Seq {
					t.Error("the reader stopped before the end")
				}
				return nil
			}
		}
	})
	defer meet()
	for tailOf(t, slow).Ordinal == 1 {
		appendBytes(t, slow, 10000)
	}
	if !met {
		t.Error("nobody met the relic")
	}
}

// An outsider removes a segment right after it got its name, and another process makes
// it anew: of the two only the one that has the name goes on.
func TestOfASegmentThatWasMadeTwiceOnlyOneCounts(t *testing.T) {
	dir := newQueue(t)
	l := open(t, dir, Options{Create: &Settings{SegmentSize: segment.MinSize, Durability: SyncNever}})
	other := open(t, dir, Options{})
	appendText(t, other, "both stand in the first segment")
	meddled := false
	restore := step.Set(step.RollLinked, func() error {
		if !meddled {
			meddled = true
			names, err := segmentNames(l.log)
			if err == nil {
				err = l.log.Unlink(segment.Name(names[len(names)-1]))
			}
			if err != nil {
				t.Error(err)
			}
			fillSegments(t, other, 1)
		}
		return nil
	})
	defer restore()
	var err error
	for tailOf(t, l).Ordinal == 1 && err == nil {
		_, err = l.Append(nil, make([]byte, 10000))
	}
	if !errors.Is(err, ErrCorrupt) {
		t.Fatalf("the one whose segment was removed got %v, want ErrCorrupt", err)
	}
	a := appendText(t, l, "where the other one is")
	if tailOf(t, l).Ordinal != 2 || readAll(t, other)[a.Seq] == "" {
		t.Error("the log is two")
	}
}
