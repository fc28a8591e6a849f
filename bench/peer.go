package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// A Mode is how a queue is used in one measurement.
type Mode struct {
	Sync      bool   // an append returns when its message is on stable storage
	Bytes     int    // of a body
	Appenders int    // goroutines that append at once
	Waiting   string // how a reader waits: spinning, sleeping or as the queue has it
}

const (
	spinning = "spinning"
	sleeping = "sleeping"
)

// A Place is where a queue lies. It is handed to other processes as JSON.
type Place struct {
	Dir   string
	Addr  string // of the server, if there is one
	Queue string // one of several in the same place
}

// A Peer is something that can be used as a queue. To add one, write a file
// peer_NAME.go and its line in peers.
type Peer struct {
	Name  string
	About string // module and settings, as its own documents recommend them
	// Synced and Unsynced say what an append that returned has done, with and
	// without Mode.Sync.
	Synced, Unsynced string
	// NotSynced and NotUnsynced say why it cannot do one of them.
	NotSynced, NotUnsynced string
	// Missing says why the peer cannot run here. nil: it can.
	Missing func() string
	// Only are the works that the peer takes part in; nil: all.
	Only []string
	// Not has the works that the peer cannot do, by their names or the first part
	// of those, and why.
	Not map[string]string
	// OneProcess says why a second process cannot have the queue open.
	OneProcess string
	// Consumes: reading a message removes it, so that a log is read once.
	Consumes bool
	// Serve starts the server that Open connects to. nil: there is none.
	Serve func(ctx context.Context, at Place, m Mode) (Place, func() error, error)
	Open  func(ctx context.Context, at Place, m Mode) (Queue, error)
}

// noAcks is why many have no row in the works of groups.
const noAcks = "it has no consumers that acknowledge"

// A Queue is one that is open. Append is for any number of goroutines.
type Queue interface {
	// Append returns when the bodies are acknowledged under the mode.
	Append(bodies [][]byte) error
	// Replay hands the n oldest messages to f, in order. The slice is f's until
	// f returns.
	Replay(n int, f func(body []byte)) error
	Close() error
}

// A Tailer can wait for what is to come.
type Tailer interface {
	Tail() (Tail, error) // from the oldest message
}

// A Tail gives messages in order, and waits for them.
type Tail interface {
	Next() ([]byte, error) // valid until the next call
	Close() error
}

// A Flow is a Tail that shows more than one message in a call: those that are there, at
// least one, for which it waits. A body is valid until f returns.
type Flow interface {
	Flow(f func([]byte) error) error
}

// A Seeker reads one message by its number; the first is 0.
type Seeker interface{ At(i int) error }

// A TimeSeeker reads the first message that was appended at a time or later.
type TimeSeeker interface{ Since(unixNano int64) error }

// A Pipeliner has many durable appends of one goroutine under way. It returns
// when all n are acknowledged.
type Pipeliner interface {
	Pipeline(body []byte, n int) error
}

// peers are all, in the order of the table.
func peers() []Peer {
	return []Peer{
		walqPeer(),
		walqViewPeer(),
		walqNextPeer(),
		tidwallPeer(),
		dquePeer(),
		raftWALPeer(),
		bboltPeer(),
		badgerPeer(),
		natsInProcessPeer(),
		natsSocketPeer(),
		redisPeer(),
		goqitePeer(),
		bigqueuePeer(),
	}
}

// peerNamed finds a peer, for a child process.
func peerNamed(name string) (Peer, error) {
	if p, ok := peerIn(peers(), name); ok {
		return p, nil
	}
	return Peer{}, fmt.Errorf("there is no peer %q", name)
}

func peerIn(all []Peer, name string) (Peer, bool) {
	i := slices.IndexFunc(all, func(p Peer) bool { return p.Name == name })
	if i < 0 {
		return Peer{}, false
	}
	return all[i], true
}

// durability says what an acknowledged append has done.
func (p Peer) durability(m Mode) string {
	if m.Sync || p.NotUnsynced != "" {
		return p.Synced
	}
	return p.Unsynced
}

// A notAvailable error says why a row of the table has no figures. It is no
// failure.
type notAvailable string

func (n notAvailable) Error() string { return "not available: " + string(n) }

// open starts the server, if the peer has one, and opens the queue.
func (p Peer) open(ctx context.Context, at Place, m Mode) (Queue, error) {
	at, stop, err := p.serve(ctx, at, m)
	if err != nil {
		return nil, err
	}
	q, err := p.Open(ctx, at, m)
	if err != nil {
		return nil, errors.Join(err, stop())
	}
	return served{q, stop}, nil
}

// serve starts the server, if there is one.
func (p Peer) serve(ctx context.Context, at Place, m Mode) (Place, func() error, error) {
	if at.Queue == "" {
		at.Queue = "q"
	}
	if p.Serve == nil {
		return at, func() error { return nil }, nil
	}
	return p.Serve(ctx, at, m)
}

// served is a queue that stops its server when it is closed.
type served struct {
	Queue
	stop func() error
}

func (s served) Close() error { return errors.Join(s.Queue.Close(), s.stop()) }

// as gives what the queue can do beyond the interface.
func as[T any](q Queue) (can T, ok bool) {
	if s, is := q.(served); is {
		q = s.Queue
	}
	can, ok = q.(T)
	return can, ok
}
