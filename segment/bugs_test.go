package segment

import (
	"errors"
	"testing"
)

// FAILS: the padding of the frames inside a batch is under no checksum, and
// CheckPadding looks only behind the batch, where there never is any.
func TestFlippedBitsInThePaddingWithinABatchAreFound(t *testing.T) {
	s, _, padding := smallBatch(t)
	for _, p := range padding {
		if at := flips(s, s.Start(), p[0], p[1]); len(at) > 0 {
			t.Errorf("flips in bytes %v are not found", at)
		}
	}
}

// FAILS: CheckPadding panics (slice bounds) if the image ends within the
// padding of a frame, which Frame accepts. verify meets it with a file whose
// size is no multiple of 8.
func TestAnImageThatEndsWithinPaddingDoesNotPanic(t *testing.T) {
	s := OnHeap(header(MinSize))
	put(t, s, s.Start(), KindMessage, 1, nil, []byte("a"))
	p := image(s)
	for cut := s.start + FrameHeader; cut <= s.start+FrameHeader+8; cut++ {
		short, err := fromBytes(p[:cut], true)
		if err != nil {
			t.Fatal(err)
		}
		func() {
			defer func() {
				if r := recover(); r != nil {
					t.Errorf("cut at %d: panic: %v", cut, r)
				}
			}()
			if _, err := short.checkFrame(short.Start()); cut < s.start+FrameHeader+8 && !errors.Is(err, ErrCorrupt) {
				t.Errorf("cut at %d: got %v, want ErrCorrupt", cut, err)
			}
		}()
	}
}

// FAILS: Word bounds the offset from below only past what is allocated. A
// position from a damaged control file (settled is walked from as it is) may
// name the header or the shared words, where zeros read as FREE.
func TestNoFrameStartsBelowTheData(t *testing.T) {
	s := OnHeap(header(MinSize))
	for off := int64(0); off < s.start; off += 8 {
		if w, err := s.Word(off); !errors.Is(err, ErrCorrupt) {
			t.Errorf("at %d: got %v, %v, want ErrCorrupt", off, w, err)
			return
		}
	}
}
