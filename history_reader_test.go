package walq_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/walq/walq"
	"github.com/walq/walq/internal/history"
	"github.com/walq/walq/internal/testx"
	"github.com/walq/walq/segment"
	"github.com/walq/walq/wal"
)

// read opens the queue, reads, closes it, again and again. It goes on where it was,
// also when it was killed in between.
func (p *part) read(ctx context.Context) error {
	for !p.over() {
		if err := p.stay(ctx); err != nil {
			return err
		}
	}
	return nil
}

// stay is one stay of a reader.
func (p *part) stay(ctx context.Context) (err error) {
	q, err := walq.Open(ctx, p.dir, walq.Options{StallTimeout: stall, Role: "reader", ReadOnly: p.random.IntN(8) == 0})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	durable := p.random.IntN(2) == 0
	from, reading, err := p.begin(durable)
	if err != nil {
		return err
	}
	r, err := q.Reader(from, walq.ReaderOptions{Durable: durable})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	for idle := 0; idle < 3 && !p.over() && p.random.IntN(300) > 0; {
		seq, err := p.next(ctx, q, r, reading)
		var gap *walq.GapError
		switch {
		case errors.As(err, &gap):
			reading.Gap(gap.From, gap.To)
			seq = walq.Seq(gap.To - 1)
		case errors.Is(err, context.DeadlineExceeded):
			idle++
			continue
		case err != nil:
			return err
		}
		p.calls.Add(1)
		if err := p.came(seq); err != nil {
			return err
		}
	}
	return nil
}

// begin says where a reader begins: mostly where the last one was, sometimes where
// the first one was, which limits may have taken by then.
func (p *part) begin(durable bool) (walq.Position, history.Reading, error) {
	var last uint64
	kind := p.random.IntN(8)
	if p.place != nil {
		b := make([]byte, placeBytes)
		from := int64(0)
		if kind == 3 {
			from = placeBytes
		}
		if n, err := p.place.ReadAt(b, from); n == len(b) {
			if last, err = strconv.ParseUint(string(b), 10, 64); err != nil {
				return walq.Position{}, history.Reading{}, err
			}
		}
	}
	switch kind {
	case 0:
		return walq.Last(p.random.IntN(50)), p.log.StartAnywhere(durable), nil
	case 1:
		return walq.Newest, p.log.StartAnywhere(durable), nil
	case 2:
		last = 0
	}
	if last == 0 {
		return walq.Oldest, p.log.Start(0, durable), nil
	}
	return walq.After(walq.Seq(last)), p.log.Start(last, durable), nil
}

// placeBytes is how long a number is in the file in which a reader writes how far it
// came, and behind that where it once began.
const placeBytes = 20

// came writes how far the reader came.
func (p *part) came(seq walq.Seq) error {
	if p.place == nil {
		return nil
	}
	text := fmt.Appendf(nil, "%0*d", placeBytes, seq)
	_, err := p.place.WriteAt(text, 0)
	if err == nil && !p.began {
		info, serr := p.place.Stat()
		if err = serr; err == nil && info.Size() == placeBytes {
			_, err = p.place.WriteAt(text, placeBytes)
		}
		p.began = true
	}
	return err
}

// next reads one message, by copy or in place, and waits a moment for it.
func (p *part) next(ctx context.Context, q *walq.Queue, r *walq.Reader, reading history.Reading) (seq walq.Seq, err error) {
	if p.random.IntN(2000) == 0 {
		time.Sleep(8 * stall) // and limits overtake it
	}
	short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	called := history.Now()
	var m walq.Message
	if p.random.IntN(4) == 0 {
		err = r.View(short, func(in walq.Message) error { m = in.Clone(); return nil })
	} else {
		m, err = r.Next(short)
	}
	if err != nil {
		return 0, err
	}
	returned := history.Now()
	limit := uint64(0)
	if p.random.IntN(8) == 0 {
		if limit, err = durableUpTo(q, p.dir, uint64(m.Seq)); err != nil {
			return 0, err
		}
	}
	reading.Got(called, returned, uint64(m.Seq), m.Body, limit)
	return m.Seq, nil
}

// durableUpTo is a number up to which all messages are durable now. That the
// message seq is, is found also when who raised the durable position died before it
// wrote down its number: then by the place of its frame.
func durableUpTo(q *walq.Queue, dir string, seq uint64) (uint64, error) {
	s, err := q.Stats()
	if err != nil || uint64(s.DurableSeq) >= seq {
		return uint64(s.DurableSeq), err
	}
	if testx.Race {
		return 0, nil // what stands for the file may not be read while others write it
	}
	const durableWord = 8192 // docs/FORMAT.md: ordinal of the segment, offset/8
	f, err := os.Open(filepath.Join(dir, "walq.ctl"))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	word := make([]byte, 8)
	if _, err := f.ReadAt(word, durableWord); err != nil {
		return 0, err
	}
	position, err := positionBehind(dir, seq)
	if errors.Is(err, os.ErrNotExist) || err == nil && position <= binary.LittleEndian.Uint64(word) {
		return seq, nil // or it was trimmed, which nothing is that is not durable
	}
	return uint64(s.DurableSeq), err
}

// positionBehind is the position of the end of the frame that holds seq.
func positionBehind(dir string, seq uint64) (position uint64, err error) {
	paths, err := filepath.Glob(filepath.Join(dir, "log", "*.seg"))
	if err != nil {
		return 0, err
	}
	slices.Sort(paths)
	i := len(paths) - 1
	for ; i >= 0; i-- {
		first, err := strconv.ParseUint(strings.TrimSuffix(filepath.Base(paths[i]), ".seg"), 10, 64)
		if err != nil {
			return 0, err
		}
		if first <= seq {
			break
		}
	}
	if i < 0 {
		return 0, os.ErrNotExist
	}
	var ordinal uint64
	err = wal.Dump(paths[i], wal.Viewer{
		Field: func(f segment.Field) error {
			if f.Name == "ordinal" {
				_, err := fmt.Sscan(fmt.Sprint(f.Value), &ordinal)
				return err
			}
			return nil
		},
		Frame: func(l segment.Laid) error {
			if !l.Inner && l.Seq <= seq && seq < l.Seq+uint64(l.Word.Count()) {
				position = ordinal<<32 | uint64(l.Offset+l.Word.Size())>>3
			}
			return nil
		},
		Fault: func(err error) {},
	})
	if err == nil && position == 0 {
		err = fmt.Errorf("no frame with number %d in %s", seq, paths[i])
	}
	return position, err
}
