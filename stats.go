package walq

import (
	"fmt"
	"time"

	"github.com/walq/walq/wal"
)

// Stats is a look at a queue while others use it: each figure was true at some
// moment, not all of them at the same.
type Stats struct {
	ID           UUID           `json:"id"`
	Epoch        uint64         `json:"epoch"` // counts recoveries after a power loss
	Settings     Settings       `json:"settings"`
	FirstSeq     Seq            `json:"first_seq"`   // oldest sequence number that is kept
	LastSeq      Seq            `json:"last_seq"`    // newest one taken, first_seq-1 if none is
	DurableSeq   Seq            `json:"durable_seq"` // newest one known to be on stable storage
	Messages     uint64         `json:"messages"`
	Bytes        int64          `json:"bytes"` // allocated on disk for messages
	Segments     []SegmentStats `json:"segments"`
	Participants []Participant  `json:"participants"`
	Poisoned     *Poisoned      `json:"poisoned"` // nil: appends are taken
	HeldBy       *Held          `json:"held_by"`  // nil: no group keeps anything from being trimmed
}

// Held is what keeps the queue's limits from removing the oldest messages: of the groups
// that must keep their messages, the one that is furthest behind.
type Held struct {
	By    string `json:"by"`       // "group" and its name
	From  Seq    `json:"from_seq"` // it needs what is there from here on
	Bytes int64  `json:"bytes"`    // of the files that hold that
}

// Settings are what the queue was made with.
type Settings struct {
	SegmentSize int64      `json:"segment_size"`
	MaxBytes    int64      `json:"max_bytes"`
	MaxAgeNanos int64      `json:"max_age_ns"`
	Durability  Durability `json:"durability"`
	GroupAccess bool       `json:"group_access"`
	WhenFull    WhenFull   `json:"when_full"`
}

// SegmentStats describes one file of the log.
type SegmentStats struct {
	Path     string `json:"path"`
	FirstSeq Seq    `json:"first_seq"`
	Messages uint64 `json:"messages"`
	Bytes    int64  `json:"bytes"`
	Sealed   bool   `json:"sealed"`
}

// A Participant is a handle that has the queue open, or died with it open.
type Participant struct {
	Slot  int       `json:"slot"`
	Alive bool      `json:"alive"`
	PID   int       `json:"pid"` // as its own pid namespace counts; information only
	Role  string    `json:"role"`
	Since time.Time `json:"since"`
}

// Poisoned says why nothing is appended any more.
type Poisoned struct {
	Reason string    `json:"reason"`
	Time   time.Time `json:"time"`
}

func whenFull(wait bool) WhenFull {
	if wait {
		return WaitWhenFull
	}
	return FailWhenFull
}

// Stats looks at the queue. It reads the headers of all segments, no messages.
func (q *Queue) Stats() (Stats, error) {
	w, err := q.log.Stats()
	if err != nil {
		return Stats{}, fmt.Errorf("walq: stats: %w", err)
	}
	s := Stats{
		ID: UUID(w.Queue), Epoch: w.Epoch, FirstSeq: Seq(w.FirstSeq), LastSeq: Seq(w.LastSeq), DurableSeq: Seq(w.DurableSeq),
		Messages: w.Messages, Bytes: w.Bytes,
		Settings: Settings{
			SegmentSize: w.Settings.SegmentSize, MaxBytes: w.Settings.MaxBytes, MaxAgeNanos: int64(w.Settings.MaxAge),
			Durability: Durability(w.Settings.Durability), GroupAccess: w.Settings.GroupAccess,
			WhenFull: whenFull(w.Settings.WaitWhenFull),
		},
		Segments:     make([]SegmentStats, 0, len(w.Segments)),
		Participants: make([]Participant, 0, len(w.Participants)),
	}
	for _, g := range w.Segments {
		s.Segments = append(s.Segments, SegmentStats{g.Path, Seq(g.FirstSeq), g.Messages, g.Bytes, g.Sealed})
	}
	for _, p := range w.Participants {
		s.Participants = append(s.Participants, Participant(p))
	}
	if w.Poison != nil {
		s.Poisoned = &Poisoned{w.Poison.Reason, w.Poison.Time}
	}
	if h := q.hold(0); h != wal.NoHold {
		s.HeldBy = &Held{By: h.By, From: Seq(h.From)}
		if s.HeldBy.Bytes, err = q.log.BytesFrom(h.From); err != nil {
			return Stats{}, fmt.Errorf("walq: stats: %w", err)
		}
	}
	return s, nil
}
