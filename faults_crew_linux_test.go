//go:build !race

package walq_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/walq/walq"
	"github.com/walq/walq/internal/faults"
	"github.com/walq/walq/internal/testx"
)

// A crew is real walq processes that work on one queue.
type crew struct {
	t       *testing.T
	bin     string
	dir     string
	account faults.Account
	putters []*faults.Putter
}

// newCrew makes a queue in dir with the flags of `walq create`; "" is a new
// directory.
func newCrew(t *testing.T, bin, dir string, flags ...string) *crew {
	t.Helper()
	if dir == "" {
		dir = newDir(t)
	}
	c := &crew{t: t, bin: bin, dir: dir}
	if code, _, talk := c.run("create", flags...); code != 0 {
		t.Fatalf("create: exit %d: %s", code, talk)
	}
	return c
}

// needProcesses skips a test where processes cannot share a queue.
func needProcesses(t *testing.T) {
	t.Helper()
}

// run runs a command of walq on the queue to its end.
func (c *crew) run(command string, flags ...string) (code int, out, talk string) {
	c.t.Helper()
	return faults.Run(c.t, c.bin, append([]string{command, c.dir}, flags...)...)
}

// put adds a process that appends.
func (c *crew) put(wrap []string, name string, flags ...string) *faults.Putter {
	c.t.Helper()
	p := faults.Put(c.t, wrap, c.bin, c.dir, name, flags...)
	c.putters = append(c.putters, p)
	return p
}

// await waits until the putter has n more acknowledgements, and fails if it ends
// before.
func (c *crew) await(p *faults.Putter, n int) {
	c.t.Helper()
	n += len(p.Acks())
	testx.Eventually(c.t, patience, func() bool {
		if !p.Running() {
			c.t.Fatalf("%s ended with exit %d: %s", p.Name, p.Code(), p.Talk())
		}
		return len(p.Acks()) >= n
	}, p.Name+" appends")
}

// ends waits until a process ends by itself with the status, and fails if it
// crashed or does not say all of the words.
func (c *crew) ends(p *faults.Process, code int, words ...string) {
	c.t.Helper()
	p.Await(c.t)
	if how := p.Crashed(false); how != "" {
		c.t.Errorf("%s crashed (%s):\n%s", p.Name, how, p.Talk())
	}
	if p.Code() != code {
		c.t.Errorf("%s: got exit %d, want %d: %s", p.Name, p.Code(), code, p.Talk())
	}
	for _, word := range words {
		if !strings.Contains(p.Talk(), word) {
			c.t.Errorf("%s: it does not say %q:\n%s", p.Name, word, p.Talk())
		}
	}
}

// finish lets the putters come to the end of their lines.
func (c *crew) finish(putters ...*faults.Putter) {
	c.t.Helper()
	for _, p := range putters {
		p.Finish(0)
	}
	for _, p := range putters {
		c.ends(p.Process, 0)
	}
}

// sound fails unless everything that was acknowledged is in the queue as it was
// promised, and verify finds nothing. All putters have ended.
func (c *crew) sound() (all []walq.Message) {
	c.t.Helper()
	for _, p := range c.putters {
		c.account.Add(p, p.Safe())
	}
	c.putters = nil
	all, s, err := allOf(c.t.Context(), c.dir)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, wrong := range c.account.Check(all, uint64(s.FirstSeq), false) {
		c.t.Error(wrong)
	}
	if code, out, talk := c.run("verify"); code != 0 {
		c.t.Errorf("verify: exit %d\n%s%s", code, out, talk)
	}
	return all
}

// allOf reads a whole queue without writing to it.
func allOf(ctx context.Context, dir string) (all []walq.Message, s walq.Stats, err error) {
	q, err := walq.Open(ctx, dir, walq.Options{ReadOnly: true})
	if err != nil {
		return nil, s, err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	if s, err = q.Stats(); err != nil {
		return nil, s, err
	}
	r, err := q.Reader(walq.Oldest, walq.ReaderOptions{})
	if err != nil {
		return nil, s, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	for m, err := range r.All(ctx) {
		if err != nil {
			return all, s, err
		}
		all = append(all, m.Clone())
	}
	return all, s, nil
}
