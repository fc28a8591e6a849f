package main

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// natsPatience is how long the server and its answers may take.
const natsPatience = time.Minute

func natsPeer() Peer {
	return Peer{
		Synced:   "sync_interval always: fsync before the acknowledgement",
		Unsynced: "acknowledged when written, fsync every 2 minutes (default)",
	}
}

// natsInProcessPeer is a server within the process, and no socket.
func natsInProcessPeer() Peer {
	p := natsPeer()
	p.Name = "NATS JetStream, in-process"
	p.About = "embedded server, file storage, default options; one publish awaits its acknowledgement, a batch is published and then awaited; who spins calls FetchNoWait again and again"
	p.OneProcess = "see NATS JetStream, TCP"
	p.Open = func(ctx context.Context, at Place, m Mode) (Queue, error) {
		s, err := startNATS(at.Dir, m, true)
		if err != nil {
			return nil, err
		}
		q, err := openNATS(ctx, at, m, nats.InProcessServer(s))
		if err != nil {
			s.Shutdown()
			return nil, err
		}
		return natsEmbedded{q, s}, nil
	}
	return p
}

// natsSocketPeer is the same behind a socket of the loopback interface, in the
// process that measures; others connect to it.
func natsSocketPeer() Peer {
	p := natsPeer()
	p.Name = "NATS JetStream, TCP"
	p.About = "the same behind a TCP socket of the loopback interface"
	p.Serve = func(_ context.Context, at Place, m Mode) (Place, func() error, error) {
		s, err := startNATS(at.Dir, m, false)
		if err != nil {
			return at, nil, err
		}
		at.Addr = s.ClientURL()
		return at, func() error { s.Shutdown(); s.WaitForShutdown(); return nil }, nil
	}
	p.Open = func(ctx context.Context, at Place, m Mode) (Queue, error) {
		return openNATS(ctx, at, m)
	}
	return p
}

func startNATS(dir string, m Mode, inProcess bool) (*server.Server, error) {
	s, err := server.NewServer(&server.Options{
		ServerName: "bench", JetStream: true, StoreDir: dir, SyncAlways: m.Sync,
		Host: "127.0.0.1", Port: server.RANDOM_PORT, DontListen: inProcess,
		NoLog: true, NoSigs: true,
	})
	if err != nil {
		return nil, err
	}
	s.Start()
	if !s.ReadyForConnections(natsPatience) {
		s.Shutdown()
		return nil, errors.New("the server does not get ready")
	}
	return s, nil
}

type natsQueue struct {
	ctx    context.Context
	conn   *nats.Conn
	js     jetstream.JetStream
	stream jetstream.Stream
	name   string
	// waiting says how a Tail waits.
	waiting string
}

func openNATS(ctx context.Context, at Place, m Mode, o ...nats.Option) (*natsQueue, error) {
	c, err := nats.Connect(at.Addr, o...)
	if err != nil {
		return nil, err
	}
	js, err := jetstream.New(c, jetstream.WithPublishAsyncMaxPending(pipelineWindow))
	if err != nil {
		c.Close()
		return nil, err
	}
	made, cancel := context.WithTimeout(ctx, natsPatience)
	defer cancel()
	stream, err := js.CreateOrUpdateStream(made, jetstream.StreamConfig{Name: at.Queue, Subjects: []string{at.Queue}, Storage: jetstream.FileStorage})
	if err != nil {
		c.Close()
		return nil, err
	}
	return &natsQueue{ctx, c, js, stream, at.Queue, m.Waiting}, nil
}

func (q *natsQueue) Append(bodies [][]byte) error {
	if len(bodies) == 1 {
		_, err := q.js.Publish(q.ctx, q.name, bodies[0])
		return err
	}
	futures := make([]jetstream.PubAckFuture, len(bodies))
	for i, b := range bodies {
		f, err := q.js.PublishAsync(q.name, b, jetstream.WithStallWait(natsPatience))
		if err != nil {
			return err
		}
		futures[i] = f
	}
	for _, f := range futures {
		select {
		case <-f.Ok():
		case err := <-f.Err():
			return err
		case <-time.After(natsPatience):
			return errors.New("no acknowledgement")
		}
	}
	return nil
}

func (q *natsQueue) Pipeline(body []byte, n int) error {
	for range n {
		if _, err := q.js.PublishAsync(q.name, body, jetstream.WithStallWait(natsPatience)); err != nil {
			return err
		}
	}
	select {
	case <-q.js.PublishAsyncComplete():
		return nil
	case <-time.After(natsPatience):
		return errors.New("no acknowledgement")
	}
}

func (q *natsQueue) Replay(n int, f func([]byte)) (err error) {
	t, err := q.Tail()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	for range n {
		b, err := t.Next()
		if err != nil {
			return err
		}
		f(b)
	}
	return nil
}

// Consumer has a pull consumer with the client's own read-ahead. The client is known
// to lose track of a pull now and then (nats-io/nats.go#1622): it then waits for the
// server's heartbeat, by default half a minute, and gives up. It looks sooner here, and
// pulls again.
func (q *natsQueue) Consumer(group string) (Consumer, error) {
	ctx, cancel := context.WithTimeout(q.ctx, natsPatience)
	defer cancel()
	c, err := q.stream.CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{
		Name: group, DeliverPolicy: jetstream.DeliverAllPolicy, AckPolicy: jetstream.AckExplicitPolicy, MaxAckPending: natsAckPending,
	})
	if err != nil {
		return nil, err
	}
	messages, err := c.Messages(jetstream.PullHeartbeat(natsHeartbeat), jetstream.WithMessagesErrOnMissingHeartbeat(false))
	if err != nil {
		return nil, err
	}
	return natsConsumer{q, messages}, nil
}

const (
	natsHeartbeat  = 500 * time.Millisecond // the least that the client takes
	natsAckPending = 4096
)

type natsConsumer struct {
	q        *natsQueue
	messages jetstream.MessagesContext
}

// Work sends acknowledgements and does not await each, as is usual.
func (c natsConsumer) Work(ctx context.Context, n int, f func([]byte)) error {
	for range n {
		m, err := c.messages.Next(jetstream.NextContext(ctx))
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			return err
		}
		f(m.Data())
		if err := m.Ack(); err != nil {
			return err
		}
	}
	return c.q.conn.FlushTimeout(natsPatience)
}

func (c natsConsumer) Close() error { c.messages.Stop(); return nil }

func (q *natsQueue) At(i int) error {
	_, err := q.stream.GetMsg(q.ctx, uint64(i+1))
	return err
}

func (q *natsQueue) Tail() (Tail, error) {
	if q.waiting == spinning {
		c, err := q.stream.CreateConsumer(q.ctx, jetstream.ConsumerConfig{DeliverPolicy: jetstream.DeliverAllPolicy, AckPolicy: jetstream.AckNonePolicy})
		return natsPolling{c}, err
	}
	c, err := q.stream.OrderedConsumer(q.ctx, jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverAllPolicy})
	if err != nil {
		return nil, err
	}
	messages, err := c.Messages()
	return natsTail{messages}, err
}

func (q *natsQueue) Close() error { q.conn.Close(); return nil }

type natsTail struct{ messages jetstream.MessagesContext }

func (t natsTail) Next() ([]byte, error) {
	m, err := t.messages.Next()
	if err != nil {
		return nil, err
	}
	return m.Data(), nil
}

func (t natsTail) Close() error { t.messages.Stop(); return nil }

// natsPolling asks the server for a message again and again, and each time is told at once
// if there is none. The client offers nothing quicker that does not wait: to push to its
// callback, and ask in a loop what came, takes the processor from the goroutine that reads
// the socket, and took four times as long.
type natsPolling struct{ consumer jetstream.Consumer }

func (t natsPolling) Next() ([]byte, error) {
	for {
		batch, err := t.consumer.FetchNoWait(1)
		if err != nil {
			return nil, err
		}
		for m := range batch.Messages() {
			return m.Data(), nil
		}
		if err := batch.Error(); err != nil {
			return nil, err
		}
	}
}

func (t natsPolling) Close() error { return nil } // the server forgets who does not ask any more

// natsEmbedded stops its server when it is closed.
type natsEmbedded struct {
	*natsQueue
	server *server.Server
}

func (q natsEmbedded) Close() error {
	err := q.natsQueue.Close()
	q.server.Shutdown()
	q.server.WaitForShutdown()
	return err
}
