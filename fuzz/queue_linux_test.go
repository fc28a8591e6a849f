//go:build !race

package fuzz

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/walq/walq/segment"
)

// A small queue as a set of files, written from docs/FORMAT.md: every fuzzed
// directory is this one after some edits. It is the same in every process of
// the fuzzer, but for the boot id.

// A file is what stands under a name: bytes, or something else.
type file struct {
	kind fileKind
	data []byte // of a symbolic link: where it leads
}

type fileKind byte

const (
	isFile fileKind = iota
	isDir
	isLink
	isFIFO
	fileKinds
)

// A directory is the files of a queue by their names beneath it.
type directory map[string]file

const (
	controlName = "walq.ctl"
	controlSize = 81920
	segments    = 3
	perSegment  = 6 // frames that segmentOf makes
	perMessages = 6 // sequence numbers that they take
)

// Where the shared words of the control file stand.
const (
	ctlDurable, ctlDurableSeq, ctlDurableSegment = 8192, 8200, 8208
	ctlSettled, ctlSettledSegment                = 8320, 8328
	ctlIntentOwner, ctlIntentEnd                 = 8576, 8584
	ctlOldest                                    = 8832
	ctlSettings, ctlBoot, ctlParticipants        = 4096, 5120, 16384
)

func segmentName(i int) string { return "log/" + segment.Name(uint64(1+i*perMessages)) }

// How the queue was left.
const (
	leftClean    = iota // in order
	leftDead            // its processes died
	leftPowerCut        // so did the machine
	lefts
)

// goldenBody is the body of the message with that sequence number, 0 bytes for
// what was never one.
func goldenBody(seq uint64) []byte {
	if seq == 0 || seq > segments*perMessages || (seq-1)%perMessages == 2 { // the PAD
		return nil
	}
	return bytes.Repeat(fmt.Appendf(nil, "message %d;", seq), 1+int(seq)*7)
}

// segmentOf makes a segment with a frame of every kind.
func segmentOf(i int) []byte {
	h := segment.Header{Size: imageSize, Ordinal: uint32(1 + i), First: uint64(1 + i*perMessages), Epoch: 1, Salt: 0x1234567 * uint64(i+1), Created: 1e18, Queue: [16]byte{0: 7, 6: 0x40, 8: 0x80}}
	if i > 0 {
		h.PrevFirst, h.PrevEnd, h.Durable = h.First-perMessages, h.First, uint64(i)<<32|framesFrom/8
	}
	s := segment.OnHeap(h)
	c := s.Start()
	claim := func(count int, length int64) segment.Word {
		w := segment.MakeWord(segment.Claimed, 1, count, length)
		s.TryClaim(c.Off, w)
		return w
	}
	message := func(meta []byte) {
		body := goldenBody(c.Seq)
		w := claim(1, int64(len(meta)+len(body)))
		s.Fill(c, w, segment.KindMessage, 1e18+int64(c.Seq), meta, body)
		s.Commit(c.Off, w)
		c = c.After(w)
	}
	message(nil)
	message([]byte{0x81, 2, 0xa1, 't'}) // a topic
	w := claim(1, 100)
	s.TryPad(c.Off, w)
	c = c.After(w)
	parts := []segment.Part{{Body: goldenBody(c.Seq)}, {Control: true, Body: []byte("ack")}, {Body: goldenBody(c.Seq + 1)}}
	length := int64(0)
	for _, p := range parts {
		length += segment.MakeWord(segment.Claimed, 0, 0, int64(len(p.Body))).Size()
	}
	w = claim(2, length)
	s.FillBatch(c, w, 1e18, parts)
	s.Commit(c.Off, w)
	c = c.After(w)
	message(nil)
	if i < segments-1 {
		s.TrySeal(c.Off, 1)
	} else {
		claim(1, 40) // its owner died
	}
	s.SetLinked()
	return bytes.Clone(s.Region().Bytes(0, imageSize))
}

// controlOf makes the control file of the queue.
func controlOf(left int, end int64) []byte {
	le := binary.LittleEndian
	p := make([]byte, controlSize)
	copy(p, "walqctl\n")
	le.PutUint32(p[8:], 1)
	le.PutUint32(p[12:], 1)
	p[40], p[46], p[48] = 7, 0x40, 0x80
	le.PutUint64(p[56:], 1e18)
	le.PutUint64(p[64:], 1024)
	settings := p[ctlSettings:]
	le.PutUint64(settings, 1)
	le.PutUint64(settings[8:], imageSize)
	le.PutUint32(settings[32:], 1)
	boot := p[ctlBoot:]
	le.PutUint64(boot, 1)
	if left != leftPowerCut {
		copy(boot[8:24], thisBoot)
	} else {
		boot[8] = 1
	}
	le.PutUint64(boot[24:], 1)
	if left == leftClean {
		le.PutUint64(boot[32:], 1)
	} else {
		le.PutUint64(p[ctlParticipants+8:], 1)
		le.PutUint64(p[ctlParticipants+64+8:], 1) // slot 1 left the claim
	}
	first := uint64(1 + (segments-1)*perMessages)
	for off, v := range map[int]uint64{
		ctlDurable: segments<<32 | uint64(end)/8, ctlDurableSeq: first + perMessages, ctlDurableSegment: first,
		ctlSettled: segments<<32 | framesFrom/8, ctlSettledSegment: first, ctlOldest: 1,
	} {
		le.PutUint64(p[off:], v)
	}
	sumControl(p)
	return p
}

// thisBoot is the boot id as the control file has it.
var thisBoot = func() []byte {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return make([]byte, 16)
	}
	id, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(string(text)), "-", ""))
	if err != nil || len(id) != 16 {
		return make([]byte, 16)
	}
	return id
}()

// sumControl makes the checksums of a control file right.
func sumControl(p []byte) {
	le := binary.LittleEndian
	for _, r := range []struct{ from, sum int }{{0, 4088}, {ctlSettings, 60}, {ctlSettings + 512, 60}, {ctlBoot, 60}, {ctlBoot + 512, 60}} {
		if at := r.from + r.sum; at+4 <= len(p) {
			le.PutUint32(p[at:], castagnoli(p[r.from:at]))
		}
	}
}

// golden are the queues by how they were left.
var golden = func() (all [lefts]directory) {
	var logs [segments][]byte
	for i := range logs {
		logs[i] = segmentOf(i)
	}
	last := logs[segments-1]
	end := framesFrom
	for range perSegment - 1 {
		end += int(segment.Word(binary.LittleEndian.Uint64(last[end:])).Size())
	}
	whole := bytes.Clone(last)
	clear(whole[end : end+8]) // in order: no claim
	for left := range all {
		d := directory{controlName: {data: controlOf(left, int64(end))}, "walq.lock": {}}
		for _, name := range []string{"log", "groups", "wake", "quarantine"} {
			d[name] = file{kind: isDir}
		}
		for i, p := range logs {
			if left == leftClean && i == segments-1 {
				p = whole
			}
			d[segmentName(i)] = file{data: p}
		}
		all[left] = d
	}
	return all
}()

// write makes the directory at path. What cannot be made, a file beneath a
// file for instance, is left out.
func (d directory) write(t testing.TB, path string) {
	t.Helper()
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	names := make([]string, 0, len(d))
	for name := range maps.Keys(d) {
		names = append(names, name)
	}
	// Directories come before what is in them.
	for _, name := range sorted(names) {
		at, f := filepath.Join(path, name), d[name]
		var err error
		switch f.kind {
		case isDir:
			err = os.Mkdir(at, 0o700)
		case isLink:
			err = os.Symlink(string(f.data), at)
		case isFIFO:
			err = syscall.Mkfifo(at, 0o600)
		default:
			err = os.WriteFile(at, f.data, 0o600)
		}
		if err != nil && os.IsPermission(err) {
			t.Fatal(err)
		}
	}
}
