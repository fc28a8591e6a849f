package walq

import (
	"fmt"
	"slices"
	"time"

	"github.com/walq/walq/group"
	"github.com/walq/walq/wal"
)

// joinPatience bounds how long somebody may keep a group between two bases, or move its
// floor faster than we can look.
const joinPatience = 2 * time.Second

// join learns where the group is, and goes there in the log. It makes another base if
// the one that counts is of another run of the machine, or the log was trimmed past it.
func (g *Group) join() error {
	g.walk.close()
	g.scan = scan{shy: g.scan.shy}
	g.delayed.next = 0
	for begun := time.Now(); ; {
		ring, ok, err := g.file.Ring()
		if err != nil {
			return err
		}
		current := false
		if ok {
			if current, err = g.current(ring.Base); err != nil {
				return err
			}
		}
		if !current {
			if err := g.rebase(); err != nil {
				return err
			}
			continue
		}
		if n, seq, ok := ring.Start(); ok {
			oldest, err := g.q.log.Oldest()
			if err != nil {
				return err
			}
			if seq >= oldest {
				return g.begin(ring, n, seq)
			}
			if err := g.rebase(); err != nil {
				return err
			}
			continue
		}
		if time.Since(begun) > joinPatience {
			return &CorruptError{Path: g.file.Path(), Reason: "the floor does not go with the entry before it"}
		}
		time.Sleep(50 * time.Microsecond)
	}
}

// A refusal is an ordinal that could not be claimed, though it is of the base in force.
type refusal struct {
	n, generation uint64
	since         time.Time
}

// rejoin has the walk begin anew, since what it knows of the ring is old: it cannot claim
// the ordinal n. If it is the same one again and again that is not so: the entry is wrong.
func (g *Group) rejoin(n uint64) error {
	generation := g.walk.ring.Base.Generation
	g.walk.ring = nil
	if r := &g.refused; r.n != n || r.generation != generation {
		*r = refusal{n, generation, time.Now()}
	} else if time.Since(r.since) > joinPatience {
		return &CorruptError{Path: g.file.Path(), Reason: fmt.Sprintf("nobody can claim ordinal %d: its entry is of no lap that goes with the floor", n)}
	}
	return nil
}

// current reports whether a base is of this run of the machine and this epoch of the
// queue: else its leases mean nothing, and what it counted may have been cut.
func (g *Group) current(b group.Base) (bool, error) {
	epoch, err := g.q.log.Epoch()
	return b.Epoch == epoch && b.Boot == g.q.log.BootID(), err
}

// begin stands before the ordinal n, whose message has at least the number seq.
func (g *Group) begin(ring *group.Ring, n, seq uint64) error {
	r, err := g.q.log.NewReader(false)
	if err != nil {
		return err
	}
	if err := r.SeekSeq(seq); err != nil {
		r.Close()
		return err
	}
	g.walk = walk{ring: ring, from: &lessor{g: g, ring: ring}, r: r, first: n, at: n, seqs: make([]uint64, ring.Entries())}
	if g.file.ByKey {
		g.walk.keys = newKeyLines(ring, n)
	}
	return nil
}

// rebase gives the group a base that goes with the log as it is, if it has none.
func (g *Group) rebase() error {
	g.walk.close()
	return g.file.Rebase(func(was group.Before) (b group.Base, ok bool, err error) {
		b.Boot = g.q.log.BootID()
		if b.Epoch, err = g.q.log.Epoch(); err != nil {
			return b, false, err
		}
		oldest, err := g.q.log.Oldest()
		if err != nil {
			return b, false, err
		}
		ring, counts, err := g.file.Ring()
		if err != nil {
			return b, false, err
		}
		from := was.From
		if !counts || was.Base.Epoch != b.Epoch || was.Base.Boot != b.Boot {
			for _, f := range was.Floors {
				if from, err = g.leastFloor(from, f); err != nil {
					return b, false, err
				}
			}
		} else {
			if from, err = startOf(ring); err != nil {
				return b, false, err
			}
			if from >= oldest && ring.Fits(from+maxStride) {
				return b, false, nil // another did it
			}
		}
		if b.Seq = max(from, oldest); b.Seq > from {
			g.gap = &GapError{From: from, To: oldest}
		}
		return b, true, nil
	}, func(b group.Base, finished map[uint64]bool) ([]group.Mark, error) { return g.marks(b.Seq, finished) })
}

// leastFloor is a sequence number below which all is finished, by a floor that the ring
// says must have been. Below known all is finished anyway. It reads headers, from the first
// message that the ring tells of, or known, to the last.
func (g *Group) leastFloor(known uint64, f group.LeastFloor) (uint64, error) {
	oldest, err := g.q.log.Oldest()
	if err != nil || len(f.Noted) == 0 {
		return known, err
	}
	seqs, err := g.between(max(min(known, f.Noted[0].Seq), oldest), f.Noted[len(f.Noted)-1].Seq)
	if err != nil || len(seqs) == 0 {
		return known, err
	}
	for i := len(f.Noted) - 1; i > 0; i-- {
		a, b := f.Noted[i-1], f.Noted[i]
		first, ok := slices.BinarySearch(seqs, a.Seq)
		if at := uint64(first) + b.Ordinal - a.Ordinal; !ok || at >= uint64(len(seqs)) || seqs[at] != b.Seq {
			continue
		}
		switch at := int64(first) + int64(f.Ordinal-a.Ordinal); {
		case at >= int64(len(seqs)):
			return max(known, seqs[len(seqs)-1]+1), nil // what was claimed behind it is lost
		case at > 0:
			return max(known, seqs[at]), nil
		}
		break
	}
	return known, nil
}

// between are the messages of the group from one sequence number to another, which is
// among them.
func (g *Group) between(from, to uint64) (seqs []uint64, err error) {
	r, err := g.q.log.NewReader(false)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if err := r.SeekSeq(from); err != nil {
		return nil, err
	}
	for end := false; !end; {
		ok, err := r.ViewSoon(false, func(m *wal.Message) error {
			if end = m.Seq > to; !end && g.topics.want(m.Meta) {
				seqs = append(seqs, m.Seq)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		end = end || !ok
	}
	return seqs, nil
}

// maxStride is how far the next message of a group may be from the last: far more than
// any window, and than the jumps of many power losses.
const maxStride = 1 << 38

// startOf is the sequence number below which all is finished. group.ErrStale: another
// base is about to count, or does.
func startOf(ring *group.Ring) (uint64, error) {
	for range 10_000 {
		if _, seq, ok := ring.Start(); ok {
			return seq, nil
		}
		if ring.Overtaken() {
			return 0, group.ErrStale
		}
		time.Sleep(10 * time.Microsecond)
	}
	return 0, &CorruptError{Reason: "the group's floor does not go with the entry before it"}
}

// marks finds, among the messages of the group from seq on, those that are finished.
func (g *Group) marks(seq uint64, finished map[uint64]bool) (marks []group.Mark, err error) {
	left := 0
	for s := range finished {
		if s >= seq {
			left++
		}
	}
	if left == 0 {
		return nil, nil
	}
	r, err := g.q.log.NewReader(false)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if err := r.SeekSeq(seq); err != nil {
		return nil, err
	}
	for n := 0; left > 0 && n < g.file.Entries; {
		ok, err := r.ViewSoon(false, func(m *wal.Message) error {
			if g.topics.want(m.Meta) {
				if finished[m.Seq] {
					marks = append(marks, group.Mark{Behind: n, Seq: m.Seq})
					left--
				}
				n++
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		if !ok {
			break
		}
	}
	return marks, nil
}
