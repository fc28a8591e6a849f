package walq

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/walq/walq/group"
	"github.com/walq/walq/wal"
)

// How a consumer comes by its messages: it walks the log and counts, claims what nobody
// has, and now and then looks over what is in flight. See docs/adr/0021-groups.md.

const (
	// deathWatch is how often a consumer looks whether those who hold leases live,
	// while others hold any.
	deathWatch = 20 * time.Millisecond
	// shyLease is how long an observer bears with a lease whose holder has not said
	// when it ends: it was stopped between two stores.
	shyLease = time.Second
	// farBehind is how many finished ordinals a consumer steps over one by one, before
	// it jumps to the floor, which costs two searches.
	farBehind = 512
)

// A scan is what a consumer knows of the messages in flight.
type scan struct {
	seen  uint64        // the ring's retries when the last scan began
	from  uint64        // where it stopped, having found something; 0: it came to its end
	next  time.Duration // when to look again, whatever happens; since the boot
	shy   map[uint64]doubt
	alive map[group.Owner]bool // of the present pass
}

// A doubt is a lease whose end is not known.
type doubt struct {
	word  group.Word
	since time.Duration // by how long the machine ran
}

// stepsAtOnce is how many messages a consumer steps over, or looks at again, before it
// lets others of its Group go on, and looks at its context and the clock.
const stepsAtOnce = 512

// try gives the next message if there is one. last: the caller is about to sleep.
func (g *Group) try(ctx context.Context, last bool) (*Delivery, error) {
	for {
		d, more, err := g.tryOnce(last)
		if err != nil && !errors.Is(err, ErrClosed) {
			err = groupError(g.name, err)
		}
		if !more || d != nil || err != nil {
			return d, err
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		last = false
	}
}

func (g *Group) tryOnce(last bool) (d *Delivery, more bool, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil, false, ErrClosed
	}
	done := false
	defer func() {
		if !done {
			g.walk.ring = nil // a panic: nobody knows how far the reader is
		}
	}()
	err = group.Guarded(func() error {
		d, more, err = g.next(last)
		return err
	})
	done = true
	return d, more, err
}

func (g *Group) next(last bool) (d *Delivery, more bool, err error) {
	w := &g.walk
	if w.ring == nil || w.ring.Generation() != w.ring.Base.Generation {
		if err := g.join(); err != nil {
			return nil, false, err
		}
	}
	if g.gap != nil {
		gap := g.gap
		g.gap = nil
		return nil, false, gap
	}
	now := g.clock.now()
	if w.ring.Paused() {
		g.scan.next = now.boot + time.Second
		g.delayed.next = g.scan.next
		return nil, false, nil
	}
	for range stepsAtOnce {
		if last || g.scan.from != 0 || w.ring.Retries() != g.scan.seen || now.boot >= g.scan.next {
			if d, more, err := g.rescan(now); more || d != nil || err != nil {
				return d, more, err
			}
			last = false
		}
		if !g.delayed.turn {
			if d, more, err := g.fromCells(now); more || d != nil || err != nil {
				g.delayed.turn = d != nil
				return d, more, err
			}
		}
		if w.keys.any() {
			if d, err := g.steppedOver(now); d != nil || err != nil {
				return d, false, err
			}
		} else if d, done, err := g.fresh(now); done || err != nil {
			if turn := g.delayed.turn; turn && d == nil && err == nil {
				d, more, err = g.fromCells(now)
			} else {
				g.delayed.turn = false
			}
			return d, more, err
		}
		if w.ring == nil {
			break
		}
	}
	return nil, true, nil
}

// advance raises the floor, and wakes those who wait for that.
func (g *Group) advance(ring *group.Ring) uint64 {
	was := ring.Floor()
	n := ring.Advance()
	if n > was && ring.RoomWanted() {
		g.q.log.Wake(wal.WaitGroup)
	}
	if n > was {
		g.tellRoom()
	}
	return n
}

// fresh claims the next message that nobody had. done is false if the caller is to
// call again: the message was another's, or of no use any more, or the walk is old.
func (g *Group) fresh(now moment) (d *Delivery, done bool, err error) {
	w := &g.walk
	if w.ahead.open != 0 {
		d, err = g.claimAhead(now)
		return d, d != nil || err != nil, err
	}
	n := w.at
	if err := w.ahead.late; err != nil {
		w.ahead.late = nil
		done, err := g.cannotRead(n, 0, err)
		return nil, done, err
	}
	floor := w.ring.Floor()
	if n >= floor+w.ring.Window() {
		floor = g.advance(w.ring) // or there were none to read
	}
	switch {
	case n < floor && (n+farBehind < floor || w.ring.Overtaken()):
		w.ring = nil
		return nil, false, nil
	case n >= floor+w.ring.Window():
		w.ring.WantRoom()
		g.full(w.ring)
		g.heldUp(w.ring, now)
		return nil, n >= g.advance(w.ring)+w.ring.Window(), nil
	}
	return g.readAhead(n, floor, now)
}

// passBy looks at an ordinal that somebody else claimed, from which on a scan covers it.
func (g *Group) passBy(n uint64, now moment) {
	switch look, ok := g.walk.ring.Look(n); {
	case !ok || look.Word.State().Done():
	case look.Word.State() == group.Leased:
		g.scan.soon(now.boot + deathWatch)
	default:
		g.scan.next = now.boot
	}
}

// errTooFar: the ring cannot keep so large a distance from its base.
var errTooFar = errors.New("the sequence number is too far from the group's base")

// strideTo makes a base from which the message seq can be counted, the next one that
// the group is to see, once everything before it is finished.
func (g *Group) strideTo(n, seq uint64) error {
	ring := g.walk.ring
	g.walk.ring = nil // the reader has gone past it
	if ring.Floor() != n {
		return nil
	}
	ring.Pass(seq)
	return g.rebase()
}

// useless deals with a message that is not to be delivered, or not yet.
func (g *Group) useless(d *Delivery, now moment) bool {
	if d.at == nil {
		return false
	}
	if t := d.Expire(); !t.IsZero() && !t.After(now.wall()) {
		if d.finish() {
			g.finished(d)
		}
		return true
	}
	if t := d.NotBefore(); t.After(now.wall()) {
		g.putOff(d, t.UnixMilli()+1, false)
		return true
	}
	return false
}

// rescan looks over what is in flight for something to hand out again. more: it gave
// something up instead, and has to be called again.
func (g *Group) rescan(now moment) (d *Delivery, more bool, err error) {
	w, s := &g.walk, &g.scan
	floor := g.advance(w.ring)
	n := max(floor, w.first)
	if s.from == 0 {
		s.seen, s.next = w.ring.Retries(), now.boot+time.Second
		s.alive = map[group.Owner]bool{}
		maps.DeleteFunc(s.shy, func(n uint64, d doubt) bool { return n < floor || now.ran-d.since > 2*shyLease })
		if err := g.lookAgain(now); err != nil {
			return nil, false, err
		}
		if w.keys != nil {
			w.keys.lookAll() // who freed a key may have died before it told
		}
	} else {
		n = max(n, s.from)
	}
	for ; n < w.at; n++ {
		look, ok := w.ring.Look(n)
		if !ok || look.Word.State().Done() {
			continue
		}
		if look.Word.State() == group.Moving {
			if err := g.helpMove(n, look.Word); err != nil {
				return nil, false, err
			}
			continue
		}
		if g.waitsTooLong(look, now) {
			g.moveWaiting(n, look, now)
			continue
		}
		word, err := g.due(n, look, now)
		if err != nil {
			return nil, false, err
		}
		if word == 0 {
			continue
		}
		lease, ok := w.ring.Take(n, word, *w.seq(n), g.owner, g.deadline(now, g.settings.Lease))
		if !ok {
			continue
		}
		s.from = n + 1
		d, err := g.again(lease, *w.seq(n), now)
		return d, d == nil && err == nil, err
	}
	s.from = 0
	return nil, false, nil
}

// due is the word of an ordinal that may be handed out again, Ready or Waiting; 0 if it
// may not, or not yet.
func (g *Group) due(n uint64, look group.Look, now moment) (group.Word, error) {
	s, word := &g.scan, look.Word
	switch word.State() {
	case group.Ready:
		return word, nil
	case group.Waiting:
		if wait := look.Ends - now.unixMilli(); look.Known && wait > 0 {
			s.soon(now.boot + millis(wait))
			return 0, nil
		}
		return word, nil
	}
	died, err := g.died(word)
	if err != nil {
		return 0, err
	}
	left := millis(look.Ends - now.boot.Milliseconds())
	if !look.Known {
		left = g.bearWith(n, word, now)
	}
	if !died && left > 0 {
		s.soon(now.boot + left)
		if !word.OwnedBy(g.owner) {
			s.soon(now.boot + deathWatch)
		}
		return 0, nil
	}
	if !g.walk.ring.Release(n, word, died) {
		return 0, nil
	}
	look, ok := g.walk.ring.Look(n)
	if !ok || look.Word.State() != group.Ready {
		return 0, nil
	}
	return look.Word, nil
}

// millis is a duration, no longer than anybody plans ahead here.
func millis(n int64) time.Duration { return time.Duration(min(n, 3_600_000)) * time.Millisecond }

func (s *scan) soon(t time.Duration) {
	if t < s.next {
		s.next = t
	}
}

// died reports whether the holder of a lease is dead.
func (g *Group) died(word group.Word) (bool, error) {
	if word.OwnedBy(g.owner) {
		return false, nil
	}
	key := word.Owner()
	alive, known := g.scan.alive[key]
	if !known {
		var err error
		alive, err = g.q.log.Alive(word.Slot(), func(incarnation uint64) bool {
			return word.OwnedBy(group.Owner{Slot: word.Slot(), Incarnation: incarnation})
		})
		if err != nil {
			return false, err
		}
		g.scan.alive[key] = alive
	}
	return !alive, nil
}

// again makes a delivery of a message that was handed out before, or gives it up. nil:
// there is nothing to deliver.
func (g *Group) again(lease group.Lease, seq uint64, now moment) (*Delivery, error) {
	d, err := g.reread(nil, lease, seq, now)
	if d == nil || err != nil {
		return nil, err
	}
	g.walk.ring.CountRedelivered()
	return g.handOut(d, now)
}

// handOut hands out a message that was read again, or gives it up. nil: there is nothing
// to deliver.
func (g *Group) handOut(d *Delivery, now moment) (*Delivery, error) {
	if reason := g.givesUp(d); reason != "" {
		if err := g.giveUp(d, reason); !errors.Is(err, ErrLeaseLost) { // else it is another's now
			return nil, err
		}
		return nil, nil
	}
	if g.useless(d, now) {
		return nil, nil
	}
	g.checkpointSoon() // which drops the delivery that was lost from the list
	return g.hold(d), nil
}

// reread makes a delivery of a message that the walk has gone past, or of a cell. If it
// cannot, the lease is ended.
func (g *Group) reread(cells *group.Delays, lease group.Lease, seq uint64, now moment) (*Delivery, error) {
	w := &g.walk
	d := &Delivery{lessor: w.from, lease: lease}
	if cells != nil {
		d.lessor = &lessor{g: g, ring: w.ring, cells: cells}
	}
	if w.again == nil {
		r, err := g.q.log.NewReader(false)
		if err != nil {
			return nil, err
		}
		w.again = r
	}
	ok, err := false, w.again.SeekSeq(seq)
	if err == nil {
		ok, err = w.again.ViewSoon(false, func(m *wal.Message) error {
			d.Message = message(m).Clone()
			return nil
		})
	}
	gone := err == nil && (ok && uint64(d.Seq) != seq || !ok && cells != nil && w.again.Seq() > seq)
	switch {
	case errors.Is(err, ErrTrimmed), gone:
		if d.finish() { // nobody can deliver it any more
			g.finished(d)
		}
		if gone && cells != nil {
			return nil, nil // a power loss took what was never on disk
		}
		return nil, &GapError{From: seq, To: seq + 1}
	case err == nil && !ok:
		err = fmt.Errorf("message %d cannot be read again", seq)
		fallthrough
	case err != nil:
		d.sendBack((now.unixMilli() + 1000))
		return nil, err
	}
	return d, nil
}

// givesUp tells why a message is handed out no more; empty if it is.
func (g *Group) givesUp(d *Delivery) string {
	deliveries, deaths := d.lease.Word.Deliveries()-1, d.lease.Word.Deaths()
	switch s := g.settings; {
	case s.MaxDeaths > 0 && deaths >= int(s.MaxDeaths):
		return fmt.Sprintf("%d of its consumers' processes died", deaths)
	case s.MaxDeliver > 0 && deliveries >= int(s.MaxDeliver):
		return fmt.Sprintf("it was delivered %d times", deliveries)
	}
	return ""
}
