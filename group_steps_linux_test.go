//go:build walqsteps && !race

package walq

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/walq/walq/internal/step"
	"github.com/walq/walq/internal/testx"
)

// groupSteps are those that a worker comes to.
func groupSteps() (ids []step.ID) {
	for _, id := range step.IDs() {
		if strings.HasPrefix(id.String(), "Group") && !strings.HasPrefix(id.String(), "GroupBase") && id != step.GroupCheckpointReady && id != step.GroupRingReset && id != step.GroupFloorSet {
			ids = append(ids, id)
		}
	}
	return ids
}

// A worker is killed, or stopped for longer than its lease, at each step; the other one
// finishes what is there, nothing is lost, and nothing is finished twice.
func TestAWorkerThatDiesOrStopsAtAnyStepCostsNoMessage(t *testing.T) {
	needProcesses(t)
	for _, action := range []string{"kill", "stop"} {
		for _, id := range groupSteps() {
			t.Run(fmt.Sprint(action, " ", id), func(t *testing.T) {
				t.Parallel()
				w, q := newWorkshop(t)
				var want []Seq
				for i := range 60 {
					kind := []string{"plain", "again"}[i%2]
					seq, err := q.Append(t.Context(), fmt.Append(nil, kind, " ", i))
					if err != nil {
						t.Fatal(err)
					}
					want = append(want, seq)
				}
				passage := 3
				if id == step.GroupTempMade || id == step.GroupLinked {
					passage = 1
				}
				first := w.hire("a", fmt.Sprintf("WALQ_STEP=%v:%d=%s", id, passage, action), "WALQ_TEST_LEASE=300ms")
				testx.Eventually(t, patienceForWorkers, func() bool {
					stopped, dead := first.look(t)
					return stopped || dead
				}, "the first worker comes to the step")
				if action == "kill" && id != step.GroupTempMade { // then there is no group yet
					wantSoundGroups(t, q)
				}
				second := w.hire("a", "WALQ_TEST_LEASE=300ms")
				begun := time.Now()
				testx.Eventually(t, patienceForWorkers, func() bool { return lagOf(t, q, "a") == 0 }, "the second worker finishes all")
				took := time.Since(begun)
				if action == "stop" {
					if err := first.cmd.Process.Signal(syscall.SIGCONT); err != nil {
						t.Fatal(err)
					}
					first.leave(t)
				} else {
					w.kill(first)
				}
				second.leave(t)
				got, acked := w.account("a")
				for _, seq := range want {
					if len(got[seq]) == 0 || acked[seq] > 1 {
						t.Errorf("message %d was handed out %d times and finished %d times", seq, len(got[seq]), acked[seq])
					}
				}
				if n := lagOf(t, q, "a"); n != 0 {
					t.Errorf("%d messages are left", n)
				}
				wantSoundGroups(t, q)
				t.Logf("finished after %v", took)
			})
		}
	}
}
