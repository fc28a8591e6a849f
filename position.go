package walq

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// A Position says where in a queue to begin to read. The zero Position is
// Oldest. It can be compared, and written as text.
type Position struct {
	kind positionKind
	n    uint64
	t    time.Time
}

type positionKind uint8

const (
	atOldest positionKind = iota
	atNewest
	atSeq
	atLast
	atTime
)

// Oldest begins at the oldest message that is kept, Newest behind the newest.
var (
	Oldest = Position{}
	Newest = Position{kind: atNewest}
)

// At begins at the message s, or the first behind it if there is none.
func At(s Seq) Position { return Position{kind: atSeq, n: uint64(s)} }

// After begins behind the message s: with the last number seen it resumes.
func After(s Seq) Position {
	return At(max(s+1, s)) // nothing is behind the greatest
}

// Last begins n messages before the end.
func Last(n int) Position { return Position{kind: atLast, n: uint64(max(n, 0))} }

// Since begins at the first message that was appended at t or later, by the wall
// clock of then.
func Since(t time.Time) Position { return Position{kind: atTime, t: t.Round(0).UTC()} }

// String is the position as MarshalText writes it.
func (p Position) String() string {
	switch p.kind {
	case atOldest:
		return "oldest"
	case atNewest:
		return "newest"
	case atLast:
		return "-" + strconv.FormatUint(p.n, 10)
	case atTime:
		return p.t.Format(time.RFC3339Nano)
	}
	return strconv.FormatUint(p.n, 10)
}

// MarshalText writes the position so that a person can read it and UnmarshalText
// too: oldest, newest, a sequence number, -N for the last N messages, or a time as
// RFC 3339 has it.
func (p Position) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads what MarshalText writes. A time may have any offset from UTC.
func (p *Position) UnmarshalText(text []byte) error {
	s := string(text)
	switch s {
	case "oldest":
		*p = Oldest
		return nil
	case "newest":
		*p = Newest
		return nil
	}
	if last, ok := strings.CutPrefix(s, "-"); ok && digits(last) {
		if n, err := strconv.ParseUint(last, 10, 64); err == nil && n <= math.MaxInt {
			*p = Last(int(n))
			return nil
		}
	}
	if digits(s) {
		if n, err := strconv.ParseUint(s, 10, 64); err == nil {
			*p = At(Seq(n))
			return nil
		}
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil && t.UTC().Year() >= 0 && t.UTC().Year() <= 9999 { // else it could not be written
		*p = Since(t)
		return nil
	}
	return fmt.Errorf("walq: %q is no position: want oldest, newest, a sequence number, -N, or a time such as 2026-03-01T10:00:00Z", s)
}

func digits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }
