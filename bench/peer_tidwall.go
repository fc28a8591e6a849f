package main

import (
	"context"
	"path/filepath"
	"sync"

	"github.com/tidwall/wal"
)

func tidwallPeer() Peer {
	return Peer{
		Name:       "tidwall/wal",
		About:      "default options, NoSync where nothing is synced; a mutex gives the index",
		Synced:     "fsync in each Write",
		Unsynced:   "NoSync: the kernel writes when it likes",
		OneProcess: "its log is for one process",
		Not:        map[string]string{"group": noAcks},
		Open: func(_ context.Context, at Place, m Mode) (Queue, error) {
			o := *wal.DefaultOptions
			o.NoSync = !m.Sync
			l, err := wal.Open(filepath.Join(at.Dir, at.Queue), &o)
			if err != nil {
				return nil, err
			}
			last, err := l.LastIndex()
			return &tidwallQueue{log: l, last: last}, err
		},
	}
}

type tidwallQueue struct {
	log   *wal.Log
	mu    sync.Mutex
	last  uint64
	batch wal.Batch
}

func (t *tidwallQueue) Append(bodies [][]byte) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	next := t.last + 1
	if len(bodies) == 1 {
		if err := t.log.Write(next, bodies[0]); err != nil {
			return err
		}
		t.last = next
		return nil
	}
	t.batch.Clear()
	for i, b := range bodies {
		t.batch.Write(next+uint64(i), b)
	}
	if err := t.log.WriteBatch(&t.batch); err != nil {
		return err
	}
	t.last += uint64(len(bodies))
	return nil
}

func (t *tidwallQueue) Replay(n int, f func([]byte)) error {
	for i := range n {
		b, err := t.log.Read(uint64(i + 1))
		if err != nil {
			return err
		}
		f(b)
	}
	return nil
}

func (t *tidwallQueue) At(i int) error {
	_, err := t.log.Read(uint64(i + 1))
	return err
}

func (t *tidwallQueue) Close() error { return t.log.Close() }
