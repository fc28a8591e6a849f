package wal

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/walq/walq/mmap"
	"github.com/walq/walq/segment"
)

// A Viewer is told what Dump finds, in the order in which it lies in the file. An
// error of Field or Frame ends the dump and is returned.
type Viewer struct {
	Field func(segment.Field) error
	Frame func(segment.Laid) error
	// Fault gets what is wrong; what can still be read follows.
	Fault func(error)
}

// ErrNotFile: what is to be dumped is no file of a queue that has a content.
var ErrNotFile = errors.New("not a file of a walq queue: only segments (log/*.seg), groups (groups/*.grp) and the control file (walq.ctl) have a content")

// Dump shows the file at path, a segment or a control file, which its first bytes
// tell apart. The file is read and not mapped, so others may use it, and a file
// that no live reader could open is shown as far as it can be. It takes no more
// memory than the file has bytes. The error Is ErrCorrupt if the viewer was told
// of a fault, and ErrVersion or ErrNotFile where that is all there is to say.
func Dump(path string, v Viewer) (err error) {
	if err := mmap.Supported(); err != nil {
		return err
	}
	dir, err := mmap.OpenDir(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer func() { err = joinFirst(err, dir.Close()) }()
	f, err := dir.Open(filepath.Base(path), true)
	if errors.Is(err, mmap.ErrNotRegular) {
		return fmt.Errorf("%s: %w", path, ErrNotFile)
	}
	if err != nil {
		return err
	}
	defer func() { err = joinFirst(err, f.Close()) }()
	magic := make([]byte, 8)
	if _, err := f.ReadAt(magic, 0); err != nil && err != io.EOF {
		return err
	}
	d := dumper{v: v, f: f}
	switch string(magic) {
	case segment.Magic:
		err = d.segment()
	case controlMagic:
		err = d.control()
	default:
		return fmt.Errorf("%s: %w", path, ErrNotFile)
	}
	if err == nil && d.faults > 0 {
		err = fmt.Errorf("%s is %w", f.Path(), ErrCorrupt)
	}
	return err
}

type dumper struct {
	v      Viewer
	f      *mmap.File
	faults int
}

// fault tells the viewer of err; what is not corruption is returned.
func (d *dumper) fault(err error) error {
	if err == nil || !errors.Is(err, ErrCorrupt) {
		return err
	}
	d.faults++
	d.v.Fault(err)
	return nil
}

func (d *dumper) faultAt(off int64, format string, args ...any) error {
	return d.fault(&CorruptError{Path: d.f.Path(), Offset: off, Reason: fmt.Sprintf(format, args...)})
}

func (d *dumper) fields(all []segment.Field) error {
	for _, f := range all {
		if err := d.v.Field(f); err != nil {
			return err
		}
	}
	return nil
}

func (d *dumper) segment() error {
	image, size, err := d.image()
	if err != nil {
		return err
	}
	if err := d.fields(segment.Fields(image)); err != nil {
		return err
	}
	if size > segment.MaxSize {
		return d.faultAt(segment.MaxSize, "the file has %d bytes, a segment %d at most", size, segment.MaxSize)
	}
	s, err := segment.CheckImage(image, size)
	if err := d.fault(err); err != nil || s == nil {
		return err
	}
	for _, h := range s.Hints() {
		value := any("no place of this segment")
		if h.Sound {
			value = Hinted{h.Place.Off, h.Place.Seq}
		}
		if err := d.v.Field(segment.Field{What: "hint", Offset: h.Offset, Name: h.What, Value: value}); err != nil {
			return err
		}
	}
	for l := range s.Frames() {
		if err := d.v.Frame(l); err != nil {
			return err
		}
		if err := d.fault(l.Fault); err != nil {
			return err
		}
	}
	return nil
}

// image reads the segment, or of a file that is too long for one the header. The
// size is asked for last: a file in use grows, and must not seem to be cut short.
func (d *dumper) image() (image *mmap.Region, size int64, err error) {
	if size, err = d.f.Size(); err != nil {
		return nil, 0, err
	}
	if size > segment.MaxSize {
		image = mmap.Heap(2 * mmap.PageSize)
		_, err = d.f.ReadAt(image.Bytes(0, image.Len()), 0)
		return image, size, err
	}
	if image, err = d.f.Copy(); err != nil {
		return nil, 0, err
	}
	size, err = d.f.Size()
	return image, size, err
}

// A Hinted is where a hint points.
type Hinted struct {
	Offset int64  `json:"offset"`
	Seq    uint64 `json:"seq"`
}

func (h Hinted) String() string { return fmt.Sprintf("offset %d, sequence number %d", h.Offset, h.Seq) }

// control shows the control file: each field where it stands, and what the
// decoders say of it.
func (d *dumper) control() error {
	size, err := d.f.Size()
	if err != nil {
		return err
	}
	page := make([]byte, controlBytes)
	n, err := d.f.ReadAt(page, 0)
	if err != nil && err != io.EOF {
		return err
	}
	p := controlPage{page, int64(n)}
	if err := d.fields(p.identity()); err != nil {
		return err
	}
	if size != controlBytes {
		if err := d.faultAt(size, "the control file has %d bytes, want %d", size, controlBytes); err != nil {
			return err
		}
	}
	if n >= identityBytes {
		if _, err := decodeIdentity(page, true); errors.Is(err, ErrVersion) {
			return fmt.Errorf("%s: %w", d.f.Path(), err)
		} else if err != nil {
			if err := d.faultAt(0, "%v", err); err != nil {
				return err
			}
		}
	}
	if err := d.records("settings", p, ctlSettings, settingsFields); err != nil {
		return err
	}
	if err := d.records("boot", p, ctlBoot, bootFields); err != nil {
		return err
	}
	if err := d.fields(p.words()); err != nil {
		return err
	}
	return d.fields(p.participants())
}

// records shows both copies of a record, and which of them counts.
func (d *dumper) records(what string, p controlPage, at int64, fields func(rec []byte) []segment.Field) error {
	if at+recordSpacing+recordBytes > p.n {
		return nil
	}
	counts, _, next, err := newestRecord(p.page[at:])
	for i, name := range []string{"A", "B"} {
		off := at + int64(i)*recordSpacing
		rec := p.page[off : off+recordBytes]
		all := []segment.Field{
			{What: what, Name: "record " + name, Value: standing(rec, next)},
			{What: what, Offset: recGeneration, Name: "generation", Value: getWord(rec[recGeneration:])},
		}
		all = append(all, fields(rec)...)
		all = append(all, segment.Field{What: what, Offset: recChecksum, Name: "checksum", Value: fmt.Sprintf("%08x", uint32(getWord(rec[recChecksum-4:])>>32))})
		for j := range all {
			all[j].What, all[j].Offset = what, all[j].Offset+off
		}
		if err := d.fields(all); err != nil {
			return err
		}
	}
	if err == nil && what == "settings" {
		err = decodeSettings(counts).Check()
	}
	if err != nil {
		return d.faultAt(at, "%s: %v", what, err)
	}
	return nil
}

// standing says what one of the two copies of a record is worth; next is the one
// that does not count, nil if neither does.
func standing(rec, next []byte) string {
	alone := make([]byte, recordSpacing+recordBytes)
	copy(alone, rec)
	switch _, _, _, err := newestRecord(alone); {
	case next != nil && &next[0] != &rec[0]:
		return "counts"
	case err == nil:
		return "valid, older"
	case strings.Trim(string(rec), "\x00") == "":
		return "never written"
	}
	return "not valid"
}

func settingsFields(rec []byte) []segment.Field {
	s := decodeSettings(rec)
	durability := fmt.Sprintf("%d", s.Durability)
	if names := [...]string{SyncAlways: "always", SyncInterval: "interval", SyncNever: "never"}; s.Durability > 0 && int(s.Durability) < len(names) {
		durability = names[s.Durability]
	}
	return []segment.Field{
		{Offset: setSegmentSize, Name: "segment size", Value: s.SegmentSize},
		{Offset: setMaxBytes, Name: "max bytes", Value: s.MaxBytes},
		{Offset: setMaxAge, Name: "max age", Value: s.MaxAge.String()},
		{Offset: setDurability, Name: "durability", Value: durability},
		{Offset: setFlags, Name: "group access", Value: s.GroupAccess},
		{Offset: setFlags, Name: "wait when full", Value: s.WaitWhenFull},
	}
}

func bootFields(rec []byte) []segment.Field {
	b := decodeBoot(rec)
	return []segment.Field{
		{Offset: bootID, Name: "boot id", Value: segment.UUID(b.id[:])},
		{Offset: bootEpoch, Name: "epoch", Value: b.epoch},
		{Offset: bootClean, Name: "clean", Value: b.clean},
	}
}

// A controlPage is the control file as it was read, n bytes of it, the rest zero.
type controlPage struct {
	page []byte
	n    int64
}

func (p controlPage) word(off int64) uint64 { return getWord(p.page[off:]) }

func (p controlPage) half(off int64) uint32 { return uint32(p.word(off&^7) >> (off & 7 * 8)) }

func (p controlPage) time(off int64) any { return time.Unix(0, int64(p.word(off))).UTC() }

func (p controlPage) bits(off int64) any { return fmt.Sprintf("%#x", p.word(off)) }

func (p controlPage) position(off int64) any {
	at := Position(p.word(off))
	return segment.Position{Segment: at.ordinal(), Offset: at.off()}
}

// within drops the fields that the file does not reach and names their area.
func (p controlPage) within(what string, all []segment.Field) (there []segment.Field) {
	for _, f := range all {
		if f.Offset+8 <= p.n {
			f.What = what
			there = append(there, f)
		}
	}
	return there
}

func (p controlPage) identity() []segment.Field {
	return p.within("header", []segment.Field{
		{Offset: ctlMagic, Name: "magic", Value: string(p.page[ctlMagic : ctlMagic+8])},
		{Offset: ctlVersion, Name: "version", Value: p.half(ctlVersion)},
		{Offset: ctlAlgorithm, Name: "checksum algorithm", Value: p.half(ctlAlgorithm)},
		{Offset: ctlIncompatible, Name: "incompatible features", Value: p.bits(ctlIncompatible)},
		{Offset: ctlReadCompat, Name: "read-only features", Value: p.bits(ctlReadCompat)},
		{Offset: ctlCompatible, Name: "compatible features", Value: p.bits(ctlCompatible)},
		{Offset: ctlQueue, Name: "queue", Value: segment.UUID(p.page[ctlQueue : ctlQueue+16])},
		{Offset: ctlCreated, Name: "created", Value: p.time(ctlCreated)},
		{Offset: ctlSlots, Name: "slots", Value: p.word(ctlSlots)},
		{Offset: ctlChecksum, Name: "checksum", Value: fmt.Sprintf("%08x", p.half(ctlChecksum))},
	})
}

func (p controlPage) words() []segment.Field {
	all := []segment.Field{
		{Offset: ctlDurable, Name: "durable", Value: p.position(ctlDurable)},
		{Offset: ctlDurableSeq, Name: "durable sequence", Value: p.word(ctlDurableSeq)},
		{Offset: ctlDurableFirst, Name: "durable segment", Value: p.word(ctlDurableFirst)},
		{Offset: ctlTrimTo, Name: "trim to", Value: p.word(ctlTrimTo)},
		{Offset: ctlTrimCheck, Name: "trim check", Value: p.word(ctlTrimCheck)},
		{Offset: ctlSettled, Name: "settled", Value: p.position(ctlSettled)},
		{Offset: ctlSettledFirst, Name: "settled segment", Value: p.word(ctlSettledFirst)},
		{Offset: ctlNewest, Name: "newest segment", Value: p.word(ctlNewest)},
		{Offset: ctlPoison, Name: "poison", Value: p.word(ctlPoison)},
	}
	if p.word(ctlPoison) != 0 {
		length := min(p.word(ctlPoisonLength), poisonReasonSize)
		reason := strings.ToValidUTF8(string(p.page[ctlPoisonReason:ctlPoisonReason+length]), "�")
		all = append(all,
			segment.Field{Offset: ctlPoisonTime, Name: "poison time", Value: p.time(ctlPoisonTime)},
			segment.Field{Offset: ctlPoisonSlot, Name: "poison slot", Value: p.word(ctlPoisonSlot)},
			segment.Field{Offset: ctlPoisonLength, Name: "poison length", Value: p.word(ctlPoisonLength)},
			segment.Field{Offset: ctlPoisonReason, Name: "poison reason", Value: reason})
	}
	return p.within("shared", append(all,
		segment.Field{Offset: ctlIntentOwner, Name: "intent owner", Value: tagName(p.word(ctlIntentOwner))},
		segment.Field{Offset: ctlIntentEnd, Name: "intent end", Value: p.position(ctlIntentEnd)},
		segment.Field{Offset: ctlGather, Name: "gather", Value: tagName(p.word(ctlGather))},
		segment.Field{Offset: ctlOldest, Name: "oldest", Value: p.word(ctlOldest)}))
}

// tagName says whom a tag names.
func tagName(tag uint64) string {
	switch tag {
	case 0:
		return "nobody"
	case standingIntent:
		return "standing: a syncer that nobody knows"
	}
	return fmt.Sprintf("slot %d, incarnation %d", int(tag&0xffff)-1, tag>>16)
}

// Taken is a slot that is in use, or whose owner died.
type Taken struct {
	Slot        int       `json:"slot"`
	Incarnation uint64    `json:"incarnation"`
	State       uint64    `json:"state"`
	PID         uint64    `json:"pid"`
	Since       time.Time `json:"since"`
	Role        string    `json:"role"`
	Version     uint64    `json:"version"`
}

func (t Taken) String() string {
	return fmt.Sprintf("incarnation %d, state %d, pid %d, since %s, role %q, version %d",
		t.Incarnation, t.State, t.PID, t.Since.Format(time.RFC3339Nano), t.Role, t.Version)
}

// participants shows the slots that are in use. Who of them lives the lock file
// tells, and not this one.
func (p controlPage) participants() (all []segment.Field) {
	for slot := range maxSlots {
		at := int64(ctlParticipants + slot*participantSize)
		if at+participantSize > p.n || p.word(at+parState) == 0 {
			continue
		}
		all = append(all, segment.Field{What: "participant", Offset: at, Name: fmt.Sprintf("slot %d", slot), Value: Taken{
			slot, p.word(at + parIncarnation), p.word(at + parState), p.word(at + parPID),
			time.Unix(0, int64(p.word(at+parSince))).UTC(),
			strings.ToValidUTF8(unpackRole(p.word(at+parRole)), "�"), p.word(at + parVersion),
		}})
	}
	return all
}
