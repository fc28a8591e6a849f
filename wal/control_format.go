package wal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/walq/walq/internal/crc32c"
	"github.com/walq/walq/segment"
)

// The format of the control file, version 1. docs/FORMAT.md is normative; a
// test compares its tables with the constants here. Little endian.
//
//	+------------------------------+ 0
//	| identity, written once       |
//	+------------------------------+ 4096
//	| settings A, settings B       | 512 bytes apart; the valid record with
//	| boot A, boot B               | the higher generation counts
//	+------------------------------+ 8192   shared words, 128 bytes apart
//	| durable position, sequence   |
//	| settled position             |
//	| poison                       |
//	| sync intent                  |
//	| gathering lock               |
//	| oldest kept sequence number  |
//	| reason of the poison         |
//	+------------------------------+ 12288  waiters: for each of four reasons
//	| summary, 16 leaf words       |        256 bytes
//	+------------------------------+ 16384  participants, 64 bytes each
//	| slot 0 ... slot 1023         |
//	+------------------------------+ 81920

const (
	controlVersion = 1
	controlMagic   = "walqctl\n"
	identityBytes  = 4096
	controlBytes   = 81920

	// Identity.
	ctlMagic        = 0
	ctlVersion      = 8  // u32
	ctlAlgorithm    = 12 // u32
	ctlIncompatible = 16 // u64
	ctlReadCompat   = 24 // u64
	ctlCompatible   = 32 // u64
	ctlQueue        = 40 // 16 bytes
	ctlCreated      = 56 // i64, nanoseconds since the Unix epoch
	ctlSlots        = 64 // u64
	ctlChecksum     = 4088

	// Records: generation, fields, checksum of all before it.
	ctlSettings    = 4096
	ctlBoot        = 5120
	recordSpacing  = 512
	recordBytes    = 64
	recChecksum    = 60 // u32
	recGeneration  = 0  // u64
	setSegmentSize = 8  // u64, bytes
	setMaxBytes    = 16 // u64, bytes; 0: no limit
	setMaxAge      = 24 // i64, nanoseconds; 0: no limit
	setDurability  = 32 // u32
	setFlags       = 36 // u32; bit 0: group access, bit 1: appends wait when it is full
	bootID         = 8  // 16 bytes
	bootEpoch      = 24 // u64
	bootClean      = 32 // u64: 1 after an orderly end of the last participant
	bootLock       = 40 // u64: inode number of walq.lock when this record was written; 0: not known
	bootControl    = 48 // u64: likewise of walq.ctl

	// Shared words.
	ctlDurable       = 8192 // position
	ctlDurableSeq    = 8200 // sequence number of the first message not durable
	ctlDurableFirst  = 8208 // first sequence number of the segment that durable lies in; a hint
	ctlTrimTo        = 8216 // sequence number: oldest is about to be raised to it; in the sector of durable
	ctlTrimCheck     = 8224 // its complement
	ctlSettled       = 8320 // position
	ctlSettledFirst  = 8328 // likewise
	ctlNewest        = 8336 // first sequence number of the last segment that was given its name
	ctlPoison        = 8448 // 0 none, 1 being written, 2 poisoned
	ctlPoisonTime    = 8456 // i64, nanoseconds since the Unix epoch
	ctlPoisonSlot    = 8464
	ctlPoisonLength  = 8472
	ctlIntentOwner   = 8576 // tag of the syncer; all ones: a standing intent
	ctlIntentEnd     = 8584 // position
	ctlGather        = 8704 // tag of the holder
	ctlOldest        = 8832 // sequence number
	ctlPoisonReason  = 9216 // text
	poisonReasonSize = 1024

	ctlWaiters    = 12288
	waiterSpacing = 256 // from one reason's words to the next's
	waiterTop     = 0   // the summary
	waiterLeaves  = 128 // 16 leaf words

	ctlParticipants = 16384
	participantSize = 64
	parIncarnation  = 0  // u64, grows by one with each owner of the slot
	parState        = 8  // u64: 0 left in order, 1 in use or died
	parPID          = 16 // u64, information only
	parSince        = 24 // i64, nanoseconds since the Unix epoch
	parRole         = 32 // u64
	parVersion      = 40 // u64
)

// Lock bytes of walq.lock.
const (
	lockRecovery = 0
	lockTrim     = 1
	lockIndex    = 2
	lockPrepare  = 3
	lockSlots    = 64 // first slot's byte
)

// Durability says when an append is acknowledged.
type Durability uint32

// The durabilities.
const (
	SyncAlways   Durability = 1
	SyncInterval Durability = 2
	SyncNever    Durability = 3
)

// Settings are what a queue was made with, or what was set later.
type Settings struct {
	SegmentSize int64
	MaxBytes    int64
	MaxAge      time.Duration
	Durability  Durability
	GroupAccess bool
	// WaitWhenFull: who appends waits where others would be told ErrFull. The log itself
	// does not wait: its callers do.
	WaitWhenFull bool
}

// Check tells whether the settings can be used.
func (s Settings) Check() error {
	if err := segment.CheckSize(s.SegmentSize); err != nil {
		return err
	}
	if s.MaxBytes < 0 || s.MaxAge < 0 {
		return fmt.Errorf("a limit is negative: %d bytes, %v", s.MaxBytes, s.MaxAge)
	}
	if s.Durability < SyncAlways || s.Durability > SyncNever {
		return fmt.Errorf("durability %d", s.Durability)
	}
	return nil
}

// identity is the part of the control file that never changes.
type identity struct {
	queue   [16]byte
	created int64
}

func encodeIdentity(page []byte, id identity) {
	le := binary.LittleEndian
	clear(page)
	copy(page[ctlMagic:], controlMagic)
	le.PutUint32(page[ctlVersion:], controlVersion)
	le.PutUint32(page[ctlAlgorithm:], segment.ChecksumCRC32C)
	copy(page[ctlQueue:], id.queue[:])
	le.PutUint64(page[ctlCreated:], uint64(id.created))
	le.PutUint64(page[ctlSlots:], segment.MaxSlots)
	le.PutUint32(page[ctlChecksum:], crc32c.Update(0, page[:ctlChecksum]))
}

var errMagic = errors.New("the magic bytes are wrong")

func decodeIdentity(page []byte, readOnly bool) (identity, error) {
	le := binary.LittleEndian
	var id identity
	if string(page[:len(controlMagic)]) != controlMagic {
		return id, errMagic
	}
	if v := le.Uint32(page[ctlVersion:]); v > controlVersion {
		return id, fmt.Errorf("%w: control file version %d, known is %d", segment.ErrVersion, v, controlVersion)
	}
	if sum := crc32c.Update(0, page[:ctlChecksum]); sum != le.Uint32(page[ctlChecksum:]) {
		return id, fmt.Errorf("checksum of the identity is %08x, computed %08x", le.Uint32(page[ctlChecksum:]), sum)
	}
	if v := le.Uint32(page[ctlVersion:]); v != controlVersion {
		return id, fmt.Errorf("control file version %d", v)
	}
	if a := le.Uint32(page[ctlAlgorithm:]); a != segment.ChecksumCRC32C {
		return id, fmt.Errorf("%w: checksum algorithm %d", segment.ErrVersion, a)
	}
	if bits := le.Uint64(page[ctlIncompatible:]); bits != 0 {
		return id, fmt.Errorf("%w: incompatible features %#x", segment.ErrVersion, bits)
	}
	if bits := le.Uint64(page[ctlReadCompat:]); bits != 0 && !readOnly {
		return id, fmt.Errorf("%w: features %#x allow reading only", segment.ErrVersion, bits)
	}
	if n := le.Uint64(page[ctlSlots:]); n != segment.MaxSlots {
		return id, fmt.Errorf("%w: %d slots", segment.ErrVersion, n)
	}
	id.queue = [16]byte(page[ctlQueue : ctlQueue+16])
	id.created = int64(le.Uint64(page[ctlCreated:]))
	return id, nil
}

// boot is what the control file knows of the run of the machine in which the
// queue was last used, and of how that ended.
type boot struct {
	id    [16]byte
	epoch uint64
	clean bool
	inodes
}

// inodes number the files whose identity counts: locks belong to a file, not to its
// name, and another control file is a copy. 0: not known.
type inodes struct{ lock, control uint64 }

// copied reports whether the queue's files were copied since the record was written.
func (b boot) copied(now inodes) bool {
	return b.control != 0 && now.control != 0 && b.control != now.control
}

// locksElsewhere reports whether somebody may have the queue open of whom the lock
// file of now knows nothing, because it was put in the place of theirs.
func (b boot) locksElsewhere(id [16]byte, now inodes) bool {
	return !b.clean && b.id == id && !b.copied(now) && b.lock != 0 && now.lock != 0 && b.lock != now.lock
}

// Two records of a kind alternate, so that a torn write leaves the other one
// valid: records are replaced by writing the one that does not count.

func encodeSettings(rec []byte, generation uint64, s Settings) {
	le := binary.LittleEndian
	clear(rec)
	le.PutUint64(rec[setSegmentSize:], uint64(s.SegmentSize))
	le.PutUint64(rec[setMaxBytes:], uint64(s.MaxBytes))
	le.PutUint64(rec[setMaxAge:], uint64(s.MaxAge))
	le.PutUint32(rec[setDurability:], uint32(s.Durability))
	var flags uint32
	if s.GroupAccess {
		flags |= 1
	}
	if s.WaitWhenFull {
		flags |= 2
	}
	le.PutUint32(rec[setFlags:], flags)
	sealRecord(rec, generation)
}

func decodeSettings(rec []byte) Settings {
	le := binary.LittleEndian
	return Settings{
		SegmentSize: int64(le.Uint64(rec[setSegmentSize:])),
		MaxBytes:    int64(le.Uint64(rec[setMaxBytes:])),
		MaxAge:      time.Duration(le.Uint64(rec[setMaxAge:])),
		Durability:  Durability(le.Uint32(rec[setDurability:])),
		GroupAccess: le.Uint32(rec[setFlags:])&1 != 0,

		WaitWhenFull: le.Uint32(rec[setFlags:])&2 != 0,
	}
}

func encodeBoot(rec []byte, generation uint64, b boot) {
	le := binary.LittleEndian
	clear(rec)
	copy(rec[bootID:], b.id[:])
	le.PutUint64(rec[bootEpoch:], b.epoch)
	if b.clean {
		le.PutUint64(rec[bootClean:], 1)
	}
	le.PutUint64(rec[bootLock:], b.lock)
	le.PutUint64(rec[bootControl:], b.control)
	sealRecord(rec, generation)
}

func decodeBoot(rec []byte) boot {
	le := binary.LittleEndian
	return boot{
		id:     [16]byte(rec[bootID : bootID+16]),
		epoch:  le.Uint64(rec[bootEpoch:]),
		clean:  le.Uint64(rec[bootClean:]) == 1,
		inodes: inodes{le.Uint64(rec[bootLock:]), le.Uint64(rec[bootControl:])},
	}
}

func sealRecord(rec []byte, generation uint64) {
	binary.LittleEndian.PutUint64(rec[recGeneration:], generation)
	binary.LittleEndian.PutUint32(rec[recChecksum:], crc32c.Update(0, rec[:recChecksum]))
}

// newestRecord picks the valid record with the higher generation of the two at
// both[0:] and both[recordSpacing:], and says where the next one goes.
func newestRecord(both []byte) (rec []byte, generation uint64, next []byte, err error) {
	le := binary.LittleEndian
	for i := 0; i < 2; i++ {
		// Others may replace it meanwhile: what is checked is what is decoded.
		r := bytes.Clone(both[i*recordSpacing : i*recordSpacing+recordBytes])
		g := le.Uint64(r[recGeneration:])
		if g == 0 || g == math.MaxUint64 || le.Uint32(r[recChecksum:]) != crc32c.Update(0, r[:recChecksum]) {
			continue
		}
		if rec == nil || g > generation {
			other := (1 - i) * recordSpacing
			rec, generation, next = r, g, both[other:other+recordBytes]
		}
	}
	if rec == nil {
		return nil, 0, nil, errors.New("neither of the two records is valid")
	}
	return rec, generation, next, nil
}

// A Position names a place in the log in one word that grows along it: ordinal
// of the segment in the high 32 bits, offset/8 in the low.
type Position uint64

func makePosition(ordinal uint32, off int64) Position {
	return Position(uint64(ordinal)<<32 | uint64(off)>>3)
}

func (p Position) ordinal() uint32 { return uint32(p >> 32) }
func (p Position) off() int64      { return int64(p&math.MaxUint32) << 3 }

func (p Position) String() string { return fmt.Sprintf("segment %d offset %d", p.ordinal(), p.off()) }

func putWord(p []byte, v uint64) { binary.LittleEndian.PutUint64(p, v) }

func getWord(p []byte) uint64 { return binary.LittleEndian.Uint64(p) }
