package wal

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/walq/walq/mmap"
	"github.com/walq/walq/segment"
)

// control is the mapped control file.
type control struct {
	identity
	r *mmap.Region
	f *mmap.File

	// Taken by those who replace records within this handle; between
	// processes the recovery lock excludes them.
	records sync.Mutex
}

func openControl(dir *mmap.Dir, readOnly bool) (*control, error) {
	f, err := dir.Open(controlName, readOnly)
	if err != nil {
		return nil, err
	}
	c, err := mapControl(f, readOnly)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return c, nil
}

func mapControl(f *mmap.File, readOnly bool) (*control, error) {
	page := make([]byte, identityBytes)
	size, err := f.Size()
	if err == nil {
		_, err = f.ReadAt(page, 0)
	}
	if err != nil && err != io.EOF {
		return nil, err
	}
	id, err := decodeIdentity(page, readOnly)
	switch {
	case err == errMagic:
		return nil, fmt.Errorf("%s: %w", f.Path(), ErrNotQueue)
	case errors.Is(err, segment.ErrVersion):
		return nil, fmt.Errorf("%s: %w", f.Path(), err)
	case err != nil:
		return nil, &CorruptError{Path: f.Path(), Reason: err.Error()}
	case size != controlBytes:
		return nil, &CorruptError{Path: f.Path(), Offset: size, Reason: fmt.Sprintf("the control file has %d bytes, want %d", size, controlBytes)}
	}
	r, err := f.Map(controlBytes, readOnly)
	if err != nil {
		return nil, err
	}
	c := &control{identity: id, r: r, f: f}
	if _, err = c.settings(); err == nil {
		_, err = c.boot()
	}
	if err != nil {
		r.Unmap()
		return nil, err
	}
	return c, nil
}

func (c *control) close() error {
	c.r.Unmap()
	return c.f.Close()
}

func (c *control) word(off int64) *atomic.Uint64 { return c.r.Word(off) }

func (c *control) durable() Position { return Position(c.word(ctlDurable).Load()) }

// settled is the position below which every frame is final.
func (c *control) settled() Position {
	return Position(max(c.word(ctlSettled).Load(), c.word(ctlDurable).Load()))
}

// raiseSettled tells everyone that all frames below off in s, and before s, are
// final.
func (c *control) raiseSettled(s *seg, off int64) {
	segment.RaiseMax(c.word(ctlSettled), uint64(s.position(off)))
	segment.RaiseMax(c.word(ctlSettledFirst), s.First)
}

// raiseDurable tells everyone that the log is on stable storage up to a place in
// s. What names the segment follows the position, and never leads.
func (c *control) raiseDurable(s *seg, at segment.Cursor) {
	segment.RaiseMax(c.word(ctlDurable), uint64(s.position(at.Off)))
	segment.RaiseMax(c.word(ctlDurableSeq), at.Seq)
	segment.RaiseMax(c.word(ctlDurableFirst), s.First)
}

// announceTrim says, in the sector of the durable position and before that is
// raised, that everything below first is about to go.
func (c *control) announceTrim(first uint64) {
	c.word(ctlTrimCheck).Store(^first)
	c.word(ctlTrimTo).Store(first)
}

// announced is the number to which trimming was to raise the oldest one, 0 if it
// did, or if there is none.
func (c *control) announced() uint64 {
	to := c.word(ctlTrimTo).Load()
	if c.word(ctlTrimCheck).Load() != ^to || to <= c.oldest() {
		return 0
	}
	return to
}

func (c *control) oldest() uint64 { return c.word(ctlOldest).Load() }

func (c *control) record(off int64) (rec []byte, generation uint64, next []byte, err error) {
	for range 10 { // both may be replaced while they are looked at, though hardly again and again
		rec, generation, next, err = newestRecord(c.r.Bytes(off, 2*recordSpacing))
		if err == nil {
			return
		}
	}
	return nil, 0, nil, &CorruptError{Path: c.r.Path(), Offset: off, Reason: err.Error()}
}

func (c *control) settings() (Settings, error) {
	c.records.Lock()
	defer c.records.Unlock()
	rec, _, _, err := c.record(ctlSettings)
	if err != nil {
		return Settings{}, err
	}
	s := decodeSettings(rec)
	if err := s.Check(); err != nil {
		return s, &CorruptError{Path: c.r.Path(), Offset: ctlSettings, Reason: err.Error()}
	}
	return s, nil
}

// writeSettings replaces the settings record. The caller holds the trim lock and
// syncs afterwards.
func (c *control) writeSettings(s Settings) error {
	c.records.Lock()
	defer c.records.Unlock()
	_, generation, next, err := c.record(ctlSettings)
	if err != nil {
		return err
	}
	encodeSettings(next, generation+1, s)
	return nil
}

func (c *control) boot() (boot, error) {
	c.records.Lock()
	defer c.records.Unlock()
	rec, _, _, err := c.record(ctlBoot)
	if err != nil {
		return boot{}, err
	}
	return decodeBoot(rec), nil
}

// writeBoot replaces the boot record. The caller holds the recovery lock
// exclusively and syncs afterwards.
func (c *control) writeBoot(b boot) error {
	c.records.Lock()
	defer c.records.Unlock()
	_, generation, next, err := c.record(ctlBoot)
	if err != nil {
		return err
	}
	encodeBoot(next, generation+1, b)
	return nil
}

func (c *control) sync() error { return c.r.Flush(0, controlBytes) }

func (c *control) participant(slot int, field int64) *atomic.Uint64 {
	return c.word(ctlParticipants + int64(slot)*participantSize + field)
}

// Poison says why a queue takes no more appends.
type Poison struct {
	Reason string
	Time   time.Time
	Slot   int
}

// poisoned returns the poison, nil if there is none.
func (c *control) poisoned() *Poison {
	if c.word(ctlPoison).Load() == 0 {
		return nil
	}
	for range 50 { // who poisons it says why in a moment, unless it is killed before
		if c.word(ctlPoison).Load() != 1 {
			break
		}
		time.Sleep(100 * time.Microsecond)
	}
	p := &Poison{Reason: "a sync failed", Time: time.Unix(0, int64(c.word(ctlPoisonTime).Load())), Slot: int(c.word(ctlPoisonSlot).Load())}
	if c.word(ctlPoison).Load() == 2 {
		n := min(c.word(ctlPoisonLength).Load(), poisonReasonSize)
		p.Reason = string(c.r.Bytes(ctlPoisonReason, int64(n)))
	}
	return p
}

// poison stops the queue for everyone; the first reason stays. The state goes
// first: from here on nobody acknowledges anything, even if this process dies
// before it has said why.
func (c *control) poison(slot int, cause error) {
	if !c.word(ctlPoison).CompareAndSwap(0, 1) {
		return
	}
	c.word(ctlPoisonTime).Store(uint64(time.Now().UnixNano()))
	c.word(ctlPoisonSlot).Store(uint64(slot))
	n := copy(c.r.Bytes(ctlPoisonReason, poisonReasonSize), cause.Error())
	c.word(ctlPoisonLength).Store(uint64(n))
	c.word(ctlPoison).Store(2)
}

// encodeControl makes the content of a new control file.
func encodeControl(id identity, s Settings, b boot, durable Position, first uint64) []byte {
	page := make([]byte, controlBytes)
	encodeIdentity(page[:identityBytes], id)
	encodeSettings(page[ctlSettings:ctlSettings+recordBytes], 1, s)
	encodeBoot(page[ctlBoot:ctlBoot+recordBytes], 1, b)
	putWord(page[ctlDurable:], uint64(durable))
	putWord(page[ctlDurableSeq:], first)
	putWord(page[ctlDurableFirst:], first)
	putWord(page[ctlSettled:], uint64(durable))
	putWord(page[ctlSettledFirst:], first)
	putWord(page[ctlNewest:], first)
	putWord(page[ctlOldest:], first)
	return page
}
