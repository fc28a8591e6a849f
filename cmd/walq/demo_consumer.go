package main

import (
	"bufio"
	"context"
	"errors"
	"hash/crc32"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/walq/walq"
)

func newConsumer() *cobra.Command {
	var number, hold int
	cmd := &cobra.Command{
		Use: "consumer DIR", Short: "The part of a consumer in a demo", Hidden: true, Args: arguments("DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			endWithParent()
			s, err := readScript(args[0])
			if err != nil {
				return err
			}
			return consume(cmd, s, number, hold)
		},
	}
	cmd.Flags().IntVar(&number, "number", 1, "which consumer")
	cmd.Flags().IntVar(&hold, "hold", 0, "wait after so many messages, to be killed")
	return cmd
}

// flushEvery is how many messages a consumer sees at most before it writes them
// down.
const flushEvery = 64

func consume(cmd *cobra.Command, s *script, number, hold int) (err error) {
	ctx := cmd.Context()
	q, err := walq.Open(ctx, s.queue(), walq.Options{Role: "consumer"})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	list, last, count, err := openList(s.seenFile(number))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, list.Close()) }()
	if count > 0 {
		cmd.PrintErrf("  consumer %d: my predecessor saw %d messages; I go on behind seq %d\n", number, count, last.seq)
	}
	r, err := q.Reader(walq.After(last.seq), walq.ReaderOptions{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	c := consumer{r: r, list: bufio.NewWriter(list), began: time.Now()}
	for ended := false; !ended; count++ {
		if hold > 0 && count == hold {
			if err := c.list.Flush(); err != nil {
				return err
			}
			<-ctx.Done()
		}
		if ended, err = c.next(ctx); err != nil {
			return err
		}
		if count%flushEvery == 0 {
			if err := c.list.Flush(); err != nil {
				return err
			}
		}
	}
	return c.list.Flush()
}

type consumer struct {
	r     *walq.Reader
	list  *bufio.Writer
	began time.Time
	buf   []byte
}

// next writes down the next message. What it saw is on the list before it waits.
func (c *consumer) next(ctx context.Context) (ended bool, err error) {
	m, ok, err := c.r.TryNext()
	if !ok && err == nil {
		if err := c.list.Flush(); err != nil {
			return false, err
		}
		m, err = c.r.Next(ctx)
	}
	if err != nil || m.Topic() == endTopic {
		return true, err
	}
	now := time.Now()
	p, n, _ := parseBody(m.Body) // what is torn shows in the checksum
	c.buf = strconv.AppendUint(c.buf[:0], uint64(m.Seq), 10)
	c.buf = strconv.AppendInt(append(c.buf, ' '), int64(p), 10)
	c.buf = strconv.AppendInt(append(c.buf, ' '), int64(n), 10)
	c.buf = strconv.AppendUint(append(c.buf, ' '), uint64(checksum(m.Body)), 16)
	// What was sent before this process was there says nothing about how fast
	// a message arrives.
	if sent, err := strconv.ParseInt(m.Header(sentHeader), 10, 64); err == nil && sent > c.began.UnixNano() {
		c.buf = strconv.AppendInt(append(c.buf, ' '), now.UnixNano()-sent, 10)
	}
	_, err = c.list.Write(append(c.buf, '\n'))
	return false, err
}

func checksum(body []byte) uint32 { return crc32.ChecksumIEEE(body) }
