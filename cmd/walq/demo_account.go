package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/walq/walq"
)

// An account is what an independent look at the queue and the lists of a demo
// found.
type account struct {
	Appended       int   `json:"appended"`       // messages in the queue
	Delivered      int   `json:"delivered"`      // messages that every consumer saw, in the same order
	Lost           int   `json:"lost"`           // acknowledged or due, and not where they must be
	Duplicates     int   `json:"duplicates"`     // lines that are in the queue again
	Torn           int   `json:"torn"`           // messages that are not the line that they say
	Disordered     int   `json:"disordered"`     // lines before an earlier one of the same producer
	Unacknowledged int   `json:"unacknowledged"` // lines that no list has
	Faults         int   `json:"faults"`         // what verify found
	P50            int64 `json:"latency_p50_ns"`
	P99            int64 `json:"latency_p99_ns"`

	Findings []string `json:"findings,omitempty"` // the first of what is wrong
}

func (a *account) balances() bool {
	return a.Lost+a.Duplicates+a.Torn+a.Disordered+a.Unacknowledged+a.Faults == 0 && a.Delivered == a.Appended
}

// maxFindings is as many as somebody reads.
const maxFindings = 20

func (a *account) find(format string, args ...any) {
	if len(a.Findings) < maxFindings {
		a.Findings = append(a.Findings, fmt.Sprintf(format, args...))
	}
}

var errAccount = errors.New("the account does not balance")

func newAccount() *cobra.Command {
	return &cobra.Command{
		Use: "account DIR", Short: "Account for the messages of a demo that was kept", Hidden: true, Args: arguments("DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := readScript(args[0])
			if err != nil {
				return err
			}
			a, err := settle(cmd.Context(), s)
			if err != nil {
				return err
			}
			if err := printJSON(cmd.OutOrStdout(), a); err != nil {
				return err
			}
			if !a.balances() {
				return errAccount
			}
			return nil
		},
	}
}

// A ledger is the account in the making.
type ledger struct {
	account
	s      *script
	queue  []entry  // every message, in order
	in     [][]bool // by producer and line: whether it is in the queue
	listed [][]bool // the same: whether the producer had it acknowledged
	lost   [][]bool // the same: counted as lost
}

type entry struct {
	seq         walq.Seq
	producer, n int
	sum         uint32
}

func settle(ctx context.Context, s *script) (*account, error) {
	l := &ledger{s: s, in: s.perLine(), listed: s.perLine(), lost: s.perLine()}
	if err := l.readQueue(ctx); err != nil {
		return nil, err
	}
	for p := 1; p <= s.Producers; p++ {
		if err := readList(s.ackedFile(p), l.acknowledged); err != nil {
			return nil, err
		}
	}
	l.close()
	if err := l.readConsumers(); err != nil {
		return nil, err
	}
	report, err := verify(ctx, s.queue(), nil)
	if err != nil {
		return nil, err
	}
	l.Faults = len(report.Faults)
	for _, f := range report.Faults {
		l.find("%s: offset %d: %s", f.Path, f.Offset, f.Reason)
	}
	return &l.account, nil
}

// perLine makes room for a flag for each line of each producer, which both
// count from 1.
func (s *script) perLine() [][]bool {
	flags := make([][]bool, s.Producers+1)
	for p := 1; p <= s.Producers; p++ {
		flags[p] = make([]bool, s.share(p)+1)
	}
	return flags
}

func (s *script) has(p, n int) bool {
	return p >= 1 && p <= s.Producers && n >= 1 && n <= s.share(p)
}

func (l *ledger) readQueue(ctx context.Context) (err error) {
	q, err := openToRead(ctx, l.s.queue())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	r, err := q.Reader(walq.Oldest, walq.ReaderOptions{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	newest := make([]int, l.s.Producers+1)
	for m, err := range r.All(ctx) {
		if err != nil {
			return err
		}
		if m.Topic() != endTopic {
			l.message(m, newest)
		}
	}
	return nil
}

func (l *ledger) message(m walq.Message, newest []int) {
	l.Appended++
	p, n, ok := parseBody(m.Body)
	if n := len(l.queue); n > 0 && m.Seq <= l.queue[n-1].seq {
		l.Disordered++
		l.find("seq %d comes behind seq %d", m.Seq, l.queue[n-1].seq)
	}
	l.queue = append(l.queue, entry{m.Seq, p, n, checksum(m.Body)})
	if !ok || !l.s.has(p, n) || !bytes.Equal(m.Body, l.s.body(p, n)) {
		l.Torn++
		l.find("seq %d is %.80q, which is no line of the text", m.Seq, m.Body)
		return
	}
	switch {
	case l.in[p][n]:
		l.Duplicates++
		l.find("seq %d is line %d of producer %d again", m.Seq, n, p)
	case n < newest[p]:
		l.Disordered++
		l.find("seq %d is line %d of producer %d, behind its line %d", m.Seq, n, p, newest[p])
	}
	l.in[p][n] = true
	newest[p] = max(newest[p], n)
}

// acknowledged looks for what a producer had acknowledged under its number.
func (l *ledger) acknowledged(a listed) {
	if !l.s.has(a.producer, a.n) {
		l.Lost++
		l.find("producer %d lists a line %d that it never had", a.producer, a.n)
		return
	}
	l.listed[a.producer][a.n] = true
	i, found := slices.BinarySearchFunc(l.queue, a.seq, func(e entry, seq walq.Seq) int {
		return int(min(max(int64(e.seq)-int64(seq), -1), 1))
	})
	if !found || l.queue[i].producer != a.producer || l.queue[i].n != a.n {
		l.lose(a.producer, a.n, fmt.Sprintf("was acknowledged as seq %d and is not there", a.seq))
	}
}

func (l *ledger) lose(p, n int, why string) {
	if !l.lost[p][n] {
		l.lost[p][n] = true
		l.Lost++
		l.find("line %d of producer %d %s", n, p, why)
	}
}

// close counts what is due and did not come.
func (l *ledger) close() {
	for p := 1; p <= l.s.Producers; p++ {
		for n := 1; n <= l.s.share(p); n++ {
			if !l.in[p][n] {
				l.lose(p, n, "is not in the queue")
			}
			if !l.listed[p][n] {
				l.Unacknowledged++
				l.find("line %d of producer %d is on no list", n, p)
			}
		}
	}
}

// readConsumers compares what each consumer saw with the queue, message by
// message, and collects the latencies.
func (l *ledger) readConsumers() error {
	var latencies []int64
	l.Delivered = math.MaxInt
	for c := 1; c <= l.s.Consumers; c++ {
		same, all := 0, 0
		err := readList(l.s.seenFile(c), func(e listed) {
			sum, latency, _ := bytes.Cut(e.rest, []byte{' '})
			if ns, err := strconv.ParseInt(string(latency), 10, 64); err == nil {
				latencies = append(latencies, ns)
			}
			if all == same && all < len(l.queue) {
				want := l.queue[all]
				if e.seq == want.seq && e.producer == want.producer && e.n == want.n && string(sum) == strconv.FormatUint(uint64(want.sum), 16) {
					same++
				} else {
					l.find("consumer %d saw seq %d (producer %d line %d) where seq %d (producer %d line %d) is", c, e.seq, e.producer, e.n, want.seq, want.producer, want.n)
				}
			}
			all++
		})
		if err != nil {
			return err
		}
		if all != same {
			same = min(same, len(l.queue)-1) // also if it saw more than there is
		}
		if same < len(l.queue) {
			l.find("consumer %d saw %d messages, %d of them in order; the queue has %d", c, all, same, len(l.queue))
		}
		l.Delivered = min(l.Delivered, same)
	}
	slices.Sort(latencies)
	if n := len(latencies); n > 0 {
		l.P50, l.P99 = latencies[n/2], latencies[n*99/100]
	}
	return nil
}
