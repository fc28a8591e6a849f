package walq_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/walq/walq"
)

func exampleQueue(bodies ...string) (q *walq.Queue, remove func()) {
	tmp, err := os.MkdirTemp("", "walq")
	if err != nil {
		log.Fatal(err)
	}
	q, err = walq.Open(context.Background(), filepath.Join(tmp, "q"), walq.Options{Create: &walq.QueueOptions{}})
	if err != nil {
		log.Fatal(err)
	}
	for _, body := range bodies {
		if _, err := q.Append(context.Background(), []byte(body)); err != nil {
			log.Fatal(err)
		}
	}
	return q, func() { q.Close(); os.RemoveAll(tmp) }
}

// A worker: it may run in any number of processes, which share the work.
func ExampleGroup_Consume() {
	q, remove := exampleQueue("first", "second")
	defer remove()

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // signal.NotifyContext in a program
	defer cancel()
	g, err := q.Group("billing", walq.GroupOptions{MaxDeliver: 5, DeadLetter: q.Path() + ".dead"})
	if err != nil {
		log.Fatal(err)
	}
	err = g.Consume(ctx, func(ctx context.Context, d *walq.Delivery) error {
		if string(d.Body) == "first" && d.Attempt() == 1 {
			return errors.New("not now") // it comes again
		}
		fmt.Printf("%s, attempt %d\n", d.Body, d.Attempt())
		if string(d.Body) == "second" {
			cancel() // no more; what is under way is finished
		}
		return nil // finished
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output:
	// first, attempt 2
	// second, attempt 1
}

// Without Consume the program decides itself what becomes of each message.
func ExampleGroup_Receive() {
	q, remove := exampleQueue("work", "nonsense")
	defer remove()

	ctx := context.Background()
	g, err := q.Group("billing", walq.GroupOptions{Lease: time.Minute})
	if err != nil {
		log.Fatal(err)
	}
	for range 2 {
		d, err := g.Receive(ctx) // waits
		if err != nil {
			log.Fatal(err)
		}
		switch string(d.Body) {
		case "work":
			err = d.AckSync(ctx) // not handed out again even after a power loss
		default:
			err = d.Term("cannot be understood")
		}
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s\n", d.Body)
	}
	// Output:
	// work
	// nonsense
}

// Several at once, for work that is cheaper together.
func ExampleGroup_Fetch() {
	q, remove := exampleQueue("a", "b", "c")
	defer remove()

	g, err := q.Group("bulk", walq.GroupOptions{})
	if err != nil {
		log.Fatal(err)
	}
	batch, err := g.Fetch(context.Background(), 100)
	if err != nil {
		log.Fatal(err)
	}
	for _, d := range batch {
		fmt.Printf("%s ", d.Body)
		if err := d.Ack(); err != nil {
			log.Fatal(err)
		}
	}
	// Output: a b c
}

// A loop over everything that comes.
func ExampleGroup_All() {
	q, remove := exampleQueue("a", "b")
	defer remove()

	g, err := q.Group("loop", walq.GroupOptions{From: walq.Last(1)})
	if err != nil {
		log.Fatal(err)
	}
	for d, err := range g.All(context.Background()) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s\n", d.Body)
		if err := d.Ack(); err != nil {
			log.Fatal(err)
		}
		break
	}
	// Output: b
}

// Of each key one message is at work at a time, in order; other keys do not wait for it.
func ExampleGroupOptions_orderedByKey() {
	q, remove := exampleQueue()
	defer remove()

	ctx := context.Background()
	for _, body := range []string{"ann: open", "ann: pay", "bob: open"} {
		name, _, _ := strings.Cut(body, ":")
		if _, err := q.Publish(ctx, walq.Draft{Key: []byte(name), Body: []byte(body)}); err != nil {
			log.Fatal(err)
		}
	}
	g, err := q.Group("accounts", walq.GroupOptions{OrderedByKey: true})
	if err != nil {
		log.Fatal(err)
	}
	first, err := g.Receive(ctx) // ann: open
	if err != nil {
		log.Fatal(err)
	}
	next, err := g.Receive(ctx) // bob's, since ann's first is at work
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n%s\n", first.Body, next.Body)
	if err := errors.Join(first.Ack(), next.Ack()); err != nil {
		log.Fatal(err)
	}
	last, err := g.Receive(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", last.Body)
	// Output:
	// ann: open
	// bob: open
	// ann: pay
}
