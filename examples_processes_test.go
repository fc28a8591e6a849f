//go:build linux && !race

// The race detector cannot look into memory that processes share.

package walq_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/exec"

	"github.com/walq/walq"
)

// Three processes append to one queue at the same time, and this one reads what
// they have to say. None of them knows of the others. A real program would be
// started three times; the example starts itself.
func Example_processes() {
	ctx := context.Background()
	if dir := os.Getenv("EXAMPLE_QUEUE"); dir != "" { // one of the three
		q, err := walq.Open(ctx, dir, walq.Options{})
		if err != nil {
			log.Fatal(err)
		}
		for _, what := range []string{"hello", "bye"} {
			if _, err := q.Append(ctx, fmt.Appendf(nil, "%s says %s", os.Getenv("EXAMPLE_NAME"), what)); err != nil {
				log.Fatal(err)
			}
		}
		if err := q.Close(); err != nil {
			log.Fatal(err)
		}
		os.Exit(0)
	}

	dir, remove := exampleDir()
	defer remove()
	q, err := walq.Open(ctx, dir, walq.Options{Create: &walq.QueueOptions{}})
	if err != nil {
		log.Fatal(err)
	}
	defer q.Close()
	for _, name := range []string{"Ada", "Bob", "Cem"} {
		p := exec.Command(os.Args[0], "-test.run=^Example_processes$")
		p.Env = append(os.Environ(), "EXAMPLE_QUEUE="+dir, "EXAMPLE_NAME="+name)
		if err := p.Start(); err != nil {
			log.Fatal(err)
		}
		defer p.Wait()
	}

	r, err := q.Reader(walq.Oldest, walq.ReaderOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	seen := 0
	for m, err := range r.Follow(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s\n", m.Body)
		if seen++; seen == 6 {
			break
		}
	}
	// Unordered output:
	// Ada says hello
	// Ada says bye
	// Bob says hello
	// Bob says bye
	// Cem says hello
	// Cem says bye
}
