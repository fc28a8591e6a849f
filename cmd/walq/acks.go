package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strconv"
	"sync"

	"github.com/walq/walq"
)

// seqs are n sequence numbers, one after the other.
type seqs struct {
	first walq.Seq
	n     int
}

// An ackPrinter prints sequence numbers, a line each. nil prints nothing.
type ackPrinter struct {
	out           *bufio.Writer
	before, after string
	buf           []byte
}

func newAckPrinter(w io.Writer, format string) *ackPrinter {
	a := &ackPrinter{out: bufio.NewWriterSize(w, 64<<10), after: "\n"}
	if format == "json" {
		a.before, a.after = `{"seq":`, "}\n"
	}
	return a
}

func (a *ackPrinter) print(s seqs) error {
	if a == nil {
		return nil
	}
	for i := range s.n {
		a.buf = append(a.buf[:0], a.before...)
		a.buf = strconv.AppendUint(a.buf, uint64(s.first)+uint64(i), 10)
		a.buf = append(a.buf, a.after...)
		if _, err := a.out.Write(a.buf); err != nil {
			return err
		}
	}
	return nil
}

func (a *ackPrinter) flush() error {
	if a == nil {
		return nil
	}
	return a.out.Flush()
}

// A syncWaiter waits until what was submitted is on stable storage, and then
// prints the acknowledgements. It always waits for the newest number that was
// submitted, so one sync serves all that came while the one before it ran.
type syncWaiter struct {
	q      *walq.Queue
	acks   *ackPrinter
	failed chan struct{} // closed when err is set
	ended  chan struct{}

	mu      sync.Mutex
	changed sync.Cond
	waiting []seqs
	closed  bool
	err     error
}

// maxWaiting bounds how far appending may run ahead of the disk: far more than
// one sync covers, and little memory.
const maxWaiting = 1 << 17

func newSyncWaiter(q *walq.Queue, acks *ackPrinter) *syncWaiter {
	s := &syncWaiter{q: q, acks: acks, failed: make(chan struct{}), ended: make(chan struct{})}
	s.changed.L = &s.mu
	go s.run()
	return s
}

// add hands over what was submitted. It returns errEnough if nothing more is to
// be; finish tells why.
func (s *syncWaiter) add(n seqs) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.waiting) >= maxWaiting && s.err == nil {
		s.changed.Wait()
	}
	s.waiting = append(s.waiting, n)
	s.changed.Broadcast()
	if s.err != nil {
		return errEnough
	}
	return nil
}

// finish waits until everything that was handed over is on stable storage.
func (s *syncWaiter) finish() error {
	s.mu.Lock()
	s.closed = true
	s.changed.Broadcast()
	s.mu.Unlock()
	<-s.ended
	return s.err
}

func (s *syncWaiter) run() {
	defer close(s.ended)
	var taken []seqs
	for {
		taken = s.take(taken[:0])
		if len(taken) == 0 {
			return
		}
		newest := taken[len(taken)-1]
		last := newest.first + walq.Seq(newest.n-1)
		if err := s.q.WaitDurable(context.Background(), last); err != nil {
			s.fail(fmt.Errorf("messages %d to %d are in the queue but not known to be on stable storage: %w", taken[0].first, last, err))
			return
		}
		if s.acks == nil {
			continue
		}
		if err := s.print(taken); err != nil {
			// Nobody listens any more. What was submitted is waited for
			// all the same.
			s.acks = nil
			s.fail(err)
		}
	}
}

// take waits for work, and returns none when there will be none.
func (s *syncWaiter) take(room []seqs) []seqs {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.waiting) == 0 && !s.closed {
		s.changed.Wait()
	}
	room, s.waiting = s.waiting, room
	s.changed.Broadcast()
	return room
}

func (s *syncWaiter) print(taken []seqs) error {
	for _, n := range taken {
		if err := s.acks.print(n); err != nil {
			return err
		}
	}
	return s.acks.flush()
}

func (s *syncWaiter) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
		close(s.failed)
	}
	s.changed.Broadcast()
}
