package wal

import (
	"math/bits"

	"github.com/walq/walq/internal/step"
)

// Waking. A participant that wants to sleep until something happens sets its bit,
// looks once more, and sleeps for a bounded time. Whoever makes it happen loads
// one word, and only if somebody sleeps takes the bits and wakes their owners. So
// a burst costs one system call for each sleeper, and nobody pays while nobody
// sleeps.
//
// Two levels, because there may be 1,024 participants: the summary has a bit for
// each leaf word with a bit. Sleepers set the leaf first, wakers clear the summary
// first: in the other order a bit that is set in between stays unseen.
//
// A waker may die between taking a bit and waking its owner: that is why every
// sleep is bounded, and sets its bit again.

// A Reason is what a sleeper waits for.
type Reason int

// The reasons.
const (
	WaitMessage Reason = iota // a message was committed
	WaitDurable               // the durable position was raised
	WaitSpace                 // there is room again
	WaitGroup                 // a group of consumers has something for somebody
)

func waiterSummary(r Reason) int64 { return ctlWaiters + int64(r)*waiterSpacing + waiterTop }

func waiterLeaf(r Reason, i int) int64 {
	return ctlWaiters + int64(r)*waiterSpacing + waiterLeaves + 8*int64(i)
}

// MarkSleeper sets this participant's bit. The caller looks for what it waits for
// once more before it sleeps. It reports false if the log is closed, or this
// handle is no participant.
func (l *Log) MarkSleeper(r Reason) bool {
	ticket, ok := l.gate.enter()
	if !ok {
		return false
	}
	defer l.gate.exit(ticket)
	if l.slot < 0 {
		return false
	}
	return l.guarded(func() error {
		l.ctl.word(waiterLeaf(r, l.slot/64)).Or(1 << (l.slot % 64))
		step.At(step.SleepLeafMarked)
		l.ctl.word(waiterSummary(r)).Or(1 << (l.slot / 64))
		step.At(step.SleepMarked)
		return nil
	}) == nil
}

// SetWaker tells how the participant in a slot is woken. f is called by appends
// and syncs, and must not block. It is set before the first of them, or never: a
// handle that cannot wake must leave the bits to those who can.
func (l *Log) SetWaker(f func(slot int)) { l.waker = f }

// wake wakes everyone who sleeps for r. It never fails: who is not woken looks
// again by and by.
func (l *Log) wake(r Reason) {
	if l.waker != nil && l.ctl.word(waiterSummary(r)).Load() != 0 {
		l.wakeSleepers(r)
	}
}

func (l *Log) wakeSleepers(r Reason) {
	err := l.guarded(func() error {
		leaves := l.ctl.word(waiterSummary(r)).Swap(0)
		step.At(step.WakeSummaryCleared)
		for ; leaves != 0; leaves &= leaves - 1 {
			i := bits.TrailingZeros64(leaves)
			if i >= maxSlots/64 {
				break
			}
			slots := l.ctl.word(waiterLeaf(r, i)).Swap(0)
			step.At(step.WakeLeafTaken)
			for ; slots != 0; slots &= slots - 1 {
				l.waker(64*i + bits.TrailingZeros64(slots))
				step.At(step.WakeSent)
			}
		}
		return nil
	})
	if err != nil {
		l.warn("cannot wake sleepers", "err", err)
	}
}

// Slot is this participant's number, negative if the handle only reads. Nobody
// else has it until Close.
func (l *Log) Slot() int { return l.slot }
