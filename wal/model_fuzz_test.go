package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/walq/walq/internal/testx"
	"github.com/walq/walq/segment"
)

// The model of a queue is a slice: what was claimed, in the order of the log. A
// program of operations by several handles runs on both, one operation at a time,
// so the model knows every sequence number and every message that a reader must
// get next.

// An entry is one sequence number that was given out.
type entry struct {
	seq     uint64
	body    string
	state   entryState
	owner   *party   // of a claim
	end     Position // of its frame, if it was committed
	ordinal uint32   // of its segment
	acked   bool     // on stable storage
}

func (e *entry) String() string {
	if e == nil {
		return "nothing"
	}
	return fmt.Sprintf("message %d (%d bytes, segment %d)", e.seq, len(e.body), e.ordinal)
}

type entryState int

const (
	entryClaimed entryState = iota
	entryCommitted
	entryGone // padded, or its owner died
)

// A party is one handle with its reader and what it holds.
type party struct {
	l      *Log
	r      *Reader
	at     uint64 // the sequence number that the reader has to go on from
	claim  *InPlace
	filled *entry // of claim
}

const (
	parties   = 3
	maxOps    = 100 // of one input
	modelUnit = 150 // a body is so many bytes times a byte of the input
)

// The operations of a model program.
const (
	doAppend = iota
	doBatch
	doClaim
	doCommit
	doAbort
	doFill
	doFailToFill
	doRead
	doReadAll
	doSeek
	doSeekOldest
	doSeekLast
	doSync
	doTrim
	doReopen
	doDie
	doPowerCut
	doOps
)

var doNames = [doOps]string{
	"append", "batch", "claim", "commit", "abort", "fill", "fail to fill", "read", "read all", "seek", "seek oldest", "seek last",
	"sync", "trim", "reopen", "die", "power cut",
}

// A program is a model and the queue that it must be like.
type program struct {
	*testing.T
	dir     string
	input   []byte
	who     [parties]*party
	log     []*entry
	next    uint64 // the sequence number that is given out next, at least
	jumped  bool   // and maybe a higher one
	oldest  uint32 // ordinal of the oldest segment that is kept
	written int
}

// FuzzModel: any program of appends, batches, claims, reads, seeks, syncs, trims,
// closes, deaths and power cuts on several handles does to the queue what it does
// to a slice: one order for all, no sequence number twice, nothing acknowledged
// missing, every gap told.
func FuzzModel(f *testing.F) {
	f.Add([]byte{})
	every := make([]byte, 0, 3*doOps*parties)
	for who := range byte(parties) {
		for op := range byte(doPowerCut) {
			every = append(every, op|who<<6, 7, doAppend|(who+1)%parties<<6, 90)
		}
	}
	f.Add(every)
	f.Add([]byte{doAppend, 200, doAppend | 1<<6, 200, doAppend, 200, doAppend, 200, doSync, 0, doTrim, 3, doReadAll | 1<<6, 0, doReadAll, 0})
	f.Add([]byte{doClaim, 9, doAppend | 1<<6, 9, doDie, 0, doReadAll | 1<<6, 0, doAppend, 3, doReadAll | 2<<6, 0, doSync, 0})
	f.Add([]byte{doAppend, 9, doClaim, 9, doAppend, 3, doDie, 0, doReadAll | 1<<6, 0, doAppend | 1<<6, 3})
	f.Add([]byte{doAppend, 9, doSync, 0, doClaim, 9, doAppend | 1<<6, 9, doPowerCut, 0, doReadAll, 0, doAppend, 1, doReadAll | 1<<6, 0})
	f.Add([]byte{doBatch, 0xff, doClaim | 1<<6, 0xff, doBatch, 0xff, doCommit | 1<<6, 0, doFailToFill, 3, doReopen, 0, doSeekLast, 2, doReadAll, 0})
	f.Fuzz(func(t *testing.T, input []byte) {
		p := &program{T: t, dir: newQueue(t), input: input, next: 1, oldest: 1}
		create(t, p.dir, Options{}).Close()
		within(t, "the program", p.run)
	})
}

func (p *program) byte() (b byte) {
	if len(p.input) > 0 {
		b, p.input = p.input[0], p.input[1:]
	}
	return b
}

func (p *program) run() {
	defer p.end()
	for n := 0; len(p.input) > 0 && n < maxOps && !p.Failed(); n++ {
		op, arg := p.byte(), int(p.byte())
		do, who := int(op&0x3f)%doOps, int(op>>6)%parties
		p.Logf("%d: %s %d", who, doNames[do], arg)
		p.step(do, p.party(who), arg)
	}
	for i := range p.who { // whatever happened, all of them read the same
		w := p.party(i)
		p.seekOldest(w)
		p.read(w, len(p.log)+1)
	}
}

// end gives back what the program held.
func (p *program) end() {
	for i, w := range p.who {
		if w != nil {
			p.leave(w)
			p.who[i] = nil
		}
	}
	if !p.Failed() {
		wantSound(p, p.dir, -1)
	}
}

// party is that handle, opened if it is not.
func (p *program) party(i int) *party {
	if p.who[i] == nil {
		w := &party{l: open(p, p.dir, Options{StallTimeout: -1})} // only death revokes a claim
		r, err := w.l.NewReader(false)
		if err != nil {
			p.Fatal(err)
		}
		w.r, w.at, p.who[i] = r, p.firstKept(0), w
	}
	return p.who[i]
}

func (p *program) step(op int, w *party, arg int) {
	switch op {
	case doAppend:
		p.append(w, arg)
	case doBatch:
		p.batch(w, arg)
	case doClaim:
		p.claim(w, arg)
	case doCommit:
		p.commit(w)
	case doAbort:
		p.abort(w)
	case doFill, doFailToFill:
		p.fill(w, arg, op == doFailToFill)
	case doRead:
		p.read(w, 1+arg%8)
	case doReadAll:
		p.read(w, len(p.log)+1)
	case doSeek:
		p.seek(w, uint64(arg))
	case doSeekOldest:
		p.seekOldest(w)
	case doSeekLast:
		p.seekLast(w, arg%16)
	case doSync:
		p.sync(w)
	case doTrim:
		p.trim(w, uint64(arg))
	case doReopen:
		p.leave(w)
		p.forget(w)
	case doDie:
		p.die(w)
	case doPowerCut:
		p.powerCut()
	}
}

func (p *program) forget(w *party) { p.who[slices.Index(p.who[:], w)] = nil }

// text is a body that no other message has.
func (p *program) text(arg int) []byte {
	body := make([]byte, 8+arg*modelUnit)
	p.written++
	binary.LittleEndian.PutUint64(body, uint64(p.written))
	return body
}

// enter notes what was given out now, of which the model knows the number.
func (p *program) enter(body []byte, state entryState) *entry {
	e := &entry{seq: p.next, body: string(body), state: state}
	p.next++
	p.log = append(p.log, e)
	return e
}

// wantSeq fails unless an append got the number that the model says.
func (p *program) wantSeq(a Appended, entries ...*entry) {
	p.Helper()
	if p.jumped && a.Seq > entries[0].seq { // behind a power cut
		for i, e := range entries {
			e.seq = a.Seq + uint64(i)
		}
		p.next = a.Seq + uint64(len(entries))
	}
	p.jumped = false
	if a.Seq != entries[0].seq {
		p.Fatalf("got sequence number %d, want %d", a.Seq, entries[0].seq)
	}
	for _, e := range entries {
		e.end, e.ordinal = a.End, a.End.ordinal()
	}
}

func (p *program) append(w *party, arg int) {
	body := p.text(arg)
	a, err := w.l.Append(nil, body)
	if err != nil {
		p.Fatal(err)
	}
	p.wantSeq(a, p.enter(body, entryCommitted))
}

func (p *program) batch(w *party, arg int) {
	var parts []segment.Part
	var entries []*entry
	for i := range 1 + arg%4 {
		body := p.text(arg / 8)
		parts = append(parts, segment.Part{Body: body}, segment.Part{Control: true, Body: fmt.Append(nil, i)})
		entries = append(entries, p.enter(body, entryCommitted))
	}
	a, err := w.l.AppendBatch(parts)
	if err != nil {
		p.Fatal(err)
	}
	p.wantSeq(a, entries...)
}

// settleJump makes an append where the model does not know the next number, so
// that what gets one without telling it can be entered.
func (p *program) settleJump(w *party) {
	if p.jumped {
		p.append(w, 0)
	}
}

func (p *program) claim(w *party, arg int) {
	if w.claim != nil {
		return
	}
	p.settleJump(w)
	body := p.text(arg)
	c, err := w.l.ClaimInPlace(nil, len(body))
	if err != nil {
		p.Fatal(err)
	}
	copy(c.Bytes(), body)
	w.claim, w.filled = c, p.enter(body, entryClaimed)
	w.filled.owner = w
}

func (p *program) commit(w *party) {
	if w.claim == nil {
		return
	}
	a, err := w.claim.Commit()
	if err != nil {
		p.Fatal(err)
	}
	p.wantSeq(a, w.filled)
	w.filled.state = entryCommitted
	w.claim, w.filled = nil, nil
}

func (p *program) abort(w *party) {
	if w.claim == nil {
		return
	}
	w.claim.Abort()
	w.filled.state = entryGone
	w.claim, w.filled = nil, nil
}

func (p *program) fill(w *party, arg int, fail bool) {
	p.settleJump(w)
	body, bad := p.text(arg), errors.New("the caller's own")
	a, err := w.l.AppendFunc(nil, len(body), func(room []byte) error {
		copy(room, body)
		if fail {
			return bad
		}
		return nil
	})
	if fail {
		if !errors.Is(err, bad) {
			p.Fatalf("got %v, want the error of the caller", err)
		}
		p.enter(body, entryGone)
		return
	}
	if err != nil {
		p.Fatal(err)
	}
	p.wantSeq(a, p.enter(body, entryCommitted))
}

// settleClaims ends all claims, which those who wait would wait for.
func (p *program) settleClaims() {
	for _, w := range p.who {
		if w != nil {
			p.abort(w)
		}
	}
}

func (p *program) sync(w *party) {
	p.settleClaims()
	if err := w.l.Sync(p.Context()); err != nil {
		p.Fatal(err)
	}
	p.acknowledge()
}

func (p *program) acknowledge() {
	for _, e := range p.log {
		e.acked = e.acked || e.state == entryCommitted
	}
}

func (p *program) trim(w *party, before uint64) {
	n, err := w.l.Trim(p.Context(), before)
	if err != nil {
		p.Fatal(err)
	}
	former := p.oldest
	p.oldest += uint32(n)
	for _, e := range p.log {
		switch gone := e.ordinal >= former && e.ordinal < p.oldest; {
		case e.state == entryCommitted && gone && (e.seq >= before || e.end > w.l.ctl.durable()):
			p.Fatalf("message %d was trimmed by Trim(%d)", e.seq, before)
		case e.state == entryClaimed && e.seq < w.l.ctl.oldest():
			p.Fatalf("the claim of %d was trimmed", e.seq)
		}
	}
}

// leave closes a handle in order.
func (p *program) leave(w *party) {
	p.settleClaims() // of others: Close would wait for them
	w.r.Close()
	if err := w.l.Close(); err != nil {
		p.Errorf("Close: %v", err)
	}
	p.acknowledge()
}

// die makes a handle go as a killed process goes.
func (p *program) die(w *party) {
	w.r.Close()
	crash(p, w.l)
	if w.filled != nil {
		w.filled.state = entryGone
	}
	p.forget(w)
}

// powerCut ends every handle and the machine. Nothing that was written is lost
// here, but recovery ends the log at the first claim that nobody padded.
func (p *program) powerCut() {
	for _, w := range p.who {
		if w != nil {
			p.die(w)
		}
	}
	if !testx.Race {
		powerLoss(p, p.dir)
	}
	given := p.next
	p.jumped = true
	got := readAll(p, p.party(0).l)
	lost := false
	p.log = slices.DeleteFunc(p.log, func(e *entry) bool {
		body, found := got[e.seq]
		switch {
		case e.state != entryCommitted || e.ordinal < p.oldest:
		case found && (lost || body != e.body):
			p.Fatalf("message %d is there as another, or behind one that is not", e.seq)
		case !found && e.acked:
			p.Fatalf("message %d was acknowledged, and is not there after a power cut", e.seq)
		}
		lost = lost || e.state == entryCommitted && e.ordinal >= p.oldest && !found
		delete(got, e.seq)
		return lost
	})
	if len(got) > 0 {
		p.Fatalf("nobody wrote %d of the messages", len(got))
	}
	p.next = given
}
