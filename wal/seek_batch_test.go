package wal

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/walq/walq/segment"
)

// A seek into a batch passes over what is before, batches as a whole where they are too
// old, and comes out where going over all messages comes out.
func TestSeeksIntoBatchesFindTheirMessage(t *testing.T) {
	dir := newQueue(t)
	l := open(t, dir, Options{Create: &Settings{SegmentSize: 1 << 20, Durability: SyncNever}})
	for i := range 60 {
		parts := make([]Part, 1+i%9)
		for j := range parts {
			parts[j] = Part{Body: fmt.Appendf(nil, "%d of %d %0*d", j, i, 40*i, 0), Control: j > 0 && (i+j)%5 == 0}
		}
		if _, err := l.AppendBatch(parts); err != nil {
			t.Fatal(err)
		}
		if i%4 == 0 {
			time.Sleep(time.Millisecond) // frames have a coarse clock
		}
	}
	r, err := l.NewReader(false)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var all []Message
	for m, ok, err := r.Next(); ok; m, ok, err = r.Next() {
		if err != nil {
			t.Fatal(err)
		}
		m.Body = slices.Clone(m.Body)
		all = append(all, m)
	}
	wantFrom := func(what string, i int) {
		t.Helper()
		for _, want := range all[i:min(i+3, len(all))] {
			if m := next(t, r); m.Seq != want.Seq || string(m.Body) != string(want.Body) {
				t.Fatalf("%s: got message %d, %.20q, want %d, %.20q", what, m.Seq, m.Body, want.Seq, want.Body)
			}
		}
	}
	for i, m := range all {
		if err := r.SeekSeq(m.Seq); err != nil {
			t.Fatal(err)
		}
		wantFrom(fmt.Sprint("to number ", m.Seq), i)
		for _, at := range []int64{m.Time, m.Time - 1} {
			if err := r.SeekTime(at); err != nil {
				t.Fatal(err)
			}
			wantFrom(fmt.Sprint("to time ", at), slices.IndexFunc(all, func(m Message) bool { return m.Time >= at }))
		}
	}
	if all[0].Time == all[len(all)-1].Time {
		t.Error("all messages have one time, want several")
	}
}

// All or nothing: what a seek passes over in the batch that it goes into is verified.
func TestASeekIntoADamagedBatchFails(t *testing.T) {
	dir := newQueue(t)
	l := open(t, dir, Options{Create: &Settings{SegmentSize: segment.MinSize, Durability: SyncNever}})
	a, err := l.AppendBatch([]Part{{Body: []byte("first")}, {Body: []byte("second")}, {Body: []byte("third")}})
	if err != nil {
		t.Fatal(err)
	}
	s := tailOf(t, l)
	s.Region().Bytes(s.Start().Off+2*segment.FrameHeader, 1)[0] ^= 1 // of the first body
	r, err := l.NewReader(false)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, seek := range []func() error{func() error { return r.SeekSeq(a.Seq + 2) }, func() error { return r.SeekTime(1) }} {
		if err := seek(); err != nil {
			t.Fatal(err)
		}
		if m, ok, err := r.Next(); ok || !errors.Is(err, ErrCorrupt) {
			t.Errorf("got message %d, %v, %v, want ErrCorrupt", m.Seq, ok, err)
		}
	}
	s.Region().Bytes(s.Start().Off+2*segment.FrameHeader, 1)[0] ^= 1
}
