package wal

import (
	"errors"
	"strconv"
	"testing"

	"github.com/walq/walq/segment"
)

// A reader copies several messages at once; what it meets behind them must come behind
// them all the same.
func TestWhatComesBehindMessagesIsToldBehindThem(t *testing.T) {
	dir := newQueue(t)
	l := create(t, dir, Options{Durability: SyncNever})
	const n = 100
	var last Appended
	for i := range n {
		last = appendText(t, l, strconv.Itoa(i))
	}
	r, err := l.NewReader(false)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	s := tailOf(t, l)
	s.Region().Bytes(last.End.off()-8, 1)[0] ^= 1 // the body of the last one
	for i := range n - 1 {
		if m := next(t, r); string(m.Body) != strconv.Itoa(i) {
			t.Fatalf("message %d is %q", i, m.Body)
		}
		if i == n/2 { // View goes on where Next stopped, ahead or not
			ok, err := r.View(func(m Message) error {
				if string(m.Body) != strconv.Itoa(i+1) {
					t.Errorf("View shows %q behind message %d", m.Body, i)
				}
				return nil
			})
			if !ok || err != nil {
				t.Fatalf("View: %v, %v", ok, err)
			}
			if err := r.SeekSeq(last.Seq - uint64(n-1-(i+1))); err != nil { // once more
				t.Fatal(err)
			}
		}
	}
	for range 2 {
		if _, ok, err := r.Next(); ok || !errors.Is(err, ErrCorrupt) {
			t.Fatalf("got %v, %v, want a corrupt message again and again", ok, err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.Next(); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// What was copied ahead is not handed out once the log is closed, or after a seek.
func TestWhatWasCopiedAheadIsForgotten(t *testing.T) {
	dir := newQueue(t)
	l := create(t, dir, Options{Durability: SyncNever})
	first := appendText(t, l, "0").Seq
	for i := 1; i < 50; i++ {
		appendText(t, l, strconv.Itoa(i))
	}
	r, err := l.NewReader(false)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for range 10 {
		next(t, r)
	}
	if err := r.SeekSeq(first + 40); err != nil {
		t.Fatal(err)
	}
	if m := next(t, r); string(m.Body) != "40" {
		t.Errorf("behind the seek comes %q, want 40", m.Body)
	}
	next(t, r)
	closeLog(t, l)
	if _, ok, err := r.Next(); ok || !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: got %v, %v, want ErrClosed", ok, err)
	}
}

// A length that no message has is refused before anything is claimed.
func TestANegativeLengthIsRefused(t *testing.T) {
	l := create(t, newQueue(t), Options{Durability: SyncNever})
	for _, meta := range [][]byte{nil, {0x80}} {
		if _, err := l.AppendFunc(meta, -1, func([]byte) error { return nil }); err == nil {
			t.Errorf("-1 bytes behind %d of metadata were appended", len(meta))
		}
		if _, err := l.ClaimInPlace(meta, -1); err == nil {
			t.Errorf("-1 bytes behind %d of metadata were claimed", len(meta))
		}
	}
	if a := appendText(t, l, "first"); a.Seq != 1 {
		t.Errorf("the first message is number %d, want 1", a.Seq)
	}
}

// A seek that fails leaves the reader where it stood, with what it had copied ahead.
func TestAFailedSeekLosesNothing(t *testing.T) {
	l := create(t, newQueue(t), Options{Durability: SyncNever})
	for i := range 6 {
		appendText(t, l, strconv.Itoa(i))
	}
	r, err := l.NewReader(false)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	next(t, r)
	next(t, r) // and copied ahead
	failed := errors.New("no")
	if err := r.inside(func() error { return failed }); !errors.Is(err, failed) {
		t.Fatalf("got %v", err)
	}
	if m := next(t, r); string(m.Body) != "2" {
		t.Errorf("behind the failed seek comes %q, want 2", m.Body)
	}
}

// The messages of a batch are handed out as they were verified, all of them before the
// first; of a long one each is verified once more. What has another length meanwhile is
// never believed.
func TestABatchThatChangesWhileItIsHandedOut(t *testing.T) {
	for name, c := range map[string]struct {
		body     int
		length   bool // what changes: a length, or a byte of a body
		messages int  // handed out before it is noticed
	}{
		"short":              {100, false, 3},
		"short, in a length": {100, true, 2},
		"long":               {believedBytes / 2, false, 2},
		"long, in a length":  {believedBytes / 2, true, 2},
	} {
		t.Run(name, func(t *testing.T) {
			l := open(t, newQueue(t), Options{Create: &Settings{SegmentSize: 1 << 20, Durability: SyncNever}})
			parts := make([]Part, 3)
			for i := range parts {
				parts[i].Body = make([]byte, c.body)
			}
			a, err := l.AppendBatch(parts)
			if err != nil {
				t.Fatal(err)
			}
			r, err := l.NewReader(false)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			third := a.End.off() - int64(segment.FrameHeader+c.body+7)&^7
			n := 0
			for {
				ok, err := r.View(func(m Message) error {
					if len(m.Body) != c.body {
						t.Errorf("message %d has %d bytes, want %d", n, len(m.Body), c.body)
					}
					return nil
				})
				if !ok {
					if want := n < len(parts); want != errors.Is(err, ErrCorrupt) {
						t.Errorf("after %d messages: %v", n, err)
					}
					break
				}
				if n++; n == 1 {
					p := tailOf(t, l).Region().Bytes(third, segment.FrameHeader+1)
					if c.length {
						p[1] ^= 0x20
					} else {
						p[segment.FrameHeader] ^= 1
					}
				}
			}
			if n != c.messages {
				t.Errorf("%d messages were handed out, want %d", n, c.messages)
			}
		})
	}
}

// Who appends to what View shows gets other memory: what lies behind it is the log.
func TestAppendingToWhatViewShowsLeavesTheLogAlone(t *testing.T) {
	for name, size := range map[string]int{"believed batch": 100, "batch that is verified again": believedBytes / 2} {
		t.Run(name, func(t *testing.T) {
			l := open(t, newQueue(t), Options{Create: &Settings{SegmentSize: 1 << 20, Durability: SyncNever}})
			body := make([]byte, size+1)
			appendText(t, l, "alone")
			for range 2 { // with and without what only the general decoder takes
				parts := []Part{{Body: body}, {Meta: []byte{0x80}, Body: body}, {Control: true, Body: []byte("c")}, {Body: body}}
				if _, err := l.AppendBatch(parts); err != nil {
					t.Fatal(err)
				}
			}
			appendText(t, l, "last")
			for pass := range 2 {
				r, err := l.NewReader(false)
				if err != nil {
					t.Fatal(err)
				}
				n := 0
				for ok := true; ok; n++ {
					ok, err = r.View(func(m Message) error {
						_ = append(m.Body, "this must not be in the log: it is longer than a header"...)
						_ = append(m.Meta, "nor this"...)
						return nil
					})
					if err != nil {
						t.Fatalf("pass %d, message %d: %v", pass, n, err)
					}
				}
				r.Close()
				if n--; n != 8 {
					t.Errorf("pass %d: %d messages, want 8", pass, n)
				}
			}
		})
	}
}
