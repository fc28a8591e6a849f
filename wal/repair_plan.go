package wal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/walq/walq/mmap"
	"github.com/walq/walq/segment"
)

// A plan is what a repair will write, worked out before the first byte is.
type plan struct {
	ctx      context.Context
	files    evidence
	progress func(done, total int64)
	report   RepairReport

	users    users
	original []byte // the control file as it is, nil if there is none
	page     []byte // as it will be
	queue    [16]byte
	known    bool // queue is the identity
	settings Settings
	boot     boot
	powered  bool // a power loss went by and nobody recovered: what it left is no damage
	poisoned bool
	// otherBoot: the queue was left in another boot, so how far the last file was
	// allocated is not known; the next opening asks the file.
	otherBoot bool

	pieces  []*piece // the chain
	changes []*change
	found   findings
	syncAll bool   // all of the log must be synced, since durable is set to its end
	reset   bool   // the control file's positions are not worth a look
	cutOff  uint64 // if not 0, segments behind the last piece were lost, and with them numbers up to this at least
	hinted  uint64 // if not 0, the sequence number of a tail hint behind the end of the last piece
	done    int64
	total   int64
}

// A piece is one segment, damaged or not.
type piece struct {
	listed
	file   uint64 // the first sequence number that its file is named by
	h      segment.Header
	sound  bool // h is
	page   []byte
	fixes  []segment.Fix // of the header page
	s      segment.Salvage
	around []segment.Fix // of the shared words and the index

	filler  bool   // it stands in for one that is missing
	content []byte // of a filler
	size    int64  // bytes that the file will have
}

// A change is what will be done to one file of the log.
type change struct {
	first   uint64
	content []byte // if not nil, all that will be in it
	from    uint64 // else the segment whose content it is, but for the fixes
	fixes   []segment.Fix
	bytes   int64 // size it will have
	made    bool  // there is no file of that name yet
	gone    bool  // it is only moved aside
}

func makePlan(ctx context.Context, files evidence, progress func(done, total int64)) (*plan, error) {
	p := &plan{ctx: ctx, files: files, progress: progress}
	p.report = RepairReport{Ranges: []LostRange{}, Repaired: []Fault{}, Quarantined: []string{}}
	p.found = findings{marks: map[Position]mark{}, known: true}
	for _, stage := range []func() error{p.readControl, p.readHeaders, p.judgeControl, p.oldest, p.chain, p.judgeWords, p.countAnew} {
		if err := stage(); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func (p *plan) repaired(path string, off int64, format string, args ...any) {
	p.report.Repaired = append(p.report.Repaired, Fault{path, off, fmt.Sprintf(format, args...)})
}

func (p *plan) lost(path string, first, count uint64, off int64, atLeast bool, reason string) {
	if count == 0 {
		return
	}
	p.report.Lost += count
	p.report.LostAtLeast = p.report.LostAtLeast || atLeast
	p.report.Ranges = append(p.report.Ranges, LostRange{first, first + count - 1, path, off, reason, atLeast})
}

func (p *plan) path(first uint64) string { return p.files.join(logName, segment.Name(first)) }

// word is a shared word of the control file.
func (p *plan) word(off int64) uint64 { return getWord(p.page[off:]) }

// readHeaders looks at the first page of each segment, and corrects in it what one
// wrong bit explains.
func (p *plan) readHeaders() error {
	all, err := p.files.segments()
	if isNotExist(err) {
		p.repaired(p.files.join(logName), 0, "the directory of the segments is missing")
		return nil
	}
	if err != nil {
		return err
	}
	for _, l := range all {
		p.total += l.bytes
		pc := &piece{listed: l, file: l.first}
		if pc.page, err = p.files.header(l.first); err != nil {
			return err
		}
		pc.h, err = segment.DecodeHeader(pc.page, false)
		if err != nil && len(pc.page) == segment.HeaderBytes {
			mended := slices.Clone(pc.page)
			bit, ok := segment.MendHeader(mended)
			switch h, merr := segment.DecodeHeader(mended, false); {
			case ok && merr == nil:
				at := int64(bit / 8)
				pc.fixes = append(pc.fixes, segment.Fix{Offset: at, Reason: err.Error() + "; one bit is wrong, and the checksum proves which", Data: mended[at : at+1]})
				pc.h, err = h, nil
			case errors.Is(err, ErrVersion) && segment.HeaderSound(pc.page):
				return fmt.Errorf("%s: %w", p.path(l.first), err)
			}
		}
		pc.sound = err == nil
		p.pieces = append(p.pieces, pc)
	}
	return nil
}

// adopt finds out which files are the queue's: one whose sound header tells
// another name is called so again if that name is free, and strangers go.
func (p *plan) adopt() {
	taken := map[uint64]bool{}
	for _, pc := range p.pieces {
		taken[pc.file] = true
	}
	p.pieces = slices.DeleteFunc(p.pieces, func(pc *piece) bool {
		switch {
		case !pc.sound:
			return false
		case pc.h.Queue != p.queue:
			p.repaired(p.path(pc.file), 0, "it belongs to another queue, %x; it is moved aside", pc.h.Queue)
		case pc.h.First != pc.file && taken[pc.h.First]:
			p.repaired(p.path(pc.file), 0, "its header says that it starts at sequence number %d, and there is such a file; it is moved aside", pc.h.First)
		case pc.h.First != pc.file:
			p.repaired(p.path(pc.file), 0, "its header says that it starts at sequence number %d; it is named so again", pc.h.First)
			p.changes = append(p.changes, &change{first: pc.file, gone: true})
			pc.first = pc.h.First
			taken[pc.first] = true
			return false
		default:
			return false
		}
		p.changes = append(p.changes, &change{first: pc.file, gone: true})
		return true
	})
	slices.SortFunc(p.pieces, func(a, b *piece) int {
		if a.first < b.first {
			return -1
		}
		return 1
	})
}

// oldest finds the first segment that counts. Those below it were trimmed.
func (p *plan) oldest() error {
	p.adopt()
	oldest := announcedTrim(p.page, func(first uint64) bool {
		return slices.ContainsFunc(p.pieces, func(pc *piece) bool {
			return pc.first == first && pc.sound && pc.h.Ordinal <= Position(p.word(ctlDurable)).ordinal()
		})
	})
	kept := slices.IndexFunc(p.pieces, func(pc *piece) bool { return pc.first == oldest })
	if kept < 0 {
		kept = 0
		lost := -1 // the segment that follows on the one that is missing
		for i, pc := range p.pieces {
			if pc.first^oldest&(pc.first^oldest-1) == 0 && !p.reset {
				kept = i
			}
			if pc.sound && pc.h.PrevFirst == oldest && oldest != 0 && !p.reset {
				lost = i
			}
		}
		if lost >= 0 {
			kept = lost
			p.lost(p.path(oldest), oldest, p.pieces[kept].h.PrevEnd-oldest, 0, false, "the segment is missing")
		}
		if kept < len(p.pieces) {
			p.setWord(ctlOldest, p.pieces[kept].first, "the oldest kept sequence number is %d, but no segment starts there; the oldest starts at %d", oldest, p.pieces[kept].first)
		}
	}
	p.pieces = p.pieces[min(kept, len(p.pieces)):]
	p.found.wanted = []Position{Position(p.word(ctlDurable)), Position(p.word(ctlSettled))}
	return nil
}

// load reads a piece, as long as its frames and a SEAL may need.
func (p *plan) load(pc *piece) (*mmap.Region, error) {
	image, err := p.files.segment(pc.file)
	if err != nil {
		return nil, err
	}
	p.done += pc.bytes
	if p.progress != nil {
		p.progress(p.done, max(p.total, p.done))
	}
	size := (image.Len() + 4095) &^ 4095
	if pc.sound {
		size = min(max(size, segment.DataStart(pc.h.Size)+4096), pc.h.Size)
	}
	if size == image.Len() {
		return image, nil
	}
	whole := mmap.Heap(max(size, segment.DataStart(segment.MinSize)+4096))
	copy(whole.Bytes(0, whole.Len()), image.Bytes(0, image.Len()))
	whole.Rename(image.Path())
	return whole, nil
}

// rebuild makes the header anew of a piece that has none, out of its neighbours.
// Only what salt its frames were written under they cannot tell: what stands in its
// place is believed if frames verify under it.
func (p *plan) rebuild(i int) (bool, error) {
	pc := p.pieces[i]
	if len(pc.page) < segment.HeaderBytes {
		return false, nil
	}
	g := segment.GuessHeader(pc.page)
	h := g
	h.First, h.Queue = pc.first, p.queue
	switch {
	case i > 0:
		prev := p.pieces[i-1]
		h.Ordinal, h.PrevFirst, h.PrevEnd, h.Epoch = prev.h.Ordinal+1, prev.first, prev.s.End.Seq, prev.h.Epoch
		if prev.s.Word.State() == segment.SealJump {
			h.Epoch++
		}
	case i+1 < len(p.pieces) && p.pieces[i+1].sound:
		h.Ordinal = p.pieces[i+1].h.Ordinal - 1
	case p.word(ctlDurableFirst) == pc.first && !p.reset:
		h.Ordinal = Position(p.word(ctlDurable)).ordinal()
	}
	if h.Created <= 0 || h.Created > time.Now().UnixNano() {
		h.Created = time.Now().UnixNano()
	}
	for _, size := range []int64{p.settings.SegmentSize, g.Size} {
		h.Size = size
		image, err := p.load(pc)
		if err != nil {
			return false, err
		}
		s := segment.ImageOf(image, h)
		if s == nil {
			continue
		}
		tried, err := s.Salvage(p.ctx, segment.SalvageOptions{End: segment.Seal})
		if err != nil {
			return false, err
		}
		if tried.Messages == 0 {
			continue
		}
		pc.h, pc.sound = h, true
		pc.fixes = []segment.Fix{{Reason: "the header is damaged; it is made anew from what its neighbours say", Data: segment.EncodeHeader(h)}}
		return true, nil
	}
	return false, nil
}
