package walq_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/walq/walq"
)

// fill appends n messages, some of them in batches, over several segments, and
// leaves gaps in the numbers.
func fill(t *testing.T, q *walq.Queue, n int) {
	t.Helper()
	for i := 0; i < n; {
		d := walq.Draft{Topic: []string{"", "eu.paris", "eu.rome", "us"}[i%4], Body: []byte(text(i, i%500))}
		drafts := make([]walq.Draft, min(1+i%3, n-i))
		for k := range drafts {
			drafts[k] = d
		}
		if _, err := q.Publish(t.Context(), drafts...); err != nil {
			t.Fatal(err)
		}
		if i += len(drafts); i%10 == 0 {
			c, err := q.Claim(t.Context(), 3)
			if err != nil {
				t.Fatal(err)
			}
			c.Abort()
		}
	}
}

func TestAllWaysToReadAgree(t *testing.T) {
	q := create(t, newDir(t), walq.Options{Durability: walq.SyncNever})
	const n = 500
	fill(t, q, n)
	if s, err := q.Stats(); err != nil || len(s.Segments) < 2 {
		t.Fatalf("want several segments: %d, %v", len(s.Segments), err)
	}
	if err := q.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	show := func(m walq.Message) string {
		return fmt.Sprintf("%d %v %s %s", m.Seq, m.Time, m.Topic(), m.Body)
	}
	ways := map[string]func(*walq.Reader) []string{
		"Next": func(r *walq.Reader) (got []string) {
			for range n {
				m, err := r.Next(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, show(m))
			}
			return got
		},
		"TryNext": func(r *walq.Reader) (got []string) {
			for {
				m, ok, err := r.TryNext()
				if err != nil {
					t.Fatal(err)
				}
				if !ok {
					return got
				}
				got = append(got, show(m))
			}
		},
		"View": func(r *walq.Reader) (got []string) {
			for range n {
				if err := r.View(t.Context(), func(m walq.Message) error { got = append(got, show(m)); return nil }); err != nil {
					t.Fatal(err)
				}
			}
			return got
		},
		"ViewBatch": func(r *walq.Reader) (got []string) {
			for most := 1; len(got) < n; most = most*3%500 + 1 {
				before := len(got)
				shown, err := r.ViewBatch(t.Context(), most, func(m walq.Message) error { got = append(got, show(m)); return nil })
				if err != nil || shown != len(got)-before || shown != most && len(got) < n {
					t.Fatalf("shown %d of %d, called %d times, %v", shown, most, len(got)-before, err)
				}
			}
			return got
		},
		"all by turns": func(r *walq.Reader) (got []string) {
			see := func(m walq.Message) error { got = append(got, show(m)); return nil }
			for i := 0; len(got) < n; i++ {
				var err error
				switch i % 4 {
				case 0:
					err = r.View(t.Context(), see)
				case 1, 2:
					var m walq.Message
					if m, err = r.Next(t.Context()); err == nil {
						err = see(m)
					}
				default:
					_, err = r.ViewBatch(t.Context(), i%11, see)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			return got
		},
		"All": func(r *walq.Reader) (got []string) {
			for m, err := range r.All(t.Context()) {
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, show(m))
			}
			return got
		},
		"Follow": func(r *walq.Reader) (got []string) {
			for m, err := range r.Follow(t.Context()) {
				if err != nil {
					t.Fatal(err)
				}
				if got = append(got, show(m)); len(got) == n {
					break
				}
			}
			return got
		},
	}
	want := ways["TryNext"](reader(t, q, walq.Oldest, walq.ReaderOptions{}))
	if len(want) != n {
		t.Fatalf("got %d messages, want %d", len(want), n)
	}
	for name, way := range ways {
		if got := way(reader(t, q, walq.Oldest, walq.ReaderOptions{})); !slices.Equal(got, want) {
			t.Errorf("%s differs from TryNext", name)
		}
		if got := way(reader(t, q, walq.Oldest, walq.ReaderOptions{Durable: true})); !slices.Equal(got, want) {
			t.Errorf("%s of a durable reader differs", name)
		}
	}
}

func TestNextReusesItsMemoryAndCloneKeepsIt(t *testing.T) {
	q := create(t, newDir(t), walq.Options{Durability: walq.SyncNever})
	one, two := fullDraft, fullDraft
	one.Body, two.Body = []byte("first body"), []byte("other body")
	two.ID, two.Topic = "ORDER-8", "ORDERS.OLD"
	for _, d := range []walq.Draft{one, two} {
		if _, err := q.Publish(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	r := reader(t, q, walq.Oldest, walq.ReaderOptions{})
	m, err := r.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	kept := m.Clone()
	if _, err := r.Next(t.Context()); err != nil {
		t.Fatal(err)
	}
	if string(m.Body) != string(two.Body) {
		t.Errorf("the memory of the first message holds %q: the test shows nothing if it is not used again", m.Body)
	}
	sameDraft(t, kept, one)
}

func TestAllEndsAtTheTailAndCanBeUsedAgain(t *testing.T) {
	q := create(t, newDir(t), walq.Options{Durability: walq.SyncNever})
	r := reader(t, q, walq.Oldest, walq.ReaderOptions{})
	if got := rest(t, r); len(got) != 0 {
		t.Errorf("an empty queue holds %q", lines(got))
	}
	for i := range 5 {
		appendText(t, q, fmt.Sprint(i))
	}
	for m, err := range r.All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if m.Seq == 2 {
			break // and the reader goes on behind it
		}
	}
	wantLines(t, "the rest", lines(rest(t, r)), "3 2", "4 3", "5 4")
	appendText(t, q, "more")
	wantLines(t, "what came later", lines(rest(t, r)), "6 more")
}

func TestAllYieldsTheEndOfItsContextLast(t *testing.T) {
	q := create(t, newDir(t), walq.Options{Durability: walq.SyncNever})
	for range 5 {
		appendText(t, q, "x")
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var messages, ends int
	for m, err := range reader(t, q, walq.Oldest, walq.ReaderOptions{}).All(ctx) {
		if err == nil {
			messages++
		} else if ends++; !errors.Is(err, context.Canceled) || m.Seq != 0 {
			t.Errorf("got %d, %v", m.Seq, err)
		}
		if messages == 2 {
			cancel()
		}
	}
	if messages != 2 || ends != 1 {
		t.Errorf("got %d messages and %d errors, want 2 and 1", messages, ends)
	}
}

func TestFollowEndsWithItsContextOnce(t *testing.T) {
	q := create(t, newDir(t), walq.Options{Durability: walq.SyncNever})
	appendText(t, q, "x")
	inner, cancel := context.WithCancel(t.Context())
	ctx := notice(inner)
	go func() { <-ctx.waiting; cancel() }()
	var messages, ends int
	for _, err := range reader(t, q, walq.Oldest, walq.ReaderOptions{}).Follow(ctx) {
		if err == nil {
			messages++
		} else if ends++; err != context.Canceled {
			t.Errorf("got %v, want exactly ctx.Err()", err)
		}
	}
	if messages != 1 || ends != 1 {
		t.Errorf("got %d messages and %d errors, want 1 and 1", messages, ends)
	}
}

func TestNextAndViewWaitAsLongAsTheContextAllows(t *testing.T) {
	q := create(t, newDir(t), walq.Options{Durability: walq.SyncNever})
	for _, spin := range []time.Duration{0, -1, time.Millisecond} {
		r := reader(t, q, walq.Newest, walq.ReaderOptions{Spin: spin})
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
		defer cancel()
		_, err := r.Next(ctx)
		wantIs(t, "Next", err, context.DeadlineExceeded)
		wantIs(t, "View", r.View(ctx, nil), context.DeadlineExceeded)
		arrives := notice(t.Context())
		go func() {
			<-arrives.waiting
			if _, err := q.Append(t.Context(), []byte("x")); err != nil {
				t.Error(err)
			}
		}()
		if m, err := r.Next(arrives); err != nil || string(m.Body) != "x" {
			t.Errorf("got %q, %v", m.Body, err)
		}
	}
}

func TestViewReturnsTheErrorOfItsFunctionAndGoesOn(t *testing.T) {
	q := create(t, newDir(t), walq.Options{Durability: walq.SyncNever})
	appendText(t, q, "a")
	appendText(t, q, "b")
	r := reader(t, q, walq.Oldest, walq.ReaderOptions{})
	cause := errors.New("mine")
	if err := r.View(t.Context(), func(walq.Message) error { return cause }); err != cause {
		t.Errorf("got %v, want exactly the function's error", err)
	}
	wantLines(t, "the rest", lines(rest(t, r)), "2 b")
}

func TestTopicsAreFilteredExactlyOrByPrefix(t *testing.T) {
	q := create(t, newDir(t), walq.Options{Durability: walq.SyncNever})
	for _, topic := range []string{"", "eu", "eu.paris", "eu.rome", "us", "eu*", "*"} {
		if _, err := q.Publish(t.Context(), walq.Draft{Topic: topic, Body: []byte(topic)}); err != nil {
			t.Fatal(err)
		}
	}
	for filter, want := range map[string][]string{
		"":         {"1 ", "2 eu", "3 eu.paris", "4 eu.rome", "5 us", "6 eu*", "7 *"},
		"*":        {"1 ", "2 eu", "3 eu.paris", "4 eu.rome", "5 us", "6 eu*", "7 *"},
		"eu":       {"2 eu"},
		"eu*":      {"2 eu", "3 eu.paris", "4 eu.rome", "6 eu*"},
		"eu.*":     {"3 eu.paris", "4 eu.rome"},
		"eu**":     {"6 eu*"},
		"asia":     nil,
		"eu.rome*": {"4 eu.rome"},
	} {
		r := reader(t, q, walq.Oldest, walq.ReaderOptions{Topic: filter})
		wantLines(t, "All of "+filter, lines(rest(t, r)), want...)
		if err := r.Seek(walq.Oldest); err != nil {
			t.Fatal(err)
		}
		var viewed []string
		for range want {
			err := r.View(t.Context(), func(m walq.Message) error { viewed = append(viewed, lines([]walq.Message{m})...); return nil })
			if err != nil {
				t.Fatal(err)
			}
		}
		wantLines(t, "View of "+filter, viewed, want...)
	}
}

func TestSeekGoesToEveryPosition(t *testing.T) {
	q := create(t, newDir(t), walq.Options{Durability: walq.SyncNever})
	fill(t, q, 400)
	r := reader(t, q, walq.Position{}, walq.ReaderOptions{}) // the zero Position is Oldest
	all := rest(t, r)
	last := all[len(all)-1]
	for i := 0; i < len(all); i += 37 {
		m := all[i]
		since := slices.IndexFunc(all, func(o walq.Message) bool { return !o.Time.Before(m.Time) })
		for what, c := range map[string]struct {
			p    walq.Position
			want int
		}{
			"At":    {walq.At(m.Seq), i},
			"After": {walq.After(m.Seq), i + 1},
			"Last":  {walq.Last(len(all) - i), i},
			"Since": {walq.Since(m.Time), since},
		} {
			if err := r.Seek(c.p); err != nil {
				t.Fatal(err)
			}
			if got := rest(t, r); !slices.Equal(lines(got), lines(all[c.want:])) {
				t.Errorf("%s of message %d (%d): got %d messages, want %d", what, i, m.Seq, len(got), len(all)-c.want)
			}
		}
	}
	gap := walq.Seq(0)
	for i := 1; gap == 0; i++ {
		if all[i].Seq != all[i-1].Seq+1 {
			gap = all[i-1].Seq + 1
		}
	}
	for what, c := range map[string]struct {
		p    walq.Position
		want int
	}{
		"Oldest":            {walq.Oldest, len(all)},
		"Newest":            {walq.Newest, 0},
		"At 0":              {walq.At(0), len(all)},
		"At a gap":          {walq.At(gap), len(all) - slices.IndexFunc(all, func(m walq.Message) bool { return m.Seq > gap })},
		"At the future":     {walq.At(last.Seq + 1000), 0},
		"Last 0":            {walq.Last(0), 0},
		"Last -1":           {walq.Last(-1), 0},
		"Last of too many":  {walq.Last(1 << 20), len(all)},
		"Since ever":        {walq.Since(time.Time{}), len(all)},
		"Since an hour ago": {walq.Since(last.Time.Add(-time.Hour)), len(all)},
		"Since tomorrow":    {walq.Since(last.Time.Add(24 * time.Hour)), 0},
	} {
		if err := r.Seek(c.p); err != nil {
			t.Fatal(err)
		}
		if got := rest(t, r); len(got) != c.want {
			t.Errorf("%s: got %d messages, want %d", what, len(got), c.want)
		}
	}
}

func TestADurableReaderGivesOnlyWhatIsOnStableStorage(t *testing.T) {
	q := create(t, newDir(t), walq.Options{Durability: walq.SyncNever})
	r := reader(t, q, walq.Oldest, walq.ReaderOptions{Durable: true})
	appendText(t, q, "a")
	if got := rest(t, r); len(got) != 0 {
		t.Errorf("got %q, which nobody synced", lines(got))
	}
	if err := q.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	appendText(t, q, "b")
	wantLines(t, "after a Sync", lines(rest(t, r)), "1 a")
	if err := r.Seek(walq.Newest); err != nil {
		t.Fatal(err)
	}
	if err := q.WaitDurable(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	if err := r.Seek(walq.Oldest); err != nil {
		t.Fatal(err)
	}
	wantLines(t, "after WaitDurable", lines(rest(t, r)), "1 a", "2 b")
}

// Several handles of one process are participants of their own. Each appends,
// and each has a reader that follows: all see everything, in one order.
func TestSeveralHandlesAppendAndFollowAtOnce(t *testing.T) {
	dir := newDir(t)
	const handles, each = 3, 200
	var queues []*walq.Queue
	for range handles {
		queues = append(queues, create(t, dir, walq.Options{Durability: walq.SyncInterval}))
	}
	var users sync.WaitGroup
	orders := make([][]string, handles)
	for i, q := range queues {
		users.Go(func() {
			for n := range each {
				body := []byte(fmt.Sprintf("%d-%d %s", i, n, strings.Repeat("x", n)))
				if _, err := q.Append(t.Context(), body); err != nil {
					t.Error(err)
					return
				}
			}
		})
		r := reader(t, q, walq.Oldest, walq.ReaderOptions{Durable: i == 0})
		users.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			for m, err := range r.Follow(ctx) {
				if err != nil {
					t.Error(err)
					return
				}
				name, _, _ := strings.Cut(string(m.Body), " ")
				if orders[i] = append(orders[i], fmt.Sprint(m.Seq, " ", name)); len(orders[i]) == handles*each {
					return
				}
			}
		})
	}
	users.Wait()
	for i := 1; i < handles; i++ {
		if !slices.Equal(orders[i], orders[0]) {
			t.Errorf("reader %d saw another order than reader 0", i)
		}
	}
	next := make([]int, handles)
	for _, line := range orders[0] {
		var seq, by, n int
		if _, err := fmt.Sscanf(line, "%d %d-%d", &seq, &by, &n); err != nil || n != next[by] {
			t.Fatalf("got %q, want number %d of that handle", line, next[by])
		}
		next[by]++
	}
}

func TestAllLosesNoMessageWhenItsContextEnds(t *testing.T) {
	q := create(t, newDir(t), walq.Options{Durability: walq.SyncNever})
	for _, body := range []string{"a", "b", "c"} {
		appendText(t, q, body)
	}
	r := reader(t, q, walq.Oldest, walq.ReaderOptions{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range r.All(ctx) {
		cancel()
	}
	wantLines(t, "the rest", lines(rest(t, r)), "2 b", "3 c")
}

func TestNothingIsBehindTheGreatestNumber(t *testing.T) {
	q := create(t, newDir(t), walq.Options{Durability: walq.SyncNever})
	appendText(t, q, "a")
	r := reader(t, q, walq.After(math.MaxUint64), walq.ReaderOptions{})
	wantLines(t, "rest", lines(rest(t, r)))
}

func TestTimesBeyondWhatNanosecondsCanSayAreStillInOrder(t *testing.T) {
	q := create(t, newDir(t), walq.Options{Durability: walq.SyncNever})
	appendText(t, q, "a")
	for year, want := range map[int][]string{1500: {"1 a"}, 1970: {"1 a"}, 2200: nil, 2999: nil} {
		r := reader(t, q, walq.Since(time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC)), walq.ReaderOptions{})
		wantLines(t, fmt.Sprint("since ", year), lines(rest(t, r)), want...)
	}
}
