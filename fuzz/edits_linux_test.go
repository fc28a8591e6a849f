//go:build !race

package fuzz

import (
	"bytes"
	"encoding/binary"
	"maps"
	"slices"
	"strings"

	"github.com/walq/walq/segment"
)

func sorted(names []string) []string { slices.Sort(names); return names }

// An input of the directory targets is a list of edits of the golden queue. Each
// edit is an operation, the file it is for, and what the operation takes from
// the input; where the input ends, zeros follow.

// The operations.
const (
	opWrite    = iota // bytes at an offset
	opFlip            // one bit
	opTruncate        // or extend with zeros
	opDelete
	opRename
	opCopy
	opSum     // make every checksum of the file right
	opKind    // put a directory, a symbolic link or a FIFO there
	opContent // put arbitrary bytes there
	opWord    // a shared word of the control file
	opFrame   // the fields of a frame's word, its check made right
	opHeader  // a field of a segment's header, its checksum made right
	opRecord  // a field of a record of the control file, its checksum made right
	opCut     // zeros from an offset to the end, as a power cut leaves them
	ops
)

const (
	maxEdits    = 12      // of one input
	maxFileSize = 1 << 20 // an input cannot make a larger file
)

// names are those that an input can say in one byte.
var names = []string{
	controlName, segmentName(0), segmentName(1), segmentName(2), "walq.lock", "log", "wake", "quarantine", "groups",
	segmentName(3), "log/" + segment.Name(1<<20), "log/" + segment.Name(2), "log/" + segment.Name(1<<64-1),
	"log/tmp.0.1.1", "log/tmp.1.7.1", "log/tmp.recovery", "log/stranger", "walq.ctl.tmp", "wake/0000.sock", "wake/0001.sock",
	"quarantine/" + segment.Name(1) + ".1", "groups/g.grp", "stranger",
}

// words are the shared words of the control file and where else a number decides.
var words = []int{
	ctlDurable, ctlDurableSeq, ctlDurableSegment, 8216, 8224, ctlSettled, ctlSettledSegment, 8448, 8456, 8464, 8472,
	ctlIntentOwner, ctlIntentEnd, 8704, ctlOldest, 9216, 12288, 12416, 12544, 12672,
	ctlParticipants, ctlParticipants + 8, ctlParticipants + 16, ctlParticipants + 24, ctlParticipants + 32, ctlParticipants + 40,
	ctlParticipants + 64, ctlParticipants + 72, controlSize - 64, controlSize - 56,
}

// A tape is the rest of an input.
type tape struct{ p []byte }

func (t *tape) take(n int) []byte {
	part := make([]byte, n)
	t.p = t.p[copy(part, t.p):]
	return part
}

func (t *tape) byte() byte        { return t.take(1)[0] }
func (t *tape) pick(n int) int    { return int(t.byte()) % n }
func (t *tape) uint16() int       { return int(binary.LittleEndian.Uint16(t.take(2))) }
func (t *tape) uint64() uint64    { return binary.LittleEndian.Uint64(t.take(8)) }
func (t *tape) name() string      { return names[t.pick(len(names))] }
func (t *tape) offset(n int) int  { return (t.uint16()*8 + t.pick(8)) % max(n, 1) }
func (t *tape) content() []byte   { return bytes.Clone(t.take(t.pick(128))) }
func (t *tape) segmentAt() string { return segmentName(t.pick(segments)) }

// A forgery says what was made right over bytes that no writer of the queue wrote.
type forgery int

const (
	honest       forgery = iota
	forgedWords          // of frames: a PAD can be where a message was
	forgedFrames         // their checksums: there can be any message
)

// edited is the golden queue after the edits of an input.
func edited(left int, input []byte) (d directory, forged forgery) {
	d = maps.Clone(golden[left%lefts])
	t := &tape{input}
	for range maxEdits {
		if len(t.p) == 0 {
			break
		}
		forged = max(forged, d.edit(t, t.pick(ops)))
	}
	return d, forged
}

// edit makes one edit and reports what it forges. Files are changed as copies:
// the golden ones are shared.
func (d directory) edit(t *tape, op int) forgery {
	switch op {
	case opWord:
		d.poke(controlName, words[t.pick(len(words))], t.uint64())
		return honest
	case opFrame:
		d.frame(t)
		return forgedWords
	case opHeader:
		name, off := t.segmentAt(), 8+8*t.pick(15)
		d.poke(name, off, t.uint64())
		d.change(name, func(p []byte) { sumHeader(p) })
		return forgedWords // after a power cut it is a stale segment, and the log ends before it
	case opRecord:
		off := ctlSettings + 512*t.pick(4) + 8*t.pick(7)
		d.poke(controlName, off, t.uint64())
		d.change(controlName, sumControl)
		return honest
	}
	name := t.name()
	f := d[name]
	switch op {
	case opWrite:
		off, p := t.offset(len(f.data)), t.content()
		d.change(name, func(q []byte) { copy(q[min(off, len(q)):], p) })
	case opFlip:
		off, bit := t.offset(len(f.data)), t.pick(8)
		d.change(name, func(q []byte) {
			if off < len(q) {
				q[off] ^= 1 << bit
			}
		})
	case opTruncate:
		size := (t.uint16() * 64) % maxFileSize
		f.data = append(bytes.Clone(f.data[:min(size, len(f.data))]), make([]byte, max(0, size-len(f.data)))...)
		d[name] = f
	case opCut:
		off := t.offset(len(f.data))
		d.change(name, func(q []byte) { clear(q[min(off, len(q)):]) })
	case opContent:
		d[name] = file{data: t.content()}
	case opKind:
		d.replace(name, file{kind: fileKind(t.pick(int(fileKinds)-1) + 1), data: []byte("../" + t.name())})
	default:
		return d.rearrange(t, op, name)
	}
	return honest
}

// rearrange is edit for the operations on whole files.
func (d directory) rearrange(t *tape, op int, name string) (forged forgery) {
	f, ok := d[name]
	switch op {
	case opDelete:
		d.replace(name, file{})
		delete(d, name)
	case opRename, opCopy:
		if to := t.name(); ok && to != name && f.kind != isDir {
			d.replace(to, f)
			if op == opRename {
				delete(d, name)
			}
		}
	case opSum:
		if name == controlName {
			d.change(name, sumControl)
			return honest
		}
		d.change(name, func(p []byte) {
			sumHeader(p)
			if le := binary.LittleEndian; len(p) > framesFrom {
				repair(p[framesFrom:], le.Uint64(p[56:]), le.Uint64(p[96:]), true, 0)
				forged = forgedFrames
			}
		})
	}
	return forged
}

// replace puts something in the place of what is there and of all beneath it.
func (d directory) replace(name string, f file) {
	maps.DeleteFunc(d, func(other string, _ file) bool { return strings.HasPrefix(other, name+"/") })
	d[name] = f
}

// change changes a copy of a file's bytes.
func (d directory) change(name string, how func([]byte)) {
	if f, ok := d[name]; ok && f.kind == isFile {
		f.data = bytes.Clone(f.data)
		how(f.data)
		d[name] = f
	}
}

func (d directory) poke(name string, off int, v uint64) {
	d.change(name, func(p []byte) {
		if off+8 <= len(p) {
			binary.LittleEndian.PutUint64(p[off:], v)
		}
	})
}

func sumHeader(p []byte) {
	if len(p) >= 4096 {
		binary.LittleEndian.PutUint32(p[4088:], castagnoli(p[:4088]))
	}
}

// frame changes the word of one of a segment's frames.
func (d directory) frame(t *tape) {
	le := binary.LittleEndian
	name, n, xor := t.segmentAt(), t.pick(perSegment), t.uint64()
	d.change(name, func(p []byte) {
		off := framesFrom
		for range n {
			if off+8 > len(p) {
				return
			}
			off += int(segment.Word(le.Uint64(p[off:])).Size())
		}
		if off+8 <= len(p) {
			le.PutUint64(p[off:], summed(le.Uint64(p[off:])^xor))
		}
	})
}
