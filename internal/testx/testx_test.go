package testx

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// A witness stands in for the test that a helper is given, and keeps what the
// helper does to it.
type witness struct {
	testing.TB
	failed, skipped string
	logged          []string
}

func (w *witness) Helper() {}

func (w *witness) Logf(format string, args ...any) {
	w.logged = append(w.logged, fmt.Sprintf(format, args...))
}

func (w *witness) Fatalf(format string, args ...any) {
	w.failed = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func (w *witness) Skip(args ...any) {
	w.skipped = fmt.Sprint(args...)
	runtime.Goexit()
}

// watch runs f in a goroutine that it may leave.
func watch(t *testing.T, f func(testing.TB)) *witness {
	w := &witness{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(w)
	}()
	<-done
	return w
}

func TestSkipSkipsWithItsReason(t *testing.T) {
	t.Setenv("WALQ_STRICT", "")
	w := watch(t, func(t testing.TB) { Skip(t, "no loop device") })
	if w.skipped != "no loop device" || w.failed != "" {
		t.Errorf("skipped %q, failed %q", w.skipped, w.failed)
	}
}

func TestSkipFailsWhereEverythingMustRun(t *testing.T) {
	t.Setenv("WALQ_STRICT", "1")
	w := watch(t, func(t testing.TB) { Skip(t, "no loop device") })
	if w.skipped != "" || !strings.Contains(w.failed, "no loop device") {
		t.Errorf("skipped %q, failed %q", w.skipped, w.failed)
	}
}

func TestEventuallyReturnsOnceTheConditionHolds(t *testing.T) {
	calls := 0
	w := watch(t, func(t testing.TB) {
		Eventually(t, time.Minute, func() bool { calls++; return calls == 3 }, "third call")
	})
	if calls != 3 || w.failed != "" {
		t.Errorf("%d calls, failed %q", calls, w.failed)
	}
}

func TestEventuallyFailsAtTheDeadline(t *testing.T) {
	for _, deadline := range []time.Duration{0, 5 * time.Millisecond} {
		calls := 0
		w := watch(t, func(t testing.TB) {
			Eventually(t, deadline, func() bool { calls++; return false }, "the moon")
		})
		if calls == 0 || !strings.Contains(w.failed, "the moon") {
			t.Errorf("deadline %v: %d calls, failed %q", deadline, calls, w.failed)
		}
	}
}

func TestSeedCanBeGivenAgain(t *testing.T) {
	t.Setenv("WALQ_SEED", "")
	first := Seed(t)
	t.Setenv("WALQ_SEED", fmt.Sprint(first))
	w := watch(t, func(t testing.TB) {
		if again := Seed(t); again != first {
			t.Errorf("got %d, want %d", again, first)
		}
	})
	if want := fmt.Sprintf("WALQ_SEED=%d", first); len(w.logged) != 1 || !strings.Contains(w.logged[0], want) {
		t.Errorf("logged %q, want %q in it", w.logged, want)
	}
}

func TestSeedRefusesWhatIsNoNumber(t *testing.T) {
	t.Setenv("WALQ_SEED", "monday")
	w := watch(t, func(t testing.TB) { Seed(t) })
	if !strings.Contains(w.failed, "WALQ_SEED") {
		t.Errorf("failed %q", w.failed)
	}
}

// inModule makes a module with a cmd/walq that prints what its tag says, and
// works in a directory of it.
func inModule(t *testing.T) {
	t.Helper()
	root := t.TempDir()
	for name, content := range map[string]string{
		"go.mod":              "module example.com/m\n\ngo 1.26\n",
		"cmd/walq/main.go":    "package main\n\nfunc main() { print(word) }\n",
		"cmd/walq/plain.go":   "//go:build !other\n\npackage main\n\nconst word = \"plain\"\n",
		"cmd/walq/other.go":   "//go:build other\n\npackage main\n\nconst word = \"other\"\n",
		"somewhere/readme.md": "",
	} {
		path := filepath.Join(root, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(filepath.Join(root, "somewhere"))
}
