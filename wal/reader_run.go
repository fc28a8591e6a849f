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
// each that is there until it says otherwise, or returns an error. It returns how many were
// shown, without one that was left. A reader that left one is for ViewRun alone, until a
// seek.
func (r *Reader) ViewRun(most int, fn func(*Message) (Verdict, error)) (shown int, err error) {
	ticket, ok := r.l.gate.enter()
	if !ok {
		return 0, ErrClosed
	}
	guard, finished := mmap.Protect(), false
	defer func() {
		if !finished {
			r.l.breakOff(ticket, nil, guard, recover(), &err)
		}
	}()
	for verdict := More; verdict == More && shown < most; {
		if !r.left && !r.plain(&r.seen) {
			if ok, err = r.wanted(&r.seen); !ok {
				break
			}
		}
		r.left = false
		if verdict, err = fn(&r.seen); err != nil {
			break
		}
		if verdict == Leave {
			r.left = true // the reader holds its segment, so it stays where it is
		} else {
			shown++
		}
	}
	finished = true
	mmap.Unprotect(guard)
	r.l.gate.exit(ticket)
	return shown, err
}
