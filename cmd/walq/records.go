package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"github.com/walq/walq"
)

// records splits an input into messages.
type records struct {
	r     *bufio.Reader
	split splitting
	limit int64  // bytes that a record may have
	done  uint64 // records so far
	long  []byte // of a record that does not fit the reader's buffer
	ended bool
}

type splitting int

const (
	byLine splitting = iota
	byNull
	whole
)

func (s splitting) String() string { return [...]string{"line", "record", "input"}[s] }

// next returns the next record without what ends it. It is valid until the next
// call. The last record may have no end. Errors: io.EOF, ErrTooLarge, and those of
// the input.
func (r *records) next() ([]byte, error) {
	if r.split == whole {
		return r.rest()
	}
	end := byte('\n')
	if r.split == byNull {
		end = 0
	}
	r.long = r.long[:0]
	for {
		part, err := r.r.ReadSlice(end)
		whole := err == nil
		if whole {
			part = part[:len(part)-1]
		}
		if int64(len(r.long)+len(part)) > r.limit {
			return nil, r.tooLarge()
		}
		switch {
		case whole && len(r.long) == 0:
			r.done++
			return part, nil
		case whole || err == io.EOF && len(r.long)+len(part) > 0:
			r.done++
			r.long = append(r.long, part...)
			return r.long, nil
		case errors.Is(err, bufio.ErrBufferFull):
			r.long = append(r.long, part...)
		default:
			return nil, err
		}
	}
}

// rest returns all of the input, once, even if there is nothing.
func (r *records) rest() ([]byte, error) {
	if r.ended {
		return nil, io.EOF
	}
	r.ended = true
	all, err := io.ReadAll(io.LimitReader(r.r, r.limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(all)) > r.limit {
		return nil, r.tooLarge()
	}
	r.done++
	return all, nil
}

func (r *records) tooLarge() error {
	r.done++
	return r.wrong(1, fmt.Errorf("more than %d bytes, which is the largest message that the queue takes: %w", r.limit, walq.ErrTooLarge))
}

// wrong says that something is wrong with the last n records.
func (r *records) wrong(n uint64, err error) error {
	switch {
	case r.split == whole:
		return fmt.Errorf("the input: %w", err)
	case n > 1:
		return fmt.Errorf("%ss %d to %d: %w", r.split, r.done-n+1, r.done, err)
	}
	return fmt.Errorf("%s %d: %w", r.split, r.done, err)
}

// eager calls before whenever the input has to be asked for more, which may
// take any time.
type eager struct {
	r      io.Reader
	before func() error
}

func (e eager) Read(p []byte) (int, error) {
	if err := e.before(); err != nil {
		return 0, err
	}
	return e.r.Read(p)
}
