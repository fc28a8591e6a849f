package walq

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/walq/walq/internal/testx"
)

// sleepy opens a queue whose readers sleep at once, and for good: only a wake-up
// ends a sleep.
func sleepy(t *testing.T, dir string, o Options) *Queue {
	t.Helper()
	o.Create = &QueueOptions{SegmentSize: 64 << 10}
	q, err := Open(t.Context(), dir, o)
	if err != nil {
		t.Fatal(err)
	}
	q.bed.limit = time.Hour
	t.Cleanup(func() {
		if err := q.Close(); err != nil && !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	})
	return q
}

func sleepyReader(t *testing.T, q *Queue, o ReaderOptions) *Reader {
	t.Helper()
	o.Spin = -1
	r, err := q.Reader(Newest, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// asleep waits until so many goroutines of the handle sleep, one at the socket.
func asleep(t *testing.T, q *Queue, n int) {
	t.Helper()
	testx.Eventually(t, 20*time.Second, func() bool {
		q.bed.mu.Lock()
		defer q.bed.mu.Unlock()
		return len(q.bed.sleepers) == n && q.bed.busy
	}, fmt.Sprint(n, " sleepers"))
}

func nextIn(t *testing.T, ctx context.Context, r *Reader) chan error {
	done := make(chan error, 1)
	go func() {
		_, err := r.Next(ctx)
		done <- err
	}()
	return done
}

func ends(t *testing.T, what string, done chan error, want error) {
	t.Helper()
	select {
	case err := <-done:
		if !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", what, err, want)
		}
	case <-time.After(20 * time.Second):
		t.Fatalf("%s sleeps on", what)
	}
}

// Every message finds every reader asleep, or about to be; each must wake up by
// the wake-up alone. Three readers in two handles, two writers in two more.
func TestStormNoWakeUpIsLost(t *testing.T) {
	rounds := 17_000
	if testx.Race {
		rounds = 1_000
	}
	dir := filepath.Join(t.TempDir(), "q")
	writers := []*Queue{sleepy(t, dir, Options{Durability: SyncNever}), sleepy(t, dir, Options{Durability: SyncNever})}
	two, one := sleepy(t, dir, Options{}), sleepy(t, dir, Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	seen := make(chan Seq, 3)
	var readers sync.WaitGroup
	for _, q := range []*Queue{two, two, one} {
		r := sleepyReader(t, q, ReaderOptions{})
		readers.Go(func() {
			for range rounds {
				m, err := r.Next(ctx)
				if err != nil {
					t.Error(err)
					seen <- 0
					return
				}
				seen <- m.Seq
			}
		})
	}
	for i := range rounds {
		want, err := writers[i%2].Append(ctx, []byte("x"))
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if got := <-seen; got != want {
				t.Fatalf("round %d: a reader got %d, want %d", i, got, want)
			}
		}
	}
	readers.Wait()
}

func TestAReaderThatIsCancelledHandsTheSocketOver(t *testing.T) {
	q := sleepy(t, filepath.Join(t.TempDir(), "q"), Options{Durability: SyncNever})
	var dones []chan error
	var cancels []context.CancelFunc
	for range 3 {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		dones = append(dones, nextIn(t, ctx, sleepyReader(t, q, ReaderOptions{})))
		cancels = append(cancels, cancel)
	}
	asleep(t, q, 3)
	for i := range 2 {
		cancels[i]()
		ends(t, "a cancelled reader", dones[i], context.Canceled)
		asleep(t, q, 2-i)
	}
	if _, err := q.Append(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	ends(t, "the last reader", dones[2], nil)
}

func TestCloseWakesSleepersAndLeavesNoSocket(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "q")
	q, other := sleepy(t, dir, Options{}), sleepy(t, dir, Options{})
	r := sleepyReader(t, q, ReaderOptions{})
	done := nextIn(t, t.Context(), r)
	asleep(t, q, 1)
	sockets := func() []string {
		all, err := filepath.Glob(filepath.Join(dir, "wake", "*"))
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	if got := sockets(); len(got) != 1 || filepath.Base(got[0]) != "0000.sock" {
		t.Errorf("sockets %v, want the sleeper's", got)
	}
	if info, err := os.Stat(sockets()[0]); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := q.Close(); err != nil {
		t.Error(err)
	}
	ends(t, "the reader", done, ErrClosed)
	if got := sockets(); len(got) != 0 {
		t.Errorf("sockets %v are left", got)
	}
	if _, err := other.Append(t.Context(), nil); err != nil {
		t.Error(err)
	}
}

func TestADurableReaderIsWokenByWhoeverSyncs(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "q")
	q, writer := sleepy(t, dir, Options{}), sleepy(t, dir, Options{Durability: SyncNever})
	done := nextIn(t, t.Context(), sleepyReader(t, q, ReaderOptions{Durable: true}))
	asleep(t, q, 1)
	if _, err := writer.Append(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-done:
		t.Fatalf("read what is not durable: %v", err)
	default:
	}
	if err := writer.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	ends(t, "the reader", done, nil)
}

func TestASleeperInADeepDirectoryIsWoken(t *testing.T) {
	dir := t.TempDir()
	for range 4 {
		dir = filepath.Join(dir, strings.Repeat("d", 80))
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	q := sleepy(t, filepath.Join(dir, "q"), Options{Durability: SyncNever})
	done := nextIn(t, t.Context(), sleepyReader(t, q, ReaderOptions{}))
	asleep(t, q, 1)
	if _, err := q.Append(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	ends(t, "the reader", done, nil)
}

func TestWhereNoSocketCanBeReadersPoll(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "q")
	q := sleepy(t, dir, Options{Durability: SyncNever})
	if err := os.RemoveAll(filepath.Join(dir, "wake")); err != nil {
		t.Fatal(err)
	}
	done := nextIn(t, t.Context(), sleepyReader(t, q, ReaderOptions{}))
	other := sleepy(t, dir, Options{Durability: SyncNever}) // opens all the same
	if _, err := other.Append(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	ends(t, "the reader", done, nil)
}

func TestWhatKeepsASocketFromBeingMadeMayPass(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "q")
	q := sleepy(t, dir, Options{Durability: SyncNever})
	inTheWay := filepath.Join(dir, "wake", socketName(0))
	if err := os.Mkdir(inTheWay, 0o700); err != nil {
		t.Fatal(err)
	}
	r := sleepyReader(t, q, ReaderOptions{})
	polls := nextIn(t, t.Context(), r)
	testx.Eventually(t, 20*time.Second, func() bool {
		q.bed.mu.Lock()
		defer q.bed.mu.Unlock()
		return !q.bed.again.IsZero()
	}, "the reader does not try to make a socket")
	if _, err := q.Append(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	ends(t, "a reader that polls", polls, nil)
	if err := os.Remove(inTheWay); err != nil {
		t.Fatal(err)
	}
	done := nextIn(t, t.Context(), r)
	asleep(t, q, 1)
	if _, err := q.Append(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	ends(t, "the reader", done, nil)
}

func TestTheSocketOfADeadProcessIsRemovedByWhoTakesItsSlot(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "q")
	q := sleepy(t, dir, Options{})
	stale := filepath.Join(dir, "wake", socketName(1))
	if err := os.WriteFile(stale, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := q.Append(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	sleepy(t, dir, Options{})
	if _, err := os.Lstat(stale); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
}

func TestTheSocketsOfTheDeadGoWithTheLastOneAndWithTheFirst(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "q")
	first := sleepy(t, dir, Options{})
	last := sleepy(t, dir, Options{})
	stale := filepath.Join(dir, "wake", socketName(7)) // a slot that nobody takes again
	leave := func() {
		if err := os.WriteFile(stale, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	gone := func() bool {
		_, err := os.Lstat(stale)
		return errors.Is(err, os.ErrNotExist)
	}
	leave()
	if err := first.Close(); err != nil || gone() {
		t.Errorf("removed while another is there, whose it might be (%v)", err)
	}
	if err := last.Close(); err != nil || !gone() {
		t.Errorf("it outlived the last participant (%v)", err)
	}
	leave()
	if sleepy(t, dir, Options{}); !gone() {
		t.Error("it outlived the first to open")
	}
}

func TestAHandleThatCannotWakeLeavesItToOthers(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "q")
	reader, able := sleepy(t, dir, Options{}), sleepy(t, dir, Options{Durability: SyncNever})
	wake, aside := filepath.Join(dir, "wake"), filepath.Join(dir, "aside")
	if err := os.Rename(wake, aside); err != nil {
		t.Fatal(err)
	}
	unable := sleepy(t, dir, Options{Durability: SyncNever}) // finds no directory of sockets
	if err := os.Rename(aside, wake); err != nil {
		t.Fatal(err)
	}
	r := sleepyReader(t, reader, ReaderOptions{Durable: true}) // so that a message alone ends nothing
	done := nextIn(t, t.Context(), r)
	asleep(t, reader, 1)
	if _, err := unable.Append(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if err := unable.Sync(t.Context()); err != nil { // makes it durable and cannot say so
		t.Fatal(err)
	}
	if _, err := able.Append(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if err := able.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	ends(t, "the reader", done, nil)
}

func TestCloseEndsAlsoWhenTheSocketsNameIsGone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "q")
	q := sleepy(t, dir, Options{})
	q.bed.limit = 200 * time.Millisecond
	done := nextIn(t, t.Context(), sleepyReader(t, q, ReaderOptions{}))
	asleep(t, q, 1)
	if err := os.Remove(filepath.Join(dir, "wake", socketName(0))); err != nil {
		t.Fatal(err)
	}
	if err := q.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	ends(t, "the reader", done, ErrClosed)
}
