package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/walq/walq"
)

// A list is what a process of the demo leaves behind about what it did: a line
// for each message, begun by its sequence number, its producer and the number
// of the line there. A process can be killed while it writes, so a line counts
// once it has its newline.

// A listed is one line of a list.
type listed struct {
	seq         walq.Seq
	producer, n int
	rest        []byte // more, by the kind of the list
}

// openList opens a list to go on with it behind its last whole line, which it
// returns; 0 if there is none.
func openList(path string) (f *os.File, last listed, count int, err error) {
	f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, last, 0, err
	}
	all, err := io.ReadAll(f)
	if err == nil {
		whole := bytes.LastIndexByte(all, '\n') + 1
		err = eachListed(path, all[:whole], func(l listed) { last, count = l, count+1 })
		err = errors.Join(err, f.Truncate(int64(whole)))
		_, serr := f.Seek(int64(whole), io.SeekStart)
		err = errors.Join(err, serr)
	}
	if err != nil {
		return nil, last, 0, errors.Join(err, f.Close())
	}
	return f, last, count, nil
}

// readList calls fn for each line of a list.
func readList(path string, fn func(listed)) error {
	all, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil // nothing was done
	}
	if err != nil {
		return err
	}
	return eachListed(path, all, fn)
}

func eachListed(path string, all []byte, fn func(listed)) error {
	number := 0
	for line := range bytes.Lines(all) {
		number++
		var l listed
		if !bytes.HasSuffix(line, []byte{'\n'}) {
			return fmt.Errorf("%s: line %d has no end", path, number)
		}
		fields := bytes.Fields(line)
		ok := len(fields) >= 3
		if ok {
			var seq, p, n uint64
			seq, ok = decimal(fields[0], ok)
			p, ok = decimal(fields[1], ok)
			n, ok = decimal(fields[2], ok)
			l = listed{walq.Seq(seq), int(p), int(n), bytes.Join(fields[3:], []byte{' '})}
		}
		if !ok {
			return fmt.Errorf("%s: line %d is %q", path, number, line)
		}
		fn(l)
	}
	return nil
}

// decimal reads digits; ok says whether all was well before.
func decimal(digits []byte, ok bool) (n uint64, _ bool) {
	for _, c := range digits {
		ok = ok && c >= '0' && c <= '9'
		n = 10*n + uint64(c-'0')
	}
	return n, ok
}
