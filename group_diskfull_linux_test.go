//go:build !race

package walq_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/walq/walq"
)

// Producers fill a disk to its last byte. Consumers, also ones that come only now, receive
// and acknowledge, on disk too; trimming frees what they have finished, and producers go
// on. Nothing that was acknowledged is missing.
func TestOnAFullDiskConsumersFinishTrimmingFreesAndProducersGoOn(t *testing.T) {
	needMappings(t)
	for kind, place := range smallDisks {
		t.Run(kind, func(t *testing.T) {
			dir := filepath.Join(place(t), "q")
			ballast := filepath.Join(filepath.Dir(dir), "ballast")
			q := open(t, dir, walq.Options{Create: &walq.QueueOptions{SegmentSize: smallest, MaxBytes: 1 << 30}})
			other := open(t, dir, walq.Options{})
			g := newGroup(t, q, "g", walq.GroupOptions{})
			var seqs []walq.Seq
			fill := func() {
				t.Helper()
				for i := 0; ; i++ {
					seq, err := []*walq.Queue{q, other}[i%2].Append(t.Context(), []byte(text(i, 2000)))
					if err != nil {
						wantSentence(t, err, walq.ErrDiskFull, dir)
						return
					}
					seqs = append(seqs, seq)
				}
			}
			fill()
			fillDisk(t, ballast)

			late := open(t, dir, walq.Options{})
			lg := newGroup(t, late, "g", walq.GroupOptions{})
			next := 0
			finish := func(g *walq.Group, n int) {
				t.Helper()
				for range n {
					d := receive(t, g)
					if d.Seq != seqs[next] {
						t.Fatalf("got message %d, want %d", d.Seq, seqs[next])
					}
					if next++; next%64 != 0 {
						ack(t, d)
					} else if err := d.AckSync(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
			}
			half := len(seqs) / 2
			finish(lg, half/2)
			finish(g, half/2)
			if err := lg.Close(); err != nil {
				t.Error(err)
			}
			closeQueue(t, late)
			for _, call := range []func() error{
				func() error { return q.PauseGroup("g", true) },
				func() error { return q.PauseGroup("g", false) },
				func() error { return q.SetGroupMayLose("g", true) },
				func() error { return q.SetGroupMayLose("g", false) },
			} {
				if err := call(); err != nil {
					t.Error(err)
				}
			}
			if _, err := q.Group("new", walq.GroupOptions{}); err != nil {
				wantSentence(t, err, walq.ErrDiskFull, "new")
			} else {
				t.Error("there was room for a new group")
			}
			if names, err := os.ReadDir(filepath.Join(dir, "groups")); err != nil || len(names) != 1 {
				t.Errorf("a group that could not be made left %v, %v", names, err)
			}

			// A recovery after a power loss needs a file. Where there is no room for it, it
			// says so, and can be done later.
			closeQueue(t, other)
			if err := g.Close(); err != nil {
				t.Error(err)
			}
			closeQueue(t, q)
			if recovered, err := walq.Open(t.Context(), dir, walq.Options{Snapshot: true}); err == nil {
				closeQueue(t, recovered)
			} else {
				wantSentence(t, err, walq.ErrDiskFull, dir)
			}
			q = open(t, dir, walq.Options{})
			g = newGroup(t, q, "g", walq.GroupOptions{})

			before := stats(t, q)
			if err := q.SetLimits(t.Context(), before.Bytes/4, 0); err != nil {
				t.Fatal(err)
			}
			if n, err := q.Trim(t.Context()); n == 0 || err != nil {
				t.Fatalf("trimming took %d files, %v", n, err)
			}
			after := stats(t, q)
			if after.FirstSeq > seqs[next] || after.Bytes >= before.Bytes {
				t.Errorf("the oldest message is %d with %d bytes; the group needs %d", after.FirstSeq, after.Bytes, seqs[next])
			}
			if err := q.SetLimits(t.Context(), before.Bytes, 0); err != nil {
				t.Fatal(err)
			}
			ng := newGroup(t, q, "new", walq.GroupOptions{From: walq.Newest})
			first := len(seqs)
			for range 50 { // there is room for some again
				seqs = append(seqs, appendText(t, q, text(1, 2000)))
			}
			finish(g, len(seqs)-next)
			if d := receive(t, ng); d.Seq != seqs[first] {
				t.Errorf("the new group begins with %d, want %d", d.Seq, seqs[first])
			}
			if d, err := g.TryReceive(t.Context()); d != nil || err != nil {
				t.Errorf("there was more: %v, %v", d, err)
			}
		})
	}
}
