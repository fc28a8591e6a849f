package main

import (
	"context"
	"fmt"

	"github.com/joncrlsn/dque"
)

// dqueSegment is the size of a segment in items, as in its examples.
const dqueSegment = 50

func dquePeer() Peer {
	return Peer{
		Name:       "joncrlsn/dque",
		About:      "segments of 50 items, as in its documents; turbo where nothing is synced; it has no batches; logs of 50,000 messages at most, since reading takes them away",
		Synced:     "fsync of each file change",
		Unsynced:   "turbo: the kernel writes when it likes",
		OneProcess: "its directory is locked by one process",
		Not:        map[string]string{"group": noAcks},
		Consumes:   true,
		Open: func(_ context.Context, at Place, m Mode) (Queue, error) {
			q, err := dque.NewOrOpen(at.Queue, at.Dir, dqueSegment, func() any { return &dqueItem{} })
			if err != nil {
				return nil, err
			}
			if !m.Sync {
				err = q.TurboOn()
			}
			return dqueQueue{q}, err
		},
	}
}

// A dqueItem is what it stores with encoding/gob.
type dqueItem struct{ Body []byte }

type dqueQueue struct{ q *dque.DQue }

func (d dqueQueue) Append(bodies [][]byte) error {
	for _, b := range bodies {
		if err := d.q.Enqueue(&dqueItem{b}); err != nil {
			return err
		}
	}
	return nil
}

func (d dqueQueue) Replay(n int, f func([]byte)) error {
	for range n {
		v, err := d.q.Dequeue()
		if err != nil {
			return err
		}
		item, ok := v.(*dqueItem)
		if !ok {
			return fmt.Errorf("got a %T", v)
		}
		f(item.Body)
	}
	return nil
}

func (d dqueQueue) Close() error { return d.q.Close() }
