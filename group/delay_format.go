package group

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/walq/walq/internal/crc32c"
)

// The format of a group's delay file, version 1. docs/FORMAT.md is normative; a test
// compares its tables with the constants here. Little endian.
//
//	+------------------------------+ 0
//	| identity, written once       |
//	+------------------------------+ 4096   shared words, 128 bytes apart
//	| blocks, suspect, ...         |
//	+------------------------------+ 8192
//	| summaries, 16 bytes a block  | for as many blocks as the file may ever have
//	+------------------------------+ a multiple of 4096
//	| block 0: 512 cells, 32 bytes |
//	| each; block 1 ...            |
//	+------------------------------+

const (
	delayMagic = "walqdly\n"

	// Identity, beside what that of a group has at the same places.
	dlyBlocksAtMost = 64 // u64
	dlyChecksum     = 4088

	// Shared words.
	dlyBlocks  = 4096 // so many blocks are allocated, and in use
	dlySuspect = 4224 // not 0: a sync failed, and nothing was synced as a whole since
	dlyChanges = 4352 // grows whenever something is to be looked at sooner
	dlyForget  = 4608 // generation of a base that was asked for: what was delayed before is void
	dlyOffset  = 4480 // milliseconds of the wall clock at the boot, the latest that was seen

	// Summary of a block.
	dlySummaries = 8192
	summaryBytes = 16
	sumBound     = 0 // u64: version in the low 24 bits; when to look at the block at the latest
	sumRoom      = 8 // u64: version in the low 48 bits; cells below this one are not free
	boundBits    = 40
	roomBits     = 16

	// A cell.
	cellBytes     = 32
	cellWord      = 0  // u64, as of an entry of the ring
	cellSeq       = 8  // u64, sequence number
	cellTime      = 16 // u64, as of an entry of the ring
	cellCheck     = 24 // u64: checksum in the low 32 bits, number of the entry of the ring above
	cellsPerBlock = 512
	blockBytes    = cellsPerBlock * cellBytes
	entryBits     = 20 // of the number of an entry

	// MaxDelayBlocks is how many blocks a delay file may have: 4,194,304 messages,
	// 128 MiB.
	MaxDelayBlocks = 8192
)

// A delayIdentity is what never changes of a delay file.
type delayIdentity struct {
	Queue   [16]byte
	Created int64 // of the group: a group of the same name made later has another
	Blocks  int   // at most
}

func (id delayIdentity) blocksAt() int64 {
	return (dlySummaries + summaryBytes*int64(id.Blocks) + identityBytes - 1) &^ (identityBytes - 1)
}

// fileBytes is the size of the file with so many blocks.
func (id delayIdentity) fileBytes(blocks int) int64 {
	return id.blocksAt() + blockBytes*int64(blocks)
}

func encodeDelayIdentity(page []byte, id delayIdentity) {
	le := binary.LittleEndian
	clear(page)
	copy(page[grpMagic:], delayMagic)
	le.PutUint32(page[grpVersion:], version)
	le.PutUint32(page[grpAlgorithm:], algorithmCRC)
	copy(page[grpQueue:], id.Queue[:])
	le.PutUint64(page[grpCreated:], uint64(id.Created))
	le.PutUint64(page[dlyBlocksAtMost:], uint64(id.Blocks))
	le.PutUint32(page[dlyChecksum:], crc32c.Update(0, page[:dlyChecksum]))
}

func decodeDelayIdentity(page []byte) (id delayIdentity, err error) {
	le := binary.LittleEndian
	if string(page[:len(delayMagic)]) != delayMagic {
		return id, errMagic
	}
	v := le.Uint32(page[grpVersion:])
	if v > version {
		return id, fmt.Errorf("%w: version %d, known is %d", ErrVersion, v, version)
	}
	if sum := crc32c.Update(0, page[:dlyChecksum]); sum != le.Uint32(page[dlyChecksum:]) {
		return id, fmt.Errorf("checksum of the identity is %08x, computed %08x", le.Uint32(page[dlyChecksum:]), sum)
	}
	if v != version {
		return id, fmt.Errorf("version %d", v)
	}
	if a := le.Uint32(page[grpAlgorithm:]); a != algorithmCRC {
		return id, fmt.Errorf("%w: checksum algorithm %d", ErrVersion, a)
	}
	if b := le.Uint64(page[grpIncompatible:]) | le.Uint64(page[grpReadCompat:]); b != 0 {
		return id, fmt.Errorf("%w: features %#x", ErrVersion, b)
	}
	blocks := le.Uint64(page[dlyBlocksAtMost:])
	if blocks == 0 || blocks > MaxDelayBlocks {
		return id, fmt.Errorf("at most %d blocks: want 1 to %d", blocks, MaxDelayBlocks)
	}
	id.Queue = [16]byte(page[grpQueue : grpQueue+16])
	id.Created = int64(le.Uint64(page[grpCreated:]))
	id.Blocks = int(blocks)
	return id, nil
}

// checkCell is the fourth word of a cell: what it stands for, so that one that a power
// loss tore is told from one that is whole.
func (id delayIdentity) checkCell(cell, lap, seq, entry uint64) uint64 {
	le := binary.LittleEndian
	var b [56]byte
	copy(b[:], id.Queue[:])
	le.PutUint64(b[16:], uint64(id.Created))
	le.PutUint64(b[24:], cell)
	le.PutUint64(b[32:], lap)
	le.PutUint64(b[40:], seq)
	le.PutUint64(b[48:], entry)
	return uint64(crc32c.Update(0, b[:])) | entry<<32
}

// A bound is when a block has to be looked at, in milliseconds since the group was made:
// never too late. The version tells that something was added since it was loaded.
const (
	boundNever   = 1<<boundBits - 1
	versionBits  = 64 - boundBits
	Never        = int64(math.MaxInt64) // as a time
	roomVersions = 64 - roomBits
)

// bound makes the bound after old, for a time in milliseconds since the Unix epoch.
func (id delayIdentity) bound(old uint64, ms int64) uint64 {
	v := uint64(boundNever)
	if ms != Never {
		v = uint64(min(max(ms-id.Created/int64(time.Millisecond), 0), boundNever-1))
	}
	return v<<versionBits | (old+1)&(1<<versionBits-1)
}

func (id delayIdentity) boundTime(bound uint64) int64 {
	switch v := bound >> versionBits; v {
	case 0:
		return math.MinInt64 // whatever the clock says
	case boundNever:
		return Never
	default:
		return int64(v) + id.Created/int64(time.Millisecond)
	}
}

// room makes the room word after old.
func room(old uint64, cell int) uint64 {
	return uint64(cell)<<roomVersions | (old+1)&(1<<roomVersions-1)
}

func roomFrom(v uint64) int { return int(v >> roomVersions) }

// A place names a cell in the time word of an entry of the ring that is moving.
func makePlace(cell, lap uint64) int64 { return int64(cell<<lapBits | lap) }

func placeOf(ms int64) (cell, lap uint64) {
	return uint64(ms) >> lapBits, uint64(ms) & (1<<lapBits - 1)
}
