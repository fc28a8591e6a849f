package wal

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/walq/walq/segment"
)

// The control file. What one wrong bit explains is corrected; what is worse is
// rebuilt from the other record, from the segments, or from what is safe.

// defaultSegmentSize is for a queue of which neither settings nor any segment is left.
const defaultSegmentSize = 64 << 20

func now() int64 { return time.Now().UnixNano() }

func (p *plan) fix(f segment.Fix) {
	copy(p.page[f.Offset:], f.Data)
	p.repaired(p.files.join(controlName), f.Offset, "%s", f.Reason)
}

func (p *plan) setWord(off int64, v uint64, format string, args ...any) {
	if p.word(off) != v {
		p.fix(fixControl(off, v, format, args...))
	}
}

func (p *plan) readControl() error {
	content, path, err := p.files.control()
	if err != nil && !isNotExist(err) {
		return err
	}
	p.page = make([]byte, controlBytes)
	copy(p.page, content)
	if err == nil {
		p.original = content
	}
	switch {
	case err != nil:
		p.reset = true
		p.repaired(path, 0, "the control file is missing; it is made anew from the segments")
	case len(content) != controlBytes:
		p.reset = len(content) < ctlWaiters
		p.repaired(path, int64(min(len(content), controlBytes)), "the control file has %d bytes, want %d", len(content), controlBytes)
	}
	if p.users, err = p.files.users(); err != nil {
		return err
	}
	if p.users.locked == noLockFile {
		p.repaired(p.files.join(lockName), 0, "the lock file is missing")
	}
	id, err := decodeIdentity(p.page, false)
	if err != nil {
		if mended, at, ok := mendIdentity(p.page); ok {
			id2, merr := decodeIdentity(mended, false)
			if errors.Is(merr, ErrVersion) {
				return fmt.Errorf("%s: %w", path, merr)
			}
			if merr == nil {
				p.fix(segment.Fix{Offset: at, Reason: err.Error() + "; one bit is wrong, and the checksum proves which", Data: mended[at : at+1]})
				id, err = id2, nil
			}
		} else if errors.Is(err, ErrVersion) && segment.HeaderSound(p.page) {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	p.queue, p.known = id.queue, err == nil
	return nil
}

// judgeControl finds out the identity and the records.
func (p *plan) judgeControl() error {
	if !p.known {
		if err := p.identify(); err != nil {
			return err
		}
	}
	// Bytes that nobody writes between the words say that more than a bit is wrong.
	p.reset = p.reset || !allZero(p.page[ctlTrimCheck+8:ctlSettled]) && !allZero(p.page[ctlPoisonLength+8:ctlIntentOwner])
	p.judgePower()
	for _, f := range reservedFixes(p.page) {
		p.fix(f)
	}
	if !p.powered { // else one of them may be torn, which the next opening mends
		before := bytes.Clone(p.page[ctlBoot : ctlBoot+2*recordSpacing])
		for _, f := range recordFixes(p.page) {
			p.fix(f)
		}
		p.judgeBoot(before)
	}
	p.judgeSettings()
	p.poisoned = p.word(ctlPoison) != 0 && !p.reset
	return nil
}

// identify rebuilds the identity from the segments.
func (p *plan) identify() error {
	votes, best, created := map[[16]byte]int{}, 0, now()
	for _, pc := range p.pieces {
		if !pc.sound {
			continue
		}
		votes[pc.h.Queue]++
		if votes[pc.h.Queue] > best {
			best, p.queue = votes[pc.h.Queue], pc.h.Queue
		}
		created = min(created, pc.h.Created)
	}
	if best == 0 {
		return fmt.Errorf("%s: %w: neither the control file nor any segment tells which queue it is", p.files.join(), ErrNotQueue)
	}
	page := make([]byte, identityBytes)
	encodeIdentity(page, identity{queue: p.queue, created: created})
	p.fix(segment.Fix{Reason: "the identity is damaged; it is rebuilt from the segments", Data: page})
	return nil
}

// judgePower tells whether the queue awaits recovery after a power loss.
func (p *plan) judgePower() {
	rec, _, _, err := newestRecord(p.page[ctlBoot:])
	if err != nil || p.reset {
		return
	}
	// A record that one bit makes invalid may be the one that counts.
	page := bytes.Clone(p.page)
	for _, f := range recordFixes(page) {
		if !allZero(f.Data) {
			copy(page[f.Offset:], f.Data)
		}
	}
	if rec, _, _, err = newestRecord(page[ctlBoot:]); err == nil {
		p.boot = decodeBoot(rec)
		p.powered = !p.boot.clean && p.boot.id != p.users.boot
		p.otherBoot = p.boot.id != p.users.boot
	}
}

// judgeBoot makes sure that a boot record counts which does not promise more than
// is known. before is what was there.
func (p *plan) judgeBoot(before []byte) {
	var epoch uint64
	for _, pc := range p.pieces {
		if pc.sound {
			epoch = max(epoch, pc.h.Epoch)
		}
	}
	reason := "the boot record that counted is lost; it is rebuilt so that the next opening checks everything"
	rec, generation, next, err := newestRecord(p.page[ctlBoot:])
	if err == nil {
		p.boot = decodeBoot(rec)
		erased := false // one that nobody can read any more may have been the newer one
		for at := 0; at < len(before); at += recordSpacing {
			erased = erased || !allZero(before[at:at+recordBytes]) && allZero(p.page[ctlBoot+at:ctlBoot+at+recordBytes])
		}
		switch {
		case erased:
			p.boot.clean = false
			p.boot.epoch = max(p.boot.epoch, epoch)
		case p.boot.locksElsewhere(p.users.boot, p.users.inodes):
			reason = "the lock file is not the one that was locked; nobody is taken to hold locks on that one any more"
		default:
			return
		}
		p.boot.inodes = inodes{}
	} else {
		// Not of this boot, and not clean: the next opening checks everything and
		// jumps.
		generation, next = 0, p.page[ctlBoot:ctlBoot+recordBytes]
		p.boot = boot{epoch: max(epoch, 1)}
	}
	data := make([]byte, recordBytes)
	encodeBoot(data, generation+1, p.boot)
	at := int64(ctlBoot)
	if err == nil && &next[0] != &p.page[ctlBoot] {
		at += recordSpacing
	}
	p.fix(segment.Fix{Offset: at, Reason: reason, Data: data})
}

// countAnew begins another epoch if messages are lost: groups of consumers count the
// messages of the log, and must not go on from a count in which the lost ones were.
func (p *plan) countAnew() error {
	if len(p.report.Ranges) == 0 {
		return nil
	}
	rec, generation, next, err := newestRecord(p.page[ctlBoot:])
	if err != nil {
		return nil // there is none that groups could have counted by
	}
	p.boot = decodeBoot(rec)
	p.boot.epoch++
	data := make([]byte, recordBytes)
	encodeBoot(data, generation+1, p.boot)
	at := int64(ctlBoot)
	if &next[0] != &p.page[ctlBoot] {
		at += recordSpacing
	}
	p.fix(segment.Fix{Offset: at, Reason: "messages are lost; a new epoch, so that groups count anew", Data: data})
	return nil
}

func (p *plan) judgeSettings() {
	rec, _, _, err := newestRecord(p.page[ctlSettings:])
	if err == nil {
		p.settings = decodeSettings(rec)
		if p.settings.Check() == nil {
			return
		}
	}
	p.settings = Settings{SegmentSize: defaultSegmentSize, Durability: SyncAlways}
	for _, pc := range p.pieces {
		if pc.sound {
			p.settings.SegmentSize = pc.h.Size
		}
	}
	p.settings.GroupAccess = p.files.groupAccess()
	both := make([]byte, 2*recordSpacing)
	encodeSettings(both[:recordBytes], 1, p.settings)
	p.fix(segment.Fix{Offset: ctlSettings, Reason: "the settings are lost; segment size and access are taken from the files, durability is always, and there are no limits", Data: both})
}

// judgeWords holds the shared words against the log as it will be.
func (p *plan) judgeWords() error {
	for _, f := range participantFixes(p.page) {
		p.fix(f)
	}
	p.poison()
	end := uint64(p.found.end)
	if p.reset {
		for _, w := range []struct {
			off int64
			v   uint64
		}{
			{ctlDurable, end}, {ctlDurableSeq, p.found.final.seq}, {ctlDurableFirst, p.found.final.first},
			{ctlSettled, end}, {ctlSettledFirst, p.found.final.first}, {ctlIntentOwner, standingIntent}, {ctlIntentEnd, 0},
			{ctlNewest, p.found.last}, {ctlTrimTo, 0}, {ctlTrimCheck, 0},
		} {
			putWord(p.page[w.off:], w.v)
		}
		p.syncAll = true
		return nil
	}
	if p.powered {
		// Recovery refuses a durable position that it does not meet.
		if _, ok := p.found.marks[Position(p.word(ctlDurable))]; !ok || Position(p.word(ctlDurable)) > p.found.end {
			p.atEnd("the durable position is not where a frame ends")
		}
		return nil
	}
	for _, f := range controlFixes(p.page, p.boot, p.found) {
		p.fix(f)
		if f.Offset == ctlDurable {
			p.atEnd("")
		}
	}
	return nil
}

// atEnd makes everything durable, which repair then has to make true.
func (p *plan) atEnd(reason string) {
	if reason != "" {
		p.setWord(ctlDurable, uint64(p.found.end), "%s", reason)
	}
	putWord(p.page[ctlDurableSeq:], p.found.final.seq)
	putWord(p.page[ctlDurableFirst:], p.found.final.first)
	putWord(p.page[ctlSettled:], uint64(p.found.end))
	putWord(p.page[ctlSettledFirst:], p.found.final.first)
	p.syncAll = true
}

// poison takes the poison away, on paper. The next sync doubts what the kernel
// was told before.
func (p *plan) poison() {
	state := p.word(ctlPoison)
	for _, f := range poisonFixes(p.page) {
		p.fix(f)
	}
	if state == 0 {
		return
	}
	clear(p.page[ctlPoison : ctlPoisonLength+8])
	clear(p.page[ctlPoisonReason : ctlPoisonReason+poisonReasonSize])
	putWord(p.page[ctlIntentOwner:], standingIntent)
}
