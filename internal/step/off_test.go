//go:build !walqsteps

package step

import (
	"os/exec"
	"strings"
	"testing"
)

func TestWithoutTheTagAStepCostsNothing(t *testing.T) {
	if Enabled {
		t.Fatal("Enabled without the tag walqsteps")
	}
	if got := testing.AllocsPerRun(100, func() {
		At(ClaimBefore)
		if err := Err(SyncFlushed); err != nil {
			t.Errorf("Err: got %v, want nil", err)
		}
	}); got != 0 {
		t.Errorf("%v allocations, want 0", got)
	}
}

func TestWithoutTheTagAStepInlines(t *testing.T) {
	out, err := exec.Command("go", "build", "-gcflags=-m", ".").CombinedOutput()
	if err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	for _, want := range []string{"can inline At", "can inline Err"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the compiler does not say %q:\n%s", want, out)
		}
	}
}

func TestWithoutTheTagTheEnvironmentIsOutOfReach(t *testing.T) {
	imports, err := exec.Command("go", "list", "-f", "{{.Imports}}", ".").CombinedOutput()
	if got, want := strings.TrimSpace(string(imports)), "[fmt]"; err != nil || got != want {
		t.Errorf("an ordinary build imports %s (%v), want %s", got, err, want)
	}
}

func BenchmarkAt(b *testing.B) {
	for b.Loop() {
		At(ClaimBefore)
	}
}
