//go:build !race

package limits

import (
	"slices"
	"testing"
	"time"
)

func TestTwoProcessesHandACacheLineToAndFro(t *testing.T) {
	dir := t.TempDir()
	samples, err := Bounce(t.Context(), dir, time.Minute, make([]int64, 500), second(t, "bounce", dir))
	if err != nil {
		t.Fatal(err)
	}
	if len(samples) != 500 || slices.Min(samples) <= 0 {
		t.Errorf("got %d samples, the least %d ns; want 500, all above 0", len(samples), slices.Min(samples))
	}
	empty(t, dir)
}
