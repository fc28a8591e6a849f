package group

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/walq/walq/mmap"
)

// For those who look at a group's file as it lies, sound or not. What is judged is
// judged by the decoders that consumers use.

// A Scene is what a group's file is judged by.
type Scene struct {
	Queue [16]byte // zero: not known
	Boot  [16]byte // the machine's run
	Epoch uint64   // of the queue
	// Next is a sequence number that no message has, nor a higher one; 0: not known.
	Next uint64
	// InUse: somebody may have the queue open. Then what holds only while nobody
	// changes anything is not judged.
	InUse bool
	// PowerLoss: one went by, and nobody recovered the queue. What it left half
	// written is no damage.
	PowerLoss bool
}

// A Finding is one thing that is wrong in a group's file.
type Finding struct {
	Path   string `json:"path"`
	Offset int64  `json:"offset"`
	Reason string `json:"reason"` // what is wrong
	Means  string `json:"means"`  // and what follows from it
	fix    fix
}

// A fix is what takes care of a finding.
type fix int

const (
	unmendable   fix = iota
	fixBit           // of the identity, at Offset
	fixSize          // the file is cut, or grows by what is empty
	fixSettings      // one record is replaced by the other
	fixDefaults      // both are made anew
	fixRecord        // the record at Offset goes
	fixEntry         // the entry at Offset counts as not finished; the group gets another base
	fixFloor         // likewise the floor
	fixPassed        // likewise
	fixForce         // likewise the generation of the base in force
	fixFromCheck     // the ring is made anew, from the checkpoint
	fixDelays        // it says whether there is a delay file
)

// A Field is one value in a file.
type Field struct {
	What   string // the area of the file
	Offset int64  // bytes from the start of the file
	Name   string
	Value  any // prints as people want to read it
}

// An Inspection is what a file holds.
type Inspection struct {
	Path     string
	Fields   []Field
	Findings []Finding

	size  int64           // of the file
	bad   map[uint64]bool // entries
	image *mmap.Region
	file  *File // over the image; nil: its identity is damaged
	scene Scene
	// delays is the beginning of what is called like the group's delay file; nil: nothing.
	delays []byte
}

// InspectAll inspects the groups' files in a directory, which may be missing. What
// stands in its place, and is none, is for others to complain of.
//
// Errors are those of Inspect, joined; the other files are inspected all the same.
func InspectAll(dir string, scene Scene) (all []Inspection, err error) {
	d, err := mmap.OpenDir(dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, mmap.ErrSymlink) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	names, err := d.Names()
	err = errors.Join(err, d.Close())
	slices.Sort(names)
	for _, name := range names {
		if _, ok := ParseFileName(name); !ok {
			continue
		}
		x, ierr := Inspect(filepath.Join(dir, name), scene)
		if errors.Is(ierr, fs.ErrNotExist) {
			continue // it was removed meanwhile
		}
		if ierr != nil {
			err = errors.Join(err, ierr)
			continue
		}
		all = append(all, x)
	}
	return all, err
}

// looksAtUsed is how often a file in use is looked at: only what is wrong each time is
// wrong, since somebody may just be writing it.
const looksAtUsed = 3

// Inspect reads the file of a group and judges it. It changes nothing and maps nothing;
// others may use the group meanwhile.
//
// Errors: what keeps it from being read, and ErrVersion if a sound file says that it is
// of a newer version. What is wrong in what was read is a Finding.
func Inspect(path string, scene Scene) (Inspection, error) {
	x, err := look(path, scene)
	for i := 1; i < looksAtUsed && err == nil && scene.InUse && len(x.Findings) > 0; i++ {
		time.Sleep(5 * time.Millisecond)
		var next Inspection
		if next, err = look(path, scene); err != nil {
			break
		}
		next.Findings = slices.DeleteFunc(next.Findings, func(f Finding) bool { return !slices.Contains(x.Findings, f) })
		x = next
	}
	return x, err
}

func look(path string, scene Scene) (x Inspection, err error) {
	x = Inspection{Path: path, scene: scene}
	if err := x.read(); err != nil {
		return x, err
	}
	return x, x.judge()
}

// read reads the file, or of one that is too long for a group's the beginning.
func (x *Inspection) read() (err error) {
	dir, err := mmap.OpenDir(filepath.Dir(x.Path))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	f, err := dir.Open(filepath.Base(x.Path), true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	x.Path = f.Path()
	if x.size, err = f.Size(); err != nil {
		return err
	}
	x.image = mmap.Heap(max(min(x.size, FileBytes(MaxEntries)), FileBytes(MinEntries)))
	n := min(x.size, x.image.Len())
	if got, rerr := f.ReadAt(x.image.Bytes(0, n), 0); int64(got) < n {
		return rerr
	}
	return x.readDelays(dir)
}

// mostOfDelays is how much of a delay file is read: its identity and its first blocks,
// which are used first.
const mostOfDelays = 1 << 20

func (x *Inspection) readDelays(dir *mmap.Dir) error {
	name, ok := ParseFileName(filepath.Base(x.Path))
	if !ok {
		return nil
	}
	f, err := dir.Open(DelayFileName(name), true)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	x.delays = make([]byte, mostOfDelays)
	n, err := f.ReadAt(x.delays, 0)
	x.delays = x.delays[:n]
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return errors.Join(err, f.Close())
}

// list fills in the fields, as far as the file reaches, without judging them.
func (x *Inspection) list() {
	r, end := x.image, min(x.size, x.image.Len())
	get := func(off int64) uint64 { return r.Word(off&^7).Load() >> (off & 7 * 8) }
	add := func(what string, off int64, name string, value any) {
		if off < end {
			x.Fields = append(x.Fields, Field{what, off, name, value})
		}
	}
	const id = "identity"
	text := func(off, n int64) string { return strings.ToValidUTF8(string(r.Bytes(off, n)), "�") }
	add(id, grpMagic, "magic", text(grpMagic, 8))
	add(id, grpVersion, "version", uint32(get(grpVersion)))
	add(id, grpAlgorithm, "checksum algorithm", uint32(get(grpAlgorithm)))
	add(id, grpIncompatible, "incompatible features", fmt.Sprintf("%#x", get(grpIncompatible)))
	add(id, grpReadCompat, "read-only features", fmt.Sprintf("%#x", get(grpReadCompat)))
	add(id, grpCompatible, "compatible features", fmt.Sprintf("%#x", get(grpCompatible)))
	add(id, grpQueue, "queue", uuid(r.Bytes(grpQueue, 16)))
	add(id, grpCreated, "created", time.Unix(0, int64(get(grpCreated))).UTC())
	add(id, grpEntries, "entries", get(grpEntries))
	add(id, grpTopic, "topic", text(grpTopic, int64(min(get(grpTopicLength), maxTopic))))
	add(id, grpChecksum, "checksum", fmt.Sprintf("%08x", uint32(get(grpChecksum))))
	for i, letter := range []string{" A", " B"} {
		at := int64(grpSettings + i*settingsSpacing)
		what, rec := "settings"+letter, r.Bytes(at, settingsBytes)
		add(what, at+recGeneration, "generation", get(at+recGeneration))
		add(what, at+setLease, "lease", time.Duration(get(at+setLease)).String())
		add(what, at+setMaxDeliver, "max deliver", uint32(get(at+setMaxDeliver)))
		add(what, at+setMaxDeaths, "max deaths", uint32(get(at+setMaxDeaths)))
		add(what, at+setFlags, "flags", fmt.Sprintf("%#x", uint32(get(at+setFlags))))
		steps := []string{}
		for k := range int64(min(uint32(get(at+setBackOffs)), maxBackOffs)) {
			steps = append(steps, time.Duration(get(at+setBackOff+8*k)).String())
		}
		add(what, at+setBackOffs, "back-off", strings.Join(steps, " "))
		add(what, at+setDeadLetter, "dead letters", text(at+setDeadLetter, int64(min(get(at+setDeadLetterBytes), maxDeadLetter))))
		add(what, at+setChecksum, "valid", !empty(rec) && sealed(rec))
	}
	for i, letter := range []string{" A", " B"} {
		at := int64(grpBase + i*recordSpacing)
		what, rec := "base"+letter, r.Bytes(at, recordBytes)
		b := decodeBase(rec)
		add(what, at+recGeneration, "generation", b.Generation)
		add(what, at+basOrdinal, "ordinal", b.Ordinal)
		add(what, at+basSeq, "sequence", b.Seq)
		add(what, at+basEpoch, "epoch", b.Epoch)
		add(what, at+basBoot, "boot id", uuid(b.Boot[:]))
		add(what, at+recChecksum, "valid", validRecord(rec))
	}
	for i, letter := range []string{" A", " B"} {
		at := int64(grpCheckpoint + i*recordSpacing)
		what, rec := "checkpoint"+letter, r.Bytes(at, recordBytes)
		seq, base := decodeCheckpoint(rec)
		add(what, at+recGeneration, "generation", get(at+recGeneration))
		add(what, at+chkSeq, "sequence", seq)
		add(what, at+chkBase, "base", base)
		add(what, at+recChecksum, "valid", validRecord(rec))
	}
	const shared = "shared"
	add(shared, grpFloor, "floor", get(grpFloor))
	add(shared, grpPassed, "passed", fmt.Sprintf("base %d distance %d", get(grpPassed)>>passedBits, get(grpPassed)&(1<<passedBits-1)))
	add(shared, grpGeneration, "generation", get(grpGeneration))
	add(shared, grpRetry, "retry", get(grpRetry))
	add(shared, grpFinished, "finished", get(grpFinished))
	add(shared, grpRedelivered, "redelivered", get(grpRedelivered))
	add(shared, grpDeadLettered, "dead-lettered", get(grpDeadLettered))
	add(shared, grpPaused, "paused", get(grpPaused))
	add(shared, grpDelays, "delays", get(grpDelays))
	add(shared, grpWanted, "wanted", get(grpWanted))
	add(shared, grpFreed, "freed", get(grpFreed))
	for i, at := int64(0), int64(grpRing); at+entryBytes <= end && i < MaxEntries; i, at = i+1, at+entryBytes {
		if e := (Entry{get(at + entryWord), get(at + entrySeq), get(at + entryTime), get(at + entryMark)}); e != (Entry{}) {
			add("ring", at, fmt.Sprint("entry ", i), e)
		}
	}
}

// An Entry is one of the ring, as it lies.
type Entry struct{ Word, Seq, Time, Mark uint64 }

func (e Entry) String() string {
	w := Word(e.Word)
	s := fmt.Sprintf("lap %d %v", w.lap(), w.State())
	if w.State() > Moved {
		s = fmt.Sprintf("lap %d BAD STATE %d", w.lap(), w.State())
	}
	if w.State() == Leased {
		s += fmt.Sprintf(" slot %d incarnation %d", w.Slot(), w.Owner().Incarnation)
	}
	if w.Deliveries()+w.Deaths() > 0 {
		s += fmt.Sprintf(" deliveries %d deaths %d", w.Deliveries(), w.Deaths())
	}
	s += fmt.Sprintf(", distance %d of lap %d", e.Seq&maxDistance, e.Seq>>distBits)
	switch tag, ms := timeOf(e.Time); {
	case e.Time == 0:
	case tag&dueBit != 0:
		s += fmt.Sprintf(", due %s of tag %#x", time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z"), tag)
	default:
		s += fmt.Sprintf(", ends %v after the boot of tag %#x", time.Duration(ms)*time.Millisecond, tag)
	}
	if e.Mark != 0 {
		s += fmt.Sprintf(", mark %d", e.Mark)
	}
	return s
}

// MarshalText makes it print in JSON as for people.
func (e Entry) MarshalText() ([]byte, error) { return []byte(e.String()), nil }

func uuid(p []byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", p[:4], p[4:6], p[6:8], p[8:10], p[10:16])
}
