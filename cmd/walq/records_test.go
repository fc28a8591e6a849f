package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/walq/walq"
)

// smallestBuffer is what bufio gives at least, so that longer records take the
// long way.
const smallestBuffer = 16

func TestRecords(t *testing.T) {
	long := strings.Repeat("x", 5*smallestBuffer)
	for _, c := range []struct {
		split splitting
		in    string
		want  []string
	}{
		{byLine, "", nil},
		{byLine, "\n", []string{""}},
		{byLine, "a", []string{"a"}},
		{byLine, "a\n", []string{"a"}},
		{byLine, "a\n\nb", []string{"a", "", "b"}},
		{byLine, "a\r\nb\x00c\n", []string{"a\r", "b\x00c"}},
		{byLine, long + "\n" + long, []string{long, long}},
		{byLine, long[:smallestBuffer] + "\nb\n", []string{long[:smallestBuffer], "b"}},
		{byLine, long[:smallestBuffer-1] + "\nb\n", []string{long[:smallestBuffer-1], "b"}},
		{byNull, "a\x00\x00b\nc", []string{"a", "", "b\nc"}},
		{whole, "", []string{""}},
		{whole, "a\n\x00b\n" + long, []string{"a\n\x00b\n" + long}},
	} {
		for _, slow := range []bool{false, true} {
			r := io.Reader(strings.NewReader(c.in))
			if slow {
				r = iotest.OneByteReader(r)
			}
			got, err := allRecords(&records{r: bufio.NewReaderSize(r, smallestBuffer), split: c.split, limit: 1000})
			if err != io.EOF || strings.Join(got, "|") != strings.Join(c.want, "|") || len(got) != len(c.want) {
				t.Errorf("%v of %q, slow %v: got %q, %v, want %q", c.split, c.in, slow, got, err, c.want)
			}
		}
	}
}

func TestARecordMayBeAsLongAsTheLimitAndNoLonger(t *testing.T) {
	for _, limit := range []int64{1, smallestBuffer - 1, smallestBuffer, smallestBuffer + 1, 10 * smallestBuffer} {
		for _, split := range []splitting{byLine, byNull, whole} {
			for _, end := range []string{"", "\n", "\x00"} {
				if split == whole && end != "" || split == byLine && end == "\x00" || split == byNull && end == "\n" {
					continue
				}
				fits := strings.Repeat("x", int(limit))
				got, err := allRecords(&records{r: bufio.NewReaderSize(strings.NewReader(fits+end), smallestBuffer), split: split, limit: limit})
				if err != io.EOF || len(got) != 1 || got[0] != fits {
					t.Errorf("%v of %d bytes and %q: got %q, %v", split, limit, end, got, err)
				}
				got, err = allRecords(&records{r: bufio.NewReaderSize(strings.NewReader(fits+"x"+end), smallestBuffer), split: split, limit: limit})
				if !errors.Is(err, walq.ErrTooLarge) || len(got) != 0 {
					t.Errorf("%v of %d bytes more than fit and %q: got %q, %v", split, 1, end, got, err)
				}
			}
		}
	}
}

func TestRecordsPassReadErrorsOn(t *testing.T) {
	broken := errors.New("broken")
	in := io.MultiReader(bytes.NewReader([]byte("a\nb")), iotest.ErrReader(broken))
	got, err := allRecords(&records{r: bufio.NewReaderSize(in, smallestBuffer), limit: 1000})
	if !errors.Is(err, broken) || len(got) != 1 {
		t.Errorf("got %q, %v, want the whole line and the error", got, err)
	}
}

func allRecords(r *records) (all []string, err error) {
	for {
		one, err := r.next()
		if err != nil {
			return all, err
		}
		all = append(all, string(one))
	}
}
