package wal

import (
	"errors"
	"fmt"
	"slices"

	"github.com/walq/walq/segment"
)

// A Part is one message, or control frame, of a batch.
type Part = segment.Part

// AppendBatch commits the parts as one: all of them become visible together, or
// none. Their sequence numbers follow on one another.
func (l *Log) AppendBatch(parts []segment.Part) (Appended, error) {
	if len(parts) == 0 {
		return Appended{}, errEmptyBatch
	}
	length, count, ok := segment.BatchLength(parts)
	if !ok {
		i := slices.IndexFunc(parts, func(p Part) bool { return len(p.Meta) > segment.MaxMeta })
		return Appended{}, fmt.Errorf("message %d of the batch has %d bytes of metadata, at most %d fit: %w", i, len(parts[i].Meta), segment.MaxMeta, ErrTooLarge)
	}
	if count > segment.MaxCount {
		return Appended{}, tooMany(count)
	}
	return l.append(0, length, count, nil, func(own claim, now int64) error {
		own.s.FillBatch(own.c, own.w, now, parts)
		return nil
	})
}

// AppendBodies is AppendBatch for messages without metadata. The slices are copied, one by
// one: they must not change before it returns, or the whole batch may be refused by a panic.
func (l *Log) AppendBodies(bodies [][]byte) (Appended, error) {
	switch count := len(bodies); {
	case count == 0:
		return Appended{}, errEmptyBatch
	case count > segment.MaxCount:
		return Appended{}, tooMany(count)
	}
	return l.append(0, segment.BodiesLength(bodies), len(bodies), nil, func(own claim, now int64) error {
		own.s.FillBodies(own.c, own.w, now, bodies)
		return nil
	})
}

var errEmptyBatch = errors.New("an empty batch")

func tooMany(count int) error {
	return fmt.Errorf("a batch of %d messages, at most %d fit: %w", count, segment.MaxCount, ErrTooLarge)
}
