package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/redis/go-redis/v9"
)

// redisPatience is how long the server may take to start and to end.
const redisPatience = 30 * time.Second

func redisPeer() Peer {
	return Peer{
		Name:     "Redis streams, Unix socket",
		About:    "redis-server as installed, append-only file, no snapshots; a batch is a pipeline",
		Synced:   "appendfsync always: fsync before the answer",
		Unsynced: "appendfsync everysec (default): fsync once a second",
		Missing: func() string {
			if _, err := exec.LookPath("redis-server"); err != nil {
				return "redis-server is not installed"
			}
			return ""
		},
		Not: map[string]string{
			"roundtrip/" + spinning: "its client waits in Go's network poller",
		},
		Serve: startRedis,
		Open: func(ctx context.Context, at Place, _ Mode) (Queue, error) {
			c := redis.NewClient(&redis.Options{Network: "unix", Addr: at.Addr, PoolSize: 512})
			return &redisQueue{ctx, c, at.Queue}, nil
		},
	}
}

func startRedis(ctx context.Context, at Place, m Mode) (Place, func() error, error) {
	at.Addr = filepath.Join(at.Dir, "redis.sock")
	fsync := "everysec"
	if m.Sync {
		fsync = "always"
	}
	cmd := exec.CommandContext(ctx, "redis-server", "--port", "0", "--unixsocket", at.Addr, "--dir", at.Dir,
		"--save", "", "--appendonly", "yes", "--appendfsync", fsync, "--loglevel", "warning")
	if err := cmd.Start(); err != nil {
		return at, nil, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	c := redis.NewClient(&redis.Options{Network: "unix", Addr: at.Addr, MaxRetries: -1})
	stop := func() error {
		_ = c.Shutdown(context.WithoutCancel(ctx)).Err() // the connection breaks, which is no failure
		select {
		case <-ended:
		case <-time.After(redisPatience):
			_ = cmd.Process.Kill()
			<-ended
		}
		return c.Close()
	}
	for began := time.Now(); ; {
		// Until it has read its file it answers that it is loading.
		err := c.Ping(ctx).Err()
		if err == nil {
			return at, stop, nil
		}
		select {
		case end := <-ended:
			return at, nil, errors.Join(fmt.Errorf("redis-server ended: %v", end), c.Close())
		case <-time.After(5 * time.Millisecond):
		}
		if time.Since(began) > redisPatience {
			return at, nil, errors.Join(err, stop())
		}
	}
}

type redisQueue struct {
	ctx context.Context
	c   *redis.Client
	key string
}

func (q *redisQueue) Append(bodies [][]byte) error {
	if len(bodies) == 1 {
		return q.c.XAdd(q.ctx, q.add(bodies[0])).Err()
	}
	p := q.c.Pipeline()
	for _, b := range bodies {
		p.XAdd(q.ctx, q.add(b))
	}
	_, err := p.Exec(q.ctx)
	return err
}

func (q *redisQueue) add(body []byte) *redis.XAddArgs {
	return &redis.XAddArgs{Stream: q.key, Values: []any{"b", body}}
}

func (q *redisQueue) Pipeline(body []byte, n int) error {
	for batch := bodies(body, 1000); n > 0; n -= len(batch) {
		if err := q.Append(batch[:min(n, len(batch))]); err != nil {
			return err
		}
	}
	return nil
}

func (q *redisQueue) Replay(n int, f func([]byte)) error {
	t := &redisTail{q: q, last: "0"}
	for range n {
		b, err := t.Next()
		if err != nil {
			return err
		}
		f(b)
	}
	return nil
}

func (q *redisQueue) Since(unixNano int64) error {
	from := fmt.Sprint(time.Unix(0, unixNano).UnixMilli())
	found, err := q.c.XRangeN(q.ctx, q.key, from, "+", 1).Result()
	if err == nil && len(found) == 0 {
		err = errors.New("no message behind that time")
	}
	return err
}

func (q *redisQueue) Tail() (Tail, error) { return &redisTail{q: q, last: "0"}, nil }

// redisAhead is how many messages a consumer is handed at once.
const redisAhead = 100

func (q *redisQueue) Consumer(group string) (Consumer, error) {
	err := q.c.XGroupCreate(q.ctx, q.key, group, "0").Err()
	if err != nil && !redis.HasErrorPrefix(err, "BUSYGROUP") { // another consumer made it
		return nil, err
	}
	return redisConsumer{q, group, fmt.Sprint(os.Getpid())}, nil
}

type redisConsumer struct {
	q           *redisQueue
	group, name string
}

// Work acknowledges each message in a pipeline that is sent before the next read.
func (c redisConsumer) Work(ctx context.Context, n int, f func([]byte)) error {
	read := &redis.XReadGroupArgs{Group: c.group, Consumer: c.name, Streams: []string{c.q.key, ">"}, Block: -1}
	for n > 0 && ctx.Err() == nil {
		read.Count = int64(min(n, redisAhead))
		got, err := c.q.c.XReadGroup(c.q.ctx, read).Result()
		if errors.Is(err, redis.Nil) {
			return nil
		}
		if err != nil {
			return err
		}
		acks := c.q.c.Pipeline()
		for _, m := range got[0].Messages {
			s, ok := m.Values["b"].(string)
			if !ok {
				return fmt.Errorf("message %s has no body", m.ID)
			}
			f([]byte(s))
			acks.XAck(c.q.ctx, c.q.key, c.group, m.ID)
			n--
		}
		if _, err := acks.Exec(c.q.ctx); err != nil {
			return err
		}
	}
	return nil
}

func (redisConsumer) Close() error { return nil }

func (q *redisQueue) Close() error { return q.c.Close() }

type redisTail struct {
	q       *redisQueue
	last    string
	pending []redis.XMessage
}

func (t *redisTail) Next() ([]byte, error) {
	for len(t.pending) == 0 {
		all, err := t.q.c.XRead(t.q.ctx, &redis.XReadArgs{Streams: []string{t.q.key, t.last}, Count: 1000, Block: time.Second}).Result()
		if err != nil && !errors.Is(err, redis.Nil) { // Nil: nothing came
			return nil, err
		}
		if len(all) > 0 {
			t.pending = all[0].Messages
		}
	}
	m := t.pending[0]
	t.pending, t.last = t.pending[1:], m.ID
	s, ok := m.Values["b"].(string)
	if !ok {
		return nil, fmt.Errorf("message %s has no body", m.ID)
	}
	return []byte(s), nil
}

func (t *redisTail) Close() error { return nil }
