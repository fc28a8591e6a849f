//go:build !race

package walq_test

import (
	"math"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/walq/walq"
	"github.com/walq/walq/internal/history"
	"github.com/walq/walq/internal/testx"
)

// storm kills and stops the actors at random for a while.
func (c *cast) storm(lasts time.Duration) {
	c.t.Helper()
	c.enterAll()
	for end := time.Now().Add(lasts); time.Now().Before(end); {
		time.Sleep(time.Duration(c.random.IntN(80)) * time.Millisecond) // a storm, not a wait
		c.resume(time.Now())
		a := c.actors[c.random.IntN(len(c.actors))]
		switch c.random.IntN(16) {
		case 0, 1, 2:
			c.alive(a) // it must not have ended by itself
			c.kill(a)
			c.enter(a)
		case 3, 4, 5, 6, 7, 8, 9, 10:
			c.stop(a, time.Duration(c.random.IntN(300))*time.Millisecond)
		case 11:
			c.allDie()
		case 12:
			_ = a.in.Close() // it leaves in order, and comes again
			c.resume(time.Now().Add(time.Hour))
			testx.Eventually(c.t, 3*patience, func() bool { return !c.alive(a) }, a.name+" leaves")
			c.enter(a)
		}
	}
	c.leave()
}

// allDie kills all at once; those who come next are in a race to recover, and now
// and then are killed in it.
func (c *cast) allDie() {
	c.t.Helper()
	for {
		c.killAll()
		c.enterAll()
		if c.random.IntN(2) == 0 {
			return
		}
		time.Sleep(time.Duration(c.random.IntN(40)) * time.Millisecond) // some of them are killed recovering
	}
}

// enough messages fill a queue with limits several times.
const enough = 4000

func TestStormOfDeathsBreaksNoPromise(t *testing.T) {
	total, round := 6*time.Second, 3*time.Second
	if storm := os.Getenv("WALQ_STORM"); storm != "" {
		var err error
		if total, err = time.ParseDuration(storm); err != nil {
			t.Fatalf("WALQ_STORM: %v", err)
		}
		round = 10 * time.Second // each with a queue and logs of its own, so that memory is bounded
	}
	random := rand.New(rand.NewPCG(testx.Seed(t), 0))
	rounds := max(int(total/round), 2)
	for i := range rounds {
		name, o := "everything is kept", walq.QueueOptions{SegmentSize: smallest}
		if i%2 == 1 {
			name, o.MaxBytes = "with limits", 2*smallest
		}
		t.Run(name, func(t *testing.T) {
			c := newCast(t, random, o, math.MaxInt64, 3, 2)
			c.storm(round)
			logs, final := c.judge()
			acked, got, gaps := tally(logs, history.Acked), tally(logs, history.Got), tally(logs, history.Gap)
			t.Logf("%d deaths, %d stops: %d appends called, %d acknowledged, %d refused; %d messages read, %d gaps; %d kept from %d on",
				c.deaths, c.stops, tally(logs, history.Invoked), acked, tally(logs, history.Refused), got, gaps, len(final.Messages), final.First)
			if c.deaths == 0 || acked == 0 || got == 0 {
				t.Errorf("got %d deaths, %d acknowledged, %d read, want some of each: this showed nothing", c.deaths, acked, got)
			}
			if limits := o.MaxBytes > 0; !limits && final.First > 1 || limits && final.First == 1 && acked > enough {
				t.Errorf("got messages from %d on, want trimming %v", final.First, limits)
			}
		})
		if t.Failed() {
			return
		}
	}
}
