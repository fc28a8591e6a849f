//go:build walqsteps

package walq_test

import (
	"testing"

	"github.com/walq/walq/internal/testx"
)

// A full disk without root: one of three processes is told of it when a segment
// is to grow. It has claimed nothing; the others do not notice.
func TestOneOfThreeProcessesMeetsAFullDisk(t *testing.T) {
	needProcesses(t)
	for _, step := range []string{"GrowBefore=enospc", "GrowBefore:2=enospc"} {
		t.Run(step, func(t *testing.T) {
			c := newCrew(t, testx.BuildBinary(t, "walqsteps"), "", "--segment-size", "4M")
			first, second := c.put(nil, "first"), c.put(nil, "second", "--batch", "10")
			c.await(first, 1)
			victim := c.victim(step, "--sync", "never") // much faster than the others, so it must grow most
			c.ends(victim.Process, 1, "no space left on device")
			c.await(first, 300)
			c.await(second, 300)
			c.finish(first, second)
			c.sound()
		})
	}
}
