package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"

	"go.etcd.io/bbolt"
)

// bboltFill is for keys that only ascend: its documents say to raise it for those.
const bboltFill = 0.9

var bboltBucket = []byte("queue")

func bboltPeer() Peer {
	return Peer{
		Name:       "etcd-io/bbolt",
		About:      "a bucket of ascending numbers, fill 0.9; Batch where several append, as its documents recommend, of as many calls as there are appenders; else Update",
		Synced:     "fdatasync in each transaction",
		Unsynced:   "NoSync: the kernel writes when it likes",
		OneProcess: "its file is locked by one process",
		Not:        map[string]string{"group": noAcks},
		Open: func(_ context.Context, at Place, m Mode) (Queue, error) {
			o := *bbolt.DefaultOptions
			o.NoSync = !m.Sync
			db, err := bbolt.Open(filepath.Join(at.Dir, at.Queue), 0o600, &o)
			if err != nil {
				return nil, err
			}
			db.MaxBatchSize = max(m.Appenders, 1) // not to wait when all are there
			err = db.Update(func(tx *bbolt.Tx) error {
				_, err := tx.CreateBucketIfNotExists(bboltBucket)
				return err
			})
			if err != nil {
				return nil, errors.Join(err, db.Close())
			}
			return bboltQueue{db, m.Appenders > 1}, nil
		},
	}
}

type bboltQueue struct {
	db      *bbolt.DB
	several bool
}

func (b bboltQueue) Append(bodies [][]byte) error {
	write := b.db.Update
	if b.several {
		write = b.db.Batch
	}
	return write(func(tx *bbolt.Tx) error {
		bucket := tx.Bucket(bboltBucket)
		bucket.FillPercent = bboltFill
		for _, body := range bodies {
			n, err := bucket.NextSequence()
			if err != nil {
				return err
			}
			if err := bucket.Put(binary.BigEndian.AppendUint64(nil, n), body); err != nil {
				return err
			}
		}
		return nil
	})
}

func (b bboltQueue) Replay(n int, f func([]byte)) error {
	return b.db.View(func(tx *bbolt.Tx) error {
		c := tx.Bucket(bboltBucket).Cursor()
		k, v := c.First()
		for i := range n {
			if k == nil {
				return fmt.Errorf("got %d messages, want %d", i, n)
			}
			f(v)
			k, v = c.Next()
		}
		return nil
	})
}

func (b bboltQueue) At(i int) error {
	return b.db.View(func(tx *bbolt.Tx) error {
		if tx.Bucket(bboltBucket).Get(binary.BigEndian.AppendUint64(nil, uint64(i+1))) == nil {
			return fmt.Errorf("message %d is not there", i)
		}
		return nil
	})
}

func (b bboltQueue) Close() error { return b.db.Close() }
