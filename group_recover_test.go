//go:build !race

// What copies the files of a queue in use: under the race detector they are heap memory.

package walq_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/walq/walq"
)

// copyQueue copies the files of a queue that is in use: what a power loss leaves, of one
// moment.
func copyQueue(t *testing.T, dir string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	for _, sub := range []string{".", "log", "groups", "wake", "quarantine"} {
		if err := os.Chmod(filepath.Join(to, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	err := filepath.WalkDir(to, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			err = os.Chmod(path, 0o600)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// After a power loss leases are gone, what was finished stays finished, also behind
// what was not, and counting goes on in the epoch that the recovery began.
func TestAfterAPowerLossOnlyWhatWasNotFinishedComesAgain(t *testing.T) {
	for _, topic := range []string{"", "t"} {
		t.Run(fmt.Sprintf("topic %q", topic), func(t *testing.T) {
			dir := newDir(t)
			q := create(t, dir, walq.Options{})
			g := newGroup(t, q, "g", walq.GroupOptions{Topic: topic, Window: 31})
			bySeq := map[walq.Seq]int{}
			for i := range 100 {
				for _, in := range []string{"t", "other"} {
					if in != topic && topic != "" || topic == "" && in == "t" || topic != "" {
						seq, err := q.Publish(t.Context(), walq.Draft{Topic: in, Body: fmt.Append(nil, in, i)})
						if err != nil {
							t.Fatal(err)
						}
						if in == topic || topic == "" {
							bySeq[seq] = i
						}
					}
				}
			}
			want := map[int]bool{}
			for i := range 100 {
				want[i] = true
			}
			for i := range 40 {
				d := receive(t, g)
				if bySeq[d.Seq] != i {
					t.Fatalf("got %q, want the %d-th", d.Body, i)
				}
				switch {
				case i == 20: // from here on it is known on disk where the floor is
					if err := d.AckSync(t.Context()); err != nil {
						t.Fatal(err)
					}
					delete(want, i)
				case i != 30 && i < 36: // 30 and 36 to 39 stay under way
					ack(t, d)
					delete(want, i)
				}
			}
			copied := open(t, copyQueue(t, dir), walq.Options{Snapshot: true})
			ng := newGroup(t, copied, "g", walq.GroupOptions{})
			for len(want) > 0 {
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				d, err := ng.Receive(ctx)
				cancel()
				if err != nil {
					t.Fatalf("%v; still missing: %v", err, want)
				}
				if i := bySeq[d.Seq]; !want[i] {
					t.Errorf("message %d came again (%q)", i, d.Body)
				} else {
					delete(want, i)
				}
				if d.Attempt() != 1 {
					t.Errorf("attempt %d, want the first", d.Attempt())
				}
				ack(t, d)
			}
			if more := drain(t, ng); len(more) > 0 {
				t.Errorf("there was more: %v", more)
			}
			seq, err := copied.Publish(t.Context(), walq.Draft{Topic: "t", Body: []byte("new")})
			if err != nil {
				t.Fatal(err)
			}
			if d := receive(t, ng); d.Seq != seq {
				t.Errorf("got message %d, want %d", d.Seq, seq)
			}
		})
	}
}
