//go:build !race

package wal

import (
	"errors"
	"testing"
	"time"

	"github.com/walq/walq/internal/testx"
)

func TestRepairRefusesWhileAProcessHasTheQueueOpen(t *testing.T) {
	dir := newQueue(t)
	closeLog(t, create(t, dir, Options{}))
	cmd, _ := childCommand(t, dir, "holder", 1<<30)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stopped := false
	stop := func() {
		if !stopped {
			stopped = true
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}
	defer stop()
	testx.Eventually(t, 20*time.Second, func() bool {
		_, err := Repair(t.Context(), dir, RepairOptions{DryRun: true})
		var in *InUseError
		return errors.As(err, &in) && len(in.By) == 1 && in.By[0].PID == cmd.Process.Pid && in.By[0].Role == "child"
	}, "repair names the process that has the queue open")
	stop()
	if rep := repair(t, dir, RepairOptions{}); !rep.Sound() {
		t.Errorf("after its death: %+v", rep)
	}
}
