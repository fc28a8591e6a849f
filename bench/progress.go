package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// usual is about what one subject takes in one round of a work of that kind, beside the
// time that is measured, in seconds, on a machine with two processors: opening, closing,
// filling logs. Of those that read a log it is for a million messages.
var usual = map[string]struct {
	seconds float64
	timed   bool // Options.Time comes to it
	logs    bool // it goes with Options.Messages
	large   bool // it goes with Options.Large
}{
	"append": {seconds: 0.25, timed: true}, "latency": {seconds: 0.25, timed: true},
	"sync": {seconds: 0.3, timed: true}, "pipeline": {seconds: 0.5, timed: true},
	"replay": {seconds: 2, logs: true}, "group": {seconds: 0.7, timed: true},
	"producers": {seconds: 0.4, timed: true}, "stream": {seconds: 0.5, timed: true}, "roundtrip": {seconds: 0.5, timed: true},
	"open": {seconds: 1, large: true}, "seek": {seconds: 0.7, large: true}, "memory": {seconds: 1},
	"disk": {seconds: 1.5}, "floor": {seconds: 0.6, timed: true}, "pages": {seconds: 0.3}, "scale": {seconds: 2},
}

// severalProcesses are the works that a peer of one process has no part in.
var severalProcesses = []string{"producers", "stream", "roundtrip"}

const (
	leastTime = 100 * time.Millisecond // that makes a figure
	mostTime  = 2 * time.Second        // beyond it nothing gets steadier
)

// expected is about how long the work takes.
func (o Options) expected(w Work, chosen []Peer) time.Duration {
	fixed, timed := o.parts(w, chosen)
	return time.Duration(fixed*float64(time.Second)) + time.Duration(timed)*o.Time
}

// parts are the seconds of the work that do not depend on Options.Time, and how often
// that comes to them.
func (o Options) parts(w Work, chosen []Peer) (fixed float64, timed int) {
	subjects := len(w.Variants)
	if w.Limit != nil {
		subjects++
	}
	for _, p := range chosen {
		alone := p.OneProcess != "" && slices.Contains(severalProcesses, w.kind())
		if part, why := w.takesPart(p); part && why == "" && !alone {
			subjects++
		}
	}
	u := usual[w.kind()]
	seconds := u.seconds
	switch {
	case u.logs:
		seconds *= float64(o.Messages) / 1e6
	case u.large:
		seconds *= float64(o.Large) / 1e6
	}
	if u.timed {
		timed = subjects * o.Rounds
	}
	return seconds * float64(subjects*o.Rounds), timed
}

// timeWithin is Options.Time, or, if there is a budget, what of that is left for each
// measurement.
func (o Options) timeWithin(all []Work, chosen []Peer) (time.Duration, error) {
	if o.Budget == 0 {
		return o.Time, nil
	}
	fixed, timed := 0.0, 0
	for _, w := range all {
		f, t := o.parts(w, chosen)
		fixed, timed = fixed+f, timed+t
	}
	left := o.Budget - time.Duration(fixed*float64(time.Second))
	each := min(left/time.Duration(max(timed, 1)), mostTime).Round(10 * time.Millisecond)
	if each < leastTime {
		whole := time.Duration(fixed*float64(time.Second)) + leastTime*time.Duration(timed)
		return 0, fmt.Errorf("a budget of %v is too little for %d works: about %v are needed; choose some with -works, or shorter logs with -messages and -large",
			o.Budget, len(all), whole.Round(time.Minute))
	}
	return each, nil
}

// progress tells what was measured, and about how long it will take.
type progress struct {
	o        Options
	began    time.Time
	expected map[string]time.Duration
	whole    time.Duration // that all works are expected to take
	over     time.Duration // that those which are done were expected to take
	n, of    int
}

func newProgress(o Options, all []Work, chosen []Peer) *progress {
	p := &progress{o: o, began: time.Now(), expected: make(map[string]time.Duration), of: len(all)}
	for _, w := range all {
		p.expected[w.Name] = o.expected(w, chosen)
		p.whole += p.expected[w.Name]
	}
	o.talk("%s\n%s\n%d works, about %v", machine(), o.settings(), len(all), p.whole.Round(time.Minute))
	return p
}

// done shows the rows of a work.
func (p *progress) done(w Work, rows []*Row) {
	p.n++
	p.over += p.expected[w.Name]
	spent := time.Since(p.began)
	left := p.whole - p.over
	if p.over > 0 { // as the machine proves to be
		left = time.Duration(float64(left) * max(min(float64(spent)/float64(p.over), 4), 0.25))
	}
	var text strings.Builder
	if len(rows) > 0 {
		_ = printWork(&text, rows) // a builder takes all
	}
	p.o.talk("%s(%d of %d works, %v; about %v left)", text.String(), p.n, p.of, spent.Round(time.Second), left.Round(10*time.Second))
}

// keep writes what there is so far to the file of -out, so that a run that is ended
// leaves its figures.
func (o Options) keep(r *Report) (err error) {
	if o.Out == "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(o.Out), 0o755); err != nil {
		return err
	}
	var text strings.Builder
	if err := r.printJSON(&text); err != nil {
		return err
	}
	name := o.Out + ".json"
	if err := os.WriteFile(name+".new", []byte(text.String()), 0o644); err != nil {
		return err
	}
	return os.Rename(name+".new", name)
}
