package walq

import (
	"time"

	"github.com/walq/walq/wal"
)

// times are the clocks by which groups decide. Tests set their own before they open a
// group.
type times interface {
	// now reads the wall clock, and for how long the machine ran since some moment: that
	// is never set, and stands still while the machine is suspended.
	now() (wall time.Time, ran time.Duration)
	// ran is the second of the two alone, for half the price.
	ran() time.Duration
	// sinceBoot counts the time for which the machine was suspended too. It is a system
	// call.
	sinceBoot() time.Duration
	// afterFunc is time.AfterFunc.
	afterFunc(d time.Duration, f func()) timer
}

// A timer is what a group needs of a time.Timer.
type timer interface {
	Stop() bool
	Reset(d time.Duration) bool
}

type realTimes struct{}

var processBegan = time.Now()

func (realTimes) now() (time.Time, time.Duration) {
	t := time.Now()
	return t, t.Sub(processBegan)
}

func (realTimes) ran() time.Duration { return time.Since(processBegan) }

func (realTimes) sinceBoot() time.Duration { return wal.SinceBoot() }

func (realTimes) afterFunc(d time.Duration, f func()) timer { return time.AfterFunc(d, f) }

// A moment is a time by all clocks, each for what it is good for.
type moment struct {
	unix int64         // wall clock, nanoseconds since the Unix epoch: when messages are due or expire
	boot time.Duration // when leases end, and when to look: all processes read the same
	ran  time.Duration // how long we watch somebody: suspended, he could do nothing
}

// unixMilli is the wall clock in milliseconds since the Unix epoch.
func (m moment) unixMilli() int64 { return m.unix / int64(time.Millisecond) }

// wall is the wall clock.
func (m moment) wall() time.Time { return time.Unix(0, m.unix) }

// A groupClock gives moments without a system call: the time since boot counts on from
// when it was read last.
type groupClock struct {
	times times
	read  moment // when the time since boot was read last; zero: never
	last  moment // when the wall clock was read last
}

const (
	// wallEvery is how long the wall clock counts on by how long the machine ran. A
	// suspension is seen so much later: what is leased meanwhile ends as if it had been
	// leased before.
	wallEvery = time.Millisecond
	// bootEvery is how long it counts on at most.
	bootEvery = time.Second
	// suspended is how much further than the machine ran the wall clock may go without
	// the time since boot being read anew: a suspension moves both, an adjustment of the
	// wall clock that is gradual neither.
	suspended = time.Millisecond
)

func (c *groupClock) now() moment {
	if gone := c.times.ran() - c.last.ran; gone >= 0 && gone < wallEvery && c.last.unix != 0 {
		return moment{c.last.unix + int64(gone), c.last.boot + gone, c.last.ran + gone}
	}
	wall, ran := c.times.now()
	unix, gone := wall.UnixNano(), ran-c.read.ran
	set := time.Duration(unix-c.read.unix) - gone
	if gone < 0 || gone >= bootEvery || set.Abs() >= suspended || c.read.unix == 0 {
		c.read = moment{unix, c.times.sinceBoot(), ran}
		c.last = c.read
	} else {
		c.last = moment{unix, c.read.boot + gone, ran}
	}
	return c.last
}
