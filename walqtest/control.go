package walqtest

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"

	"github.com/walq/walq/internal/crc32c"
)

// The words of a control file that damage concerns, as docs/FORMAT.md has them:
// bytes from the start of the file, little endian.
const (
	offBoot       = 5120 // two records, the valid one with the higher generation counts
	recordSpacing = 512
	recordBytes   = 64
	recGeneration = 0 // u64
	recBootID     = 8
	recClean      = 32 // u64
	recChecksum   = 60 // u32, of all before it

	offDurable = 8192 // position, sequence number, first number of the segment
	endDurable = 8216
	offSettled = 8320 // position, first number of the segment
	endSettled = 8336

	offPoison       = 8448 // 2: poisoned
	offPoisonTime   = 8456
	offPoisonSlot   = 8464
	offPoisonLength = 8472
	offPoisonReason = 9216
	maxPoisonReason = 1024
)

var le = binary.LittleEndian

// control opens the control file of a queue.
func control(dir string) (*os.File, error) {
	return os.OpenFile(filepath.Join(dir, "walq.ctl"), os.O_RDWR, 0)
}

// A place is how far a queue was durable and settled at a time.
type place struct{ durable, settled []byte }

// read takes the place from an image of the control file.
func (p *place) read(f *os.File) error {
	p.durable, p.settled = make([]byte, endDurable-offDurable), make([]byte, endSettled-offSettled)
	_, err := f.ReadAt(p.durable, offDurable)
	_, serr := f.ReadAt(p.settled, offSettled)
	return errors.Join(err, serr)
}

// position is the durable position: ordinal of the segment, offset/8.
func (p *place) position() uint64 { return le.Uint64(p.durable) }

// write makes the queue as durable and settled as it was.
func (p *place) write(f *os.File) error {
	_, err := f.WriteAt(p.durable, offDurable)
	_, serr := f.WriteAt(p.settled, offSettled)
	return errors.Join(err, serr)
}

// forgetBoot makes the queue one that an earlier run of the machine left without an
// orderly end: what counts is what is on disk.
func forgetBoot(f *os.File) error {
	var records [2][recordBytes]byte
	newest, generation := -1, uint64(0)
	for i := range records {
		r := records[i][:]
		if _, err := f.ReadAt(r, int64(offBoot+i*recordSpacing)); err != nil {
			return err
		}
		g := le.Uint64(r[recGeneration:])
		if le.Uint32(r[recChecksum:]) == crc32c.Update(0, r[:recChecksum]) && g > generation {
			newest, generation = i, g
		}
	}
	if newest < 0 {
		return errors.New("the control file has no valid record of the boot")
	}
	r := records[newest][:]
	le.PutUint64(r[recGeneration:], generation+1)
	r[recBootID] ^= 0xff
	le.PutUint64(r[recClean:], 0)
	le.PutUint32(r[recChecksum:], crc32c.Update(0, r[:recChecksum]))
	_, err := f.WriteAt(r, int64(offBoot+(1-newest)*recordSpacing))
	return err
}

// poison writes what a participant writes whose sync failed.
func poison(f *os.File, at int64, reason string) error {
	text := []byte(reason)[:min(len(reason), maxPoisonReason)]
	word := func(off int64, v uint64) error {
		_, err := f.WriteAt(le.AppendUint64(nil, v), off)
		return err
	}
	_, err := f.WriteAt(text, offPoisonReason)
	return errors.Join(err,
		word(offPoisonTime, uint64(at)), word(offPoisonSlot, 0), word(offPoisonLength, uint64(len(text))),
		word(offPoison, 2)) // last: whoever sees it finds the reason
}
