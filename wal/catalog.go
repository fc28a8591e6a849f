package wal

import (
	"errors"
	"io/fs"
	"math"
	"slices"
	"sort"
	"sync"

	"github.com/walq/walq/segment"
)

// A segmentList is what a handle remembers of the log's directory, so that in a log of
// thousands of segments it neither reads that nor opens them each time. Segments come at
// the end and go at the beginning, and those between stay what they are: so a list is
// true from the oldest kept number on, and what is missing at its end hangs on the chain.
type segmentList struct {
	all []listedSegment // ascending
}

type listedSegment struct {
	first   uint64
	created int64 // of the header, nanoseconds since the Unix epoch; 0: nobody has looked yet
	bytes   int64 // of the file, as far as keptSegments has looked
}

// find gives the index of the segment that starts at first, or where it would be.
func (k *segmentList) find(first uint64) (int, bool) {
	return slices.BinarySearchFunc(k.all, first, func(one listedSegment, first uint64) int {
		switch {
		case one.first < first:
			return -1
		case one.first > first:
			return 1
		}
		return 0
	})
}

// list takes over the directory, and tells which files lie below the oldest kept number.
// A segment that is given its name while the directory is read may be missed where the
// one behind it is not; so nothing is believed beyond the last of those that were given
// theirs before. The rest is to be followed.
func (k *segmentList) list(l *Log) (below []uint64, err error) {
	newest := l.ctl.word(ctlNewest).Load() // before the directory
	firsts, err := segmentNames(l.log)
	if err != nil {
		return nil, err
	}
	oldest := l.ctl.oldest()
	known := *k
	k.all = make([]listedSegment, 0, len(firsts))
	for _, first := range firsts {
		switch {
		case first < oldest:
			below = append(below, first)
		case first <= newest || len(k.all) == 0:
			one := listedSegment{first: first}
			if i, ok := known.find(first); ok {
				one.created = known.all[i].created
			}
			k.all = append(k.all, one)
		}
	}
	return below, nil
}

// maxOrdinal is more steps than a log has segments.
const maxOrdinal = math.MaxInt32

// follow adds what hangs on the chain behind the last segment that is known, at most
// so many steps. all: that is all there is.
func (k *segmentList) follow(l *Log, steps int) (all bool, err error) {
	s, err := l.acquire(&l.table, k.all[len(k.all)-1].first)
	if err != nil {
		return false, err
	}
	defer func() { l.table.release(s) }()
	for ; steps > 0; steps-- {
		n, err := l.next(s)
		if n == nil || err != nil {
			return err == nil, err
		}
		k.all = append(k.all, listedSegment{first: n.First, created: n.Created})
		l.table.release(s)
		s = n
	}
	return false, nil
}

// A catalog is the list for seeking.
type catalog struct {
	mu sync.Mutex
	segmentList
}

// segmentFor opens the last kept segment that fits; those that fit come before
// those that do not. nil: none does.
func (l *Log) segmentFor(fits func(*listedSegment) (bool, error)) (*seg, error) {
	c := &l.catalog
	c.mu.Lock()
	defer c.mu.Unlock()
	for fresh := false; ; {
		oldest := l.ctl.oldest()
		trimmed, _ := c.find(oldest)
		c.all = c.all[trimmed:]
		n, err := countFitting(c.all, fits)
		if err != nil || n == 0 && (len(c.all) > 0 || fresh) {
			return nil, err
		}
		var s *seg
		if n > 0 {
			if s, err = l.acquire(&l.table, c.all[n-1].first); err == nil && n < len(c.all) {
				return s, nil
			}
			if err != nil && (!errors.Is(err, fs.ErrNotExist) || fresh && l.ctl.oldest() == oldest) {
				return nil, err
			}
		}
		if s != nil {
			// The last one that is known: the log may have gone on since. What is wrong
			// behind it the reader will meet.
			steps := maxSteps
			if fresh {
				steps = maxOrdinal // what was just read cannot be had better
			}
			all, err := c.follow(l, steps)
			if err != nil || n == len(c.all) {
				return s, nil
			}
			l.table.release(s)
			if all {
				continue
			}
		}
		if _, err := c.list(l); err != nil {
			return nil, err
		}
		fresh = true
	}
}

// countFitting counts the segments that fit; one that was trimmed meanwhile
// does.
func countFitting(all []listedSegment, fits func(*listedSegment) (bool, error)) (int, error) {
	var failed error
	n := sort.Search(len(all), func(i int) bool {
		if failed != nil {
			return true
		}
		ok, err := fits(&all[i])
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			failed = err
		}
		return err == nil && !ok
	})
	return n, failed
}

// createdBefore tells whether a segment was made before t, nanoseconds since the
// Unix epoch. The catalog is locked.
func (l *Log) createdBefore(e *listedSegment, t int64) (bool, error) {
	if e.created == 0 {
		h, err := segment.ReadHeader(l.log, segment.Name(e.first))
		if err == nil && h.First == e.first && h.Queue == l.ctl.queue {
			e.created = h.Created
		}
	}
	if e.created == 0 { // it has an error to tell
		s, err := l.acquire(&l.table, e.first)
		if err != nil {
			return false, err
		}
		e.created = s.Created
		l.table.release(s)
	}
	return e.created < t, nil
}
