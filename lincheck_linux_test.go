//go:build !race

package walq_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/walq/walq"
	"github.com/walq/walq/internal/testx"
)

// What several processes see, of which some are killed or stopped on the way, all of
// them at once too, has one order in which each call lies between its beginning and
// its end.
func TestWhatProcessesSeeHasOneOrderWhoeverDies(t *testing.T) {
	random := rand.New(rand.NewPCG(testx.Seed(t), 0))
	for round := range 3 {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			const lives, calls = 12, 100 // of all actors together, and in each
			c := newCast(t, random, walq.QueueOptions{SegmentSize: smallest}, calls, 3, 2)
			c.enterAll()
			for left := lives - len(c.actors); left > 0; {
				time.Sleep(time.Duration(random.IntN(60)) * time.Millisecond) // a storm, not a wait
				c.resume(time.Now())
				a := c.actors[random.IntN(len(c.actors))]
				switch n := random.IntN(8); {
				case n == 0 && left >= len(c.actors):
					c.killAll()
					c.enterAll()
					left -= len(c.actors)
				case n < 4 && c.alive(a):
					c.stop(a, time.Duration(random.IntN(200))*time.Millisecond)
				default:
					c.kill(a)
					c.enter(a)
					left--
				}
			}
			for _, a := range c.actors {
				testx.Eventually(t, patience, func() bool {
					c.resume(time.Now())
					return a.place != "" || !c.alive(a)
				}, a.name+" appends all that it has to")
			}
			c.leave()
			logs, final := c.judge()
			wantLinear(t, logs, final)
		})
	}
}
