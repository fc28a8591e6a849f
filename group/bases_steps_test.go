//go:build walqsteps

package group

import (
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/walq/walq/internal/step"
	"github.com/walq/walq/internal/torn"
	"github.com/walq/walq/mmap"
)

// A stage is a group of eight entries, in use by one consumer.
type stage struct {
	t    *testing.T
	f    *File
	ring *Ring
}

func newStage(t *testing.T) *stage {
	t.Helper()
	dir, err := mmap.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if err := Create(dir, "g", "tmp", 0o600, Identity{Entries: 8}, Settings{Lease: time.Second}, Base{Seq: 1}); err != nil {
		t.Fatal(err)
	}
	f, err := Open(dir, "g", false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	s := &stage{t: t, f: f}
	s.join()
	return s
}

func (s *stage) join() {
	s.t.Helper()
	ring, ok, err := s.f.Ring()
	if err != nil || !ok {
		s.t.Fatal(ok, err)
	}
	s.ring = ring
}

// finish claims the messages from the base's first to the last, and finishes some of
// them. Message and ordinal go side by side.
func (s *stage) finish(last uint64, some ...uint64) {
	s.t.Helper()
	for n, seq := s.ring.Base.Ordinal, s.ring.Base.Seq; seq <= last; n, seq = n+1, seq+1 {
		l, out := s.ring.Claim(n, seq, Owner{Slot: 1, Incarnation: 1}, 1000)
		if out == Claimed && slices.Contains(some, seq) && !s.ring.Finish(&l) {
			s.t.Fatalf("message %d was not finished", seq)
		}
	}
	s.ring.Advance()
}

var errDead = errors.New("dead")

// dies runs f until the step was passed so often; there its process dies.
func dies(t *testing.T, id step.ID, passages int, f func() error) {
	t.Helper()
	defer step.Set(id, func() error {
		if passages--; passages == 0 {
			panic(errDead)
		}
		return nil
	})()
	defer func() {
		if p := recover(); p != errDead {
			t.Fatalf("%v was not reached: %v", id, p)
		}
	}()
	t.Fatal("no death", f())
}

// rebase makes a base as a consumer does that joins.
func (s *stage) rebase() error {
	return s.f.Rebase(func(was Before) (Base, bool, error) {
		b := Base{Seq: was.From}
		if ring, ok, err := s.f.Ring(); ok && err == nil {
			_, b.Seq, _ = ring.Start()
		}
		return b, true, nil
	}, marksBySeq)
}

func marksBySeq(b Base, finished map[uint64]bool) (marks []Mark, err error) {
	for _, seq := range slices.Sorted(maps.Keys(finished)) {
		if seq >= b.Seq {
			marks = append(marks, Mark{int(seq - b.Seq), seq})
		}
	}
	return marks, nil
}

// wantUnfinished looks which messages up to the last are not finished by the base.
func (s *stage) wantUnfinished(last uint64, want ...uint64) {
	s.t.Helper()
	s.join()
	var got []uint64
	floor := s.ring.Advance()
	for n, seq := s.ring.Base.Ordinal, s.ring.Base.Seq; seq <= last; n, seq = n+1, seq+1 {
		if look, ok := s.ring.Look(n); n >= floor && (!ok || look.Word.State() != Finished) {
			got = append(got, seq)
		}
	}
	if !slices.Equal(got, want) {
		s.t.Errorf("not finished are %v, want %v", got, want)
	}
}

// The distances in the ring are from the sequence number of the base that died with its
// maker. Read by the base in force they would be those of other messages.
func TestMarksOfAMakerThatDiedAreReadByItsOwnBase(t *testing.T) {
	s := newStage(t)
	s.finish(6, 1, 2, 5)
	dies(t, step.GroupRingReset, 1, s.rebase)
	if err := s.rebase(); err != nil {
		t.Fatal(err)
	}
	s.wantUnfinished(6, 3, 4, 6)
}

// Each maker may die at each step, two in a row, and the base that the third one makes
// loses no message. At most what one of them emptied and did not mark yet comes again.
func TestNoMakerThatDiesCostsAMessage(t *testing.T) {
	steps := []step.ID{step.GroupBaseForgotten, step.GroupBaseWritten, step.GroupBaseEmptied, step.GroupBaseMarked,
		step.GroupRingReset, step.GroupBasePassed, step.GroupFloorSet}
	for _, first := range steps {
		for _, second := range steps {
			t.Run(first.String()+" "+second.String(), func(t *testing.T) {
				s := newStage(t)
				s.finish(6, 1, 2, 4)
				dies(t, first, 1, s.rebase)
				dies(t, second, 1, s.rebase)
				if err := s.rebase(); err != nil {
					t.Fatal(err)
				}
				s.join()
				if s.ring.Base.Seq != 3 {
					t.Errorf("counting begins at message %d, want 3", s.ring.Base.Seq)
				}
				floor := s.ring.Advance()
				for n, seq := s.ring.Base.Ordinal, s.ring.Base.Seq; seq <= 6; n, seq = n+1, seq+1 {
					look, ok := s.ring.Look(n)
					if seq != 4 && (n < floor || ok && look.Word.State() == Finished) {
						t.Errorf("message %d is lost", seq)
					}
				}
			})
		}
	}
}

// loseGeneration is what a power loss may do that found the page with the generation as
// it was before the last base, and all others as they are.
func (s *stage) loseGeneration() {
	s.f.r.Word(grpGeneration).Add(^uint64(0))
}

// After a power loss the record of a base may be there, and entries of it that its
// consumers finished, while the generation is that of the base before.
func TestWhatTheGenerationMissesIsReadByTheNewestBase(t *testing.T) {
	s := newStage(t)
	s.finish(6, 1)
	if err := s.rebase(); err != nil {
		t.Fatal(err)
	}
	s.join()
	s.finish(6, 4)
	s.loseGeneration()
	if err := s.rebase(); err != nil {
		t.Fatal(err)
	}
	s.wantUnfinished(6, 2, 3, 5, 6)
}

// The same, and whoever makes a base then dies before it says what was passed by it: how
// far the base before was passed must not count from the place where it begins.
func TestWhatWasPassedCountsForItsOwnBase(t *testing.T) {
	s := newStage(t)
	s.finish(3, 1, 2, 3)
	if err := s.rebase(); err != nil {
		t.Fatal(err)
	}
	s.join()
	s.finish(6, 4, 5, 6)
	s.ring.Pass(7)
	s.loseGeneration()
	dies(t, step.GroupBaseWritten, 1, s.rebase)
	if err := s.rebase(); err != nil {
		t.Fatal(err)
	}
	s.wantUnfinished(8, 7, 8)
}

// What is flushed while a base is made may be half of it: that is no checkpoint.
func TestACheckpointIsRefusedWhileAnotherBaseIsMade(t *testing.T) {
	s := newStage(t)
	s.finish(3, 1, 2)
	defer step.Set(step.GroupCheckpointReady, func() error {
		dies(t, step.GroupBaseWritten, 1, s.rebase)
		return nil
	})()
	if err := s.f.Checkpoint(s.ring, 3, time.Second); !errors.Is(err, ErrStale) {
		t.Errorf("got %v, want ErrStale", err)
	}
}

// Whoever made the group may die, or be stopped, before its name is on disk.
func TestAGroupThatIsOpenHasItsNameOnDisk(t *testing.T) {
	root := t.TempDir()
	disk, remove, err := torn.New(root, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer remove()
	dir, err := mmap.OpenDir(root)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	dies(t, step.GroupLinked, 1, func() error {
		return Create(dir, "g", "tmp", 0o600, Identity{Entries: 8}, Settings{Lease: time.Second}, Base{Seq: 1})
	})
	f, err := Open(dir, "g", false)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for seed := range uint64(100) {
		if cut := disk.Cut(rand.New(rand.NewPCG(seed, 0))); cut.Files()["g.grp"] == nil {
			t.Fatalf("seed %d: a power loss takes the group away", seed)
		}
	}
}

// A power loss may leave the floor of an earlier moment than entries that were claimed
// since, in the place of others that were finished.
func TestAClaimTellsWhatIsFinishedAWindowBefore(t *testing.T) {
	s := newStage(t)
	s.finish(6, 1, 2, 3, 4, 5, 6)
	floor := s.ring.Base.Ordinal
	n := floor + 8 // where the first was
	s.ring.at(n, entryWord).Store(uint64(makeWord(Leased, s.ring.lap(n), Owner{Slot: 1}, 1, 0)))
	s.ring.word(grpFloor).Store(floor)
	if was, err := s.f.Before(); err != nil || was.From != 2 {
		t.Errorf("all below %d is finished (%v), want 2: the first one's entry is another's", was.From, err)
	}
	s.ring.at(n, entrySeq).Store(s.ring.seqWord(n, 9))
	if was, err := s.f.Before(); err != nil || len(was.Floors) != 1 || was.Floors[0].Ordinal != n-6 {
		t.Errorf("the floor was at least %v (%v), want %d", was.Floors, err, n-6)
	}
}
