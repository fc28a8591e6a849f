package history

import (
	"encoding/json"
	"fmt"
	"hash/crc32"
	"os"
	"sync"
)

// A Kind says what an event tells.
type Kind string

// The kinds of events.
const (
	Invoked Kind = "append"  // an append of Bodies was called
	Acked   Kind = "acked"   // it returned: the first of them is Seq
	Refused Kind = "refused" // it returned: nothing was appended, nor ever will be
	Started Kind = "start"   // a reader was made, behind Seq; or, with Anywhere, anywhere
	Got     Kind = "got"     // it got Bodies[0] as Seq
	Gap     Kind = "gap"     // it was told that Seq to To-1 were trimmed
)

// An Event is one line of a log.
type Event struct {
	Kind     Kind     `json:"k"`
	At       int64    `json:"t"`           // when it happened
	From     int64    `json:"f,omitempty"` // Got: when the read was called
	Op       int      `json:"o"`           // tells the appends and the readers of a log apart
	Bodies   []string `json:"b,omitempty"` // labels
	Seq      uint64   `json:"s,omitempty"`
	To       uint64   `json:"to,omitempty"`
	Anywhere bool     `json:"any,omitempty"`
	Durable  bool     `json:"d,omitempty"` // the reader asked for durable messages only
	Limit    uint64   `json:"l,omitempty"` // Got: up to here all was durable when the read had returned; 0: not looked
	Reason   string   `json:"r,omitempty"`
}

// labelBytes is how much of a body a label shows.
const labelBytes = 24

// Label stands for a body: its beginning, its length and a checksum, so that any
// torn byte shows and logs stay short.
func Label(body []byte) string {
	return fmt.Sprintf("%s#%d#%08x", body[:min(len(body), labelBytes)], len(body), crc32.ChecksumIEEE(body))
}

// A Recorder writes the log of one process. It is safe for concurrent use.
type Recorder struct {
	mu  sync.Mutex
	f   *os.File
	ops int
	err error // of the first write that failed
}

// Create begins a log in a new file.
func Create(path string) (*Recorder, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	return &Recorder{f: f}, nil
}

// Close ends the log, and tells if an event could not be written.
func (r *Recorder) Close() error {
	err := r.f.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return r.err
	}
	return err
}

// put writes an event at once, in one write: a killed process leaves whole lines,
// and at most a torn one at the end. stamp sets the time, next to the write.
func (r *Recorder) put(e Event, stamp bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if stamp {
		e.At = Now()
	}
	line, err := json.Marshal(e)
	if err == nil {
		_, err = r.f.Write(append(line, '\n'))
	}
	if r.err == nil {
		r.err = err
	}
}

func (r *Recorder) next() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ops++
	return r.ops
}

// An Appending is an append that was called and has not returned yet.
type Appending struct {
	r  *Recorder
	op int
}

// Append says that the bodies are appended now, as one batch if they are several.
// No two bodies of a history may be equal.
func (r *Recorder) Append(bodies ...[]byte) Appending {
	a := Appending{r, r.next()}
	labels := make([]string, len(bodies))
	for i, b := range bodies {
		labels[i] = Label(b)
	}
	r.put(Event{Kind: Invoked, Op: a.op, Bodies: labels}, true)
	return a
}

// Acked says that the append returned, with the number of its first message. The
// call had returned at the time at.
func (a Appending) Acked(first uint64, at int64) {
	a.r.put(Event{Kind: Acked, Op: a.op, Seq: first, At: at}, false)
}

// Refused says that the append returned, and that nothing was appended.
func (a Appending) Refused(reason string) {
	a.r.put(Event{Kind: Refused, Op: a.op, Reason: reason}, true)
}

// A Reading is what one reader sees.
type Reading struct {
	r       *Recorder
	op      int
	durable bool
}

// Start says that a reader begins behind the number after; 0 is the oldest message.
func (r *Recorder) Start(after uint64, durable bool) Reading {
	x := Reading{r, r.next(), durable}
	r.put(Event{Kind: Started, Op: x.op, Seq: after, Durable: durable}, true)
	return x
}

// StartAnywhere says that a reader begins somewhere, as at the newest message.
func (r *Recorder) StartAnywhere(durable bool) Reading {
	x := Reading{r, r.next(), durable}
	r.put(Event{Kind: Started, Op: x.op, Anywhere: true, Durable: durable}, true)
	return x
}

// Got says that the reader got a message by a read that was called at from and had
// returned at the time at. Up to limit everything was durable then; 0: nobody looked.
func (x Reading) Got(from, at int64, seq uint64, body []byte, limit uint64) {
	x.r.put(Event{Kind: Got, Op: x.op, From: from, At: at, Seq: seq, Bodies: []string{Label(body)}, Durable: x.durable, Limit: limit}, false)
}

// Gap says that the reader was told that the numbers from to to-1 were trimmed.
func (x Reading) Gap(from, to uint64) {
	x.r.put(Event{Kind: Gap, Op: x.op, Seq: from, To: to}, true)
}
