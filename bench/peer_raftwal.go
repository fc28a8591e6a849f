package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/metadb"
)

func raftWALPeer() Peer {
	return Peer{
		Name:        "hashicorp/raft-wal",
		About:       "default options; a mutex gives the index",
		Synced:      "fsync in each StoreLogs",
		NotUnsynced: "it always syncs",
		OneProcess:  "its log is for one process",
		Not:         map[string]string{"group": noAcks},
		Open: func(_ context.Context, at Place, _ Mode) (Queue, error) {
			dir := filepath.Join(at.Dir, at.Queue)
			if err := os.MkdirAll(dir, 0o700); err != nil {
				return nil, err
			}
			// Closing the log leaves its own store of metadata open, and locked.
			meta := &metadb.BoltMetaDB{}
			w, err := wal.Open(dir, wal.WithMetaStore(meta))
			if err != nil {
				return nil, errors.Join(err, meta.Close())
			}
			last, err := w.LastIndex()
			return &raftQueue{w: w, meta: meta, last: last}, err
		},
	}
}

type raftQueue struct {
	w    *wal.WAL
	meta *metadb.BoltMetaDB
	mu   sync.Mutex
	last uint64
	logs []*raft.Log
}

func (r *raftQueue) Append(bodies [][]byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.logs) < len(bodies) {
		r.logs = append(r.logs, &raft.Log{Term: 1})
	}
	for i, b := range bodies {
		r.logs[i].Index, r.logs[i].Data = r.last+1+uint64(i), b
	}
	if err := r.w.StoreLogs(r.logs[:len(bodies)]); err != nil {
		return err
	}
	r.last += uint64(len(bodies))
	return nil
}

func (r *raftQueue) Replay(n int, f func([]byte)) error {
	var l raft.Log
	for i := range n {
		if err := r.w.GetLog(uint64(i+1), &l); err != nil {
			return err
		}
		f(l.Data)
	}
	return nil
}

func (r *raftQueue) At(i int) error {
	var l raft.Log
	return r.w.GetLog(uint64(i+1), &l)
}

func (r *raftQueue) Close() error { return errors.Join(r.w.Close(), r.meta.Close()) }
