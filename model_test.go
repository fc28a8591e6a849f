package walq_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"pgregory.net/rapid"

	"github.com/walq/walq"
)

// A model is what a queue must be: a list of messages in order, and the number
// that the next one gets. Random operations are done to it and to a real queue
// through several handles, and readers at random positions must see what the
// model says.
type model struct {
	dir     string
	entries []*entry
	next    walq.Seq
	handles []*walq.Queue // nil: closed at the moment
	claims  []*openClaim
	readers []*openReader
	largest int
	bodies  int
}

type entryState int

const (
	committed entryState = iota
	claimed              // claimed: nobody reads past it
	dead                 // aborted: only its number is used up
)

type entry struct {
	seq   walq.Seq
	body  []byte
	topic string
	state entryState
}

type openClaim struct {
	handle int
	c      *walq.Claim
	e      *entry
}

// An openReader began before the entry with the index start, and has read
// everything below at.
type openReader struct {
	handle    int
	r         *walq.Reader
	topic     string
	start, at int
}

const modelHandles = 3

func newModel(t *rapid.T, dir string) *model {
	m := &model{dir: dir, next: 1, handles: make([]*walq.Queue, modelHandles)}
	for h := range m.handles {
		m.open(t, h)
	}
	m.largest = int(m.handles[0].MaxMessage())
	return m
}

func (m *model) open(t *rapid.T, h int) {
	q, err := walq.Open(context.Background(), m.dir, walq.Options{
		Create: &walq.QueueOptions{SegmentSize: smallest}, StallTimeout: -1,
		// Behind an open claim an append that waits to be durable would wait
		// for ever.
		Durability: walq.SyncNever,
	})
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	m.handles[h] = q
}

// handle draws a handle and opens it if it is closed.
func (m *model) handle(t *rapid.T) (int, *walq.Queue) {
	h := rapid.IntRange(0, modelHandles-1).Draw(t, "handle")
	if m.handles[h] == nil {
		m.open(t, h)
	}
	return h, m.handles[h]
}

// body makes a body that occurs once. Sizes are small mostly, and now and then
// around what fits.
func (m *model) body(t *rapid.T, limit int) []byte {
	n := rapid.OneOf(rapid.IntRange(0, 200), rapid.IntRange(0, 8000), rapid.IntRange(max(limit-9, 0), limit)).Draw(t, "size")
	m.bodies++
	b := bytes.Repeat([]byte{byte(m.bodies)}, min(n, limit))
	copy(b, fmt.Sprint(m.bodies))
	return b
}

func (m *model) add(e *entry) *entry {
	e.seq = m.next
	m.next++
	m.entries = append(m.entries, e)
	return e
}

func (m *model) wantSeq(t *rapid.T, what string, got walq.Seq, err error) {
	if err != nil || got != m.next {
		t.Fatalf("%s: got %d, %v, want %d", what, got, err, m.next)
	}
}

var modelTopics = []string{"", "a", "ab", "b"}

func (m *model) actions() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"append": func(t *rapid.T) {
			_, q := m.handle(t)
			body := m.body(t, m.largest)
			seq, err := q.Append(context.Background(), body)
			m.wantSeq(t, "Append", seq, err)
			m.add(&entry{body: body})
		},
		"append too much": func(t *rapid.T) {
			_, q := m.handle(t)
			if _, err := q.Append(context.Background(), make([]byte, m.largest+1)); !errors.Is(err, walq.ErrTooLarge) {
				t.Fatalf("got %v", err)
			}
		},
		"publish a batch": func(t *rapid.T) {
			_, q := m.handle(t)
			drafts := make([]walq.Draft, rapid.IntRange(1, 20).Draw(t, "messages"))
			for i := range drafts {
				drafts[i].Topic = rapid.SampledFrom(modelTopics).Draw(t, "topic")
				drafts[i].Body = m.body(t, m.largest/20-64)
			}
			seq, err := q.Submit(context.Background(), drafts...)
			m.wantSeq(t, "Submit", seq, err)
			for _, d := range drafts {
				m.add(&entry{body: d.Body, topic: d.Topic})
			}
		},
		"fill": func(t *rapid.T) {
			_, q := m.handle(t)
			body, fail := m.body(t, m.largest), rapid.Bool().Draw(t, "fails")
			seq, err := q.AppendFunc(context.Background(), len(body), func(p []byte) error {
				copy(p, body)
				if fail {
					return errors.New("fails")
				}
				return nil
			})
			if fail {
				if err == nil {
					t.Fatalf("a failed fill appended %d", seq)
				}
				m.add(&entry{state: dead})
				return
			}
			m.wantSeq(t, "AppendFunc", seq, err)
			m.add(&entry{body: body})
		},
		"claim": func(t *rapid.T) {
			h, q := m.handle(t)
			body := m.body(t, m.largest)
			c, err := q.Claim(context.Background(), len(body))
			if err != nil {
				t.Fatalf("Claim: %v", err)
			}
			copy(c.Bytes(), body)
			m.claims = append(m.claims, &openClaim{h, c, m.add(&entry{body: body, state: claimed})})
		},
		"end a claim": m.endClaim,
		"sync": func(t *rapid.T) {
			_, q := m.handle(t)
			if len(m.claims) > 0 { // it would wait for it
				return
			}
			if err := q.Sync(context.Background()); err != nil {
				t.Fatalf("Sync: %v", err)
			}
		},
		"close": func(t *rapid.T) {
			m.close(t, rapid.IntRange(0, modelHandles-1).Draw(t, "handle"))
		},
		"close all": func(t *rapid.T) {
			for h := range m.handles {
				m.close(t, h)
			}
		},
		"reader": m.newReader,
		"read":   m.read,
		"":       m.check,
	}
}

func (m *model) endClaim(t *rapid.T) {
	if len(m.claims) == 0 {
		return
	}
	i := rapid.IntRange(0, len(m.claims)-1).Draw(t, "claim")
	c := m.claims[i]
	m.claims = append(m.claims[:i:i], m.claims[i+1:]...)
	if rapid.Bool().Draw(t, "abort") {
		c.c.Abort()
		c.e.state = dead
		return
	}
	if seq, err := c.c.Commit(context.Background()); err != nil || seq != c.e.seq {
		t.Fatalf("Commit: got %d, %v, want %d", seq, err, c.e.seq)
	}
	c.e.state = committed
}

// close closes a handle, which aborts its claims and ends its readers.
func (m *model) close(t *rapid.T, h int) {
	q := m.handles[h]
	if q == nil {
		return
	}
	if err := q.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	m.handles[h] = nil
	var claims []*openClaim
	for _, c := range m.claims {
		if c.handle == h {
			c.e.state = dead
		} else {
			claims = append(claims, c)
		}
	}
	m.claims = claims
	var readers []*openReader
	for _, r := range m.readers {
		if r.handle == h {
			if err := r.r.Close(); err != nil {
				t.Fatalf("Close of a reader: %v", err)
			}
		} else {
			readers = append(readers, r)
		}
	}
	m.readers = readers
}

// newReader makes a reader at a position that the model can name too.
func (m *model) newReader(t *rapid.T) {
	if len(m.readers) > 5 {
		return
	}
	h, q := m.handle(t)
	or := &openReader{handle: h, topic: rapid.SampledFrom([]string{"", "a", "a*", "b"}).Draw(t, "topic")}
	var p walq.Position
	end := m.openFrom(0)
	switch rapid.SampledFrom([]string{"oldest", "newest", "at", "after", "last"}).Draw(t, "position") {
	case "newest":
		p, or.at = walq.Newest, end
	case "at":
		or.at = rapid.IntRange(0, len(m.entries)).Draw(t, "index")
		p = walq.At(walq.Seq(or.at + 1))
	case "after":
		or.at = rapid.IntRange(0, len(m.entries)).Draw(t, "index")
		p = walq.After(walq.Seq(or.at))
	case "last":
		n := rapid.IntRange(0, 30).Draw(t, "n")
		p, or.at = walq.Last(n), end
		for ; or.at > 0 && n > 0; or.at-- {
			if m.entries[or.at-1].state == committed {
				n--
			}
		}
	}
	r, err := q.Reader(p, walq.ReaderOptions{Topic: or.topic})
	if err != nil {
		t.Fatalf("Reader: %v", err)
	}
	or.r, or.start = r, or.at
	m.readers = append(m.readers, or)
}

// openFrom is the index of the first open claim from there on, or the number of
// entries: nobody who began before it reads further.
func (m *model) openFrom(start int) int {
	for i := start; i < len(m.entries); i++ {
		if m.entries[i].state == claimed {
			return i
		}
	}
	return len(m.entries)
}

// want is the index of the message that the reader must get now, or where it
// must stand if there is none.
func (m *model) want(r *openReader) (i int, ok bool) {
	end := m.openFrom(r.start)
	for i = r.at; i < end; i++ {
		e := m.entries[i]
		if e.state == committed && (r.topic == "" || r.topic == e.topic || r.topic == "a*" && (e.topic == "a" || e.topic == "ab")) {
			return i, true
		}
	}
	return max(i, r.at), false
}

func (m *model) read(t *rapid.T) {
	if len(m.readers) == 0 {
		return
	}
	r := rapid.SampledFrom(m.readers).Draw(t, "reader")
	for range rapid.IntRange(1, 50).Draw(t, "messages") {
		if !m.readOne(t, r) {
			return
		}
	}
}

func (m *model) readOne(t *rapid.T, r *openReader) bool {
	i, want := m.want(r)
	got, ok, err := r.r.TryNext()
	if err == nil && !ok && want && m.openFrom(0) < r.start {
		return false // a claim before what is wanted may hold the reader up, or not
	}
	if err != nil || ok != want {
		t.Fatalf("reader of %q, before entry %d of %d: got %v, %v, want %v", r.topic, r.at, len(m.entries), ok, err, want)
	}
	if !ok {
		r.at = i
		return false
	}
	if e := m.entries[i]; got.Seq != e.seq || got.Topic() != e.topic || !bytes.Equal(got.Body, e.body) {
		t.Fatalf("got %d %q %.20q, want %d %q %.20q", got.Seq, got.Topic(), got.Body, e.seq, e.topic, e.body)
	}
	r.at = i + 1
	return true
}

// check compares what Stats counts. A claim that is open counts as taken.
func (m *model) check(t *rapid.T) {
	for _, q := range m.handles {
		if q == nil || len(m.claims) > 0 {
			continue
		}
		messages := uint64(0)
		for _, e := range m.entries {
			if e.state == committed {
				messages++
			}
		}
		s, err := q.Stats()
		if err != nil || s.Messages != messages {
			t.Fatalf("Stats: got %d messages, %v, want %d", s.Messages, err, messages)
		}
		return
	}
}

func (m *model) finish(t *rapid.T) {
	for h := range m.handles {
		m.close(t, h)
	}
	m.open(t, 0)
	r, err := m.handles[0].Reader(walq.Oldest, walq.ReaderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	all := &openReader{r: r}
	m.readers = append(m.readers, all)
	for m.readOne(t, all) {
	}
	if all.at != len(m.entries) {
		t.Fatalf("in the end entry %d is missing", all.at)
	}
	m.close(t, 0)
}

func TestTheQueueIsWhatTheModelSays(t *testing.T) {
	parent := t.TempDir()
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		dir := filepath.Join(parent, fmt.Sprint(n))
		m := newModel(t, dir)
		done := false
		defer func() {
			if !done { // leave nothing behind for the next try
				for _, r := range m.readers {
					r.r.Close()
				}
				for _, q := range m.handles {
					if q != nil {
						q.Close()
					}
				}
			}
		}()
		t.Repeat(m.actions())
		m.finish(t)
		done = true
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	})
}
