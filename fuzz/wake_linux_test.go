//go:build !race

package fuzz

import (
	"context"
	"fmt"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/walq/walq"
	"github.com/walq/walq/internal/testx"
	"github.com/walq/walq/sock"
)

// flood is so many datagrams that the queue of a socket is full.
const flood = 2000

// A stranger sends datagrams to the socket at a path.
type stranger struct {
	fd int
	to *syscall.SockaddrUnix
}

func newStranger(t *testing.T, path string) stranger {
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_DGRAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	return stranger{fd, &syscall.SockaddrUnix{Name: path}}
}

// send sends what an input asks for: for each byte a datagram of so many times 31
// bytes, of none, or a flood of them. It returns how many arrived.
func (s stranger) send(input []byte) (arrived int) {
	payload := make([]byte, 255*31)
	for _, b := range input[:min(len(input), 64)] {
		times := 1
		if b == 255 {
			times = flood
		}
		for range times {
			if syscall.Sendto(s.fd, payload[:int(b)*31], 0, s.to) != nil {
				break // full, or nobody is there
			}
			arrived++
		}
	}
	return arrived
}

func shortDir(t *testing.T) string {
	dir := t.TempDir()
	if len(dir) > 80 { // the address of a socket is short
		t.Chdir(dir)
		return "."
	}
	return dir
}

// FuzzWakeUps: whatever datagrams come to a socket, Wait takes them for wake-ups
// and for nothing else: it reports one if there was any, ends in as many calls as
// they need, and then waits again.
func FuzzWakeUps(f *testing.F) {
	for _, input := range [][]byte{{}, {0}, {1}, {254}, {255}, {0, 0, 0}, {255, 255, 1}, {7, 255, 0, 254}} {
		f.Add(input)
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		path := shortDir(t)
		dir, err := sock.OpenDir(path)
		if err != nil {
			t.Fatal(err)
		}
		defer dir.Close()
		s, err := dir.Bind("0000.sock", 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		arrived := newStranger(t, filepath.Join(path, "0000.sock")).send(input)
		within(t, "Wait", func() {
			for i := 0; ; i++ {
				woken, err := s.Wait(0)
				if err != nil || i > arrived {
					t.Fatalf("after %d datagrams, call %d of Wait: %v", arrived, i, err)
				}
				if i == 0 && woken != (arrived > 0) {
					t.Fatalf("%d datagrams came: woken %v", arrived, woken)
				}
				if !woken {
					return
				}
			}
		})
		if err := s.Wake(); err != nil {
			t.Fatal(err)
		}
		if woken, err := s.Wait(patience); !woken || err != nil {
			t.Fatalf("after the strangers, a wake-up: got %v, %v", woken, err)
		}
	})
}

// FuzzSleepers: whatever datagrams come to a reader that sleeps, it looks, goes on
// sleeping, and delivers what is appended and nothing else.
func FuzzSleepers(f *testing.F) {
	for _, input := range [][]byte{{}, {0}, {1, 254}, {255}, {255, 0, 255}, {3, 1, 4, 1, 5}} {
		f.Add(input, []byte("body"))
	}
	f.Fuzz(func(t *testing.T, input, body []byte) {
		dir := filepath.Join(shortDir(t), "q")
		q, err := walq.Open(t.Context(), dir, walq.Options{Create: &walq.QueueOptions{SegmentSize: 64 << 10}, Durability: walq.SyncNever})
		if err != nil {
			t.Fatal(err)
		}
		defer q.Close()
		r, err := q.Reader(walq.Newest, walq.ReaderOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		wantOnly(t, q, r, newStranger(t, filepath.Join(dir, "wake", "0000.sock")), input, body[:min(len(body), 1000)])
	})
}

// wantOnly lets the reader sleep, the stranger send, and a message come.
func wantOnly(t *testing.T, q *walq.Queue, r *walq.Reader, s stranger, input, body []byte) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	got := make(chan string, 1)
	go func() {
		m, err := r.Next(ctx)
		got <- fmt.Sprintf("%d %q %v", m.Seq, m.Body, err)
	}()
	wake := filepath.Join(q.Path(), "wake", "0000.sock")
	testx.Eventually(t, patience, func() bool { return syscall.Access(wake, 0) == nil }, "the reader sleeps")
	s.send(input)
	select {
	case m := <-got:
		t.Fatalf("datagrams made the reader return %s", m)
	case <-time.After(time.Millisecond): // a reader that believes a datagram needs no longer
	}
	seq, err := q.Append(ctx, body)
	if err != nil {
		t.Fatal(err)
	}
	if m, want := <-got, fmt.Sprintf("%d %q %v", seq, body, error(nil)); m != want {
		t.Fatalf("the reader got %s, want %s", m, want)
	}
}
