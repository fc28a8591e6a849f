//go:build walqsteps

package wal

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/walq/walq/internal/step"
	"github.com/walq/walq/internal/testx"
)

// A process of this test binary may be asked to do nothing but repair a queue.
func init() {
	dir := os.Getenv("WALQ_TEST_REPAIR")
	if dir == "" {
		return
	}
	if _, err := Repair(context.Background(), dir, RepairOptions{}); err != nil {
		fmt.Fprintln(os.Stderr, "repair:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func repairCommand(t *testing.T, dir string, env ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(append(os.Environ(), "WALQ_TEST_REPAIR="+dir), env...)
	cmd.Stderr = os.Stderr
	return cmd
}

// brokenQueue has a damaged body, a missing segment, wrong words in the control
// file and a poison.
func brokenQueue(t *testing.T) (dir string) {
	t.Helper()
	dir, _ = longQueue(t, 5)
	damage(t, segmentFile(t, dir, 0), func(b []byte) []byte { b[20000] ^= 0x10; return b })
	damage(t, segmentFile(t, dir, 3), func(b []byte) []byte { clear(b[20000:24000]); b[4100] ^= 1; return b })
	if err := os.Remove(segmentFile(t, dir, 1)); err != nil {
		t.Fatal(err)
	}
	damage(t, filepath.Join(dir, controlName), func(b []byte) []byte {
		b[100] ^= 2
		b[ctlSettled+5] ^= 1
		putWord(b[ctlPoison:], 2)
		putWord(b[ctlPoisonLength:], uint64(copy(b[ctlPoisonReason:], "planted")))
		return b
	})
	return dir
}

// Repair may be killed at any step, also again and again: the next one comes to the
// same result.
func TestRepairMayBeKilledAtAnyStep(t *testing.T) {
	if testx.Race {
		testx.Skip(t, "several processes cannot share heap memory")
	}
	broken := brokenQueue(t)
	straight := filepath.Join(t.TempDir(), "straight")
	copyQueue(t, straight, broken)
	repair(t, straight, RepairOptions{})
	want, _ := load(t, straight).contents(t)
	for _, id := range step.IDs() {
		if id < step.RepairLocked || id > step.RepairPoisonCleared {
			continue
		}
		for passage := 1; passage <= 5; passage++ {
			if passage > 1 && id != step.RepairCopied && id != step.RepairKept && id != step.RepairRenamed {
				break
			}
			t.Run(fmt.Sprintf("%v passage %d", id, passage), func(t *testing.T) {
				dir := filepath.Join(t.TempDir(), "q")
				copyQueue(t, dir, broken)
				killed := 0
				for range 2 {
					cmd := repairCommand(t, dir, fmt.Sprintf("WALQ_STEP=%v:%d=kill", id, passage))
					start(t, cmd)
					if err := waitFor(cmd, 60*time.Second); err != nil {
						if cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
							t.Fatalf("the victim: %v", err)
						}
						killed++
						if poison := getWord(load(t, dir).ctl[ctlPoison:]); poison == 0 && id < step.RepairPoisonCleared {
							t.Error("the poison is gone before everything else is on disk")
						}
					}
				}
				if killed == 0 && passage < 4 {
					t.Errorf("the step was never passed")
				}
				if _, err := Repair(t.Context(), dir, RepairOptions{}); err != nil {
					t.Fatal(err)
				}
				wantSound(t, dir, len(want))
				if got, _ := load(t, dir).contents(t); !maps.Equal(got, want) {
					t.Errorf("%d messages are left, want the %d that a repair without a kill leaves", len(got), len(want))
				}
				l := open(t, dir, Options{})
				appendDurable(t, l, "on")
				closeLog(t, l)
			})
		}
	}
}

func copyQueue(t *testing.T, to, from string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}
