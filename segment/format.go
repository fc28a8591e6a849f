package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/walq/walq/internal/crc32c"
)

// The format of a segment, version 1. docs/FORMAT.md is normative; a test
// compares its tables with the constants here. Everything is little endian and
// 8-byte aligned.
//
//	+----------------------------+ 0
//	| header, one page, written  |
//	| before the file has a name |
//	| and never again            |
//	+----------------------------+ 4096   shared words, 128 bytes apart
//	| tail hint                  |
//	| allocated                  |
//	| linked                     |
//	| padded                     |
//	+----------------------------+ 4608   sparse index, 16 bytes for each
//	| entry, entry, ...          |        64 KiB of the segment's size
//	+----------------------------+ data start: the next multiple of 4096
//	| frame, frame, ...          |
//	| SEAL                       |
//	+----------------------------+ segment size
//
// A frame:
//
//	 0       4       8       12  13  14  16              24
//	+---------------+-------+---+---+---+---------------+----------+------+-----+
//	| word          | CRC   |knd|flg|mdl| time          | metadata | body | 0.. |
//	+---------------+-------+---+---+---+---------------+----------+------+-----+
//
// and its word, the only part that is written more than once:
//
//	 63      56 55   52 51       42 41        29 28              0
//	+----------+-------+-----------+------------+----------------+
//	| check    | state | slot      | count      | length         |
//	+----------+-------+-----------+------------+----------------+

// Version is the format's version.
const Version = 1

// ChecksumCRC32C is the only checksum algorithm of version 1.
const ChecksumCRC32C = 1

// Magic starts a segment.
const Magic = "walqseg\n"

// Offsets of the header's fields, bytes from the start of the segment.
const (
	offMagic         = 0
	offVersion       = 8   // u32
	offAlgorithm     = 12  // u32
	offIncompatible  = 16  // u64: unknown bits: do not open
	offReadCompat    = 24  // u64: unknown bits: open read-only at most
	offCompatible    = 32  // u64: unknown bits are harmless
	offSize          = 40  // u64, bytes
	offOrdinal       = 48  // u64
	offFirst         = 56  // u64, sequence number
	offEpoch         = 64  // u64
	offPrevFirst     = 72  // u64, sequence number
	offPrevEnd       = 80  // u64, sequence number
	offDurable       = 88  // u64, position
	offSalt          = 96  // u64
	offCreated       = 104 // i64, nanoseconds since the Unix epoch
	offQueue         = 112 // 16 bytes
	offChecksum      = 4088
	headerBytes      = 4096
	offTailHint      = 4096
	offAllocated     = 4224
	offLinked        = 4352
	offPadded        = 4480
	offIndex         = 4608
	indexStrideBytes = 64 << 10
	indexEntryBytes  = 16
	pageBytes        = 4096
)

// Offsets of a frame's fields, bytes from the start of the frame.
const (
	offWord    = 0
	offCRC     = 8
	offKind    = 12
	offFlags   = 13
	offMetaLen = 14
	offTime    = 16

	// FrameHeader is the size of a frame without its content.
	FrameHeader = 24
	// SealBytes is the room that a SEAL needs; it is always kept free.
	SealBytes = FrameHeader
)

// Limits of the format.
const (
	MinSize = 64 << 10 // bytes of a segment
	MaxSize = 1 << 30

	MaxLength = 1<<29 - 1 // bytes of a frame's content
	MaxCount  = 1<<13 - 1 // messages in a batch
	MaxSlots  = 1 << 10   // participants
	MaxMeta   = 1<<16 - 1 // bytes of metadata
)

// Kinds of frames.
const (
	KindMessage = 1
	KindBatch   = 2
	KindControl = 3
)

// Header is what a segment says of itself. It never changes.
type Header struct {
	Size      int64    // bytes, a multiple of 4096
	Ordinal   uint32   // position in the chain of segments, dense
	First     uint64   // sequence number of the first message
	Epoch     uint64   // counts recoveries after a power loss
	PrevFirst uint64   // First of the predecessor; 0 for the very first
	PrevEnd   uint64   // sequence number at which the predecessor was sealed
	Durable   uint64   // the queue's durable position when it was made
	Salt      uint64   // random, enters every frame's checksum
	Created   int64    // nanoseconds since the Unix epoch
	Queue     [16]byte // identity of the queue it belongs to
}

// ErrVersion: the file was written by a newer walq, or by one with features
// that this one does not know.
var ErrVersion = errors.New("written in a format that this version of walq does not know")

// encodeHeader writes h into page, which is headerBytes long.
func encodeHeader(page []byte, h Header) {
	le := binary.LittleEndian
	clear(page)
	copy(page[offMagic:], Magic)
	le.PutUint32(page[offVersion:], Version)
	le.PutUint32(page[offAlgorithm:], ChecksumCRC32C)
	le.PutUint64(page[offSize:], uint64(h.Size))
	le.PutUint64(page[offOrdinal:], uint64(h.Ordinal))
	le.PutUint64(page[offFirst:], h.First)
	le.PutUint64(page[offEpoch:], h.Epoch)
	le.PutUint64(page[offPrevFirst:], h.PrevFirst)
	le.PutUint64(page[offPrevEnd:], h.PrevEnd)
	le.PutUint64(page[offDurable:], h.Durable)
	le.PutUint64(page[offSalt:], h.Salt)
	le.PutUint64(page[offCreated:], uint64(h.Created))
	copy(page[offQueue:], h.Queue[:])
	le.PutUint32(page[offChecksum:], crc32c.Update(0, page[:offChecksum]))
}

// DecodeHeader reads and checks a header page. A version or a feature bit that
// is not known gives ErrVersion before anything else is believed; readOnly
// tolerates bits that only a writer must know.
func DecodeHeader(page []byte, readOnly bool) (Header, error) {
	le := binary.LittleEndian
	var h Header
	if len(page) < headerBytes {
		return h, fmt.Errorf("segment header of %d bytes, want %d", len(page), headerBytes)
	}
	if string(page[offMagic:offMagic+len(Magic)]) != Magic {
		return h, errors.New("no segment: the magic bytes are wrong")
	}
	if v := le.Uint32(page[offVersion:]); v > Version {
		return h, fmt.Errorf("%w: segment version %d, known is %d", ErrVersion, v, Version)
	}
	if sum := crc32c.Update(0, page[:offChecksum]); sum != le.Uint32(page[offChecksum:]) {
		return h, fmt.Errorf("segment header checksum is %08x, computed %08x", le.Uint32(page[offChecksum:]), sum)
	}
	if v := le.Uint32(page[offVersion:]); v != Version {
		return h, fmt.Errorf("segment version %d", v)
	}
	if a := le.Uint32(page[offAlgorithm:]); a != ChecksumCRC32C {
		return h, fmt.Errorf("%w: checksum algorithm %d", ErrVersion, a)
	}
	if bits := le.Uint64(page[offIncompatible:]); bits != 0 {
		return h, fmt.Errorf("%w: incompatible features %#x", ErrVersion, bits)
	}
	if bits := le.Uint64(page[offReadCompat:]); bits != 0 && !readOnly {
		return h, fmt.Errorf("%w: features %#x allow reading only", ErrVersion, bits)
	}
	ordinal := le.Uint64(page[offOrdinal:])
	h = Header{
		Size:      int64(le.Uint64(page[offSize:])),
		Ordinal:   uint32(ordinal),
		First:     le.Uint64(page[offFirst:]),
		Epoch:     le.Uint64(page[offEpoch:]),
		PrevFirst: le.Uint64(page[offPrevFirst:]),
		PrevEnd:   le.Uint64(page[offPrevEnd:]),
		Durable:   le.Uint64(page[offDurable:]),
		Salt:      le.Uint64(page[offSalt:]),
		Created:   int64(le.Uint64(page[offCreated:])),
		Queue:     [16]byte(page[offQueue : offQueue+16]),
	}
	if ordinal > math.MaxUint32 {
		return h, fmt.Errorf("segment ordinal %d", ordinal)
	}
	return h, CheckSize(h.Size)
}

// CheckSize tells whether a segment may have this size in bytes.
func CheckSize(size int64) error {
	if size < MinSize || size > MaxSize || size%pageBytes != 0 {
		return fmt.Errorf("segment size %d: want a multiple of %d between %d and %d", size, pageBytes, MinSize, MaxSize)
	}
	return nil
}

// DataStart is the offset of the first frame in a segment of this size.
func DataStart(size int64) int64 {
	end := int64(offIndex) + indexEntries(size)*indexEntryBytes
	return (end + pageBytes - 1) &^ (pageBytes - 1)
}

func indexEntries(size int64) int64 { return (size + indexStrideBytes - 1) / indexStrideBytes }

// MaxContent is the longest content, metadata and body in bytes, of a frame in
// a segment of this size.
func MaxContent(size int64) int64 {
	room := size - DataStart(size) - SealBytes - FrameHeader
	return min(room&^7, MaxLength)
}

// frameHeader is the part of a frame between its word and its content, in two words,
// which stay in registers: CRC, kind, flags and length of the metadata, from the lowest
// bit on, and the time.
type frameHeader struct {
	bits uint64
	time int64
}

const (
	kindShift  = 8 * (offKind - offCRC)
	flagsShift = 8 * (offFlags - offCRC)
	metaShift  = 8 * (offMetaLen - offCRC)
)

func makeHeader(kind uint8, metaLen int, time int64) frameHeader {
	return frameHeader{uint64(kind)<<kindShift | uint64(uint16(metaLen))<<metaShift, time}
}

func (h frameHeader) crc() uint32  { return uint32(h.bits) }
func (h frameHeader) kind() uint8  { return uint8(h.bits >> kindShift) }
func (h frameHeader) flags() uint8 { return uint8(h.bits >> flagsShift) }
func (h frameHeader) metaLen() int { return int(h.bits >> metaShift) }

// put writes the header with the checksum crc.
func (h frameHeader) put(p []byte, crc uint32) {
	le := binary.LittleEndian
	_ = p[FrameHeader-1]
	le.PutUint64(p[offCRC:], h.bits|uint64(crc))
	le.PutUint64(p[offTime:], uint64(h.time))
}

func getHeader(p []byte) frameHeader {
	le := binary.LittleEndian
	_ = p[FrameHeader-1]
	return frameHeader{le.Uint64(p[offCRC:]), int64(le.Uint64(p[offTime:]))}
}

// checksum is the CRC of a frame: CRC32C over five little-endian words, namely
// salt; sequence number; length, count << 32, kind << 48, flags << 56; metadata
// length, CRC32C of metadata and body << 32; time. The CRC of the content
// enters as a value, so that it can be computed before the sequence number is
// known; of a batch, whose inner frames carry their own, it is zero.
func (h frameHeader) checksum(salt, seq uint64, w Word, content uint32) uint32 {
	return crc32c.Words5(salt, seq, h.sizes(w), uint64(h.metaLen())|uint64(content)<<32, uint64(h.time))
}

// checksumOver is checksum with the CRC of the content itself, nil for a batch.
func (h frameHeader) checksumOver(salt, seq uint64, w Word, content []byte) uint32 {
	return crc32c.Frame(salt, seq, h.sizes(w), uint64(h.metaLen()), uint64(h.time), content)
}

// FillBody is Fill for a message without metadata, where body has the length that was
// claimed: nearly all there is to append. It is checksumCopying and put, without a call
// between, which takes as long as it takes to sum fifty bytes.
func (s *Segment) FillBody(c Cursor, w Word, time int64, body []byte) {
	h, p := makeHeader(KindMessage, 0, time), s.r.Bytes(c.Off, w.Size())
	h.put(p, crc32c.CopyFrame(p[FrameHeader:], body, s.Salt, c.Seq, h.sizes(w), 0, uint64(h.time)))
}

// checksumCopying is checksumOver for a content that it copies from body, without
// metadata. dst is the room for content and padding.
func (h frameHeader) checksumCopying(dst, body []byte, salt, seq uint64, w Word) uint32 {
	return crc32c.CopyFrame(dst, body, salt, seq, h.sizes(w), 0, uint64(h.time))
}

// sizes is the third word under the checksum.
func (h frameHeader) sizes(w Word) uint64 {
	return uint64(w.Length()) | uint64(w.Count())<<32 | h.bits>>kindShift<<48
}

// putWord stores a word without atomicity, for frames inside a batch that is
// not yet published and for images in memory.
func putWord(p []byte, w Word) { binary.LittleEndian.PutUint64(p[offWord:], uint64(w)) }

func getWord(p []byte) Word { return Word(binary.LittleEndian.Uint64(p[offWord:])) }
