package group

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/walq/walq/mmap"
)

// Mending the file of a group that nobody uses. What is known to be finished stays so,
// and nothing else becomes so: where that cannot be told, messages are handed out again.
// The file is never written; a mended copy takes its place by a rename, after it got a
// second name. That may be cut short anywhere: then it is damaged still, or whole.

const (
	badSuffix = ".bad"
	mendTemp  = "tmp.mend" // nobody else makes a file while one mends
)

// A Mended is what Mend did, or would do.
type Mended struct {
	Done []Finding // what was wrong, and is not any more
	Left []Finding // what cannot be mended
	Kept string    // where the file is as it was; empty if it was not changed
}

// Mend mends the group's file at path, of which nobody must have made use since before
// the call, until it returns: see wal.RepairOptions. Settings that are lost are replaced
// by those given. What was changed is on disk when it returns, and the file as it was is
// beside it. dry: only tell what would be done.
//
// Errors are those of Inspect, and of the file system. It can be called again.
func Mend(path string, scene Scene, lost Settings, dry bool) (m Mended, err error) {
	x, err := Inspect(path, scene)
	if err != nil || len(x.Findings) == 0 {
		return m, err
	}
	for _, f := range x.Findings {
		if f.fix == unmendable {
			m.Left = append(m.Left, f)
		} else {
			m.Done = append(m.Done, f)
		}
	}
	if len(m.Left) > 0 {
		return Mended{Left: x.Findings}, nil // half a repair helps nobody
	}
	x.mend(lost)
	again := Inspection{Path: path, image: x.image, size: x.image.Len(), scene: scene, delays: x.delays}
	if err := again.judge(); err != nil || len(again.Findings) > 0 {
		return Mended{Left: x.Findings}, errors.Join(err, fmt.Errorf("%s: mending it does not help: %v", path, again.Findings))
	}
	m.Kept, err = x.replace(dry)
	return m, err
}

// mend makes the copy in memory sound.
func (x *Inspection) mend(lost Settings) {
	all := map[fix]int64{}
	for _, f := range x.Findings {
		all[f.fix] = f.Offset
		switch other := int64(grpSettings+grpSettings+settingsSpacing) - f.Offset; f.fix {
		case fixSettings:
			copy(x.image.Bytes(f.Offset, settingsBytes), x.image.Bytes(other, settingsBytes))
		case fixDefaults:
			clear(x.image.Bytes(grpSettings, 2*settingsSpacing))
			encodeSettings(x.image.Bytes(grpSettings, settingsBytes), 1, lost)
		case fixDelays:
			x.image.Word(grpDelays).Store(1)
			if missing, _ := x.delayFile(); missing {
				x.image.Word(grpDelays).Store(0)
			}
		case fixRecord:
			clear(x.image.Bytes(f.Offset, recordBytes))
		}
	}
	has := func(f fix) bool { _, ok := all[f]; return ok }
	switch {
	case has(fixFromCheck):
		x.fromCheckpoint()
	case has(fixSize), has(fixEntry), has(fixFloor), has(fixPassed), has(fixForce):
		x.newBase(has(fixFloor), has(fixPassed))
	}
}

// resize gives the copy the size that the file should have.
func (x *Inspection) resize(n int64) {
	r := mmap.Heap(n)
	both := min(n, x.image.Len())
	copy(r.Bytes(0, both), x.image.Bytes(0, both))
	x.image = r
}

// newBase makes the base one that does not count any more, so that the first consumer
// makes another from what is known to be finished. Damaged entries are not.
func (x *Inspection) newBase(floor, passed bool) {
	at, b := int64(grpBase), decodeBase(x.image.Bytes(grpBase, recordBytes))
	other := decodeBase(x.image.Bytes(grpBase+recordSpacing, recordBytes))
	if !validRecord(x.image.Bytes(grpBase, recordBytes)) || validRecord(x.image.Bytes(grpBase+recordSpacing, recordBytes)) && other.Generation > b.Generation {
		at, b, other = grpBase+recordSpacing, other, b
	}
	ring := &Ring{x.image, uint64(x.file.Entries), b}
	held := uint64(max(x.size-grpRing, 0)) / entryBytes
	for i := range ring.entries {
		if x.bad[i] || i >= held {
			lap := ring.lap(b.Ordinal - 1)
			ring.at(i, entryWord).Store(uint64(finishedWord(lap)))
			ring.at(i, entrySeq).Store((lap ^ 1<<(lapBits-1)) << distBits) // no lap that any base is near
			ring.at(i, entryTime).Store(0)
		}
	}
	if floor || ring.Floor() < b.Ordinal && ring.Generation() == b.Generation {
		ring.word(grpFloor).Store(b.Ordinal)
	}
	if passed {
		ring.word(grpPassed).Store(b.Generation << passedBits)
	}
	spare := x.image.Bytes(2*grpBase+recordSpacing-at, recordBytes)
	if validRecord(spare) && other.Generation == ring.Generation() {
		return // who made the base did not come to its end: it is made again anyway
	}
	clear(spare)
	ring.word(grpGeneration).Store(b.Generation)
	b.Boot = [16]byte{}
	encodeBase(x.image.Bytes(at, recordBytes), b)
}

// fromCheckpoint makes the ring anew, by a base that begins at the last checkpoint, and
// does not count, so that the first consumer makes another.
func (x *Inspection) fromCheckpoint() {
	seq, _ := x.lastCheckpoint()
	b := Base{Generation: x.word(grpGeneration) + 1, Ordinal: uint64(x.file.Entries), Seq: seq}
	for off := int64(grpCheckpoint); off < grpCheckpoint+2*recordSpacing; off += recordSpacing {
		if _, base := decodeCheckpoint(x.image.Bytes(off, recordBytes)); validRecord(x.image.Bytes(off, recordBytes)) {
			b.Generation = max(b.Generation, base+1)
		}
		clear(x.image.Bytes(off, recordBytes))
	}
	// What is not of the ring stays: without its mark the delay file would be forgotten,
	// and the messages in it, which the ring is done with.
	kept := map[int64]uint64{}
	for _, off := range []int64{grpFinished, grpRedelivered, grpDeadLettered, grpPaused, grpDelays} {
		kept[off] = x.word(off)
	}
	clear(x.image.Bytes(grpFloor, x.image.Len()-grpFloor))
	for off, v := range kept {
		x.image.Word(off).Store(v)
	}
	clear(x.image.Bytes(grpBase, 2*recordSpacing))
	encodeBase(x.image.Bytes(grpBase, recordBytes), b)
	ring := &Ring{x.image, uint64(x.file.Entries), b}
	ring.word(grpFloor).Store(b.Ordinal)
	ring.word(grpPassed).Store(b.Generation << passedBits)
	ring.word(grpGeneration).Store(b.Generation)
}

// replace puts the copy in the place of the file, which gets another name.
func (x *Inspection) replace(dry bool) (kept string, err error) {
	dir, err := mmap.OpenDir(filepath.Dir(x.Path))
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	name := filepath.Base(x.Path)
	was, err := dir.Open(name, true)
	if err != nil {
		return "", err
	}
	id, err := was.ID()
	owner, oerr := was.Owner()
	if err := errors.Join(err, oerr, was.Close()); err != nil {
		return "", err
	}
	bad, there, err := asideName(dir, name, id)
	if kept = dir.Join(bad); dry || err != nil {
		return kept, err
	}
	if err := ignoreMissing(dir.Unlink(mendTemp)); err != nil {
		return "", err
	}
	f, err := dir.Create(mendTemp, owner.Mode&0o777)
	if err != nil {
		return "", err
	}
	_, err = f.WriteAt(x.image.Bytes(0, x.image.Len()), 0)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return "", err
	}
	if !there {
		if err := dir.Link(name, bad); err != nil {
			return "", err
		}
	}
	if err := dir.Rename(mendTemp, dir, name); err != nil {
		return kept, err
	}
	return kept, dir.Sync()
}

// asideName is a name that is free, or one that the file has already, of an earlier
// attempt.
func asideName(dir *mmap.Dir, name string, id mmap.FileID) (bad string, there bool, err error) {
	for i := 1; ; i++ {
		if bad = name + badSuffix; i > 1 {
			bad = fmt.Sprintf("%s%s%d", name, badSuffix, i)
		}
		f, err := dir.Open(bad, true)
		if errors.Is(err, fs.ErrNotExist) {
			return bad, false, nil
		}
		if err != nil {
			return bad, false, err
		}
		other, err := f.ID()
		if err := errors.Join(err, f.Close()); err != nil {
			return bad, false, err
		}
		if other == id {
			return bad, true, nil
		}
	}
}
