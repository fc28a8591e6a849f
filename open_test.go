package walq_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/walq/walq"
)

func TestOpenOfAMissingPathFailsAndCreatesNothing(t *testing.T) {
	for name, o := range map[string]walq.Options{"zero options": {}, "read-only": {ReadOnly: true}} {
		t.Run(name, func(t *testing.T) {
			parent := t.TempDir()
			path := filepath.Join(parent, "q")
			_, err := walq.Open(t.Context(), path, o)
			wantSentence(t, err, fs.ErrNotExist, path)
			if err != nil && !strings.Contains(err.Error(), "Options.Create") {
				t.Errorf("the error does not tell how to make a queue: %v", err)
			}
			if left, err := os.ReadDir(parent); len(left) != 0 || err != nil {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}

func TestAReaderNeverCreatesAQueue(t *testing.T) {
	path := newDir(t)
	_, err := walq.Open(t.Context(), path, walq.Options{ReadOnly: true, Create: &walq.QueueOptions{}})
	wantIs(t, "read-only, with Create", err, fs.ErrNotExist)
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("something was made: %v", err)
	}
}

func TestOpenWithoutAParentDirectoryMakesNone(t *testing.T) {
	parent := filepath.Join(t.TempDir(), "missing")
	_, err := walq.Open(t.Context(), filepath.Join(parent, "q"), walq.Options{Create: &walq.QueueOptions{}})
	wantSentence(t, err, fs.ErrNotExist, parent)
	if _, err := os.Stat(parent); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the parent was made: %v", err)
	}
}

func TestZeroOptionsOpenAnExistingQueue(t *testing.T) {
	dir := newDir(t)
	q := create(t, dir, walq.Options{})
	appendText(t, q, "before")
	closeQueue(t, q)
	q = open(t, dir, walq.Options{})
	appendText(t, q, "after")
	wantLines(t, "contents", contents(t, q), "1 before", "2 after")
}

func TestAnEmptyDirectoryBecomesAQueueOnlyIfAsked(t *testing.T) {
	dir := t.TempDir()
	_, err := walq.Open(t.Context(), dir, walq.Options{})
	wantSentence(t, err, walq.ErrNotQueue, dir)
	if left, err := os.ReadDir(dir); len(left) != 0 || err != nil {
		t.Errorf("left behind: %v, %v", left, err)
	}
	create(t, dir, walq.Options{})
}

func TestQueueOptionsStick(t *testing.T) {
	dir := newDir(t)
	o := walq.QueueOptions{SegmentSize: 1 << 20, MaxBytes: 1 << 30, MaxAge: time.Hour, Durability: walq.SyncInterval, GroupAccess: true}
	want := walq.Settings{SegmentSize: 1 << 20, MaxBytes: 1 << 30, MaxAgeNanos: int64(time.Hour), Durability: walq.SyncInterval, GroupAccess: true}
	q := open(t, dir, walq.Options{Create: &o})
	check := func(what string) {
		t.Helper()
		s, err := q.Stats()
		if err != nil {
			t.Fatal(err)
		}
		if s.Settings != want {
			t.Errorf("%s: got %+v, want %+v", what, s.Settings, want)
		}
	}
	check("new")
	closeQueue(t, q)
	q = open(t, dir, walq.Options{Create: &walq.QueueOptions{SegmentSize: 2 << 20, MaxBytes: 1, MaxAge: 1, Durability: walq.SyncNever}})
	check("opened with other QueueOptions")
	closeQueue(t, q)
	q = open(t, dir, walq.Options{Durability: walq.SyncNever})
	check("opened with another durability for the handle")
	if o != (walq.QueueOptions{SegmentSize: 1 << 20, MaxBytes: 1 << 30, MaxAge: time.Hour, Durability: walq.SyncInterval, GroupAccess: true}) {
		t.Errorf("the caller's options were changed: %+v", o)
	}
}

func TestTheModesAreThoseThatAreDocumented(t *testing.T) {
	for _, c := range []struct {
		group     bool
		dir, file fs.FileMode
	}{{false, 0o700, 0o600}, {true, 0o770 | fs.ModeSetgid, 0o660}} {
		dir := newDir(t)
		q := open(t, dir, walq.Options{Create: &walq.QueueOptions{SegmentSize: smallest, GroupAccess: c.group}})
		closeQueue(t, q)
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			want := c.file
			if d.IsDir() {
				want = c.dir | fs.ModeDir
			}
			if info.Mode() != want {
				t.Errorf("group access %v: %s has mode %v, want %v", c.group, path, info.Mode(), want)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

func TestUnusableOptionsAreRefusedAndCreateNothing(t *testing.T) {
	for name, o := range map[string]walq.Options{
		"segment too small":       {Create: &walq.QueueOptions{SegmentSize: 4096}},
		"segment too large":       {Create: &walq.QueueOptions{SegmentSize: 2 << 30}},
		"segment not of pages":    {Create: &walq.QueueOptions{SegmentSize: 1<<20 + 1}},
		"negative limit":          {Create: &walq.QueueOptions{MaxBytes: -1}},
		"no such durability":      {Create: &walq.QueueOptions{Durability: 9}},
		"durability of a handle":  {Create: &walq.QueueOptions{}, Durability: 4},
		"negative for the handle": {Create: &walq.QueueOptions{}, Durability: -1},
	} {
		t.Run(name, func(t *testing.T) {
			dir := newDir(t)
			if q, err := walq.Open(t.Context(), dir, o); err == nil {
				t.Error("it was accepted")
				closeQueue(t, q)
			} else if !strings.HasPrefix(err.Error(), "walq: ") {
				t.Errorf("got %q", err)
			}
			if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("something was made: %v", err)
			}
		})
	}
}

// A durability can be chosen for each handle: one that asks for less does not
// wait, one that asks for more does.
func TestDurabilityIsPerHandle(t *testing.T) {
	dir := newDir(t)
	always := create(t, dir, walq.Options{StallTimeout: -1})
	never := open(t, dir, walq.Options{Durability: walq.SyncNever, StallTimeout: -1})
	holder := open(t, dir, walq.Options{})
	claim, err := holder.Claim(t.Context(), 10) // behind it nothing becomes durable
	if err != nil {
		t.Fatal(err)
	}
	defer claim.Abort()
	within(t, "an append with SyncNever behind a claim", func() {
		if _, err := never.Append(t.Context(), []byte("never")); err != nil {
			t.Error(err)
		}
	})
	done := make(chan error, 1)
	ctx := notice(t.Context())
	go func() {
		_, err := always.Append(ctx, []byte("always"))
		done <- err
	}()
	select {
	case <-ctx.waiting:
	case err := <-done:
		t.Fatalf("an append with SyncAlways was acknowledged behind a claim: %v", err)
	}
	claim.Abort()
	if err := <-done; err != nil {
		t.Error(err)
	}
	wantLines(t, "contents", contents(t, always), "2 never", "3 always")
}

func TestTheIdentityStaysOverReopenAndMove(t *testing.T) {
	dir := newDir(t)
	q := create(t, dir, walq.Options{})
	id := q.ID()
	if id == (walq.UUID{}) || len(id.String()) != 36 {
		t.Errorf("got %v, want a UUID", id)
	}
	closeQueue(t, q)
	moved := dir + ".moved"
	if err := os.Rename(dir, moved); err != nil {
		t.Fatal(err)
	}
	q = open(t, moved, walq.Options{})
	if got := q.ID(); got != id {
		t.Errorf("got %v, want %v", got, id)
	}
	if got := q.Path(); got != moved {
		t.Errorf("got path %s, want %s", got, moved)
	}
	if other := create(t, newDir(t), walq.Options{}); other.ID() == id {
		t.Error("two queues have one identity")
	}
}

func TestDurabilitiesAreWrittenAsTheyAreRead(t *testing.T) {
	for d, want := range map[walq.Durability]string{
		walq.DurabilityDefault: "default", walq.SyncAlways: "always", walq.SyncInterval: "interval", walq.SyncNever: "never",
	} {
		text, err := d.MarshalText()
		var back walq.Durability
		if err != nil || string(text) != want || back.UnmarshalText(text) != nil || back != d {
			t.Errorf("%d: got %q, %v, and back %v; want %q", int(d), text, err, back, want)
		}
	}
	var d walq.Durability
	if err := d.UnmarshalText([]byte("sometimes")); err == nil {
		t.Error("a durability that does not exist was read")
	}
}
