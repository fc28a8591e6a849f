package segment

import (
	"fmt"
	"sync"

	"github.com/walq/walq/internal/crc32c"
	"github.com/walq/walq/mmap"
)

// What surrounds the frames of a segment, for verify and repair: both judge it
// here, so that what one finds is what the other mends.

// A Fix is something that is wrong, and the bytes that would make it right.
type Fix struct {
	Offset int64 // bytes from the start of the file
	Reason string
	Data   []byte
}

// IsAllocated reports whether it is the allocated word that is wrong.
func (f Fix) IsAllocated() bool { return f.Offset == offAllocated }

func fixWord(off int64, v uint64, format string, args ...any) Fix {
	data := make([]byte, 8)
	putWord(data, Word(v))
	return Fix{off, fmt.Sprintf(format, args...), data}
}

// wrongBits holds, for each length of a checksummed piece, what each single
// wrong bit does to its CRC: the CRC of a sum is the sum of the CRCs.
var wrongBits struct {
	sync.Mutex
	of map[int]map[uint32]int
}

// WrongBit finds the one bit that is wrong in p or in its stored CRC, if one wrong
// bit explains that they do not match. Bits are numbered from the first byte's
// lowest; those of the CRC follow on those of p.
func WrongBit(p []byte, crc uint32) (bit int, ok bool) {
	syndrome := crc32c.Update(0, p) ^ crc
	wrongBits.Lock()
	defer wrongBits.Unlock()
	table := wrongBits.of[len(p)]
	if table == nil {
		table = make(map[uint32]int, 8*len(p)+32)
		probe := make([]byte, len(p))
		none := crc32c.Update(0, probe)
		for i := range 8 * len(p) {
			probe[i/8] = 1 << (i % 8)
			table[crc32c.Update(0, probe)^none] = i
			probe[i/8] = 0
		}
		for i := range 32 {
			table[1<<i] = 8*len(p) + i
		}
		if wrongBits.of == nil {
			wrongBits.of = map[int]map[uint32]int{}
		}
		wrongBits.of[len(p)] = table
	}
	bit, ok = table[syndrome]
	return bit, ok
}

// MendHeader corrects the one wrong bit of a header page in place, if one wrong
// bit is what is wrong with it.
func MendHeader(page []byte) (bit int, ok bool) {
	if len(page) < headerBytes {
		return 0, false
	}
	bit, ok = WrongBit(page[:offChecksum], uint32(getWord(page[offChecksum:])))
	if ok {
		page[bit/8] ^= 1 << (bit % 8)
	}
	return bit, ok
}

// EncodeHeader makes the header page of h.
func EncodeHeader(h Header) []byte {
	page := make([]byte, headerBytes)
	encodeHeader(page, h)
	return page
}

// GuessHeader takes the fields of a header page as they lie, whatever they are
// worth.
func GuessHeader(page []byte) (h Header) {
	get := func(off int64) uint64 { return uint64(getWord(page[off:])) }
	return Header{
		Size: int64(get(offSize)), Ordinal: uint32(get(offOrdinal)), First: get(offFirst), Epoch: get(offEpoch),
		PrevFirst: get(offPrevFirst), PrevEnd: get(offPrevEnd), Durable: get(offDurable), Salt: get(offSalt),
		Created: int64(get(offCreated)), Queue: [16]byte(page[offQueue : offQueue+16]),
	}
}

// ImageOf looks at a segment in memory under a header that is not the one in the
// image. It is nil if the image cannot be of such a segment.
func ImageOf(r *mmap.Region, h Header) *Segment {
	if CheckSize(h.Size) != nil || r.Len() < DataStart(h.Size)+SealBytes || r.Len() > h.Size {
		return nil
	}
	return &Segment{Header: h, r: r, start: DataStart(h.Size), limit: r.Len()}
}

// HeaderBytes is the size of a segment's header page.
const HeaderBytes = headerBytes

// Reserved finds what is not zero in the bytes of the header page, the shared
// words and the index that nothing is ever written to.
func (s *Segment) Reserved() (all []Fix) {
	gap := func(from, to int64) {
		if at, found := nonZero(s.r.Bytes(from, to-from)); found {
			all = append(all, Fix{from + at, "a reserved byte is not zero", make([]byte, to-from-at)})
		}
	}
	if uint64(getWord(s.r.Bytes(offCompatible, 8))) == 0 { // else a later version may use them
		gap(offChecksum+4, headerBytes)
		gap(offTailHint+8, offAllocated)
		gap(offAllocated+8, offLinked)
		gap(offLinked+8, offPadded)
		gap(offPadded+8, offIndex)
		gap(offIndex+indexEntries(s.Size)*indexEntryBytes, s.start)
	}
	return all
}

// A Trace gathers, frame by frame of a walk from the segment's start, what the
// shared words and the index must agree with.
type Trace struct {
	s       *Segment
	seen    map[Cursor]bool // of each place that a hint names, whether a frame starts or ends there
	hints   []Hint
	behind  Cursor           // the last committed frame
	padded  uint64           // sequence numbers that went to PADs
	latest  int64            // of all frames so far
	last    int64            // time of the frame before, 0 if it is not committed
	strides map[int64]entry  // by stride, what its entry may say
	late    map[Cursor]int64 // by place, the time of the frame that ends there
}

type entry struct {
	place  Cursor
	latest int64
}

// NewTrace begins one.
func (s *Segment) NewTrace() *Trace {
	t := &Trace{s: s, seen: map[Cursor]bool{}, hints: s.Hints(), behind: s.Start(), strides: map[int64]entry{}, late: map[Cursor]int64{}}
	for _, h := range t.hints {
		t.seen[h.Place] = false
	}
	return t
}

// Reach says that a frame starts at c, or that the frames end there.
func (t *Trace) Reach(c Cursor) {
	if _, ok := t.seen[c]; ok {
		t.seen[c] = true
		t.late[c] = t.last
	}
}

// Pass says that the frame with the word w at c, of this time if it is committed,
// was stepped over.
func (t *Trace) Pass(c Cursor, w Word, time int64) {
	t.last = 0
	if w.State() == Pad {
		t.padded += uint64(w.Count())
	}
	if w.State() != Committed {
		return
	}
	if i := c.Off / indexStrideBytes; i > t.s.start/indexStrideBytes {
		if _, ok := t.strides[i]; !ok {
			t.strides[i] = entry{c, t.latest}
		}
	}
	t.last, t.latest = time, max(t.latest, time)
	t.behind = c.After(w)
}

// Fixes tells what does not agree with the walk, which ended at end before the
// word w. fileBytes is the size of the file. It is for a segment that nobody
// changes, and whose memory no power loss made older than its frames.
func (t *Trace) Fixes(end Cursor, w Word, fileBytes int64) (all []Fix) {
	s := t.s
	for _, h := range t.hints {
		if h.Sound && t.seen[h.Place] && (h.Offset == offTailHint || h.Place.Off/indexStrideBytes == (h.Offset-offIndex)/indexEntryBytes) {
			if h.Offset == offTailHint {
				continue
			}
			// Entries of writers that were stopped in between may come in any order,
			// so only the frame whose writer made the entry can be held against it.
			if late := t.late[h.Place]; int64(s.r.Word(h.Offset+8).Load()) < late {
				all = append(all, fixWord(h.Offset+8, uint64(late), "the time of an index entry is earlier than that of the frame before it"))
			}
			continue
		}
		if h.Offset == offTailHint {
			all = append(all, fixWord(h.Offset, s.Pack(t.behind), "a tail hint that points at no frame"))
			continue
		}
		f := Fix{h.Offset, "an index entry that points at no frame", make([]byte, indexEntryBytes)}
		if e, ok := t.strides[(h.Offset-offIndex)/indexEntryBytes]; ok {
			putWord(f.Data, Word(s.Pack(e.place)))
			putWord(f.Data[8:], Word(e.latest))
		}
		all = append(all, f)
	}
	if a := int64(s.allocated().Load()); a > fileBytes || a%pageBytes != 0 || a < min(end.Off+SealBytes, s.Size) {
		all = append(all, fixWord(offAllocated, uint64(min(fileBytes, s.Size)), "%d bytes are said to be allocated; the file has %d, and its frames end at %d", a, fileBytes, end.Off))
	}
	if s.r.Word(offLinked).Load() > 1 {
		all = append(all, fixWord(offLinked, 1, "the word that says that the directory was synced is neither 0 nor 1"))
	}
	if p := s.Padded(); p > t.padded && w.State() != SealJump { // recovery cuts PADs away without counting
		all = append(all, fixWord(offPadded, t.padded, "%d sequence numbers are said to have gone to PADs, which hold %d", p, t.padded))
	}
	return all
}

// CountPads makes the count of sequence numbers in PADs what the walk found.
func (t *Trace) CountPads() (Fix, bool) {
	return fixWord(offPadded, t.padded, "PADs take %d sequence numbers", t.padded), t.s.Padded() != t.padded
}

// Allocate says that the file has so many bytes.
func Allocate(fileBytes int64) Fix {
	return fixWord(offAllocated, uint64(fileBytes), "the file is made %d bytes long", fileBytes)
}

// FillerEnd is where the SEAL of a filler stands.
func FillerEnd(h Header, count uint64) int64 {
	return DataStart(h.Size) + int64((count+MaxCount-1)/MaxCount)*FrameHeader
}

// NewFiller makes the image of a segment that stands in for one that is lost: it
// holds no message and takes count sequence numbers. end is its SEAL. It is nil if
// so many do not fit.
func NewFiller(h Header, count uint64, end State) []byte {
	start, off := DataStart(h.Size), FillerEnd(h, count)
	if count > uint64(h.Size-start-SealBytes)/FrameHeader*MaxCount {
		return nil
	}
	image := make([]byte, (off+SealBytes+pageBytes-1)&^(pageBytes-1))
	encodeHeader(image[:headerBytes], h)
	putWord(image[offAllocated:], Word(len(image)))
	putWord(image[offPadded:], Word(count))
	for at := start; at < off; at += FrameHeader {
		n := min(count, MaxCount)
		putWord(image[at:], MakeWord(Pad, 0, int(n), 0))
		count -= n
	}
	if end != Free {
		putWord(image[off:], MakeWord(end, 0, 0, 0))
	}
	return image
}

// HeaderSound reports whether the checksum of a header page matches, whatever it
// says.
func HeaderSound(page []byte) bool {
	return len(page) >= headerBytes && uint32(getWord(page[offChecksum:])) == crc32c.Update(0, page[:offChecksum])
}
