package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"path/filepath"
	"sync/atomic"

	"github.com/dgraph-io/badger/v4"
)

func badgerPeer() Peer {
	return Peer{
		Name:       "dgraph-io/badger",
		About:      "ascending keys, default options, no detection of conflicts; WriteBatch for batches, as its documents recommend, else Update",
		Synced:     "SyncWrites: msync of its log",
		Unsynced:   "the kernel writes when it likes",
		OneProcess: "its directory is locked by one process",
		Not:        map[string]string{"group": noAcks},
		Open: func(_ context.Context, at Place, m Mode) (Queue, error) {
			o := badger.DefaultOptions(filepath.Join(at.Dir, at.Queue)).WithSyncWrites(m.Sync).WithLogger(nil).WithDetectConflicts(false)
			db, err := badger.Open(o)
			if err != nil {
				return nil, err
			}
			b := &badgerQueue{db: db}
			return b, b.findLast()
		},
	}
}

type badgerQueue struct {
	db   *badger.DB
	last atomic.Uint64
}

func badgerKey(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// findLast finds the number of the last message.
func (b *badgerQueue) findLast() error {
	return b.db.View(func(tx *badger.Txn) error {
		it := tx.NewIterator(badger.IteratorOptions{Reverse: true})
		defer it.Close()
		if it.Rewind(); it.Valid() {
			b.last.Store(binary.BigEndian.Uint64(it.Item().Key()))
		}
		return nil
	})
}

func (b *badgerQueue) Append(bodies [][]byte) error {
	if len(bodies) == 1 {
		return b.db.Update(func(tx *badger.Txn) error {
			return tx.Set(badgerKey(b.last.Add(1)), bodies[0])
		})
	}
	w := b.db.NewWriteBatch()
	defer w.Cancel()
	for _, body := range bodies {
		if err := w.Set(badgerKey(b.last.Add(1)), body); err != nil {
			return err
		}
	}
	return w.Flush()
}

func (b *badgerQueue) Replay(n int, f func([]byte)) error {
	return b.db.View(func(tx *badger.Txn) error {
		it := tx.NewIterator(badger.DefaultIteratorOptions)
		defer it.Close()
		it.Rewind()
		for i := range n {
			if !it.Valid() {
				return fmt.Errorf("got %d messages, want %d", i, n)
			}
			if err := it.Item().Value(func(v []byte) error { f(v); return nil }); err != nil {
				return err
			}
			it.Next()
		}
		return nil
	})
}

func (b *badgerQueue) At(i int) error {
	return b.db.View(func(tx *badger.Txn) error {
		item, err := tx.Get(badgerKey(uint64(i + 1)))
		if err != nil {
			return err
		}
		return item.Value(func([]byte) error { return nil })
	})
}

func (b *badgerQueue) Close() error { return b.db.Close() }
