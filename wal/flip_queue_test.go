package wal

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/walq/walq/mmap"
	"github.com/walq/walq/segment"
)

// The queue whose bits are flipped, and copies of queues in memory that verify and
// repair take for files.

// inMemory are copies of a queue's files.
type inMemory struct {
	ctl  []byte
	segs map[uint64][]byte
	boot [16]byte
	lock lockState
}

func (m *inMemory) join(names ...string) string { return strings.Join(names, "/") }

func (m *inMemory) control() ([]byte, string, error) {
	if m.ctl == nil {
		return nil, controlName, fs.ErrNotExist
	}
	return m.ctl, controlName, nil
}

func (m *inMemory) segments() (all []listed, err error) {
	for first, b := range m.segs {
		all = append(all, listed{first, int64(len(b))})
	}
	slices.SortFunc(all, func(a, b listed) int {
		return bytes.Compare([]byte(segment.Name(a.first)), []byte(segment.Name(b.first)))
	})
	return all, nil
}

func (m *inMemory) segment(first uint64) (*mmap.Region, error) {
	b, ok := m.segs[first]
	if !ok {
		return nil, fs.ErrNotExist
	}
	r := mmap.Heap(max(int64(len(b)), 8))
	copy(r.Bytes(0, r.Len()), b)
	r.Rename(m.join(logName, segment.Name(first)))
	return r, nil
}

func (m *inMemory) header(first uint64) ([]byte, error) {
	b := m.segs[first]
	return bytes.Clone(b[:min(len(b), segment.HeaderBytes)]), nil
}

func (m *inMemory) groupAccess() bool { return false }

func (m *inMemory) users() (users, error) { return users{boot: m.boot, locked: m.lock}, nil }

func (m *inMemory) clone() *inMemory {
	c := &inMemory{ctl: bytes.Clone(m.ctl), segs: map[uint64][]byte{}, boot: m.boot, lock: m.lock}
	for first, b := range m.segs {
		c.segs[first] = bytes.Clone(b)
	}
	return c
}

// load copies a queue into memory.
func load(t testing.TB, dir string) *inMemory {
	t.Helper()
	d, err := mmap.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := &onDisk{dir: d}
	m := &inMemory{segs: map[uint64][]byte{}}
	m.ctl, _, err = files.control()
	all, serr := files.segments()
	u, uerr := files.users()
	if err := errors.Join(err, serr, uerr); err != nil {
		t.Fatal(err)
	}
	m.boot = u.boot
	for _, l := range all {
		r, err := files.segment(l.first)
		if err != nil {
			t.Fatal(err)
		}
		m.segs[l.first] = bytes.Clone(r.Bytes(0, r.Len()))
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	return m
}

// carryOut does in memory what a plan does to files.
func (m *inMemory) carryOut(p *plan) *inMemory {
	c := m.clone()
	for _, ch := range p.changes {
		if ch.gone {
			delete(c.segs, ch.first)
		}
	}
	for _, ch := range p.changes {
		if ch.gone {
			continue
		}
		content := ch.content
		if content == nil {
			content = make([]byte, ch.bytes)
			copy(content, m.segs[ch.from])
			for _, f := range ch.fixes {
				copy(content[f.Offset:], f.Data)
			}
		}
		c.segs[ch.first] = content
	}
	c.ctl = p.page
	c.lock = nobody
	return c
}

// A laid is a frame of the queue as it was written.
type laid struct {
	segment  uint64
	off, end int64
	w        segment.Word
	seqs     []uint64
	padding  []span64
}

func asText(time int64, meta, body []byte) string {
	return strconv.FormatInt(time, 10) + " " + string(meta) + " " + string(body)
}

type span64 struct{ from, to int64 }

// contents follows the chain as a reader does, and gives the messages and the frames.
func (m *inMemory) contents(t testing.TB) (messages map[uint64]string, frames []laid) {
	t.Helper()
	messages = map[uint64]string{}
	first := getWord(m.ctl[ctlOldest:])
	for {
		r, err := m.segment(first)
		if err != nil {
			return messages, frames
		}
		s, err := segment.FromImage(r, false)
		if err != nil {
			t.Fatal(err)
		}
		c := s.Start()
		for {
			w, err := s.Word(c.Off)
			if err != nil {
				t.Fatal(err)
			}
			if w == 0 {
				return messages, frames
			}
			l := laid{segment: first, off: c.Off, end: c.Off + w.Size(), w: w}
			if w.Sealed() {
				l.end = c.Off + 8
			}
			if w.State() == segment.Committed {
				l.fill(t, s, c, messages)
			}
			frames = append(frames, l)
			if w.Sealed() {
				first = successorName(s.First, c, w)
				break
			}
			c = c.After(w)
		}
	}
}

func (l *laid) fill(t testing.TB, s *segment.Segment, c segment.Cursor, messages map[uint64]string) {
	t.Helper()
	f, err := s.Frame(c, l.w)
	if err != nil {
		t.Fatal(err)
	}
	add := func(f *segment.Frame) {
		if f.Kind == segment.KindMessage {
			messages[f.Seq] = asText(f.Time, f.Meta, f.Body)
			l.seqs = append(l.seqs, f.Seq)
		}
	}
	l.padding = append(l.padding, span64{c.Off + segment.FrameHeader + l.w.Length(), l.end})
	if f.Kind != segment.KindBatch {
		add(&f)
		return
	}
	at := c.Off + segment.FrameHeader
	for in := f.Inner(s.Salt); ; {
		if reason := in.Next(); reason != "" {
			t.Fatal(reason)
		}
		if in.Done() {
			return
		}
		i := in.Frame()
		n := int64(len(i.Meta) + len(i.Body))
		l.padding = append(l.padding, span64{at + segment.FrameHeader + n, at + segment.FrameHeader + (n+7)&^7})
		at += segment.FrameHeader + (n+7)&^7
		add(i)
	}
}

// touched is how many messages a flip at a byte of a segment costs at most.
func touched(frames []laid, first uint64, off int64) (seqs []uint64, inWord bool) {
	for _, l := range frames {
		if l.segment != first || off < l.off || off >= l.end || l.w.State() != segment.Committed {
			continue
		}
		for _, p := range l.padding {
			if off >= p.from && off < p.to {
				return nil, false
			}
		}
		return l.seqs, off < l.off+8
	}
	return nil, false
}

// flippable is a queue of two segments, one sealed and one that goes on, with all
// that a segment can hold: messages with and without metadata, batches with control
// frames, PADs. Its last user left it in order, or died.
func flippable(t testing.TB, clean bool) (dir string, m *inMemory) {
	t.Helper()
	dir = newQueue(t)
	l := create(t, dir, Options{Role: "flips", Durability: SyncNever})
	l.keeper.started.Store(true) // it never runs: crash would leave the segment mapped that it prepares
	l.keeper.start.Do(func() { close(l.keeper.gone) })
	abort := func(n int) {
		c, err := l.ClaimInPlace(nil, n)
		if err != nil {
			t.Fatal(err)
		}
		copy(c.Bytes(), "given up")
		c.Abort()
	}
	var a Appended
	var err error
	for i := 0; a.End.ordinal() < 2 || i%40 != 39; i++ {
		switch body := []byte(strings.Repeat(fmt.Sprint("body ", i, " "), i%40*4+1)); i % 10 {
		case 3:
			a, err = l.AppendBatch([]Part{{Body: body}, {Meta: []byte("\x81\x02\xa1t"), Body: body[1:]}, {Control: true, Body: body[:3]}, {}})
		case 6:
			abort(13 + i%50)
		case 7:
			a, err = l.Append(nil, nil)
		case 8:
			a, err = l.AppendBatch([]Part{{Control: true, Body: body}})
		default:
			a, err = l.Append([]byte("\x81\x02\xa1t")[:i%2*4], body)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if clean {
		closeLog(t, l)
	} else {
		crash(t, l)
	}
	m = load(t, dir)
	if len(m.segs) != 2 {
		t.Fatalf("%d segments, want 2", len(m.segs))
	}
	return dir, m
}
