package walq_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/walq/walq"
)

// limited makes a queue whose limit is so many segments of the smallest size.
func limited(t testing.TB, segments int64, w walq.WhenFull) *walq.Queue {
	t.Helper()
	return open(t, newDir(t), walq.Options{Create: &walq.QueueOptions{
		SegmentSize: smallest, MaxBytes: segments * smallest, WhenFull: w, Durability: walq.SyncNever,
	}})
}

// onDisk is how many bytes the files of the log have.
func onDisk(t testing.TB, q *walq.Queue) (total int64) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(q.Path(), "log", "*.seg"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		info, err := os.Stat(file)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		total += info.Size()
	}
	return total
}

// fillQueue appends until the queue is full, and returns the last number.
func fillQueue(t testing.TB, q *walq.Queue) (last walq.Seq, full *walq.FullError) {
	t.Helper()
	for range 10_000 {
		seq, err := q.Append(t.Context(), make([]byte, 1000))
		switch {
		case err == nil:
			last = seq
		case errors.Is(err, walq.ErrFull) && errors.As(err, &full):
			return last, full
		default:
			t.Fatal(err)
		}
	}
	t.Fatal("the queue is not full after 10,000 appends")
	return
}

// wantAllOf receives and finishes the messages from to last, without a gap.
func wantAllOf(t testing.TB, g *walq.Group, from, last walq.Seq) {
	t.Helper()
	for seq := from; seq <= last; seq++ {
		d, err := g.TryReceive(t.Context())
		if err != nil || d == nil || d.Seq != seq {
			t.Fatalf("got %v, %v, want message %d", d, err, seq)
		}
		ack(t, d)
	}
}

func TestLimitsKeepWhatAGroupHasNotFinished(t *testing.T) {
	q := limited(t, 4, walq.FailWhenFull)
	g := newGroup(t, q, "g", walq.GroupOptions{})
	done := newGroup(t, q, "done", walq.GroupOptions{})
	first, last := walq.Seq(1), walq.Seq(0)
	for range 3 {
		end, full := fillQueue(t, q)
		if last = end; full.By != "group g" || walq.Seq(full.From) != first || full.MaxBytes != 4*smallest {
			t.Errorf("got %v, want that group g needs %d", full, first)
		}
		for _, err := range []error{full, q.SetLimits(t.Context(), 4*smallest, time.Nanosecond)} {
			if err != nil && !errors.Is(err, walq.ErrFull) {
				t.Fatal(err)
			}
		}
		if n, err := q.Trim(t.Context()); n != 0 || err != nil {
			t.Errorf("%d files went although g needs all (%v)", n, err)
		}
		if n, err := q.TrimBefore(t.Context(), last); n != 0 || err != nil {
			t.Errorf("by number: %d files went although g needs all (%v)", n, err)
		}
		if n := onDisk(t, q); n > 4*smallest {
			t.Errorf("%d bytes on disk, want at most %d", n, 4*smallest)
		}
		wantAllOf(t, done, first, last) // another group that is ready makes no room
		if _, err := q.Append(t.Context(), make([]byte, 1000)); !errors.Is(err, walq.ErrFull) {
			t.Errorf("got %v, want ErrFull as long as one group needs the oldest", err)
		}
		wantAllOf(t, g, first, last) // and there is room at once, not with the next checkpoint
		first = last + 1
	}
}

func TestAGroupThatMayLoseHoldsNothingAndIsToldOnce(t *testing.T) {
	q := limited(t, 3, walq.FailWhenFull)
	g := newGroup(t, q, "g", walq.GroupOptions{MayLose: true})
	var last walq.Seq
	for range 300 {
		last = appendText(t, q, strings.Repeat("x", 1000))
	}
	if _, err := q.Trim(t.Context()); err != nil {
		t.Fatal(err)
	}
	oldest := stats(t, q).FirstSeq
	var gap *walq.GapError
	if _, err := g.TryReceive(t.Context()); !errors.As(err, &gap) || gap.From != 1 || gap.To != uint64(oldest) {
		t.Fatalf("got %v, want a gap from 1 to %d", err, oldest)
	}
	wantAllOf(t, g, oldest, last)
}

func TestAGroupMayBeToldToLoseMessagesAndToKeepThemAgain(t *testing.T) {
	q := limited(t, 3, walq.FailWhenFull)
	g := newGroup(t, q, "g", walq.GroupOptions{})
	want := func(mayLose bool) {
		t.Helper()
		all, err := q.Groups()
		if err != nil || len(all) != 1 || all[0].MayLose != mayLose {
			t.Fatalf("got %+v, %v, want may lose %v", all, err, mayLose)
		}
	}
	last, _ := fillQueue(t, q)
	for _, set := range []func() error{
		func() error { return q.SetGroupMayLose("g", true) },
		func() error { newGroup(t, q, "g", walq.GroupOptions{MayLose: true}); return nil },
	} {
		if err := set(); err != nil {
			t.Fatal(err)
		}
		want(true)
		newGroup(t, q, "g", walq.GroupOptions{})
		want(true) // nothing was said of it
		for range 200 {
			appendText(t, q, strings.Repeat("x", 1000))
		}
		if err := q.SetGroupMayLose("g", false); err != nil {
			t.Fatal(err)
		}
		want(false)
		oldest := stats(t, q).FirstSeq
		if last, _ = fillQueue(t, q); stats(t, q).FirstSeq != oldest {
			t.Errorf("the oldest is %d, was %d when the group was to keep its messages", stats(t, q).FirstSeq, oldest)
		}
	}
	if err := q.SetGroupMayLose("none", true); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a group that is not there: %v", err)
	}
	var gap *walq.GapError
	if _, err := g.TryReceive(t.Context()); !errors.As(err, &gap) {
		t.Fatalf("got %v, want a gap", err)
	}
	wantAllOf(t, g, walq.Seq(gap.To), last)
}

// talk is what was logged.
type talk struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *talk) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *talk) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *talk) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func (l *talk) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), text)
}

func editFile(t testing.TB, path string, edit func(p []byte)) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p := make([]byte, 12288)
	if _, err := f.ReadAt(p, 0); err != nil {
		t.Fatal(err)
	}
	edit(p)
	if _, err := f.WriteAt(p, 0); err != nil { // in place: it may be mapped
		t.Fatal(err)
	}
}

func TestAGroupThatCannotBeAskedKeepsEverything(t *testing.T) {
	for name, damage := range map[string]func(p []byte){
		"a bit of the identity": func(p []byte) { p[100] ^= 1 },
		"a newer version":       func(p []byte) { p[8] = 9 },
		"its settings":          func(p []byte) { p[4096+9] ^= 1; p[4096+1024+9] ^= 1 },
		"both bases":            func(p []byte) { p[6144+9] ^= 1 },
	} {
		t.Run(name, func(t *testing.T) {
			log := &talk{}
			q := open(t, newDir(t), walq.Options{Logger: log.logger(), Create: &walq.QueueOptions{
				SegmentSize: smallest, MaxBytes: 3 * smallest, Durability: walq.SyncNever,
			}})
			g := newGroup(t, q, "g", walq.GroupOptions{})
			if err := g.Close(); err != nil {
				t.Fatal(err)
			}
			editFile(t, filepath.Join(q.Path(), "groups", "g.grp"), damage)
			_, full := fillQueue(t, q)
			if full.From != 0 || !strings.Contains(full.Error(), "group g") {
				t.Errorf("got %v, want that it is not known what group g needs", full)
			}
			if n, err := q.Trim(t.Context()); n != 0 || err != nil {
				t.Errorf("%d files went, %v", n, err)
			}
			if n := log.count("remove nothing"); n != 1 {
				t.Errorf("it was logged %d times, want once a minute", n)
			}
			if err := q.RemoveGroup("g"); err != nil && !errors.Is(err, walq.ErrVersion) {
				t.Fatal(err)
			} else if err != nil { // a newer version's: by hand
				if err := os.Remove(filepath.Join(q.Path(), "groups", "g.grp")); err != nil {
					t.Fatal(err)
				}
			}
			appendText(t, q, strings.Repeat("x", 1000))
		})
	}
}

func TestAnAppendWaitsForRoomAsLongAsItsContextAllows(t *testing.T) {
	q := limited(t, 3, walq.WaitWhenFull)
	g := newGroup(t, q, "g", walq.GroupOptions{})
	body := make([]byte, 1000)
	var last walq.Seq
	calls := map[string]func(ctx context.Context) (walq.Seq, error){
		"Append":      func(ctx context.Context) (walq.Seq, error) { return q.Append(ctx, body) },
		"AppendBatch": func(ctx context.Context) (walq.Seq, error) { return q.AppendBatch(ctx, body, body) },
		"Publish":     func(ctx context.Context) (walq.Seq, error) { return q.Publish(ctx, walq.Draft{Topic: "t", Body: body}) },
		"Submit":      func(ctx context.Context) (walq.Seq, error) { return q.Submit(ctx, walq.Draft{Body: body}) },
		"AppendFunc": func(ctx context.Context) (walq.Seq, error) {
			return q.AppendFunc(ctx, 1000, func([]byte) error { return nil })
		},
		"Claim": func(ctx context.Context) (walq.Seq, error) {
			c, err := q.Claim(ctx, 1000)
			if err != nil {
				return 0, err
			}
			return c.Commit(ctx)
		},
	}
	first := walq.Seq(1)
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			for {
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
				_, err := call(ctx)
				cancel()
				if err == nil {
					continue // there was room
				}
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Fatal(err)
				}
				if errors.Is(err, walq.ErrFull) {
					break // else it ended before it began
				}
			}
			last = stats(t, q).LastSeq
			got := make(chan error, 1)
			go func() {
				_, err := call(context.WithoutCancel(t.Context()))
				got <- err
			}()
			wantAllOf(t, g, first, last)
			first = last + 1
			within(t, name, func() {
				if err := <-got; err != nil {
					t.Error(err)
				}
			})
		})
	}
	wantAllOf(t, g, first, stats(t, q).LastSeq)
}

func TestAnAppendThatWaitsIsToldWhenThingsChange(t *testing.T) {
	for name, change := range map[string]struct {
		do   func(t *testing.T, q *walq.Queue) error
		want error
	}{
		"a higher limit":           {func(t *testing.T, q *walq.Queue) error { return q.SetLimits(t.Context(), 1<<30, 0) }, nil},
		"a group that may lose":    {func(_ *testing.T, q *walq.Queue) error { return q.SetGroupMayLose("g", true) }, nil},
		"a group that is gone":     {func(_ *testing.T, q *walq.Queue) error { return q.RemoveGroup("g") }, nil},
		"a group that is put on":   {func(t *testing.T, q *walq.Queue) error { return q.ResetGroup(t.Context(), "g", walq.Newest) }, nil},
		"nobody is to wait":        {func(t *testing.T, q *walq.Queue) error { return q.SetWhenFull(t.Context(), walq.FailWhenFull) }, walq.ErrFull},
		"the queue is closed here": {func(_ *testing.T, q *walq.Queue) error { return q.Close() }, walq.ErrClosed},
	} {
		t.Run(name, func(t *testing.T) {
			q := limited(t, 3, walq.FailWhenFull)
			newGroup(t, q, "g", walq.GroupOptions{})
			fillQueue(t, q)
			if err := q.SetWhenFull(t.Context(), walq.WaitWhenFull); err != nil {
				t.Fatal(err)
			}
			var all sync.WaitGroup
			for range 3 {
				all.Go(func() {
					if _, err := q.Append(context.WithoutCancel(t.Context()), make([]byte, 1000)); !errors.Is(err, change.want) {
						t.Errorf("got %v, want %v", err, change.want)
					}
				})
			}
			if err := change.do(t, q); err != nil {
				t.Fatal(err)
			}
			within(t, name, all.Wait)
		})
	}
}

// A group is made at a place that trimming is about to take away.
func TestWhatANewGroupBeginsWithIsKept(t *testing.T) {
	q := limited(t, 3, walq.FailWhenFull)
	stop, done := make(chan struct{}), make(chan struct{})
	other := open(t, q.Path(), walq.Options{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := other.Append(context.WithoutCancel(t.Context()), make([]byte, 1000)); err != nil && !errors.Is(err, walq.ErrFull) {
				t.Error(err)
				return
			}
		}
	}()
	for range 50 {
		g, err := q.Group("g", walq.GroupOptions{From: walq.Oldest})
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if _, err := g.TryReceive(t.Context()); err != nil {
				t.Errorf("a new group begins with: %v", err)
			}
		}
		if err := g.Close(); err != nil {
			t.Error(err)
		}
		if err := q.RemoveGroup("g"); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	<-done
}

// A delayed message is behind the floor, in a file of its own.
func TestADelayedMessageIsKept(t *testing.T) {
	q := limited(t, 3, walq.FailWhenFull)
	g := newGroup(t, q, "g", walq.GroupOptions{})
	delayed, err := q.Publish(t.Context(), walq.Draft{NotBefore: time.Now().Add(time.Hour), Body: []byte("later")})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		for {
			d, err := g.TryReceive(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if d == nil {
				break
			}
			if err := d.AckSync(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if _, full := fillQueue(t, q); walq.Seq(full.From) != delayed {
			t.Errorf("got %v, want that message %d is needed", full, delayed)
		}
	}
	if s := stats(t, q); s.FirstSeq > delayed || s.HeldBy == nil || s.HeldBy.From != delayed {
		t.Errorf("the oldest is %d, held by %+v, want %d", s.FirstSeq, s.HeldBy, delayed)
	}
}
