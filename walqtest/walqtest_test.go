package walqtest_test

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/walq/walq"
	"github.com/walq/walq/wal"
	"github.com/walq/walq/walqtest"
)

func TestAQueueIsFilledAndGoesAwayWithTheTest(t *testing.T) {
	var dir string
	t.Run("test", func(t *testing.T) {
		q := walqtest.New(t, walq.Options{})
		dir = q.Path()
		seqs := append(walqtest.Fill(t, q, 3), walqtest.Put(t, q, "mine")...)
		if want := []walq.Seq{1, 2, 3, 4}; !slices.Equal(seqs, want) {
			t.Errorf("got numbers %v, want %v", seqs, want)
		}
		got, err := walqtest.Bodies(t, q)
		wantBodies(t, got, err, "message 1", "message 2", "message 3", "mine")
		s, err := q.Stats()
		if err != nil || s.Settings.SegmentSize != 64<<10 || s.DurableSeq != 4 {
			t.Errorf("got segments of %d bytes, durable up to %d, error %v", s.Settings.SegmentSize, s.DurableSeq, err)
		}
		walqtest.Close(t, q)
		again := walqtest.Open(t, dir, walq.Options{})
		got, err = walqtest.Bodies(t, again)
		wantBodies(t, got, err, "message 1", "message 2", "message 3", "mine")
	})
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s: got %v, want that it is gone", dir, err)
	}
}

// wantGap fails unless the error is a gap from a number to one between two.
func wantGap(t *testing.T, err error, from, above, atMost walq.Seq) {
	t.Helper()
	var gap *walq.GapError
	if !errors.As(err, &gap) || !errors.Is(err, walq.ErrTrimmed) || gap.From != uint64(from) || gap.To <= uint64(above) || gap.To > uint64(atMost) {
		t.Fatalf("got error %v, want a gap from %d to between %d and %d", err, from, above+1, atMost)
	}
}

func TestTrimAllGivesWhoResumesOneGap(t *testing.T) {
	for _, n := range []int{2, 2000} { // the last fill several segments
		q := walqtest.New(t, walq.Options{Durability: walq.SyncNever})
		seqs := walqtest.Fill(t, q, n)
		walqtest.TrimAll(t, q)
		later := walqtest.Put(t, q, "later")[0]
		r := newReader(t, q)
		if err := r.Seek(walq.After(seqs[0])); err != nil {
			t.Fatal(err)
		}
		_, err := next(t, r)
		wantGap(t, err, seqs[1], seqs[n-1], later)
		wantNext(t, r, "later")
		got, err := walqtest.Bodies(t, q)
		wantBodies(t, got, err, "later")
	}
}

func TestTrimAllOvertakesAReaderAtTheEndOfItsFile(t *testing.T) {
	q := walqtest.New(t, walq.Options{Durability: walq.SyncNever})
	seqs := walqtest.Fill(t, q, 2000)
	r := newReader(t, q)
	last := wantNext(t, r, "message 1").Seq
	walqtest.TrimAll(t, q)
	later := walqtest.Put(t, q, "later")[0]
	m, err := next(t, r)
	for ; err == nil && m.Seq < seqs[1999]; m, err = next(t, r) {
		last = m.Seq
	}
	wantGap(t, err, last+1, seqs[1999], later)
	wantNext(t, r, "later")
}

func TestAFlippedBitIsReportedUntilSeekAndCostsOneMessage(t *testing.T) {
	for _, body := range []string{"three", ""} {
		q := walqtest.New(t, walq.Options{})
		seqs := walqtest.Put(t, q, "one", "two", body, "four")
		r := newReader(t, q)
		wantNext(t, r, "one")
		walqtest.Flip(t, q.Path(), seqs[2]) // while the queue is open
		wantNext(t, r, "two")
		for range 2 {
			_, err := next(t, r)
			var bad *walq.CorruptError
			if !errors.As(err, &bad) || !errors.Is(err, walq.ErrCorrupt) || !strings.HasPrefix(bad.Path, q.Path()) || bad.Offset == 0 {
				t.Fatalf("got error %v, want a CorruptError with file and offset", err)
			}
		}
		if err := r.Seek(walq.After(seqs[2])); err != nil {
			t.Fatal(err)
		}
		wantNext(t, r, "four")
		if rep, err := wal.Verify(t.Context(), q.Path(), nil); err != nil || len(rep.Faults) != 1 {
			t.Errorf("verify: got %v and %v, want one fault", rep.Faults, err)
		}
	}
}

func TestAFlippedBitTakesTheWholeBatch(t *testing.T) {
	q := walqtest.New(t, walq.Options{})
	walqtest.Put(t, q, "before")
	first, err := q.AppendBatch(t.Context(), []byte("a"), []byte("b"), []byte("c"))
	if err != nil {
		t.Fatal(err)
	}
	walqtest.Put(t, q, "behind")
	walqtest.Flip(t, q.Path(), first+1)
	got, err := walqtest.Bodies(t, q)
	if !errors.Is(err, walq.ErrCorrupt) || !slices.Equal(got, []string{"before"}) {
		t.Errorf("got %q and error %v, want what is before the batch, and ErrCorrupt", got, err)
	}
	r := newReader(t, q)
	if err := r.Seek(walq.After(first + 2)); err != nil {
		t.Fatal(err)
	}
	wantNext(t, r, "behind")
}

func TestAPowerCutTakesWhatIsNotDurableAndNothingElse(t *testing.T) {
	for _, c := range []struct {
		name      string
		o         walq.Options
		kept, not int
		zeros     bool
	}{
		{name: "all is durable", kept: 5},
		{name: "nothing is durable", o: walq.Options{Durability: walq.SyncNever}, not: 5},
		{name: "some is durable", o: walq.Options{Durability: walq.SyncNever}, kept: 3, not: 4},
		{name: "bodies of zeros", o: walq.Options{Durability: walq.SyncNever}, kept: 3, not: 4, zeros: true},
		{name: "several segments", o: walq.Options{Durability: walq.SyncNever}, kept: 1500, not: 1500},
		{name: "an empty queue"},
	} {
		t.Run(c.name, func(t *testing.T) {
			q := walqtest.New(t, c.o)
			dir := q.Path()
			walqtest.Fill(t, q, c.kept)
			if err := q.Sync(t.Context()); err != nil {
				t.Fatal(err)
			}
			want, err := walqtest.Bodies(t, q)
			if err != nil || len(want) != c.kept {
				t.Fatalf("got %d messages and error %v, want %d", len(want), err, c.kept)
			}
			last := walq.Seq(c.kept)
			if c.zeros {
				last = walqtest.Put(t, q, make([]byte, 100), make([]byte, 100))[1]
			} else if c.not > 0 {
				last = walqtest.Fill(t, q, c.not)[c.not-1]
			}
			walqtest.PowerCut(t, q)
			if _, err := q.Append(t.Context(), nil); !errors.Is(err, walq.ErrClosed) {
				t.Errorf("the handle: got error %v, want ErrClosed", err)
			}

			again := walqtest.Open(t, dir, walq.Options{})
			got, err := walqtest.Bodies(t, again)
			wantBodies(t, got, err, want...)
			s, err := again.Stats()
			if err != nil || s.Epoch != 2 {
				t.Errorf("got epoch %d and error %v, want 2: it was recovered as after a power loss", s.Epoch, err)
			}
			if seq := walqtest.Put(t, again, "later")[0]; seq < last+1<<32 {
				t.Errorf("the next number is %d behind %d, want a jump", seq, last)
			}
			walqtest.Close(t, again)
			if rep, err := wal.Verify(t.Context(), dir, nil); err != nil || len(rep.Faults) != 0 {
				t.Errorf("verify: got %v and %v, want nothing", rep.Faults, err)
			}
		})
	}
}

func TestAPoisonedQueueCanBeReadAndTakesNothing(t *testing.T) {
	q := walqtest.New(t, walq.Options{})
	walqtest.Fill(t, q, 2)
	for range 2 { // the second time behind a restart
		walqtest.Poison(t, q.Path(), "the disk lied")
		_, err := q.Append(t.Context(), []byte("more"))
		var why *walq.PoisonError
		if !errors.As(err, &why) || !errors.Is(err, walq.ErrPoisoned) || why.Reason != "the disk lied" || why.Time.IsZero() {
			t.Fatalf("got error %v, want a PoisonError with the reason", err)
		}
		got, err := walqtest.Bodies(t, q)
		wantBodies(t, got, err, "message 1", "message 2")
		_ = q.Close() // it may complain of the poison
		q = walqtest.Open(t, q.Path(), walq.Options{})
	}
}

func TestAWriterThatIsKilledLeavesWhatItsStepSays(t *testing.T) {
	body := bytes.Repeat([]byte("0123456789"), 500)
	for _, c := range []struct {
		step walqtest.Step
		in   bool
	}{{walqtest.Opened, false}, {walqtest.Claimed, false}, {walqtest.Committed, true}} {
		for _, opened := range []bool{true, false} { // by others, who are held up; by nobody, so that it is recovered
			t.Run(c.step.String(), func(t *testing.T) {
				q := walqtest.New(t, walq.Options{})
				walqtest.Put(t, q, "before")
				if !opened {
					walqtest.Close(t, q)
				}
				seq := walqtest.KillWriter(t, q.Path(), c.step, body)
				if !opened {
					q = walqtest.Open(t, q.Path(), walq.Options{})
				}
				s, err := q.Stats()
				if err != nil {
					t.Fatal(err)
				}
				dead := slices.ContainsFunc(s.Participants, func(p walq.Participant) bool { return !p.Alive && p.Role == "walqtest" })
				if opened && !dead {
					t.Errorf("participants %v, want one that died", s.Participants)
				}
				behind := walqtest.Put(t, q, "behind")[0]
				r := newReader(t, q)
				wantNext(t, r, "before")
				if c.in {
					if m := wantNext(t, r, string(body)); m.Seq != seq {
						t.Errorf("got number %d, want %d", m.Seq, seq)
					}
				} else if seq != 0 {
					t.Errorf("got number %d, want none", seq)
				}
				if m := wantNext(t, r, "behind"); m.Seq != behind {
					t.Errorf("got number %d, want %d", m.Seq, behind)
				}
				if want := walq.Seq(2); c.step == walqtest.Opened && behind != want {
					t.Errorf("nothing was claimed: the next number is %d, want %d", behind, want)
				} else if c.step != walqtest.Opened && behind != want+1 {
					t.Errorf("one was claimed: the next number is %d, want %d", behind, want+1)
				}
			})
		}
	}
}

// Each complains of what it cannot do, and does not pretend.
func TestWhatCannotBeDamagedFailsTheTest(t *testing.T) {
	q := walqtest.New(t, walq.Options{})
	walqtest.Fill(t, q, 1)
	for name, f := range map[string]func(testing.TB){
		"flip of a message that is not there": func(tb testing.TB) { walqtest.Flip(tb, q.Path(), 7) },
		"a writer without a queue":            func(tb testing.TB) { walqtest.KillWriter(tb, t.TempDir(), walqtest.Opened, nil) },
		"no such step":                        func(tb testing.TB) { walqtest.KillWriter(tb, q.Path(), 9, []byte("x")) },
		"a queue that is not there":           func(tb testing.TB) { walqtest.Open(tb, t.TempDir(), walq.Options{}) },
		"a power cut while others work": func(tb testing.TB) {
			walqtest.Open(t, q.Path(), walq.Options{})
			walqtest.PowerCut(tb, q)
		},
		"poison without a queue": func(tb testing.TB) { walqtest.Poison(tb, t.TempDir(), "x") },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("got no failure")
				}
			}()
			f(&stage{})
		})
	}
}
