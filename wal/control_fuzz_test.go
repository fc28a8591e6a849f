package wal

import (
	"bytes"
	"encoding/binary"
	"math"
	"testing"

	"github.com/walq/walq/internal/crc32c"
	"github.com/walq/walq/segment"
)

// FuzzControl: any bytes as a control file are refused or decoded, without a
// panic and without being changed; what was decoded is encoded and decoded
// again as the same. mode says which checksums are made right first.
func FuzzControl(f *testing.F) {
	good := goldenControlBytes()[:ctlDurable]
	var fields []byte // the parts that hold something
	fields = append(fields, good[:ctlSlots+8]...)
	for _, off := range []int64{ctlSettings, ctlSettings + recordSpacing, ctlBoot, ctlBoot + recordSpacing} {
		fields = append(fields, good[off:off+recordBytes]...)
	}
	for mode := range byte(32) {
		f.Add(mode, fields)
	}
	f.Add(byte(0xff), []byte{})
	f.Fuzz(func(t *testing.T, mode byte, input []byte) {
		p := controlImage(mode, input)
		before := bytes.Clone(p)
		for _, readOnly := range []bool{false, true} {
			fuzzIdentity(t, p, readOnly)
		}
		fuzzRecords(t, p[ctlSettings:], func(rec []byte, generation uint64) []byte {
			s := decodeSettings(rec)
			if err := s.Check(); err == nil && (s.SegmentSize < segment.MinSize || s.SegmentSize > segment.MaxSize || s.MaxAge < 0) {
				t.Fatalf("settings that cannot be used: %+v", s)
			}
			again := make([]byte, recordBytes)
			encodeSettings(again, generation, s)
			if got := decodeSettings(again); got != s {
				t.Fatalf("settings: got %+v, want %+v", got, s)
			}
			return again
		})
		fuzzRecords(t, p[ctlBoot:], func(rec []byte, generation uint64) []byte {
			b := decodeBoot(rec)
			again := make([]byte, recordBytes)
			encodeBoot(again, generation, b)
			if got := decodeBoot(again); got != b {
				t.Fatalf("boot: got %+v, want %+v", got, b)
			}
			return again
		})
		if !bytes.Equal(p, before) {
			t.Fatal("decoding changed the file")
		}
	})
}

// controlImage lays the input out as the beginning of a control file.
func controlImage(mode byte, input []byte) []byte {
	p := make([]byte, ctlDurable)
	n := copy(p[:ctlSlots+8], input)
	input = input[n:]
	if mode&1 != 0 {
		copy(p, controlMagic)
		binary.LittleEndian.PutUint32(p[ctlChecksum:], crc32c.Update(0, p[:ctlChecksum]))
	}
	for i, off := range []int64{ctlSettings, ctlSettings + recordSpacing, ctlBoot, ctlBoot + recordSpacing} {
		rec := p[off : off+recordBytes]
		n := copy(rec, input)
		input = input[n:]
		if mode&(2<<i) != 0 {
			binary.LittleEndian.PutUint32(rec[recChecksum:], crc32c.Update(0, rec[:recChecksum]))
		}
	}
	return p
}

func fuzzIdentity(t *testing.T, p []byte, readOnly bool) {
	id, err := decodeIdentity(p[:4096], readOnly)
	if err != nil {
		if id != (identity{}) {
			t.Fatalf("an error and an identity: %+v, %v", id, err)
		}
		return
	}
	page := make([]byte, 4096)
	encodeIdentity(page, id)
	if got, err := decodeIdentity(page, readOnly); err != nil || got != id {
		t.Fatalf("identity: got %+v, %v, want %+v", got, err, id)
	}
}

// fuzzRecords checks the choice between two records against the plain rule, and
// that one written as the next is chosen then.
func fuzzRecords(t *testing.T, both []byte, recode func(rec []byte, generation uint64) []byte) {
	var want uint64
	for _, r := range [][]byte{both[:recordBytes], both[recordSpacing : recordSpacing+recordBytes]} {
		g := getWord(r)
		if binary.LittleEndian.Uint32(r[recChecksum:]) == crc32c.Update(0, r[:recChecksum]) && g != math.MaxUint64 {
			want = max(want, g)
		}
	}
	rec, generation, next, err := newestRecord(both)
	if (err == nil) != (want > 0) || generation != want {
		t.Fatalf("got generation %d, %v, want %d", generation, err, want)
	}
	if err != nil {
		return
	}
	if len(rec) != recordBytes || len(next) != recordBytes || &rec[0] == &next[0] {
		t.Fatalf("records of %d and %d bytes, the same: %v", len(rec), len(next), &rec[0] == &next[0])
	}
	again := recode(rec, generation)
	if generation == math.MaxUint64-1 {
		return // cannot be replaced
	}
	sealRecord(again, generation+1)
	written := bytes.Clone(both[:recordSpacing+recordBytes])
	at := 0
	if &next[0] != &both[0] {
		at = recordSpacing
	}
	copy(written[at:], again)
	if _, g, _, err := newestRecord(written); err != nil || g != generation+1 {
		t.Fatalf("after writing generation %d: got %d, %v", generation+1, g, err)
	}
}
