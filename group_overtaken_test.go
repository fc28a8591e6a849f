//go:build walqsteps

package walq_test

import (
	"fmt"
	"testing"

	"github.com/walq/walq"
	"github.com/walq/walq/internal/step"
)

// Between the floor of the next base and its generation a consumer of the base in force
// sees a floor far ahead. It must not step over what is below, and come to the ordinals
// of the next base with other messages.
func TestAConsumerIsNotLedOnByTheFloorOfTheNextBase(t *testing.T) {
	const count = 40
	for _, id := range []step.ID{step.GroupBaseWritten, step.GroupBasePassed, step.GroupFloorSet} {
		t.Run(id.String(), func(t *testing.T) {
			q := create(t, newDir(t), walq.Options{Durability: walq.SyncNever})
			g := newGroup(t, q, "g", walq.GroupOptions{Window: 7})
			var want []string
			for i := range count {
				body := fmt.Sprint("message ", i)
				appendText(t, q, body)
				want = append(want, body)
			}
			ack(t, receive(t, g))
			var early []*walq.Delivery
			tried := false
			restore := step.Set(id, func() error {
				if !tried {
					tried = true
					if d, _ := g.TryReceive(t.Context()); d != nil { // it may wait for who makes the base in vain
						early = append(early, d)
					}
				}
				return nil
			})
			err := q.ResetGroup(t.Context(), "g", walq.Oldest)
			restore()
			if err != nil || !tried {
				t.Fatal(tried, err)
			}
			got := map[string]int{}
			for _, d := range early {
				if d.Ack() == nil {
					got[string(d.Body)]++
				}
			}
			for _, body := range drain(t, g) {
				got[body]++
			}
			for _, body := range want {
				if got[body] != 1 {
					t.Errorf("%s was finished %d times after the reset, want once", body, got[body])
				}
			}
		})
	}
}
