//go:build walqsteps

package walq

import (
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/walq/walq/internal/step"
)

// At each step of the ring somebody may be stopped for a while, so that the others come
// in between.
func TestWhatConsumersThatAreStoppedAtAnyStepSeeHasOneOrder(t *testing.T) {
	for _, id := range step.IDs() {
		if name := id.String(); strings.HasPrefix(name, "Group") || strings.HasPrefix(name, "Lease") {
			defer step.Set(id, func() error {
				switch n := rand.IntN(16); {
				case n == 0:
					time.Sleep(time.Duration(rand.IntN(200)) * time.Microsecond)
				case n < 6:
					runtime.Gosched()
				}
				return nil
			})()
		}
	}
	playGroups(t, 5)
}
