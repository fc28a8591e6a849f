package walq_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/walq/walq"
)

// exampleDir is a place for an example's queue.
func exampleDir() (dir string, remove func()) {
	parent, err := os.MkdirTemp("", "walq-example-")
	if err != nil {
		log.Fatal(err)
	}
	return filepath.Join(parent, "q"), func() {
		if err := os.RemoveAll(parent); err != nil {
			log.Fatal(err)
		}
	}
}

// tempQueue makes a queue for an example.
func tempQueue() (q *walq.Queue, remove func()) {
	dir, removeDir := exampleDir()
	q, err := walq.Open(context.Background(), dir, walq.Options{Create: &walq.QueueOptions{}})
	if err != nil {
		log.Fatal(err)
	}
	return q, func() {
		if err := q.Close(); err != nil {
			log.Fatal(err)
		}
		removeDir()
	}
}

// Append a message and read it back. Any number of processes can do either, at
// the same time.
func Example() {
	dir, remove := exampleDir()
	defer remove()

	ctx := context.Background()
	q, err := walq.Open(ctx, dir, walq.Options{Create: &walq.QueueOptions{}})
	if err != nil {
		log.Fatal(err)
	}
	defer q.Close()
	if _, err := q.Append(ctx, []byte("hello")); err != nil {
		log.Fatal(err)
	} // on stable storage
	r, err := q.Reader(walq.Oldest, walq.ReaderOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	for m, err := range r.All(ctx) { // Follow would wait for more
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%d: %s\n", m.Seq, m.Body)
	}
	// Output:
	// 1: hello
}

// The messages of a batch become visible together, or not at all.
func ExampleQueue_AppendBatch() {
	q, remove := tempQueue()
	defer remove()
	ctx := context.Background()

	first, err := q.AppendBatch(ctx, []byte("debit 10"), []byte("credit 10"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("the batch begins at", first)
	next, err := q.Append(ctx, []byte("audit"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("next is", next)
	// Output:
	// the batch begins at 1
	// next is 3
}

// A Draft is a message with metadata. A reader can filter by topic.
func ExampleQueue_Publish() {
	q, remove := tempQueue()
	defer remove()
	ctx := context.Background()

	_, err := q.Publish(ctx,
		walq.Draft{Topic: "orders.eu", Key: []byte("customer-7"), Headers: map[string]string{"trace": "4bf92f"}, Body: []byte("two of these")},
		walq.Draft{Topic: "payments", Body: []byte("paid")},
	)
	if err != nil {
		log.Fatal(err)
	}

	r, err := q.Reader(walq.Oldest, walq.ReaderOptions{Topic: "orders.*"})
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	for m, err := range r.All(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s from %s, trace %s: %s\n", m.Topic(), m.Key(), m.Header("trace"), m.Body)
	}
	// Output:
	// orders.eu from customer-7, trace 4bf92f: two of these
}

// One goroutine has many durable appends under way: Submit does not wait, and
// WaitDurable of the last number covers all before it.
func ExampleQueue_Submit() {
	q, remove := tempQueue()
	defer remove()
	ctx := context.Background()

	var last walq.Seq
	for i := range 1000 {
		seq, err := q.Submit(ctx, walq.Draft{Body: fmt.Appendf(nil, "line %d", i)})
		if err != nil {
			log.Fatal(err)
		}
		last = seq
	}
	if err := q.WaitDurable(ctx, last); err != nil {
		log.Fatal(err)
	}
	fmt.Println("messages up to", last, "are on stable storage")
	// Output:
	// messages up to 1000 are on stable storage
}

// AppendFunc encodes straight into the queue, without a copy.
func ExampleQueue_AppendFunc() {
	q, remove := tempQueue()
	defer remove()
	ctx := context.Background()

	seq, err := q.AppendFunc(ctx, 16, func(p []byte) error {
		binary.BigEndian.PutUint64(p[:8], 42)
		binary.BigEndian.PutUint64(p[8:], 43)
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}

	r, err := q.Reader(walq.At(seq), walq.ReaderOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	// View reads in place too.
	err = r.View(ctx, func(m walq.Message) error {
		fmt.Println(binary.BigEndian.Uint64(m.Body), binary.BigEndian.Uint64(m.Body[8:]))
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output:
	// 42 43
}

// A Claim is for encoders that need the room before they know that they will
// succeed.
func ExampleQueue_Claim() {
	q, remove := tempQueue()
	defer remove()
	ctx := context.Background()

	c, err := q.Claim(ctx, 5)
	if err != nil {
		log.Fatal(err)
	}
	defer c.Abort() // does nothing after Commit
	copy(c.Bytes(), "hello")
	seq, err := c.Commit(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("appended message", seq)
	// Output:
	// appended message 1
}

// Follow waits for more messages until its context ends.
func ExampleReader_Follow() {
	q, remove := tempQueue()
	defer remove()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()

	r, err := q.Reader(walq.Oldest, walq.ReaderOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()

	appended := make(chan struct{})
	go func() { // another process could do this
		defer close(appended)
		for _, body := range []string{"one", "two", "three"} {
			if _, err := q.Append(ctx, []byte(body)); err != nil && !errors.Is(err, context.Canceled) {
				log.Print(err)
			}
		}
	}()
	for m, err := range r.Follow(ctx) {
		if err != nil {
			fmt.Println(err)
			break
		}
		fmt.Printf("%s\n", m.Body)
		if m.Seq == 3 {
			cancel()
		}
	}
	<-appended
	// Output:
	// one
	// two
	// three
	// context canceled
}

// A consumer that remembers the number of the last message that it is done with
// goes on behind it, also in another process and after a crash.
func ExampleAfter() {
	q, remove := tempQueue()
	defer remove()
	ctx := context.Background()
	if _, err := q.AppendBatch(ctx, []byte("one"), []byte("two"), []byte("three")); err != nil {
		log.Fatal(err)
	}

	id, done := q.ID(), walq.Seq(2) // from where the consumer keeps its state

	if q.ID() != id {
		log.Fatal("that is another queue")
	}
	// Durable: what was acted on must not be undone by a power loss.
	r, err := q.Reader(walq.After(done), walq.ReaderOptions{Durable: true})
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	for m, err := range r.All(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%d: %s\n", m.Seq, m.Body)
	}
	// Output:
	// 3: three
}
