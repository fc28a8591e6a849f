package walq_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"strings"
	"time"

	"github.com/walq/walq"
)

// filled makes a queue with these messages.
func filled(bodies ...string) (q *walq.Queue, remove func()) {
	q, remove = tempQueue()
	for _, body := range bodies {
		if _, err := q.Append(context.Background(), []byte(body)); err != nil {
			log.Fatal(err)
		}
	}
	return q, remove
}

// bodies reads from a position to the end of the queue.
func bodies(q *walq.Queue, from walq.Position) string {
	r, err := q.Reader(from, walq.ReaderOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	var all []string
	for m, err := range r.All(context.Background()) {
		if err != nil {
			log.Fatal(err)
		}
		all = append(all, string(m.Body))
	}
	return strings.Join(all, " ")
}

// All ends at the end of the queue, and can be called again for what has come
// since. Follow would wait for it.
func ExampleReader_All() {
	q, remove := filled("one", "two")
	defer remove()
	ctx := context.Background()

	r, err := q.Reader(walq.Oldest, walq.ReaderOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	for range 2 {
		for m, err := range r.All(ctx) {
			if err != nil {
				log.Fatal(err)
			}
			fmt.Printf("%s\n", m.Body)
		}
		fmt.Println("that is all")
		if _, err := q.Append(ctx, []byte("three")); err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// one
	// two
	// that is all
	// three
	// that is all
}

// View lends the message where it lies, in memory that all processes share. What
// is to stay is copied before the function returns.
func ExampleReader_View() {
	q, remove := filled("a very large message")
	defer remove()

	r, err := q.Reader(walq.Oldest, walq.ReaderOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	var first string
	err = r.View(context.Background(), func(m walq.Message) error {
		first = string(m.Body[:6]) // a copy
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(first)
	// Output:
	// a very
}

// ViewBatch is for reading much: here everything that is there, without waiting for
// more than the first.
func ExampleReader_ViewBatch() {
	q, remove := filled("one", "two", "three")
	defer remove()

	r, err := q.Reader(walq.Oldest, walq.ReaderOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	bytes := 0
	n, err := r.ViewBatch(context.Background(), 1000, func(m walq.Message) error {
		bytes += len(m.Body)
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(n, "messages of", bytes, "bytes")
	// Output:
	// 3 messages of 11 bytes
}

// Next lends its memory until the next call; Clone keeps a message.
func ExampleMessage_Clone() {
	q, remove := filled("one", "two")
	defer remove()

	r, err := q.Reader(walq.Oldest, walq.ReaderOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	var kept []walq.Message
	for m, err := range r.All(context.Background()) {
		if err != nil {
			log.Fatal(err)
		}
		kept = append(kept, m.Clone())
	}
	fmt.Printf("%s and %s\n", kept[0].Body, kept[1].Body)
	// Output:
	// one and two
}

// Where to begin: at the last messages, or at a time.
func ExampleLast() {
	q, remove := filled("one", "two", "three")
	defer remove()

	fmt.Println(bodies(q, walq.Last(2)))
	// Output:
	// two three
}

// A clock can be set back, so a time is for people; a program that goes on where
// it was uses After.
func ExampleSince() {
	q, remove := filled("one", "two", "three")
	defer remove()

	anHourAgo := time.Now().Add(-time.Hour)
	fmt.Println(bodies(q, walq.Since(anHourAgo)))
	// Output:
	// one two three
}

// A durable reader sees only what no power loss can take back: for those who send
// mails or move money when they see a message.
func ExampleReaderOptions_durable() {
	dir, remove := exampleDir()
	defer remove()
	ctx := context.Background()
	q, err := walq.Open(ctx, dir, walq.Options{Create: &walq.QueueOptions{Durability: walq.SyncNever}})
	if err != nil {
		log.Fatal(err)
	}
	defer q.Close()
	r, err := q.Reader(walq.Oldest, walq.ReaderOptions{Durable: true})
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()

	if _, err := q.Append(ctx, []byte("pay")); err != nil {
		log.Fatal(err)
	}
	_, ok, err := r.TryNext()
	fmt.Println("appended:", ok, err)
	if err := q.Sync(ctx); err != nil {
		log.Fatal(err)
	}
	m, ok, err := r.TryNext()
	fmt.Println("synced:", ok, err, string(m.Body))
	// Output:
	// appended: false <nil>
	// synced: true <nil> pay
}

// A token of the queue's identity and a number says for good which message was
// done last, whatever directory the queue is moved to.
func ExampleQueue_ID() {
	q, remove := filled("one", "two", "three")
	defer remove()
	type token struct {
		Queue walq.UUID
		Done  walq.Seq
	}

	saved, err := json.Marshal(token{q.ID(), 2}) // with the results, best in one transaction
	if err != nil {
		log.Fatal(err)
	}

	var t token
	if err := json.Unmarshal(saved, &t); err != nil {
		log.Fatal(err)
	}
	if t.Queue != q.ID() {
		log.Fatal("the numbers are those of another queue")
	}
	fmt.Println(bodies(q, walq.After(t.Done)))
	// Output:
	// three
}

// Who may not write, or does not want to, reads all the same. Nothing is changed,
// not a byte.
func ExampleOptions_readOnly() {
	q, remove := filled("one")
	defer remove()
	ctx := context.Background()

	ro, err := walq.Open(ctx, q.Path(), walq.Options{ReadOnly: true})
	if err != nil {
		log.Fatal(err)
	}
	defer ro.Close()
	fmt.Println(bodies(ro, walq.Oldest))
	_, err = ro.Append(ctx, []byte("two"))
	fmt.Println(errors.Is(err, walq.ErrReadOnly))
	// Output:
	// one
	// true
}

// smallQueue makes a queue of small files, and fills some of them.
func smallQueue() (q *walq.Queue, remove func()) {
	dir, removeDir := exampleDir()
	q, err := walq.Open(context.Background(), dir, walq.Options{
		Create: &walq.QueueOptions{SegmentSize: 64 << 10, Durability: walq.SyncNever},
	})
	if err != nil {
		log.Fatal(err)
	}
	for range 10 {
		if _, err := q.Append(context.Background(), make([]byte, 32<<10)); err != nil {
			log.Fatal(err)
		}
	}
	return q, func() { q.Close(); removeDir() }
}

// Limits hold for everybody who uses the queue. Writers trim as they go; Trim does
// it now. Whole files go, the oldest first.
func ExampleQueue_SetLimits() {
	q, remove := smallQueue()
	defer remove()
	ctx := context.Background()

	const maxBytes, maxAge = 256 << 10, 7 * 24 * time.Hour
	if err := q.SetLimits(ctx, maxBytes, maxAge); err != nil {
		log.Fatal(err)
	}
	removed, err := q.Trim(ctx)
	if err != nil {
		log.Fatal(err)
	}
	s, err := q.Stats()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("files went:", removed > 0)
	fmt.Println("within the limit:", s.Bytes <= maxBytes)
	fmt.Println("the oldest message is gone:", s.FirstSeq > 1)
	// Output:
	// files went: true
	// within the limit: true
	// the oldest message is gone: true
}

// A reader that trimming overtakes is told which messages it missed, once, and
// goes on behind them.
func ExampleGapError() {
	q, remove := smallQueue()
	defer remove()
	ctx := context.Background()
	if _, err := q.TrimBefore(ctx, 10); err != nil {
		log.Fatal(err)
	}

	r, err := q.Reader(walq.At(1), walq.ReaderOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	for {
		m, ok, err := r.TryNext()
		var gap *walq.GapError
		switch {
		case errors.As(err, &gap):
			fmt.Println("missed", gap.From, "to", gap.To-1)
			continue
		case err != nil:
			log.Fatal(err)
		case ok:
			fmt.Println("read", m.Seq)
			continue
		}
		return
	}
	// Output:
	// missed 1 to 9
	// read 10
}
