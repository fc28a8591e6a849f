package group

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"time"

	"github.com/walq/walq/internal/crc32c"
	"github.com/walq/walq/mmap"
)

// The format of a group's file, version 1. docs/FORMAT.md is normative; a test
// compares its tables with the constants here. Little endian.
//
//	+------------------------------+ 0
//	| identity, written once       |
//	+------------------------------+ 4096
//	| settings A, settings B       | 1024 bytes each; the valid record with
//	| base A, base B               | the higher generation counts; 512 bytes
//	| checkpoint A, checkpoint B   | apart
//	+------------------------------+ 8192   shared words, 128 bytes apart
//	| floor, passed, generation,   |
//	| retry, counters, paused, ... |
//	+------------------------------+ 12288  the ring, 32 bytes an entry
//	| entry 0 ...                  |
//	+------------------------------+

const (
	version = 1
	// Magic is what a group's file begins with.
	Magic        = "walqgrp\n"
	algorithmCRC = 1

	// Identity.
	grpMagic        = 0
	grpVersion      = 8  // u32
	grpAlgorithm    = 12 // u32
	grpIncompatible = 16 // u64
	grpReadCompat   = 24 // u64
	grpCompatible   = 32 // u64
	grpQueue        = 40 // 16 bytes
	grpCreated      = 56 // i64, nanoseconds since the Unix epoch
	grpEntries      = 64 // u64, entries of the ring, a power of two
	grpTopicLength  = 72 // u64
	grpTopic        = 80 // up to 255 bytes
	grpChecksum     = 4088
	identityBytes   = 4096

	// Records: generation, fields, checksum of all before it.
	grpSettings        = 4096
	grpBase            = 6144
	grpCheckpoint      = 7168
	settingsSpacing    = 1024
	recordSpacing      = 512
	settingsBytes      = 1024
	recordBytes        = 64
	recGeneration      = 0  // u64
	setLease           = 8  // i64, nanoseconds
	setMaxDeliver      = 16 // u32
	setMaxDeaths       = 20 // u32
	setFlags           = 24 // u32; bit 0: may lose
	setBackOffs        = 28 // u32, how many
	setBackOff         = 32 // i64 each, nanoseconds, up to 16
	setDeadLetterBytes = 160
	setDeadLetter      = 168 // up to 848 bytes
	setChecksum        = 1020
	basOrdinal         = 8  // u64
	basSeq             = 16 // u64, sequence number
	basEpoch           = 24 // u64, of the queue
	basBoot            = 32 // 16 bytes
	chkSeq             = 8  // u64: all messages of the group below are finished
	chkBase            = 16 // u64, generation of the base that it belongs to
	recChecksum        = 60 // u32

	// Shared words.
	grpFloor        = 8192 // ordinal
	grpPassed       = 8320 // generation of the base, modulo 2^16, in the high 16 bits; distance from its sequence number
	grpGeneration   = 8448 // of the base that counts
	grpRetry        = 8576 // grows with everything that is sent back
	grpFinished     = 8704 // counters, for information
	grpRedelivered  = 8712
	grpDeadLettered = 8720
	grpPaused       = 8832 // not 0: nothing is delivered
	grpDelays       = 8840 // not 0: there is a delay file
	grpWanted       = 8960 // not 0: somebody waits for the floor to rise
	grpFreed        = 9088 // grows when a message is finished for which another one of its key waited

	grpRing     = 12288
	entryBytes  = 32
	entryWord   = 0  // u64, see Word
	entrySeq    = 8  // u64: distance from the base's sequence number, lap in the high 24 bits
	entryTime   = 16 // u64: milliseconds, tag of the lease in the high 16 bits
	entryMark   = 24 // u64: ordinal whose end somebody waits for
	lapBits     = 24
	distBits    = 64 - lapBits
	passedBits  = 48
	timeBits    = 48
	maxDistance = 1<<distBits - 1

	// MinEntries: one message in flight at a time.
	MinEntries = 2
	// MaxEntries keeps the file below 33 MiB.
	MaxEntries = 1 << 20

	// Incompatible features.
	featureByKey = 1 << 0 // messages of one key are handed out in order, one at a time
	featuresAll  = featureByKey

	maxTopic      = 255
	maxDeadLetter = 848
	maxBackOffs   = 16
)

// Errors of the format.
var (
	// ErrVersion: the file was written in a format that this version does not know.
	ErrVersion = errors.New("made by a newer version of walq")

	errMagic     = errors.New("the magic bytes are wrong")
	errNoRecords = errors.New("neither of the two records is valid")
)

// Identity is what never changes of a group.
type Identity struct {
	Queue   [16]byte
	Created int64 // nanoseconds since the Unix epoch
	Entries int   // of the ring, a power of two; one less may be in flight
	Topic   string
	ByKey   bool // an ordinal is claimed only when all before it that have its key are finished
}

// Settings are what a group was made with, or what was set later.
type Settings struct {
	Lease      time.Duration
	MaxDeliver uint32 // 0: no limit
	MaxDeaths  uint32 // 0: no limit
	MayLose    bool
	BackOff    []time.Duration
	DeadLetter string // path of a queue
}

// A Base is where counting starts.
type Base struct {
	Generation uint64
	Ordinal    uint64
	Seq        uint64
	Epoch      uint64 // of the queue
	Boot       [16]byte
}

// FileBytes is the size of the file of a group whose ring has so many entries.
func FileBytes(entries int) int64 { return grpRing + entryBytes*int64(entries) }

// Check tells whether a group can have this identity.
func (id Identity) Check() error {
	if id.Entries < MinEntries || id.Entries > MaxEntries || bits.OnesCount(uint(id.Entries)) != 1 {
		return fmt.Errorf("a ring of %d entries: want a power of two between %d and %d", id.Entries, MinEntries, MaxEntries)
	}
	if len(id.Topic) > maxTopic {
		return fmt.Errorf("a topic of %d bytes: at most %d", len(id.Topic), maxTopic)
	}
	return nil
}

func encodeIdentity(page []byte, id Identity) {
	le := binary.LittleEndian
	clear(page)
	copy(page[grpMagic:], Magic)
	le.PutUint32(page[grpVersion:], version)
	le.PutUint32(page[grpAlgorithm:], algorithmCRC)
	if id.ByKey {
		le.PutUint64(page[grpIncompatible:], featureByKey)
	}
	copy(page[grpQueue:], id.Queue[:])
	le.PutUint64(page[grpCreated:], uint64(id.Created))
	le.PutUint64(page[grpEntries:], uint64(id.Entries))
	le.PutUint64(page[grpTopicLength:], uint64(len(id.Topic)))
	copy(page[grpTopic:], id.Topic)
	le.PutUint32(page[grpChecksum:], crc32c.Update(0, page[:grpChecksum]))
}

func decodeIdentity(page []byte) (id Identity, err error) {
	le := binary.LittleEndian
	if string(page[:len(Magic)]) != Magic {
		return id, errMagic
	}
	if v := le.Uint32(page[grpVersion:]); v > version {
		return id, fmt.Errorf("%w: version %d, known is %d", ErrVersion, v, version)
	}
	if sum := crc32c.Update(0, page[:grpChecksum]); sum != le.Uint32(page[grpChecksum:]) {
		return id, fmt.Errorf("checksum of the identity is %08x, computed %08x", le.Uint32(page[grpChecksum:]), sum)
	}
	if v := le.Uint32(page[grpVersion:]); v != version {
		return id, fmt.Errorf("version %d", v)
	}
	if a := le.Uint32(page[grpAlgorithm:]); a != algorithmCRC {
		return id, fmt.Errorf("%w: checksum algorithm %d", ErrVersion, a)
	}
	features := le.Uint64(page[grpIncompatible:])
	if b := features&^featuresAll | le.Uint64(page[grpReadCompat:]); b != 0 {
		return id, fmt.Errorf("%w: features %#x", ErrVersion, b)
	}
	window, topic := le.Uint64(page[grpEntries:]), le.Uint64(page[grpTopicLength:])
	if window > MaxEntries || topic > maxTopic {
		return id, fmt.Errorf("a ring of %d entries, a topic of %d bytes", window, topic)
	}
	id.Queue = [16]byte(page[grpQueue : grpQueue+16])
	id.Created = int64(le.Uint64(page[grpCreated:]))
	id.Entries = int(window)
	id.Topic = string(page[grpTopic : grpTopic+topic])
	id.ByKey = features&featureByKey != 0
	return id, id.Check()
}

// Check tells whether the settings can be used.
func (s Settings) Check() error {
	switch {
	case s.Lease <= 0:
		return fmt.Errorf("a lease of %v", s.Lease)
	case len(s.BackOff) > maxBackOffs:
		return fmt.Errorf("%d steps of back-off: at most %d", len(s.BackOff), maxBackOffs)
	case len(s.DeadLetter) > maxDeadLetter:
		return fmt.Errorf("a path of %d bytes: at most %d", len(s.DeadLetter), maxDeadLetter)
	}
	for _, d := range s.BackOff {
		if d < 0 {
			return fmt.Errorf("a back-off of %v", d)
		}
	}
	return nil
}

func encodeSettings(rec []byte, generation uint64, s Settings) {
	le := binary.LittleEndian
	clear(rec)
	le.PutUint64(rec[recGeneration:], generation)
	le.PutUint64(rec[setLease:], uint64(s.Lease))
	le.PutUint32(rec[setMaxDeliver:], s.MaxDeliver)
	le.PutUint32(rec[setMaxDeaths:], s.MaxDeaths)
	if s.MayLose {
		le.PutUint32(rec[setFlags:], 1)
	}
	le.PutUint32(rec[setBackOffs:], uint32(len(s.BackOff)))
	for i, d := range s.BackOff {
		le.PutUint64(rec[setBackOff+8*i:], uint64(d))
	}
	le.PutUint64(rec[setDeadLetterBytes:], uint64(len(s.DeadLetter)))
	copy(rec[setDeadLetter:setChecksum], s.DeadLetter)
	le.PutUint32(rec[setChecksum:], crc32c.Update(0, rec[:setChecksum]))
}

func decodeSettings(rec []byte) (s Settings, err error) {
	le := binary.LittleEndian
	steps, path := le.Uint32(rec[setBackOffs:]), le.Uint64(rec[setDeadLetterBytes:])
	if steps > maxBackOffs || path > maxDeadLetter {
		return s, fmt.Errorf("settings: %d steps of back-off, a path of %d bytes", steps, path)
	}
	s = Settings{
		Lease:      time.Duration(le.Uint64(rec[setLease:])),
		MaxDeliver: le.Uint32(rec[setMaxDeliver:]),
		MaxDeaths:  le.Uint32(rec[setMaxDeaths:]),
		MayLose:    le.Uint32(rec[setFlags:])&1 != 0,
		DeadLetter: string(rec[setDeadLetter : setDeadLetter+path]),
	}
	for i := range int(steps) {
		s.BackOff = append(s.BackOff, time.Duration(le.Uint64(rec[setBackOff+8*i:])))
	}
	return s, s.Check()
}

func encodeBase(rec []byte, b Base) {
	le := binary.LittleEndian
	clear(rec)
	le.PutUint64(rec[basOrdinal:], b.Ordinal)
	le.PutUint64(rec[basSeq:], b.Seq)
	le.PutUint64(rec[basEpoch:], b.Epoch)
	copy(rec[basBoot:], b.Boot[:])
	sealRecord(rec, b.Generation)
}

func decodeBase(rec []byte) Base {
	le := binary.LittleEndian
	return Base{
		Generation: le.Uint64(rec[recGeneration:]),
		Ordinal:    le.Uint64(rec[basOrdinal:]),
		Seq:        le.Uint64(rec[basSeq:]),
		Epoch:      le.Uint64(rec[basEpoch:]),
		Boot:       [16]byte(rec[basBoot : basBoot+16]),
	}
}

func encodeCheckpoint(rec []byte, generation, seq, base uint64) {
	clear(rec)
	binary.LittleEndian.PutUint64(rec[chkSeq:], seq)
	binary.LittleEndian.PutUint64(rec[chkBase:], base)
	sealRecord(rec, generation)
}

func decodeCheckpoint(rec []byte) (seq, base uint64) {
	return binary.LittleEndian.Uint64(rec[chkSeq:]), binary.LittleEndian.Uint64(rec[chkBase:])
}

func sealRecord(rec []byte, generation uint64) {
	binary.LittleEndian.PutUint64(rec[recGeneration:], generation)
	binary.LittleEndian.PutUint32(rec[recChecksum:], crc32c.Update(0, rec[:recChecksum]))
}

// newestRecord picks the valid record with the higher generation of two of n bytes
// that lie spacing apart, and says where the next one goes. The checksum is in the
// last four bytes.
func newestRecord(both []byte, n, spacing int) (rec []byte, generation uint64, next []byte, err error) {
	le := binary.LittleEndian
	for i := range 2 {
		// Others may replace it meanwhile: what is checked is what is decoded.
		r := bytes.Clone(both[i*spacing : i*spacing+n])
		g := le.Uint64(r[recGeneration:])
		if g == 0 || g == math.MaxUint64 || le.Uint32(r[n-4:]) != crc32c.Update(0, r[:n-4]) {
			continue
		}
		if rec == nil || g > generation {
			other := (1 - i) * spacing
			rec, generation, next = r, g, both[other:other+n]
		}
	}
	if rec == nil {
		return nil, 0, both[:n], errNoRecords
	}
	return rec, generation, next, nil
}

func putWord(p []byte, v uint64) { binary.LittleEndian.PutUint64(p, v) }

// validRecord reports whether a record of recordBytes counts for anything.
func validRecord(rec []byte) bool {
	g := binary.LittleEndian.Uint64(rec[recGeneration:])
	return g != 0 && g != math.MaxUint64 && binary.LittleEndian.Uint32(rec[recChecksum:]) == crc32c.Update(0, rec[:recChecksum])
}

// sealed reports whether a record of any length counts for anything. Its checksum is in
// the last four bytes.
func sealed(rec []byte) bool {
	g, n := binary.LittleEndian.Uint64(rec[recGeneration:]), len(rec)-4
	return g != 0 && g != math.MaxUint64 && binary.LittleEndian.Uint32(rec[n:]) == crc32c.Update(0, rec[:n])
}

// empty reports whether nobody wrote a record yet.
func empty(rec []byte) bool { return len(bytes.Trim(rec, "\x00")) == 0 }

// identityDiffers is 0 if the checksum of an identity is right.
func identityDiffers(page []byte) uint32 {
	return binary.LittleEndian.Uint32(page[grpChecksum:]) ^ crc32c.Update(0, page[:grpChecksum])
}

// load copies n bytes of a file, a multiple of eight, word by word: others may replace a
// record meanwhile. Its checksum tells whether it is whole.
func load(r *mmap.Region, off, n int64) []byte {
	p := make([]byte, n)
	for i := int64(0); i < n; i += 8 {
		binary.LittleEndian.PutUint64(p[i:], r.Word(off+i).Load())
	}
	return p
}

// store puts back what load copied, where it was changed.
func store(r *mmap.Region, off int64, p []byte) {
	for i := int64(0); i < int64(len(p)); i += 8 {
		w, v := r.Word(off+i), binary.LittleEndian.Uint64(p[i:])
		if w.Load() != v {
			w.Store(v)
		}
	}
}
