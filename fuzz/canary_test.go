package fuzz

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/walq/walq/segment"
)

// The canary is a reader of frames as FuzzSegment tests one, with a bug that a
// reader of such a format is likely to have. `make fuzz` fails if the fuzzer does
// not find it: a fuzzer that cannot find this would not find one of ours either.

// canaryRead goes over the frames of a segment and returns its messages without
// their metadata. The bug: it holds the checksum against the frame, and then
// believes what the frame says, since who but a writer would make a checksum
// right? The length of the metadata is held against no bound.
func canaryRead(p []byte) (bodies [][]byte) {
	le := binary.LittleEndian
	seq, salt := le.Uint64(p[56:]), le.Uint64(p[96:])
	for off := uint64(framesFrom); off+24 <= uint64(len(p)); {
		w := segment.Word(le.Uint64(p[off:]))
		end := off + 24 + uint64(w.Length())
		if w == 0 || !w.Valid() || w.Sealed() || end > uint64(len(p)) {
			break
		}
		frame := p[off:end:end]
		sum := frameSum(frame, salt, seq, uint64(w.Length()), uint64(w.Count()), castagnoli(frame[24:]))
		if w.State() == segment.Committed && frame[12] == segment.KindMessage && sum == le.Uint32(frame[8:]) {
			bodies = append(bodies, frame[24+int(le.Uint16(frame[14:])):])
		}
		off, seq = off+uint64(w.Size()), seq+uint64(w.Count())
	}
	return bodies
}

// FuzzCanaryMetadataLength must fail: see above. Its seeds do not.
func FuzzCanaryMetadataLength(f *testing.F) {
	f.Add(byte(modeHeader|modePlaces), segmentSeed())
	f.Add(byte(modeHeader|modeWords|modeSums|modePlaces), segmentSeed())
	f.Fuzz(func(t *testing.T, mode byte, input []byte) {
		p := segmentImage(mode, input)
		if len(p) < framesFrom {
			return
		}
		for _, body := range canaryRead(p) {
			if len(body) > 0 && !bytes.Contains(p, body[:1]) {
				t.Fatal("a body that is not in the segment")
			}
		}
	})
}
