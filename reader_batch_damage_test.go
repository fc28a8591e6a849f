//go:build !race

// The race detector keeps the files in the heap, where nobody can damage them.

package walq_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/walq/walq"
)

func TestViewBatchShowsWhatIsBeforeAnErrorAndPassesOtherTopics(t *testing.T) {
	dir := newDir(t)
	q := create(t, dir, walq.Options{Durability: walq.SyncNever})
	for i := range 1000 { // more than it passes at once
		topic := "no"
		if i%300 == 299 {
			topic = "yes"
		}
		if _, err := q.Publish(t.Context(), walq.Draft{Topic: topic, Body: fmt.Append(nil, i)}); err != nil {
			t.Fatal(err)
		}
	}
	r := reader(t, q, walq.Oldest, walq.ReaderOptions{Topic: "yes"})
	show := func(got *[]string) func(walq.Message) error {
		return func(m walq.Message) error { *got = append(*got, m.Topic()+string(m.Body)); return nil }
	}
	var got []string
	if n, err := r.ViewBatch(t.Context(), 2, show(&got)); n != 2 || err != nil {
		t.Fatalf("got %d, %v", n, err)
	}
	appendText(t, q, "damaged here")
	s, err := q.Stats()
	if err != nil {
		t.Fatal(err)
	}
	damage(t, segmentFile(t, dir, len(s.Segments)-1), func(p []byte) {
		at := slices.Index(p, 'z')
		for i := range len(p) - 12 {
			if string(p[i:i+12]) == "damaged here" {
				at = i
			}
		}
		p[at] ^= 1
	})
	for i, want := range []int{1, 0} {
		if n, err := r.ViewBatch(t.Context(), 9, show(&got)); n != want || !errors.Is(err, walq.ErrCorrupt) {
			t.Errorf("call %d: got %d, %v, want %d and a corrupt message", i, n, err, want)
		}
	}
	wantLines(t, "shown", got, "yes299", "yes599", "yes899")
}
