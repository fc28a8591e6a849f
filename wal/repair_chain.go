package wal

import (
	"fmt"

	"github.com/walq/walq/segment"
)

// The chain. A reader follows it from SEAL to header, so every repair must leave one
// that closes: what is lost in the middle is replaced by segments without a message
// that take its name, its ordinal and its sequence numbers.

// chain works out piece by piece what becomes of it. What turns out not to belong
// to the chain goes, and its predecessor is judged again without it.
func (p *plan) chain() error {
	for i := 0; i < len(p.pieces); {
		pc := p.pieces[i]
		if !pc.sound && p.powered && i > 0 && p.pieces[i-1].h.Ordinal >= Position(p.word(ctlDurable)).ordinal() {
			p.pieces = p.pieces[:i] // made, but not on disk, when the power went
			continue
		}
		if !pc.sound {
			ok, err := p.rebuild(i)
			if err != nil {
				return err
			}
			if !ok {
				p.drop(i, "nothing in it can be read")
				i = max(i-1, 0)
				continue
			}
		}
		if i+1 < len(p.pieces) && p.pieces[i+1].sound && !canFollow(pc, p.pieces[i+1]) {
			p.unchain(i + 1)
			continue
		}
		if err := p.salvage(i); err != nil {
			return err
		}
		if next := i + 1; next < len(p.pieces) {
			n := p.pieces[next]
			switch {
			case pc.s.CutShort:
				p.pieces = p.pieces[:next] // recovery moves the rest aside
			case pc.s.Mismatch, n.sound && n.h.Ordinal == pc.h.Ordinal+1 && n.h.PrevEnd != pc.s.End.Seq:
				p.unchain(next)
				continue
			}
		}
		i++
	}
	if len(p.pieces) == 0 {
		return p.fresh()
	}
	if err := p.tail(); err != nil {
		return err
	}
	if err := p.fillGaps(); err != nil {
		return err
	}
	for _, pc := range p.pieces {
		p.settle(pc)
	}
	return nil
}

// canFollow reports whether n can come behind pc in the chain, at once or later.
func canFollow(pc, n *piece) bool {
	if n.h.Ordinal == pc.h.Ordinal+1 {
		return n.h.PrevFirst == pc.first && (n.first == jumpFrom(n.h.PrevEnd) || n.first == max(n.h.PrevEnd, pc.first+1))
	}
	return n.h.Ordinal > pc.h.Ordinal && n.h.PrevFirst > pc.first && n.h.PrevFirst < n.first
}

// unchain takes out the piece i, which does not follow on the one before. After a
// power loss that is how the log ends.
func (p *plan) unchain(i int) {
	if p.powered {
		p.pieces = p.pieces[:i]
		return
	}
	p.drop(i, "it does not follow on the segment before it")
}

// drop moves the piece i aside.
func (p *plan) drop(i int, reason string) {
	pc := p.pieces[i]
	p.repaired(p.path(pc.first), 0, "%s; it is moved aside", reason)
	p.changes = append(p.changes, &change{first: pc.file, gone: true})
	if i == 0 && len(p.pieces) > 1 {
		next := p.pieces[1]
		end := next.first
		if next.sound && next.h.PrevFirst == pc.first {
			end = next.h.PrevEnd
		}
		p.lost(p.path(pc.first), pc.first, end-pc.first, 0, false, reason)
		p.setWord(ctlOldest, next.first, "the segment with the oldest messages is lost")
	}
	if i == len(p.pieces)-1 {
		p.cutOff = max(p.cutOff, pc.first+1)
	}
	p.pieces = append(p.pieces[:i:i], p.pieces[i+1:]...)
}

// expect says how the piece i must end.
func (p *plan) expect(i int) segment.SalvageOptions {
	pc := p.pieces[i]
	o := segment.SalvageOptions{End: segment.Seal}
	durable := Position(p.word(ctlDurable))
	for _, want := range p.found.wanted {
		if want.ordinal() == pc.h.Ordinal {
			o.Marks = append(o.Marks, want.off())
		}
	}
	switch {
	case p.reset:
	case pc.h.Ordinal == durable.ordinal():
		o.DurableOff = durable.off()
	case pc.h.Ordinal < durable.ordinal():
		o.DurableOff = pc.h.Size
	}
	if p.powered && pc.h.Ordinal >= durable.ordinal() {
		o.Cut, o.CutFrom = true, o.DurableOff
		return o
	}
	if i+1 == len(p.pieces) {
		return o
	}
	o.Sealed = true
	n := p.pieces[i+1]
	if n.sound && n.h.Ordinal == pc.h.Ordinal+1 {
		o.Known, o.Until = true, n.h.PrevEnd
		if n.first == jumpFrom(o.Until) {
			o.End = segment.SealJump
		}
		return o
	}
	// Of a successor that is missing, or cannot be read, the name is known at
	// least: from itself, or if it is only one from the segment behind.
	name := n.first
	if n.sound && n.h.Ordinal == pc.h.Ordinal+2 {
		name = n.h.PrevFirst
	} else if n.sound {
		return o
	}
	switch {
	case name&(1<<32-1) == 0 && name == jumpFrom(pc.first):
		o.End = segment.SealJump // behind which sequence number, it does not tell
	case name > pc.first+1: // else it may be that of one that took no number
		o.Known, o.Until = true, name
	}
	return o
}

// salvage goes over the frames of the piece i and judges what surrounds them.
func (p *plan) salvage(i int) error { return p.salvageAs(p.pieces[i], p.expect(i)) }

func (p *plan) salvageAs(pc *piece, o segment.SalvageOptions) error {
	image, err := p.load(pc)
	if err != nil {
		return err
	}
	for _, f := range pc.fixes {
		copy(image.Bytes(f.Offset, int64(len(f.Data))), f.Data)
	}
	s := segment.ImageOf(image, pc.h)
	if s == nil {
		return fmt.Errorf("%s: a file of %d bytes cannot hold a segment of %d: %w", p.path(pc.file), image.Len(), pc.h.Size, ErrBeyondRepair)
	}
	if pc.s, err = s.Salvage(p.ctx, o); err != nil {
		return err
	}
	pc.size = max(image.Len(), pageUp(pc.s.End.Off+segment.SealBytes))
	for _, f := range pc.s.Fixes {
		pc.size = max(pc.size, pageUp(f.Offset+int64(len(f.Data))))
	}
	pc.around = s.Reserved()
	if !p.powered {
		for _, f := range pc.s.Trace.Fixes(pc.s.End, pc.s.Word, pc.bytes) {
			if !(p.otherBoot && pc.s.Word == 0 && f.IsAllocated()) {
				pc.around = append(pc.around, f)
			}
		}
	}
	if f, wrong := pc.s.Trace.CountPads(); wrong && len(pc.s.Fixes) > 0 {
		pc.around = append(pc.around, f)
	}
	if len(pc.fixes)+len(pc.around)+len(pc.s.Fixes) > 0 && pc.size != pc.bytes {
		pc.around = append(pc.around, segment.Allocate(pc.size)) // over what Trace made of it
	}
	p.hinted = 0
	if c := s.Tail(); c.Off > pc.s.End.Off {
		p.hinted = c.Seq
	}
	pc.s.Trace = nil // it holds the image
	return nil
}

func pageUp(n int64) int64 { return (n + 4095) &^ 4095 }

// tail asks whether there was more behind the end of the last piece. One word that
// says so may be the one that is wrong; two cannot be.
func (p *plan) tail() error {
	pc := p.pieces[len(p.pieces)-1]
	if pc.s.CutShort || p.reset && p.cutOff == 0 {
		return nil
	}
	end, witnesses := makePosition(pc.h.Ordinal, pc.s.End.Off), 0
	for _, off := range []int64{ctlDurable, ctlSettled, ctlIntentEnd} {
		if at := Position(p.word(off)); at > end && at.ordinal()-pc.h.Ordinal < maxFillers && at.off() < pc.h.Size {
			witnesses++
		}
	}
	proven := max(p.cutOff, p.hinted)
	if p.hinted > 0 { // a place bears a check
		witnesses += 2
	}
	if seq := p.word(ctlDurableSeq); seq > pc.s.End.Seq && seq-pc.s.End.Seq < 1<<34 { // two jumps at most
		witnesses++
		proven = max(proven, seq)
	}
	if witnesses < 2 && p.cutOff == 0 {
		return nil
	}
	o := p.expect(len(p.pieces) - 1)
	o.Cut, o.Proven = false, max(proven, pc.s.End.Seq+1)
	if err := p.salvageAs(pc, o); err != nil {
		return err
	}
	return p.jumpBeyond(o.Proven)
}

// jumpBeyond adds segments without messages until the next number that is given out
// is one that never was. Numbers up to proven were, and it may be up to 2^32 more:
// a jump from proven is beyond them, one from below it need not be.
func (p *plan) jumpBeyond(proven uint64) error {
	for n := 0; ; n++ {
		pc := p.pieces[len(p.pieces)-1]
		if pc.s.End.Seq >= proven {
			return nil
		}
		f := &piece{filler: true, sound: true, listed: listed{first: successorName(pc.first, pc.s.End, pc.s.Word)}}
		f.h = segment.Header{
			Size: pc.h.Size, Ordinal: pc.h.Ordinal + 1, First: f.first, Epoch: pc.h.Epoch, PrevFirst: pc.first, PrevEnd: pc.s.End.Seq,
			Durable: pc.h.Durable, Salt: newSalt(), Created: pc.h.Created, Queue: p.queue,
		}
		count := uint64(0)
		if proven > f.first {
			count = proven - f.first
		}
		if f.content = segment.NewFiller(f.h, count, segment.SealJump); f.content == nil {
			count = 0
			f.content = segment.NewFiller(f.h, 0, segment.SealJump)
		}
		if f.first <= pc.first || f.h.Ordinal == 0 || n == 64 {
			return fmt.Errorf("%s: the log ends at sequence number %d, but %d was given out: %w", p.path(pc.first), pc.s.End.Seq, proven-1, ErrBeyondRepair)
		}
		f.size = int64(len(f.content))
		f.s.End = segment.Cursor{Off: segment.FillerEnd(f.h, count), Seq: f.first + count}
		f.s.Final, f.s.Word = f.s.End, segment.MakeWord(segment.SealJump, 0, 0, 0)
		p.repaired(p.path(f.first), 0, "the segments that followed are lost; one without messages stands in for them, and sequence numbers jump")
		p.lost(p.path(f.first), f.first, max(count, 1), 0, true, "the segments that followed are lost")
		p.pieces = append(p.pieces, f)
	}
}

// fillGaps puts segments without messages where some are missing.
func (p *plan) fillGaps() error {
	whole := p.pieces[:1:1]
	for _, n := range p.pieces[1:] {
		pc := whole[len(whole)-1]
		for missing := n.h.Ordinal - pc.h.Ordinal - 1; missing > 0; missing-- {
			filler, err := p.fill(whole[len(whole)-1], n, missing)
			if err != nil {
				return err
			}
			whole = append(whole, filler)
		}
		if pc = whole[len(whole)-1]; pc.s.End.Seq != n.h.PrevEnd || successorName(pc.first, pc.s.End, pc.s.Word) != n.first {
			return fmt.Errorf("%s does not follow on %s, sealed at sequence number %d: %w", p.path(n.first), p.path(pc.first), pc.s.End.Seq, ErrBeyondRepair)
		}
		whole = append(whole, n)
	}
	p.pieces = whole
	return nil
}

// maxFillers bounds what a hostile header can ask for.
const maxFillers = 1 << 16

// fill makes the segment behind pc, one of so many that are missing before n.
func (p *plan) fill(pc, n *piece, missing uint32) (*piece, error) {
	f := &piece{filler: true, sound: true, listed: listed{first: successorName(pc.first, pc.s.End, pc.s.Word)}}
	f.h = segment.Header{
		Size: n.h.Size, Ordinal: pc.h.Ordinal + 1, First: f.first, Epoch: pc.h.Epoch, PrevFirst: pc.first, PrevEnd: pc.s.End.Seq,
		Durable: n.h.Durable, Salt: newSalt(), Created: pc.h.Created, Queue: p.queue,
	}
	if pc.s.Word.State() == segment.SealJump {
		f.h.Epoch++
	}
	end, next, state := n.h.PrevEnd, n.first, segment.Seal
	switch {
	case missing == 2:
		next, end = n.h.PrevFirst, n.h.PrevFirst
	case missing > 2:
		next, end = f.first+1, f.first+1
	}
	switch {
	case missing == 1 && f.first == n.h.PrevFirst && next == jumpFrom(end):
		state = segment.SealJump
	case missing == 2 && next == jumpFrom(f.first):
		end, state = f.first, segment.SealJump
	}
	image := []byte(nil)
	if end >= f.first && missing <= maxFillers && (missing > 1 || f.first == n.h.PrevFirst) && next > f.first {
		image = segment.NewFiller(f.h, end-f.first, state)
	}
	if image == nil {
		return nil, fmt.Errorf("between %s and %s there are %d segments missing, which nothing can stand in for: %w", p.path(pc.first), p.path(n.first), missing, ErrBeyondRepair)
	}
	f.content, f.size = image, int64(len(image))
	f.s = segment.Salvage{End: segment.Cursor{Off: segment.FillerEnd(f.h, end-f.first), Seq: end}, Word: segment.MakeWord(state, 0, 0, 0)}
	f.s.Final = f.s.End
	p.repaired(p.path(f.first), 0, "the segment is missing; one without messages stands in for it")
	p.lost(p.path(f.first), f.first, end-f.first, 0, false, "the segment is missing")
	return f, nil
}

// fresh begins the log anew where nothing of it is left.
func (p *plan) fresh() error {
	highest := max(p.word(ctlDurableSeq), p.word(ctlOldest), p.cutOff)
	if all, err := p.files.segments(); err != nil && !isNotExist(err) {
		return err
	} else if len(all) > 0 {
		highest = max(highest, all[len(all)-1].first)
	}
	h := segment.Header{
		Size: p.settings.SegmentSize, Ordinal: max(Position(p.word(ctlDurable)).ordinal(), 1) + 1, First: jumpFrom(highest), Epoch: p.boot.epoch + 1,
		Salt: newSalt(), Created: now(), Queue: p.queue,
	}
	if h.First <= highest || h.Ordinal == 0 {
		return fmt.Errorf("%s: no sequence numbers are left: %w", p.files.join(), ErrBeyondRepair)
	}
	f := &piece{filler: true, sound: true, h: h, listed: listed{first: h.First}, content: segment.NewFiller(h, 0, segment.Free)}
	f.size = int64(len(f.content))
	f.s.End = segment.Cursor{Off: segment.DataStart(h.Size), Seq: h.First}
	f.s.Final = f.s.End
	oldest := p.word(ctlOldest)
	p.lost(p.files.join(logName), oldest, max(p.word(ctlDurableSeq), oldest+1)-oldest, 0, true, "nothing of the log is left")
	p.repaired(p.path(f.first), 0, "nothing of the log is left; it begins anew")
	p.setWord(ctlOldest, f.first, "nothing of the log is left")
	p.reset = true
	p.pieces = []*piece{f}
	p.settle(f)
	return nil
}

// settle makes a change of what is to be done to a piece, and remembers what the
// control file is held against.
func (p *plan) settle(pc *piece) {
	path := p.path(pc.first)
	fixes := append(append(append([]segment.Fix(nil), pc.fixes...), pc.s.Fixes...), pc.around...)
	for _, f := range fixes {
		p.repaired(path, f.Offset, "%s", f.Reason)
	}
	for _, l := range pc.s.Lost {
		p.lost(path, l.First, l.Count, l.Offset, l.AtLeast, l.Reason)
	}
	p.report.Messages += pc.s.Messages
	anew := p.poisoned && !pc.filler && pc.h.Ordinal >= Position(p.word(ctlDurable)).ordinal()
	if anew {
		p.repaired(path, 0, "a sync of it may have failed; it is written anew")
	}
	if len(fixes) > 0 || anew || pc.filler || pc.first != pc.file {
		p.changes = append(p.changes, &change{first: pc.first, content: pc.content, from: pc.file, fixes: fixes, bytes: pc.size, made: pc.filler || pc.first != pc.file})
	}
	p.found.last = pc.first
	for off, seq := range pc.s.Marks {
		p.found.marks[makePosition(pc.h.Ordinal, off)] = mark{seq, pc.first}
	}
	if !p.found.stopped {
		p.found.end, p.found.final = makePosition(pc.h.Ordinal, pc.s.Final.Off), mark{pc.s.Final.Seq, pc.first}
	}
	p.found.stopped = p.found.stopped || pc.s.Final != pc.s.End
}
