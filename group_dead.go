package walq

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Headers of a message in a dead-letter queue, beside its own: where it comes from and
// why it is there.
const (
	HeaderOriginQueue = "walq-origin-queue" // the queue's ID
	HeaderOriginGroup = "walq-origin-group"
	HeaderOriginSeq   = "walq-origin-seq"
	HeaderOriginTime  = "walq-origin-time" // when it was appended there
	HeaderReason      = "walq-reason"
	HeaderAttempts    = "walq-attempts" // how often it was handed out
	HeaderDeaths      = "walq-deaths"   // how often the process of its consumer died
	// HeaderOriginPath has the IDs of all queues that it came through, the first one first,
	// with commas between them.
	HeaderOriginPath = "walq-origin-path"
)

const deadHeaders = "walq-"

// deadLetters is the queue of messages that were given up, opened when the first comes.
type deadLetters struct {
	path     string
	log      *slog.Logger
	patience time.Duration // bounds how long one message is waited for to be in the queue
	turn     chan struct{} // full while somebody looks at q
	q        *Queue
}

func newDeadLetters(path string, log *slog.Logger) deadLetters {
	return deadLetters{path: path, log: log, patience: deadPatience, turn: make(chan struct{}, 1)}
}

// queue is the queue, opened now if it is not.
func (l *deadLetters) queue(ctx context.Context) (_ *Queue, err error) {
	select {
	case l.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-l.turn }()
	if l.q == nil {
		if l.q, err = Open(ctx, l.path, Options{Create: &QueueOptions{}, Role: "dead", Logger: l.log}); err != nil {
			return nil, err
		}
		l.q.neverWait = true // the message is tried again, others are not held up
	}
	return l.q, err
}

// put appends a message. Several goroutines may do so at once, but before close.
func (l *deadLetters) put(d *Delivery, reason string) error {
	// Others may have to recover that queue first, and may have been stopped in it.
	ctx, cancel := context.WithTimeout(context.Background(), l.patience)
	defer cancel()
	q, err := l.queue(ctx)
	if err != nil {
		return err
	}
	path := d.g.q.ID().String()
	if before := d.Header(HeaderOriginPath); before != "" {
		path = before + "," + path
	}
	// Else a message that nobody can work on would go round for ever.
	if slices.Contains(strings.Split(path, ","), q.ID().String()) {
		return fmt.Errorf("the message came through %s, and does not go there again", l.path)
	}
	draft, err := d.draft()
	if err != nil {
		draft = Draft{Body: d.Body} // metadata that was not written by walq
	}
	if draft.Headers == nil {
		draft.Headers = map[string]string{}
	}
	maps.Copy(draft.Headers, map[string]string{
		HeaderOriginQueue: d.g.q.ID().String(),
		HeaderOriginGroup: d.g.name,
		HeaderOriginSeq:   strconv.FormatUint(uint64(d.Seq), 10),
		HeaderOriginTime:  d.Time.UTC().Format(time.RFC3339Nano),
		HeaderReason:      reason[:min(len(reason), maxReason)],
		HeaderAttempts:    strconv.Itoa(d.Attempt()),
		HeaderDeaths:      strconv.Itoa(d.Deaths()),
		HeaderOriginPath:  path,
	})
	// In, but perhaps not on disk, is not enough: the message is finished here then.
	_, err = q.Publish(ctx, draft)
	for _, less := range []map[string]string{{HeaderOriginPath: path}, nil} { // in the end as large as it was where it comes from
		if !errors.Is(err, ErrTooLarge) {
			break
		}
		draft.Headers = less
		_, err = q.Publish(ctx, draft)
	}
	return err
}

const (
	// deadPatience bounds how long a message is waited for to be in the dead-letter
	// queue, and is how soon it is tried again.
	deadPatience = 5 * time.Second
	maxReason    = 1024 // bytes
)

func (l *deadLetters) close() error {
	if l.q == nil {
		return nil
	}
	err := l.q.Close()
	l.q = nil
	return err
}

// draft is a message to be with the content of this one.
func (m Message) draft() (Draft, error) {
	headers, err := m.Headers()
	return Draft{
		Topic: m.Topic(), ID: m.ID(), Key: m.Key(), Headers: headers, ContentType: m.ContentType(),
		ReplyTo: m.ReplyTo(), CorrelationID: m.CorrelationID(), NotBefore: m.NotBefore(), Expire: m.Expire(), Body: m.Body,
	}, err
}

// redriveGroup is the group of a dead-letter queue that puts its messages back.
const redriveGroup = "redrive"

// Redrive appends the messages of a dead-letter queue to q again, without the headers
// that say why they were there, and returns how many. Those of other queues stay where
// they are, for a Redrive into theirs. What was put back is not put back again; if ctx
// ends, or the process dies, the next Redrive goes on, and may put one back twice.
func (q *Queue) Redrive(ctx context.Context, from *Queue) (n int, err error) {
	g, err := from.Group(redriveGroup+"-"+q.ID().String(), GroupOptions{})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, g.Close()) }()
	for {
		d, err := g.TryReceive(ctx)
		if d == nil || err != nil {
			return n, err
		}
		if d.Header(HeaderOriginQueue) == q.ID().String() {
			draft, err := d.draft()
			if err != nil {
				return n, fmt.Errorf("walq: redrive: message %d: %w", d.Seq, err)
			}
			maps.DeleteFunc(draft.Headers, func(name, _ string) bool { return strings.HasPrefix(name, deadHeaders) })
			if _, err := q.Publish(ctx, draft); err != nil {
				return n, errors.Join(err, d.Nak(0))
			}
			n++
		}
		if err := d.Ack(); err != nil {
			return n, err
		}
	}
}
