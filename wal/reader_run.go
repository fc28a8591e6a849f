package wal

import "github.com/walq/walq/mmap"

// A Verdict is what the one to whom ViewRun shows a message says of it.
type Verdict int

// The verdicts.
const (
	More   Verdict = iota // show the next one
	Enough                // it was the last one
	Leave                 // it was one too many: the next ViewRun shows it again
)

// ViewRun is View of up to most messages, for one entrance into the log: fn is called with
// each that is there until it says otherwise, or returns an error. With spin it waits for
// the first as ViewSoon does. It returns how many were shown, fn's error with the message
// that it is about among them, without one that was left. When the log is being closed it
// shows no more. A reader that left one is for ViewRun alone, until a seek.
//
// fn may use the reader: what it was shown stays, and the run goes on from where the reader
// is then. After a seek, a Next or a Close by fn itself, Leave means Enough. Within another
// View's fn it must leave none.
func (r *Reader) ViewRun(most int, spin bool, fn func(*Message) (Verdict, error)) (shown int, err error) {
	ticket, ok := r.l.gate.enter()
	if !ok {
		return 0, ErrClosed
	}
	guard, finished := mmap.Protect(), false
	seen, lent := r.room(), r.lent
	defer func() {
		if !finished {
			r.takeBack(lent)
			r.l.breakOff(ticket, nil, guard, recover(), &err)
		}
	}()
	for verdict := More; verdict == More && shown < most && err == nil; {
		if r.l.gate.closed.Load() { // Close waits for this call, so not for many messages
			err = ErrClosed
			break
		}
		m, copied := seen, r.handed < len(r.run) || r.late != nil
		if copied { // Next took more than it handed out
			if m, err = r.NextSoon(false); m == nil {
				break
			}
		} else if !r.left && !r.plain(m) {
			if spin && shown == 0 {
				r.poll()
			}
			if ok, err = r.wanted(m); !ok {
				break
			}
		}
		used := r.used
		r.left, r.lent = false, true
		verdict, err = fn(m)
		r.takeBack(lent)
		if verdict == More && err == nil && r.batch && !copied && r.used == used {
			shown++
			verdict, err = r.viewRest(m, most, &shown, fn)
			continue
		}
		switch {
		case verdict != Leave || err != nil || r.used != used:
			shown++
		case copied:
			r.handed--
		default:
			r.left = true // the reader holds its segment, so it stays where it is
		}
	}
	finished = true
	mmap.Unprotect(guard)
	r.l.gate.exit(ticket)
	return shown, err
}

// viewRest is the loop of ViewRun for what is left of a batch of which fn was just shown a
// message: as long as fn does not use the reader, but for View, there is nothing else to
// think of. It counts in shown, up to most, as it goes, for fn may panic, and stops before the
// first that is not for it.
func (r *Reader) viewRest(m *Message, most int, shown *int, fn func(*Message) (Verdict, error)) (verdict Verdict, err error) {
	in, used, lent, closed := &r.inner, r.used, r.lent, &r.l.gate.closed
	for *shown < most && !closed.Load() {
		m.Seq = in.Seq()
		var ok bool
		if m.Time, m.Meta, m.Body, ok = in.ReadMessage(); !ok {
			break
		}
		r.lent = true
		verdict, err = fn(m)
		r.lent = lent
		if verdict == Leave && err == nil && r.used == used {
			r.left = true
			break
		}
		*shown++
		if verdict != More || err != nil || r.used != used {
			break
		}
	}
	r.takeBack(lent)
	return verdict, err
}

// room is where a message is put that is to be shown: apart, if another one is shown now.
func (r *Reader) room() *Message {
	if r.lent {
		return new(Message)
	}
	return &r.seen
}

// lend notes that fn of a View looks at what it was shown. It may use the reader meanwhile.
func (r *Reader) lend() (lent bool) {
	lent, r.lent = r.lent, true
	return lent
}

// takeBack ends what lend began, which returned lent.
func (r *Reader) takeBack(lent bool) {
	if r.lent = lent; !lent && len(r.kept) > 0 {
		r.giveBack()
	}
}

func (r *Reader) giveBack() {
	for _, s := range r.kept {
		r.l.table.leave(s)
	}
	r.kept = nil
}

// leave gives the reader's segment back: it is not unmapped while it is looked at.
func (r *Reader) leave() {
	if r.lent && r.s != nil {
		r.kept = append(r.kept, r.s)
		return
	}
	r.l.table.leave(r.s)
}
