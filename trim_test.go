package walq_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/walq/walq"
)

func TestTrimmingTellsReadersWhatTheyMissed(t *testing.T) {
	q := create(t, newDir(t), walq.Options{Durability: walq.SyncNever, Create: &walq.QueueOptions{SegmentSize: 64 << 10}})
	var last walq.Seq
	for range 100 {
		seq, err := q.Append(t.Context(), []byte(strings.Repeat("x", 5000)))
		if err != nil {
			t.Fatal(err)
		}
		last = seq
	}
	if err := q.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n, err := q.Trim(t.Context()); n != 0 || err != nil {
		t.Errorf("without limits: %d segments went, %v", n, err)
	}
	if err := q.SetLimits(t.Context(), 0, -time.Second); err == nil {
		t.Error("a negative limit was accepted")
	}
	if err := q.SetLimits(t.Context(), 200<<10, 0); err != nil {
		t.Fatal(err)
	}
	n, err := q.Trim(t.Context())
	s := stats(t, q)
	if n == 0 || err != nil || s.Bytes > 200<<10 || s.LastSeq != last || s.Settings.MaxBytes != 200<<10 {
		t.Errorf("%d segments went, %v; stats %+v", n, err, s)
	}
	r := reader(t, q, walq.At(1), walq.ReaderOptions{})
	_, err = r.Next(t.Context())
	var gap *walq.GapError
	if !errors.As(err, &gap) || !errors.Is(err, walq.ErrTrimmed) || gap.From != 1 || gap.To != uint64(s.FirstSeq) {
		t.Errorf("got %v, want a gap from 1 to %d", err, s.FirstSeq)
	}
	if m, err := r.Next(t.Context()); err != nil || m.Seq != s.FirstSeq {
		t.Errorf("got %d, %v, want %d", m.Seq, err, s.FirstSeq)
	}
	if n, err := q.TrimBefore(t.Context(), last); n == 0 || err != nil || stats(t, q).LastSeq != last {
		t.Errorf("by number: %d segments went, %v", n, err)
	}
}
