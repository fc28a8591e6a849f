package wal

import (
	"errors"
	"io/fs"
	"sort"
	"sync"
)

// A catalog is what a handle remembers of the log's directory, so that seeking
// in a log of thousands of segments neither lists nor opens them each time.
// Segments come at the end and go at the beginning, so what it remembers is true
// from the oldest kept number on, and only its end may be out of date.
type catalog struct {
	mu  sync.Mutex
	all []catalogued // ascending
}

type catalogued struct {
	first   uint64
	created int64 // of the header; 0 if nobody has looked yet
}

// relist takes over the directory as it is now.
func (c *catalog) relist(l *Log) error {
	firsts, err := segmentNames(l.log)
	if err != nil {
		return err
	}
	known := make(map[uint64]int64, len(c.all))
	for _, e := range c.all {
		known[e.first] = e.created
	}
	c.all = c.all[:0]
	for _, first := range firsts {
		c.all = append(c.all, catalogued{first, known[first]})
	}
	return nil
}

// segmentFor opens the last kept segment that fits; those that fit come before
// those that do not. nil: none does.
func (l *Log) segmentFor(fits func(*catalogued) (bool, error)) (*seg, error) {
	c := &l.catalog
	c.mu.Lock()
	defer c.mu.Unlock()
	for fresh := false; ; {
		if len(c.all) == 0 && !fresh {
			if err := c.relist(l); err != nil {
				return nil, err
			}
			fresh = true
		}
		oldest := l.ctl.oldest()
		kept := c.all[sort.Search(len(c.all), func(i int) bool { return c.all[i].first >= oldest }):]
		n, err := countFitting(kept, fits)
		if err != nil || n == 0 && (len(kept) > 0 || fresh) {
			return nil, err
		}
		if n == 0 { // all that was known is trimmed
			if err := c.relist(l); err != nil {
				return nil, err
			}
			fresh = true
			continue
		}
		s, err := l.acquire(&l.table, kept[n-1].first)
		if err == nil && (n < len(kept) || fresh) {
			return s, nil
		}
		if err != nil && (!errors.Is(err, fs.ErrNotExist) || fresh && l.ctl.oldest() == oldest) {
			return nil, err
		}
		if err == nil {
			// The last one that is known: the log may have gone on since.
			_, w, err := s.WalkToFree(s.Tail())
			if err == nil && !w.Sealed() {
				return s, nil
			}
			l.table.release(s)
			if err != nil {
				return nil, err
			}
		}
		if err := c.relist(l); err != nil {
			return nil, err
		}
		fresh = true
	}
}

// countFitting counts the segments that fit; one that was trimmed meanwhile
// does.
func countFitting(all []catalogued, fits func(*catalogued) (bool, error)) (int, error) {
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
func (l *Log) createdBefore(e *catalogued, t int64) (bool, error) {
	if e.created == 0 {
		s, err := l.acquire(&l.table, e.first)
		if err != nil {
			return false, err
		}
		e.created = s.Created
		l.table.release(s)
	}
	return e.created < t, nil
}
