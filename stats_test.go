package walq_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/walq/walq"
)

func stats(t *testing.T, q *walq.Queue) walq.Stats {
	t.Helper()
	s, err := q.Stats()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStatsOfANewQueue(t *testing.T) {
	q := create(t, newDir(t), walq.Options{Role: "a long role"})
	s := stats(t, q)
	if s.ID != q.ID() || s.Epoch != 1 || s.FirstSeq != 1 || s.LastSeq != 0 || s.DurableSeq != 0 || s.Messages != 0 || s.Poisoned != nil {
		t.Errorf("got %+v", s)
	}
	if len(s.Segments) != 1 || s.Segments[0].Sealed || s.Segments[0].FirstSeq != 1 {
		t.Errorf("got segments %+v", s.Segments)
	}
	if len(s.Participants) != 1 {
		t.Fatalf("got participants %+v", s.Participants)
	}
	p := s.Participants[0]
	if !p.Alive || p.PID != os.Getpid() || p.Role != "a long r" || time.Since(p.Since).Abs() > time.Minute {
		t.Errorf("got participant %+v", p)
	}
}

func TestStatsAddUp(t *testing.T) {
	dir := newDir(t)
	q := create(t, dir, walq.Options{Durability: walq.SyncNever})
	fill(t, q, 400)
	seq := appendText(t, q, "the last")
	if err := q.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := stats(t, q)
	if s.FirstSeq != 1 || s.LastSeq != seq || s.DurableSeq != seq || s.Messages != 401 {
		t.Errorf("got %d..%d, durable %d, %d messages, want 1..%d, %[5]d, 401", s.FirstSeq, s.LastSeq, s.DurableSeq, s.Messages, seq)
	}
	var messages uint64
	var bytes int64
	for i, g := range s.Segments {
		messages += g.Messages
		bytes += g.Bytes
		info, err := os.Stat(g.Path)
		if err != nil || info.Size() != g.Bytes {
			t.Errorf("%s: %d bytes, the file has %d, %v", g.Path, g.Bytes, info.Size(), err)
		}
		if g.Path != segmentFile(t, dir, i) || g.Sealed != (i < len(s.Segments)-1) {
			t.Errorf("segment %d: got %+v", i, g)
		}
	}
	if messages != s.Messages || bytes != s.Bytes || len(s.Segments) < 2 {
		t.Errorf("%d segments hold %d messages and %d bytes, the queue says %d and %d", len(s.Segments), messages, bytes, s.Messages, s.Bytes)
	}
}

func TestStatsShowWhoIsThere(t *testing.T) {
	dir := newDir(t)
	q := create(t, dir, walq.Options{Role: "first"})
	other := open(t, dir, walq.Options{Role: "second"})
	var roles []string
	for _, p := range stats(t, q).Participants {
		roles = append(roles, p.Role)
	}
	wantLines(t, "roles", roles, "first", "second")
	closeQueue(t, other)
	if s := stats(t, q); len(s.Participants) != 1 {
		t.Errorf("who left is still there: %+v", s.Participants)
	}
}

func TestStatsAreWrittenWithTheKeysThatAreFixed(t *testing.T) {
	q := create(t, newDir(t), walq.Options{})
	text, err := json.Marshal(stats(t, q))
	if err != nil {
		t.Fatal(err)
	}
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(text, &keys); err != nil {
		t.Fatal(err)
	}
	for _, key := range strings.Fields("id epoch settings first_seq last_seq durable_seq messages bytes segments participants poisoned") {
		if _, ok := keys[key]; !ok {
			t.Errorf("%s is missing in %s", key, text)
		}
	}
	if got := string(keys["id"]); got != `"`+q.ID().String()+`"` {
		t.Errorf("id is %s", got)
	}
	if got := string(keys["poisoned"]); got != "null" {
		t.Errorf("poisoned is %s, want null", got)
	}
	if got := filepath.Dir(q.Path()); !filepath.IsAbs(got) {
		t.Errorf("the path is not absolute: %s", q.Path())
	}
}

func TestStatsReadBackWhatTheyWroteAsJSON(t *testing.T) {
	q := create(t, newDir(t), walq.Options{})
	appendText(t, q, "a")
	want, err := q.Stats()
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got walq.Stats
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if again, err := json.Marshal(got); err != nil || string(again) != string(text) || got.ID != want.ID {
		t.Errorf("got %s (%v), want %s", again, err, text)
	}
	var id walq.UUID
	for _, wrong := range []string{"", "x", got.ID.String() + "0", strings.ReplaceAll(got.ID.String(), "-", "")} {
		if id.UnmarshalText([]byte(wrong)) == nil {
			t.Errorf("%q passes for a UUID", wrong)
		}
	}
}
