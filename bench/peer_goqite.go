package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"time"

	"maragu.dev/goqite"
	_ "modernc.org/sqlite" // the driver in Go
)

// goqitePoll is how often a consumer looks when there is nothing; its documents have
// no other way to wait.
const goqitePoll = time.Millisecond

func goqitePeer() Peer {
	return Peer{
		Name:     "goqite, SQLite",
		About:    "modernc.org/sqlite with the settings of its documents: journal_mode WAL, busy_timeout 5000, foreign keys, one connection; a batch is one transaction; 50,000 messages at most",
		Synced:   "synchronous FULL (default): fsync of the journal in each transaction",
		Unsynced: "synchronous NORMAL: fsync at checkpoints only",
		Only:     []string{"append", "latency", "sync", "producers", "group"},
		Consumes: true,
		Open:     openGoqite,
	}
}

// goqiteSchema is its schema_sqlite.sql, which the module does not export.
const goqiteSchema = `
create table if not exists goqite (
  id text primary key default ('m_' || lower(hex(randomblob(16)))),
  created text not null default (strftime('%Y-%m-%dT%H:%M:%fZ')),
  updated text not null default (strftime('%Y-%m-%dT%H:%M:%fZ')),
  queue text not null,
  body blob not null,
  timeout text not null default (strftime('%Y-%m-%dT%H:%M:%fZ')),
  received integer not null default 0,
  priority integer not null default 0
) strict;
create trigger if not exists goqite_updated_timestamp after update on goqite begin
  update goqite set updated = strftime('%Y-%m-%dT%H:%M:%fZ') where id = old.id;
end;
create index if not exists goqite_queue_priority_created_idx on goqite (queue, priority desc, created);`

func openGoqite(ctx context.Context, at Place, m Mode) (Queue, error) {
	synchronous := "NORMAL"
	if m.Sync {
		synchronous = "FULL"
	}
	settings := url.Values{
		"_pragma": {"busy_timeout(5000)", "journal_mode(WAL)", "foreign_keys(1)", "synchronous(" + synchronous + ")"},
		"_txlock": {"immediate"}, // every transaction of goqite writes
	}
	db, err := sql.Open("sqlite", "file:"+filepath.Join(at.Dir, at.Queue)+"?"+settings.Encode())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	db.SetMaxIdleConns(1)
	if _, err := db.ExecContext(ctx, goqiteSchema); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &goqiteQueue{ctx, db, goqite.New(goqite.NewOpts{DB: db, Name: at.Queue})}, nil
}

type goqiteQueue struct {
	ctx context.Context
	db  *sql.DB
	q   *goqite.Queue
}

func (g *goqiteQueue) Append(bodies [][]byte) (err error) {
	if len(bodies) == 1 {
		return g.q.Send(g.ctx, goqite.Message{Body: bodies[0]})
	}
	tx, err := g.db.BeginTx(g.ctx, nil)
	if err != nil {
		return err
	}
	for _, b := range bodies {
		if err := g.q.SendTx(g.ctx, tx, goqite.Message{Body: b}); err != nil {
			return errors.Join(err, tx.Rollback())
		}
	}
	return tx.Commit()
}

// Replay takes the messages out.
func (g *goqiteQueue) Replay(n int, f func([]byte)) error {
	got, err := g.work(g.ctx, n, f)
	if err == nil && got != n {
		err = fmt.Errorf("got %d messages, want %d", got, n)
	}
	return err
}

// Consumer has no name: a queue of goqite is one group.
func (g *goqiteQueue) Consumer(string) (Consumer, error) { return goqiteConsumer{g}, nil }

type goqiteConsumer struct{ *goqiteQueue }

func (c goqiteConsumer) Work(ctx context.Context, n int, f func([]byte)) error {
	_, err := c.work(ctx, n, f)
	return err
}

func (goqiteConsumer) Close() error { return nil }

// work receives and deletes, one by one, as its documents have it.
func (g *goqiteQueue) work(ctx context.Context, n int, f func([]byte)) (got int, err error) {
	for ; got < n && ctx.Err() == nil; got++ {
		m, err := g.q.ReceiveAndWait(ctx, goqitePoll)
		if err != nil {
			if ctx.Err() != nil {
				return got, nil
			}
			return got, err
		}
		f(m.Body)
		if err := g.q.Delete(g.ctx, m.ID); err != nil {
			return got, err
		}
	}
	return got, nil
}

func (g *goqiteQueue) Close() error { return g.db.Close() }
