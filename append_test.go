package walq_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/walq/walq"
	"github.com/walq/walq/codec"
)

func TestAppendReturnsNumbersAscendingFromOne(t *testing.T) {
	q := create(t, newDir(t), walq.Options{Durability: walq.SyncNever})
	for want := walq.Seq(1); want <= 500; want++ { // over several segments
		if got := appendText(t, q, text(int(want), 500)); got != want {
			t.Fatalf("got %d, want %d", got, want)
		}
	}
	for i, line := range contents(t, q) {
		if want := fmt.Sprintf("%d %s", i+1, text(i+1, 500)); line != want {
			t.Fatalf("got %.20q, want %.20q", line, want)
		}
	}
}

func TestBodiesOfEverySizeComeBackAndAreCopied(t *testing.T) {
	q := create(t, newDir(t), walq.Options{Durability: walq.SyncNever})
	largest := int(q.MaxMessage())
	sizes := []int{0, 1, 7, 8, 9, 4096, largest - 1, largest}
	for i, n := range sizes {
		body := bytes.Repeat([]byte{byte('a' + i)}, n)
		if _, err := q.Append(t.Context(), body); err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
		clear(body) // the queue has its own copy
	}
	for i, m := range rest(t, reader(t, q, walq.Oldest, walq.ReaderOptions{})) {
		if want := bytes.Repeat([]byte{byte('a' + i)}, sizes[i]); !bytes.Equal(m.Body, want) {
			t.Errorf("message of %d bytes: got %d bytes, %.10q", len(want), len(m.Body), m.Body)
		}
	}
}

func TestWhatDoesNotFitIsRefusedAndNothingIsAppended(t *testing.T) {
	q := create(t, newDir(t), walq.Options{})
	largest := int(q.MaxMessage())
	refused := func(what string, err error) {
		t.Helper()
		wantIs(t, what, err, walq.ErrTooLarge)
	}
	_, err := q.Append(t.Context(), make([]byte, largest+1))
	refused("Append", err)
	_, err = q.AppendBatch(t.Context(), make([]byte, largest/2), make([]byte, largest/2))
	refused("AppendBatch", err)
	_, err = q.AppendBatch(t.Context(), make([][]byte, 8192)...)
	refused("AppendBatch of 8192", err)
	_, err = q.Publish(t.Context(), walq.Draft{Topic: "t", Body: make([]byte, largest)})
	refused("Publish: metadata counts", err)
	_, err = q.AppendFunc(t.Context(), largest+1, func([]byte) error { t.Error("fill was called"); return nil })
	refused("AppendFunc", err)
	_, err = q.Claim(t.Context(), largest+1)
	refused("Claim", err)
	if _, err := q.Claim(t.Context(), -1); err == nil {
		t.Error("a claim of -1 bytes was given")
	}
	if _, err := q.AppendFunc(t.Context(), -1, func([]byte) error { return nil }); err == nil {
		t.Error("a message of -1 bytes was appended")
	}
	if seq := appendText(t, q, "next"); seq != 1 {
		t.Errorf("the next message is %d, want 1: a refused one took a number", seq)
	}
}

func TestABatchIsConsecutiveAndWhole(t *testing.T) {
	dir := newDir(t)
	q := create(t, dir, walq.Options{Durability: walq.SyncNever})
	follower := reader(t, open(t, dir, walq.Options{}), walq.Oldest, walq.ReaderOptions{})
	appendText(t, q, "single")
	first, err := q.AppendBatch(t.Context(), []byte("a"), nil, []byte("c"))
	if err != nil || first != 2 {
		t.Fatalf("got %d, %v, want 2", first, err)
	}
	wantLines(t, "contents", lines(rest(t, follower)), "1 single", "2 a", "3 ", "4 c")

	many := make([][]byte, 8191)
	if first, err = q.AppendBatch(t.Context(), many[:1000]...); err != nil || first != 5 {
		t.Fatalf("got %d, %v, want 5", first, err)
	}
	if got := len(rest(t, follower)); got != 1000 {
		t.Errorf("got %d messages of a batch of 1000", got)
	}
}

func TestTheLargestBatchFits(t *testing.T) {
	q := open(t, newDir(t), walq.Options{Create: &walq.QueueOptions{SegmentSize: 1 << 20, Durability: walq.SyncNever}})
	if first, err := q.AppendBatch(t.Context(), make([][]byte, 8191)...); err != nil || first != 1 {
		t.Fatalf("got %d, %v", first, err)
	}
	if seq := appendText(t, q, "behind"); seq != 8192 {
		t.Errorf("got %d, want 8192", seq)
	}
}

// While one process appends batches, another one never sees a part of one.
func TestNobodySeesAPartOfABatch(t *testing.T) {
	dir := newDir(t)
	q := create(t, dir, walq.Options{Durability: walq.SyncNever})
	r := reader(t, open(t, dir, walq.Options{}), walq.Oldest, walq.ReaderOptions{})
	const batches, size = 200, 7
	done := make(chan error, 1)
	go func() {
		for i := range batches {
			body := []byte(text(i, 100))
			if _, err := q.AppendBatch(t.Context(), body, body, body, body, body, body, body); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for seen, writing := 0, true; writing || seen < batches*size; {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			writing = false
		default:
		}
		n := 0
		for ok := true; ok; n++ {
			var err error
			if _, ok, err = r.TryNext(); err != nil {
				t.Fatal(err)
			} else if !ok {
				break
			}
		}
		if seen += n; n%size != 0 {
			t.Fatalf("the end of the queue was seen after %d messages, in the middle of a batch", seen)
		}
	}
}

func TestABatchOfNothingIsAnError(t *testing.T) {
	q := create(t, newDir(t), walq.Options{})
	_, err := q.AppendBatch(t.Context())
	wantIs(t, "AppendBatch", err, walq.ErrNoMessage)
	_, err = q.Publish(t.Context())
	wantIs(t, "Publish", err, walq.ErrNoMessage)
	_, err = q.Submit(t.Context())
	wantIs(t, "Submit", err, walq.ErrNoMessage)
	wantLines(t, "contents", contents(t, q))
}

var fullDraft = walq.Draft{
	Topic: "orders.new", ID: "order-7", Key: []byte{0, 1, 0xff}, Headers: map[string]string{"trace": "4bf9", "empty": "", "ü": "é"},
	ContentType: "application/json", ReplyTo: "answers", CorrelationID: "c-1",
	NotBefore: time.Unix(1_700_000_000, 1), Expire: time.Unix(1_800_000_000, 999_999_999), Body: []byte(`{"n":7}`),
}

// sameDraft fails unless every accessor gives what the draft had.
func sameDraft(t *testing.T, m walq.Message, d walq.Draft) {
	t.Helper()
	check := func(what string, got, want any) {
		t.Helper()
		if got != want {
			t.Errorf("%s: got %v, want %v", what, got, want)
		}
	}
	check("Body", string(m.Body), string(d.Body))
	check("Topic", m.Topic(), d.Topic)
	check("ID", m.ID(), d.ID)
	check("Key", string(m.Key()), string(d.Key))
	check("ContentType", m.ContentType(), d.ContentType)
	check("ReplyTo", m.ReplyTo(), d.ReplyTo)
	check("CorrelationID", m.CorrelationID(), d.CorrelationID)
	check("NotBefore", m.NotBefore().Equal(d.NotBefore), true)
	check("Expire", m.Expire().Equal(d.Expire), true)
	if h, err := m.Headers(); err != nil || !maps.Equal(h, d.Headers) {
		t.Errorf("Headers: got %v, %v, want %v", h, err, d.Headers)
	}
	for name, value := range d.Headers {
		check("Header "+name, m.Header(name), value)
	}
	check("a missing header", m.Header("missing"), "")
}

func TestMetadataComesBackThroughEveryAccessor(t *testing.T) {
	q := create(t, newDir(t), walq.Options{Durability: walq.SyncNever})
	before := time.Now()
	for _, d := range []walq.Draft{fullDraft, {Body: []byte("bare")}, {}} {
		if _, err := q.Publish(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	r := reader(t, q, walq.Oldest, walq.ReaderOptions{})
	for i, d := range []walq.Draft{fullDraft, {Body: []byte("bare")}, {}} {
		err := r.View(t.Context(), func(m walq.Message) error {
			sameDraft(t, m, d)
			if m.Seq != walq.Seq(i+1) {
				t.Errorf("got number %d, want %d", m.Seq, i+1)
			}
			if early, late := before.Add(-time.Second), time.Now().Add(time.Second); m.Time.Before(early) || m.Time.After(late) {
				t.Errorf("got time %v, want about now", m.Time)
			}
			if i > 0 && len(m.Metadata()) != 0 {
				t.Errorf("a message without metadata has %d bytes of it", len(m.Metadata()))
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestSeveralDraftsAreOneBatch(t *testing.T) {
	q := create(t, newDir(t), walq.Options{})
	drafts := []walq.Draft{{Topic: "a", Body: []byte("1")}, {}, fullDraft}
	first, err := q.Publish(t.Context(), drafts...)
	if err != nil || first != 1 {
		t.Fatalf("got %d, %v", first, err)
	}
	got := rest(t, reader(t, q, walq.Oldest, walq.ReaderOptions{}))
	if len(got) != len(drafts) {
		t.Fatalf("got %d messages", len(got))
	}
	for i, d := range drafts {
		sameDraft(t, got[i], d)
	}
	_, err = q.Publish(t.Context(), walq.Draft{Body: []byte("good")}, walq.Draft{Body: make([]byte, q.MaxMessage())})
	wantIs(t, "a batch of which one is too large", err, walq.ErrTooLarge)
	if more := rest(t, reader(t, q, walq.After(3), walq.ReaderOptions{})); len(more) != 0 {
		t.Errorf("a part of a refused batch is there: %v", lines(more))
	}
}

func TestMetadataThatCannotBeWrittenIsRefusedAndNothingIsAppended(t *testing.T) {
	q := create(t, newDir(t), walq.Options{})
	for name, c := range map[string]struct {
		draft walq.Draft
		want  error
	}{
		"topic not UTF-8":       {walq.Draft{Topic: "\xff"}, codec.ErrMetaText},
		"id not UTF-8":          {walq.Draft{ID: "a\xc3"}, codec.ErrMetaText},
		"header name not UTF-8": {walq.Draft{Headers: map[string]string{"\xff": "v"}}, codec.ErrMetaText},
		"header not UTF-8":      {walq.Draft{Headers: map[string]string{"k": "\xff"}}, codec.ErrMetaText},
		"too large":             {walq.Draft{Key: make([]byte, math.MaxUint16)}, codec.ErrMetaTooLarge},
		"much too large":        {walq.Draft{Headers: map[string]string{"k": strings.Repeat("v", 1<<20)}}, codec.ErrMetaTooLarge},
		"time out of range":     {walq.Draft{Expire: time.Date(3000, 1, 1, 0, 0, 0, 0, time.UTC)}, codec.ErrMetaTime},
	} {
		_, err := q.Publish(t.Context(), c.draft)
		wantIs(t, name, err, c.want)
		_, err = q.Submit(t.Context(), walq.Draft{}, c.draft)
		wantIs(t, name+", second of two", err, c.want)
		if err != nil && !strings.Contains(err.Error(), "message 1") {
			t.Errorf("%s: the error does not say which message: %v", name, err)
		}
	}
	if seq := appendText(t, q, "next"); seq != 1 {
		t.Errorf("the next message is %d, want 1", seq)
	}
}

// One goroutine has many durable appends under way: it submits, and waits for
// the last number only.
func TestSubmitAndWaitDurablePipeline(t *testing.T) {
	q := create(t, newDir(t), walq.Options{})
	r := reader(t, q, walq.Oldest, walq.ReaderOptions{})
	var last walq.Seq
	for i := range 300 {
		seq, err := q.Submit(t.Context(), walq.Draft{Body: []byte(text(i, 300))})
		if err != nil || seq != last+1 {
			t.Fatalf("got %d, %v, want %d", seq, err, last+1)
		}
		last = seq
		if m, ok, err := r.TryNext(); !ok || err != nil || m.Seq != seq {
			t.Fatalf("a submitted message is not visible: %v %v", ok, err)
		}
	}
	if err := q.WaitDurable(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	s, err := q.Stats()
	if err != nil || s.DurableSeq != last {
		t.Errorf("durable to %d, %v, want %d", s.DurableSeq, err, last)
	}
}

func TestSubmitStartsTheSyncThatTheDurabilityAsksFor(t *testing.T) {
	q := create(t, newDir(t), walq.Options{})
	for range 10 {
		seq, err := q.Submit(t.Context(), walq.Draft{Body: []byte("x")})
		if err != nil {
			t.Fatal(err)
		}
		durable := reader(t, q, walq.At(seq), walq.ReaderOptions{Durable: true})
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		if m, err := durable.Next(ctx); err != nil || m.Seq != seq {
			t.Errorf("nobody waited, and it did not become durable: %v", err)
		}
		cancel()
	}
}

func TestSyncCoversWhatAnyProcessAppended(t *testing.T) {
	dir := newDir(t)
	a := create(t, dir, walq.Options{Durability: walq.SyncNever})
	b := open(t, dir, walq.Options{Durability: walq.SyncNever})
	for i := range 200 {
		appendText(t, a, text(i, 1000))
	}
	if err := b.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	s, err := b.Stats()
	if err != nil || s.DurableSeq != 200 {
		t.Errorf("durable to %d, %v, want 200", s.DurableSeq, err)
	}
}

func TestWaitDurableSyncsWhateverTheDurability(t *testing.T) {
	for _, d := range []walq.Durability{walq.SyncNever, walq.SyncInterval} {
		q := create(t, newDir(t), walq.Options{Durability: d, SyncEvery: time.Hour})
		seq := appendText(t, q, "x")
		if err := q.WaitDurable(t.Context(), seq); err != nil {
			t.Errorf("%v: %v", d, err)
		}
	}
}

func TestWaitDurableOfWhatIsNotThereYetWaits(t *testing.T) {
	q := create(t, newDir(t), walq.Options{})
	ctx := notice(t.Context())
	done := make(chan error, 1)
	go func() { done <- q.WaitDurable(ctx, 1) }()
	<-ctx.waiting
	appendText(t, q, "x")
	if err := <-done; err != nil {
		t.Error(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	wantIs(t, "with a context that ended", q.WaitDurable(ended, 2), context.Canceled)
}

func TestAnEndedContextAppendsNothing(t *testing.T) {
	q := create(t, newDir(t), walq.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, call := range map[string]func() (walq.Seq, error){
		"Append":      func() (walq.Seq, error) { return q.Append(ctx, nil) },
		"AppendBatch": func() (walq.Seq, error) { return q.AppendBatch(ctx, nil, nil) },
		"Publish":     func() (walq.Seq, error) { return q.Publish(ctx, fullDraft) },
		"Submit":      func() (walq.Seq, error) { return q.Submit(ctx, fullDraft) },
		"AppendFunc":  func() (walq.Seq, error) { return q.AppendFunc(ctx, 1, func([]byte) error { return nil }) },
		"Claim":       func() (walq.Seq, error) { _, err := q.Claim(ctx, 1); return 0, err },
	} {
		seq, err := call()
		wantIs(t, name, err, context.Canceled)
		if seq != 0 || errors.Is(err, walq.ErrNotDurable) {
			t.Errorf("%s: got %d, %v: as if it were appended", name, seq, err)
		}
	}
	if seq := appendText(t, q, "next"); seq != 1 {
		t.Errorf("the next message is %d, want 1", seq)
	}
}

// A claim of somebody else keeps everything behind it from being durable, so it
// is certain that the context ends in between.
func TestAContextThatEndsBeforeDurabilityLeavesTheMessageIn(t *testing.T) {
	dir := newDir(t)
	q := create(t, dir, walq.Options{StallTimeout: -1})
	holder := open(t, dir, walq.Options{})
	for name, call := range map[string]func(context.Context) (walq.Seq, error){
		"Append":      func(ctx context.Context) (walq.Seq, error) { return q.Append(ctx, []byte("x")) },
		"AppendBatch": func(ctx context.Context) (walq.Seq, error) { return q.AppendBatch(ctx, []byte("x"), []byte("x")) },
		"Publish":     func(ctx context.Context) (walq.Seq, error) { return q.Publish(ctx, walq.Draft{ID: "x"}) },
		"AppendFunc": func(ctx context.Context) (walq.Seq, error) {
			return q.AppendFunc(ctx, 1, func(p []byte) error { p[0] = 'x'; return nil })
		},
		"Claim": func(ctx context.Context) (walq.Seq, error) {
			c, err := q.Claim(ctx, 1)
			if err != nil {
				return 0, err
			}
			return c.Commit(ctx)
		},
	} {
		t.Run(name, func(t *testing.T) {
			claim, err := holder.Claim(t.Context(), 8)
			if err != nil {
				t.Fatal(err)
			}
			defer claim.Abort()
			inner, cancel := context.WithCancel(t.Context())
			ctx := notice(inner)
			go func() { <-ctx.waiting; cancel() }() // it waits to be durable: the message is in
			seq, err := call(ctx)
			wantIs(t, "the error", err, walq.ErrNotDurable)
			wantIs(t, "the error", err, context.Canceled)
			if seq == 0 {
				t.Fatal("no number came back")
			}
			if err != nil && !strings.Contains(err.Error(), fmt.Sprint("message ", seq)) {
				t.Errorf("the error does not name the message: %v", err)
			}
			claim.Abort()
			if err := q.WaitDurable(t.Context(), seq); err != nil {
				t.Fatal(err)
			}
			if m := rest(t, reader(t, q, walq.At(seq), walq.ReaderOptions{})); len(m) == 0 || m[0].Seq != seq {
				t.Errorf("message %d is not in the queue", seq)
			}
		})
	}
}

func TestMetadataThatIsTooLargeIsErrTooLarge(t *testing.T) {
	q := create(t, newDir(t), walq.Options{Durability: walq.SyncNever})
	_, err := q.Publish(t.Context(), walq.Draft{Key: make([]byte, 1<<16)})
	wantIs(t, "Publish", err, walq.ErrTooLarge)
}
