package walq_test

import (
	"encoding/json"
	"math"
	"testing"
	"time"

	"github.com/walq/walq"
)

func TestAPositionIsReadAsItWasWritten(t *testing.T) {
	at := time.Date(2026, 3, 1, 10, 0, 0, 123456789, time.FixedZone("", 3600))
	for _, c := range []struct {
		p    walq.Position
		text string
	}{
		{walq.Oldest, "oldest"},
		{walq.Position{}, "oldest"},
		{walq.Newest, "newest"},
		{walq.At(0), "0"},
		{walq.At(17), "17"},
		{walq.After(17), "18"},
		{walq.After(math.MaxUint64), "18446744073709551615"},
		{walq.Last(5), "-5"},
		{walq.Last(-5), "-0"},
		{walq.Last(math.MaxInt), "-9223372036854775807"},
		{walq.Since(at), "2026-03-01T09:00:00.123456789Z"},
		{walq.Since(time.Time{}), "0001-01-01T00:00:00Z"},
	} {
		written, err := json.Marshal(map[string]walq.Position{"from": c.p})
		if want := `{"from":"` + c.text + `"}`; string(written) != want || err != nil {
			t.Errorf("got %s, %v, want %s", written, err, want)
		}
		var read struct{ From walq.Position }
		if err := json.Unmarshal(written, &read); err != nil || read.From != c.p {
			t.Errorf("%s: got %v, %v, want %v", written, read.From, err, c.p)
		}
	}
}

func TestWhatIsNoPositionIsRefused(t *testing.T) {
	for _, text := range []string{"", "-", "--1", "+1", "-+1", "1 ", "0x1", "1_000", "18446744073709551616", "-9223372036854775808", "Oldest", "2026-03-01", "12e3", "9999-12-31T23:59:59.999999999-23:59"} {
		p := walq.At(7)
		if err := p.UnmarshalText([]byte(text)); err == nil || p != walq.At(7) {
			t.Errorf("%q: got %v, %v, want an error and the position unchanged", text, p, err)
		}
	}
}

func TestReadingResumesFromAWrittenPosition(t *testing.T) {
	dir := newDir(t)
	q := create(t, dir, walq.Options{})
	appendText(t, q, "a")
	seen := appendText(t, q, "b")
	token, err := json.Marshal(struct {
		Queue walq.UUID
		From  walq.Position
	}{q.ID(), walq.After(seen)})
	if err != nil {
		t.Fatal(err)
	}
	appendText(t, q, "c")
	closeQueue(t, q)
	var resume struct {
		Queue walq.UUID
		From  walq.Position
	}
	if err := json.Unmarshal(token, &resume); err != nil {
		t.Fatal(err)
	}
	q = open(t, dir, walq.Options{})
	if q.ID() != resume.Queue {
		t.Fatalf("queue %v, want %v", q.ID(), resume.Queue)
	}
	r := reader(t, q, resume.From, walq.ReaderOptions{})
	if left := rest(t, r); len(left) != 1 || string(left[0].Body) != "c" {
		t.Errorf("got %v, want the third message alone", left)
	}
}
