package limits

import (
	"context"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"
)

// echoes are the second processes, which are this test program again.
var echoes = map[string]func(dir string) error{"bounce": BounceEcho, "datagram": DatagramEcho}

func TestMain(m *testing.M) {
	if echo := echoes[os.Getenv("LIMITS_ECHO")]; echo != nil {
		if err := echo(os.Getenv("LIMITS_DIR")); err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// second gives a function that starts a second process. The test fails if that
// does not end well.
func second(t *testing.T, echo, dir string) func() error {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "LIMITS_ECHO="+echo, "LIMITS_DIR="+dir)
	cmd.Stderr = os.Stderr
	return func() error {
		if err := cmd.Start(); err != nil {
			return err
		}
		t.Cleanup(func() {
			if err := cmd.Wait(); err != nil {
				t.Errorf("the process of %s: got %v, want it to end by itself", echo, err)
			}
		})
		return nil
	}
}

const brief = 20 * time.Millisecond

func TestACopyAndAChecksumTouchEveryByte(t *testing.T) {
	dir := t.TempDir()
	for _, size := range []int{1 << 10, 64 << 10} {
		copied, err := Copy(t.Context(), dir, size, 8<<20, brief)
		if err != nil {
			t.Fatal(err)
		}
		summed, err := Checksum(t.Context(), size, 8<<20, brief)
		if err != nil {
			t.Fatal(err)
		}
		// No bound on time: only that something was done for each byte.
		if bytesPerNano := float64(size) / copied; copied <= 0 || bytesPerNano > 1000 {
			t.Errorf("copy of %d bytes: got %.2f ns, want what a processor can do", size, copied)
		}
		if bytesPerNano := float64(size) / summed; summed <= 0 || bytesPerNano > 1000 {
			t.Errorf("checksum of %d bytes: got %.2f ns, want what a processor can do", size, summed)
		}
	}
	empty(t, dir)
}

func TestTwoProcessesSendADatagramToAndFro(t *testing.T) {
	dir := t.TempDir()
	samples, err := Datagram(t.Context(), dir, time.Minute, make([]int64, 500), second(t, "datagram", dir))
	if err != nil {
		t.Fatal(err)
	}
	// Two switches between processes: no machine does them in 100 ns.
	if len(samples) != 500 || slices.Min(samples) < 100 {
		t.Errorf("got %d samples, the least %d ns; want 500, all of 100 ns and more", len(samples), slices.Min(samples))
	}
}

func TestADiskHasARate(t *testing.T) {
	dir := t.TempDir()
	syncs, err := Sync(t.Context(), dir, 128, time.Minute, make([]int64, 5))
	if err != nil || len(syncs) != 5 {
		t.Errorf("got %d syncs and %v, want 5", len(syncs), err)
	}
	write, read, err := Disk(t.Context(), dir, 4<<20)
	if err != nil || write <= 0 || read <= 0 {
		t.Errorf("got %.0f and %.0f B/s and %v, want rates", write, read, err)
	}
	empty(t, dir)
}

func TestTheFloorsOfOneCallTakeTime(t *testing.T) {
	dir := t.TempDir()
	copied, err := CopyFresh(t.Context(), dir, 100, 1<<20)
	if err != nil || copied <= 0 {
		t.Errorf("a copy into fresh pages: got %v ns and %v", copied, err)
	}
	allocate, write, err := FreshPages(dir, 1<<20)
	if err != nil || allocate <= 0 || write <= 0 {
		t.Errorf("fresh pages: got %v and %v ns and %v", allocate, write, err)
	}
	for name, limit := range map[string]func(context.Context, string, int, int64, time.Duration) (float64, error){"append": Append, "take": Take} {
		if ns, err := limit(t.Context(), dir, 100, 1<<20, brief); err != nil || ns <= 0 {
			t.Errorf("%s: got %v ns and %v", name, ns, err)
		}
		if _, err := limit(t.Context(), dir, 100, 10, brief); err == nil {
			t.Errorf("%s without room for one body: got no error", name)
		}
	}
	if ns, err := CompareAndSwap(t.Context(), brief); err != nil || ns <= 0 {
		t.Errorf("a CAS: got %v ns and %v", ns, err)
	}
	empty(t, dir)
}

func TestALimitEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	dir := t.TempDir()
	if _, err := Copy(ctx, dir, 100, 1<<20, time.Hour); err == nil {
		t.Error("Copy: got no error after the context ended")
	}
	if _, _, err := Disk(ctx, dir, 1<<20); err == nil {
		t.Error("Disk: got no error after the context ended")
	}
	empty(t, dir)
}

func TestQuantilesAreOfTheSortedSamples(t *testing.T) {
	samples := make([]int64, 1001)
	for i := range samples {
		samples[i] = int64(1000 - i)
	}
	if got, want := QuantilesOf(samples), (Quantiles{500, 990, 999, 1000}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := QuantilesOf(nil); got != (Quantiles{}) {
		t.Errorf("of nothing: got %v, want zeros", got)
	}
}

// empty fails the test if a measurement left something behind.
func empty(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) > 0 {
		t.Errorf("left in the directory: %v %v, want nothing", entries, err)
	}
}
