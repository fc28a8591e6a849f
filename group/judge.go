package group

import (
	"bytes"
	"errors"
	"fmt"
	"math"

	"github.com/walq/walq/internal/crc32c"
)

const (
	handedOutAgain = "messages that were finished may be handed out again"
	howToRemove    = "it cannot be mended: remove the group with `walq group rm`, and begin it anew from a place that you choose"
)

func (x *Inspection) find(fix fix, off int64, means, reason string, args ...any) {
	x.Findings = append(x.Findings, Finding{x.Path, off, fmt.Sprintf(reason, args...), means, fix})
}

func (x *Inspection) word(off int64) uint64 { return x.image.Word(off).Load() }

// judge holds what was read against what must be true of it.
func (x *Inspection) judge() error {
	x.list()
	if err := x.identity(); err != nil || x.file == nil {
		return err
	}
	x.settings()
	x.checkpoints()
	x.entries()
	x.delayMark()
	if b, ok := x.inForce(); ok && !x.scene.InUse && !x.scene.PowerLoss && b.Boot == x.scene.Boot && b.Epoch == x.scene.Epoch {
		x.ring(&Ring{x.image, uint64(x.file.Entries), b})
	}
	return nil
}

func (x *Inspection) identity() error {
	page := x.image.Bytes(0, identityBytes)
	id, err := decodeIdentity(page)
	if err != nil {
		if errors.Is(err, ErrVersion) && identityDiffers(page) == 0 {
			return fmt.Errorf("%s: %w", x.Path, err)
		}
		bit, ok := wrongBit(page)
		if !ok {
			x.find(unmendable, 0, "nobody can open the group; "+howToRemove, "%v", err)
			return nil
		}
		page[bit/8] ^= 1 << (bit % 8)
		if id, err = decodeIdentity(page); err != nil {
			return fmt.Errorf("%s: %w", x.Path, err)
		}
		x.find(fixBit, int64(bit/8), "nobody can open the group", "one bit of the identity is wrong, and the checksum proves which")
	}
	if x.scene.Queue != [16]byte{} && id.Queue != x.scene.Queue {
		x.find(unmendable, grpQueue, "nobody can open the group; take the file back to where it belongs, or remove the group with `walq group rm`", "it belongs to another queue, %s", uuid(id.Queue[:]))
	}
	want := FileBytes(id.Entries)
	if x.size != want {
		x.find(fixSize, min(x.size, want), "nobody can open the group; "+handedOutAgain, "it has %d bytes, want %d", x.size, want)
	}
	if x.image.Len() != want {
		x.resize(want)
	}
	x.file = &File{Identity: id, r: x.image}
	return nil
}

// wrongBit finds the one bit of an identity that is wrong, if it is one.
func wrongBit(page []byte) (bit int, ok bool) {
	try := func(bit int) bool {
		page[bit/8] ^= 1 << (bit % 8)
		_, err := decodeIdentity(page)
		page[bit/8] ^= 1 << (bit % 8)
		return err == nil
	}
	for bit := grpChecksum * 8; bit < (grpChecksum+4)*8; bit++ {
		if try(bit) {
			return bit, true
		}
	}
	// A checksum is linear: what a bit makes of it depends only on how far it is from
	// the end.
	raw := func(sum uint32, b byte) uint32 { return ^crc32c.Update(^sum, []byte{b}) }
	var makes [8]uint32
	for i := range makes {
		makes[i] = raw(0, 1<<i)
	}
	differs := identityDiffers(page)
	for at := grpChecksum - 1; at >= 0; at-- {
		for i := range makes {
			if makes[i] == differs && try(at*8+i) {
				return at*8 + i, true
			}
			makes[i] = raw(makes[i], 0)
		}
	}
	return 0, false
}

// damaged reports whether a record holds something that is no record. What was being
// written when the power went is none, and no damage.
func (x *Inspection) damaged(off, n int64) bool {
	rec := x.image.Bytes(off, n)
	return !x.scene.PowerLoss && !empty(rec) && !sealed(rec)
}

func (x *Inspection) settings() {
	good := 0
	for off := int64(grpSettings); off < grpBase; off += settingsSpacing {
		if rec := x.image.Bytes(off, settingsBytes); sealed(rec) {
			if _, err := decodeSettings(rec); err == nil {
				good++
				continue
			}
		} else if !x.damaged(off, settingsBytes) {
			continue
		}
		x.find(fixSettings, off, "the other record counts, and may be the older one", "a record of the settings is damaged")
	}
	if good == 0 {
		x.Findings = withoutFix(x.Findings, fixSettings)
		x.find(fixDefaults, grpSettings, "nobody can open the group; its lease, limits, back-off and dead-letter queue are lost, and have to be set again", "neither record of the settings is valid")
	}
}

func withoutFix(all []Finding, not fix) (left []Finding) {
	for _, f := range all {
		if f.fix != not {
			left = append(left, f)
		}
	}
	return left
}

func (x *Inspection) checkpoints() {
	for off := int64(grpCheckpoint); off < grpCheckpoint+2*recordSpacing; off += recordSpacing {
		if x.damaged(off, recordBytes) {
			x.find(fixRecord, off, "the other record counts; after a power loss "+handedOutAgain, "a record of a checkpoint is damaged")
		}
	}
}

// inForce judges the records of the base. ok: b counts now.
func (x *Inspection) inForce() (b Base, ok bool) {
	counts := x.word(grpGeneration)
	var valid []Base
	var bad []int64
	for off := int64(grpBase); off < grpBase+2*recordSpacing; off += recordSpacing {
		if rec := x.image.Bytes(off, recordBytes); validRecord(rec) {
			valid = append(valid, decodeBase(rec))
		} else if !empty(rec) {
			bad = append(bad, off)
		}
	}
	if len(valid) == 2 && valid[0].Generation < valid[1].Generation {
		valid[0], valid[1] = valid[1], valid[0]
	}
	switch {
	case len(valid) == 0, counts > valid[0].Generation && len(bad) > 0:
		off := int64(grpBase)
		if len(bad) > 0 {
			off = bad[0]
		}
		fix, means := fixFromCheck, "nobody can use the group; it has to begin anew from its last checkpoint, and "+handedOutAgain
		if _, ok := x.lastCheckpoint(); !ok {
			fix, means = unmendable, "nobody can use the group, and no checkpoint says how far it was; "+howToRemove
		}
		x.find(fix, off, means, "the record of the base in force is damaged")
		return b, false
	case counts > valid[0].Generation, counts < valid[0].Generation && !x.scene.PowerLoss && valid[0].Boot == x.scene.Boot && len(bad) == 0 &&
		(len(valid) == 1 || counts != valid[1].Generation):
		x.find(fixForce, grpGeneration, "nobody can use the group, or messages may be passed over", "the base in force is said to be that of generation %d, of which there is no record", counts)
		return b, false
	}
	if len(bad) > 0 && !x.scene.PowerLoss {
		x.find(fixRecord, bad[0], "the other record counts; "+handedOutAgain, "a record of a base is damaged")
	}
	return valid[0], counts == valid[0].Generation
}

// lastCheckpoint is the sequence number below which all was finished by the base in
// force, or one newer than that.
func (x *Inspection) lastCheckpoint() (seq uint64, ok bool) {
	var of uint64
	for off := int64(grpCheckpoint); off < grpCheckpoint+2*recordSpacing; off += recordSpacing {
		rec := x.image.Bytes(off, recordBytes)
		if s, base := decodeCheckpoint(rec); validRecord(rec) && base >= x.word(grpGeneration) && base >= of && base < math.MaxUint64-3 {
			if base > of {
				seq, of = 0, base
			}
			seq, ok = max(seq, s), true
		}
	}
	return seq, ok
}

// mostEntries is how many entries are told of one by one.
const mostEntries = 20

// badEntry notes that an entry is damaged.
func (x *Inspection) badEntry(i uint64, reason string, args ...any) {
	if x.bad[i] {
		return
	}
	if x.bad == nil {
		x.bad = map[uint64]bool{}
	}
	x.bad[i] = true
	const means = "the group may stop here, or go wrong about a message; that may be handed out again"
	off := grpRing + int64(i)*entryBytes
	switch n := len(x.bad); {
	case n <= mostEntries:
		x.find(fixEntry, off, means, "entry %d: "+reason, append([]any{i}, args...)...)
	case n == mostEntries+1:
		x.find(fixEntry, off, means, "and more entries")
	}
}

// entries judges the words of the entries by themselves.
func (x *Inspection) entries() {
	held := min(uint64(x.file.Entries), uint64(max(x.size-grpRing, 0))/entryBytes)
	for i := range held {
		switch w := Word(x.word(grpRing + int64(i)*entryBytes + entryWord)); {
		case w.State() > Moved:
			x.badEntry(i, "a state of %d", w.State())
		case w.State().Done() && w != finishedWord(w.lap()).in(w.State()):
			x.badEntry(i, "it is finished, and says more than its lap: %#x", uint64(w))
		case w.State() != Leased && w.State() != Moving && w.Owner() != Owner{}:
			x.badEntry(i, "it is %v, and has an owner: %#x", w.State(), uint64(w))
		}
	}
}

// delayMark judges whether the group knows of its delay file. The mark is set before there
// is anything in it; after a power loss it may be of an earlier moment.
func (x *Inspection) delayMark() {
	missing, sound := x.delayFile()
	newest, _, _, nerr := newestRecord(x.image.Bytes(grpBase, 2*recordSpacing), recordBytes, recordSpacing)
	settled := nerr == nil && !x.scene.PowerLoss && decodeBase(newest).Boot == x.scene.Boot
	switch v := x.word(grpDelays); {
	case v > 1:
		x.find(fixDelays, grpDelays, "nothing, but that it may be another number next", "the mark of the delay file is %d, want 0 or 1", v)
	case v == 1 && missing:
		x.find(fixDelays, grpDelays, "nobody can use the group; if it had delayed messages, they are lost", "the file of its delayed messages is missing")
	case v == 0 && !missing && sound && settled && !empty(x.delays[min(identityBytes, len(x.delays)):]):
		x.find(fixDelays, grpDelays, "its delayed messages are forgotten", "it is said to have no delayed messages, and there is a file of them")
	}
}

// delayFile tells what is known of the delay file. One whose identity is damaged may be
// the group's.
func (x *Inspection) delayFile() (missing, sound bool) {
	id, err := decodeDelayIdentity(append(bytes.Clone(x.delays[:min(len(x.delays), identityBytes)]), make([]byte, identityBytes)...))
	return len(x.delays) == 0 || err == nil && (id.Queue != x.file.Queue || id.Created != x.file.Created), err == nil
}

// ring judges the floor, and the entries by it.
func (x *Inspection) ring(ring *Ring) {
	passed := x.passed(ring)
	floor, first := ring.Floor(), ring.Base.Ordinal
	switch {
	case floor == first:
	case floor < first, floor > math.MaxUint64-2*ring.entries, floor-1-first > ring.at(floor-1, entrySeq).Load()&maxDistance, // an ordinal is a message
		Word(ring.at(floor-1, entryWord).Load()) != finishedWord(ring.lap(floor-1)), ring.at(floor-1, entrySeq).Load()>>distBits != ring.lap(floor-1):
		x.find(fixFloor, grpFloor, "nobody can join the group, or messages may be passed over", "the floor is at %d of a base that begins at %d, and does not go with the entry before it", floor, first)
		return
	}
	o := order{x: x, ring: ring}
	for n := max(first, floor-min(floor, ring.entries)); n < floor; n++ {
		if w, v := Word(ring.at(n, entryWord).Load()), ring.at(n, entrySeq).Load(); w == finishedWord(ring.lap(n)) && v>>distBits == ring.lap(n) {
			o.next(n, v&maxDistance) // nobody had the next one here yet
		}
	}
	for n := floor; n < floor+ring.Window(); n++ {
		w, v := Word(ring.at(n, entryWord).Load()), ring.at(n, entrySeq).Load()
		i, lap, distance := n&(ring.entries-1), ring.lap(n), v&maxDistance
		switch {
		case w.State() == Finished && w.lap() == (lap-1)&(1<<lapBits-1): // nobody had it yet
		case w.lap() != lap:
			x.badEntry(i, "lap %d, want %d", w.lap(), lap)
		case v>>distBits != lap && w.State() == Finished:
			x.badEntry(i, "it is finished, and says not which message it was")
		case v>>distBits != lap: // its holder has not come that far
		case distance < passed:
			x.find(fixPassed, grpPassed, "messages may be passed over", "everything before message %d is said to be finished, and message %d is still in flight", ring.Base.Seq+passed, ring.Base.Seq+distance)
			passed = 0
		default:
			o.next(n, distance)
		}
	}
}

// An order is of ordinals, and so of their messages.
type order struct {
	x        *Inspection
	ring     *Ring
	last     uint64 // ordinal
	distance uint64 // its message's
	known    bool
}

// next holds the message of the next ordinal against that of the one before.
func (o *order) next(n, distance uint64) {
	index := func(n uint64) uint64 { return n & (o.ring.entries - 1) }
	seq := o.ring.Base.Seq + distance
	switch {
	case o.known && distance < o.distance+n-o.last:
		o.x.badEntry(index(o.last), "its message is not before that of the next one")
		o.x.badEntry(index(n), "its message is not behind that of the entry before")
	case o.x.scene.Next != 0 && seq >= o.x.scene.Next:
		o.x.badEntry(index(n), "its message is %d, and the log ends at %d", seq, o.x.scene.Next)
	default:
		o.last, o.distance, o.known = n, distance, true
	}
}

// passed judges what was passed, and the checkpoints, by the end of the log, and returns
// how far that is from the base.
func (x *Inspection) passed(ring *Ring) (distance uint64) {
	const passedOver = "messages may be passed over"
	v := ring.word(grpPassed).Load()
	seq := ring.Base.Seq + v&(1<<passedBits-1)
	switch {
	case !ring.isOurs(v):
		x.find(fixPassed, grpPassed, "nobody can join the group", "what was passed is of a base of generation %d, not %d, modulo 2^16", v>>passedBits, ring.Base.Generation)
	case ring.isOurs(v) && x.scene.Next != 0 && seq > x.scene.Next:
		x.find(fixPassed, grpPassed, passedOver, "everything before message %d is said to be finished, and the log ends at %d", seq, x.scene.Next)
	case ring.isOurs(v):
		distance = seq - ring.Base.Seq
	}
	for off := int64(grpCheckpoint); off < grpCheckpoint+2*recordSpacing; off += recordSpacing {
		rec := x.image.Bytes(off, recordBytes)
		if seq, base := decodeCheckpoint(rec); validRecord(rec) && base == ring.Base.Generation && x.scene.Next != 0 && seq > x.scene.Next {
			x.find(fixRecord, off, passedOver, "a checkpoint says that everything before message %d is finished, and the log ends at %d", seq, x.scene.Next)
		}
	}
	return distance
}
