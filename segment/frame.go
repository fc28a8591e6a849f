package segment

// A Frame is a decoded, verified frame. Meta and Body alias the segment.
type Frame struct {
	Seq   uint64 // of its first message
	Time  int64  // nanoseconds since the Unix epoch
	Count int    // messages in it: 1, of a batch any number, of a control frame 0
	Kind  uint8
	Flags uint8
	Slot  int
	Meta  []byte // msgpack map, often empty; always empty in a batch
	Body  []byte // of a batch: its inner frames
}

// Frame is ReadFrame for where speed does not matter.
func (s *Segment) Frame(c Cursor, w Word) (f Frame, err error) {
	if err = s.ReadFrame(&f, c, w); err != nil {
		return Frame{}, err
	}
	return f, nil
}

// ReadFrame decodes the committed frame with the word w at c into f and verifies
// it: every length against its bounds, the checksum, and in a batch each inner
// frame with its own. A wrong byte anywhere gives a CorruptError. The frame is
// written in place because handing it up by value costs more than decoding it;
// after an error it means nothing.
func (s *Segment) ReadFrame(f *Frame, c Cursor, w Word) error {
	if err := s.ReadOuter(f, c, w); err != nil || f.Kind != KindBatch {
		return err
	}
	return s.CheckBatch(f, c)
}

// ReadOuter is ReadFrame, but of a batch it verifies the header alone: that proves its
// place, its number and its time, and none of the messages in it.
func (s *Segment) ReadOuter(f *Frame, c Cursor, w Word) error {
	if c.Off+FrameHeader+w.Length() > s.Allocated() {
		return s.corrupt(c.Off, "a frame of %d bytes runs past the allocated part of the segment", w.Size())
	}
	p := s.r.Bytes(c.Off, FrameHeader+w.Length())
	h, reason := checkFrame(p, w, c.Seq, s.Salt, false)
	if reason != "" {
		return s.corrupt(c.Off, "%s", reason)
	}
	f.set(p, w, h, c.Seq)
	return nil
}

// CheckBatch verifies all that is in the batch f at c, of which ReadOuter has verified
// the header.
func (s *Segment) CheckBatch(f *Frame, c Cursor) error {
	if at, reason := s.checkBatch(f); reason != "" {
		return s.corrupt(c.Off+FrameHeader+at, "in a batch: %s", reason)
	}
	return nil
}

// ReadMessage is ReadFrame for nearly all there is to read: a committed message. It
// tells nothing about what it does not like, and is ReadFrame's to judge: something
// else, or not there yet, or damaged. meta and body alias the segment; next is the
// offset behind the frame.
func (s *Segment) ReadMessage(c Cursor) (time int64, meta, body []byte, next int64, ok bool) {
	end := s.Allocated()
	if c.Off+SealBytes > end {
		return 0, nil, nil, 0, false
	}
	w := Word(s.r.Word(c.Off).Load())
	if !w.plainMessage() {
		return 0, nil, nil, 0, false
	}
	n := w.Length()
	if c.Off+FrameHeader+n > end || c.Off+w.Size()+SealBytes > s.Size {
		return 0, nil, nil, 0, false
	}
	p := s.r.Bytes(c.Off, FrameHeader+n)
	h := getHeader(p)
	content := p[FrameHeader:]
	if h.kind() != KindMessage || h.metaLen() > len(content) || h.checksumOver(s.Salt, c.Seq, w, content) != h.crc() {
		return 0, nil, nil, 0, false
	}
	return h.time, content[:h.metaLen():h.metaLen()], content[h.metaLen():], c.Off + w.Size(), true
}

// checkFrame is the one judge of frames. p is the frame without its padding, w its word,
// loaded once. It gives the frame's header, and why the frame is not sound; empty if it
// is.
func checkFrame(p []byte, w Word, seq, salt uint64, inner bool) (h frameHeader, reason string) {
	h = getHeader(p)
	content := p[FrameHeader:]
	if h.metaLen() > len(content) {
		return h, "the metadata is longer than the frame"
	}
	covered := content // by its own checksum
	switch {
	case h.kind() == KindMessage && w.Count() == 1, h.kind() == KindControl && w.Count() == 0:
	case h.kind() == KindBatch && h.metaLen() == 0 && len(content)%8 == 0 && !inner:
		covered = nil // but by those of the frames in it
	default:
		return h, "no such kind of frame"
	}
	if h.checksumOver(salt, seq, w, covered) != h.crc() {
		return h, "the checksum does not match"
	}
	return h, ""
}

// set makes f the frame p, which was checked.
func (f *Frame) set(p []byte, w Word, h frameHeader, seq uint64) {
	content := p[FrameHeader:]
	f.Seq, f.Time, f.Count, f.Slot = seq, h.time, w.Count(), w.Slot()
	f.Kind, f.Flags = h.kind(), h.flags()
	f.Meta, f.Body = content[:h.metaLen():h.metaLen()], content[h.metaLen():]
}

// checkInner checks the frame that begins a rest of a batch's content, without its
// padding p.
func checkInner(rest []byte, seq, salt uint64) (p []byte, w Word, h frameHeader, reason string) {
	if len(rest) < FrameHeader {
		return nil, w, h, "no room for a frame"
	}
	w = getWord(rest)
	if !w.Valid() || w.State() != Committed {
		return nil, w, h, "the word is no committed frame's: " + w.String()
	}
	if w.Size() > int64(len(rest)) {
		return nil, w, h, "a frame is longer than the batch"
	}
	p = rest[: FrameHeader+w.Length() : FrameHeader+w.Length()]
	h, reason = checkFrame(p, w, seq, salt, true)
	return p, w, h, reason
}

// checkBatch verifies every inner frame before the first is handed out. It is the loop of
// every replay: plain messages it judges itself, short ones many at once where the processor
// can, and all else is left to checkInner.
func (s *Segment) checkBatch(f *Frame) (at int64, reason string) {
	body, seq, salt := f.Body, f.Seq, s.Salt
	for at < int64(len(body)) {
		if rest := body[at:]; len(rest) >= FrameHeader {
			w, h := getWord(rest), getHeader(rest)
			if hasPlainFrames && w.Length() < plainBytes {
				n, next := plainFrames(rest[:min(len(rest), plainChunk)], seq, salt)
				at, seq = at+n, next
				if n > 0 {
					continue
				}
			}
			size := w.Size()
			if w.plainMessage() && size <= int64(len(rest)) {
				if w.Length() >= fetchFrom {
					fetchLines(linesAhead(rest, size))
				}
				content := rest[FrameHeader : FrameHeader+w.Length()]
				if h.kind() == KindMessage && h.metaLen() <= len(content) && h.checksumOver(salt, seq, w, content) == h.crc() {
					at += size
					seq++
					continue
				}
			}
		}
		_, w, _, reason := checkInner(body[at:], seq, salt)
		if reason != "" {
			return at, reason
		}
		at += w.Size()
		seq += uint64(w.Count())
	}
	if seq-f.Seq != uint64(f.Count) {
		return 0, anotherNumber
	}
	return 0, ""
}

const (
	// plainBytes is the length of a message that plainFrames leaves to others: they have
	// three streams.
	plainBytes = 240
	// plainChunk bounds one call of it or of fetchLines, which the scheduler cannot interrupt.
	plainChunk = 64 << 10
	// From fetchFrom bytes on a message lasts long enough that what lies fetchAhead bytes
	// behind it in the batch is asked for meanwhile: the processor goes ahead by itself only
	// within 4 KiB.
	fetchFrom  = 512
	fetchAhead = 3 << 10
)

// linesAhead is what is asked for during a frame of so many bytes with which rest begins:
// as much as the frame takes, but as one call cannot be interrupted, no more than plainChunk.
func linesAhead(rest []byte, size int64) []byte {
	return rest[min(fetchAhead, len(rest)):min(fetchAhead+min(size, plainChunk), int64(len(rest)))]
}

const anotherNumber = "the batch holds another number of messages than it says"

// An Inner goes over the frames inside a batch, which alias the segment.
type Inner struct {
	body  []byte
	at    int64 // offset of the current frame within the batch's content
	next  int64
	seq   uint64
	end   uint64 // the sequence number behind the batch
	salt  uint64
	frame Frame
	done  bool
	sound bool // ReadMessage computes no checksums
}

// Inner starts before the first frame of the batch f.
func (f *Frame) Inner(salt uint64) Inner {
	return Inner{body: f.Body, seq: f.Seq, end: f.Seq + uint64(f.Count), salt: salt}
}

// Believe spares ReadMessage the checksums, for the caller just verified the batch. Every
// length is checked against its bounds all the same.
func (in *Inner) Believe() { in.sound = true }

// Seq is the sequence number of the next message.
func (in *Inner) Seq() uint64 { return in.seq }

// ReadMessage is Next for nearly all there is in a batch: a message. It tells nothing about
// what it does not like, and is Next's to judge: something else, the end, or damaged. It
// gives no more messages than the batch has numbers, whatever was changed since that was
// verified. meta and body alias the segment.
func (in *Inner) ReadMessage() (time int64, meta, body []byte, ok bool) {
	if in.next+FrameHeader > int64(len(in.body)) || in.seq >= in.end {
		return 0, nil, nil, false
	}
	rest := in.body[in.next:]
	w, h := getWord(rest), getHeader(rest)
	size, n := w.Size(), h.metaLen()
	if w&messageMask != messageBits || size > int64(len(rest)) || h.kind() != KindMessage || int64(n) > w.Length() {
		return 0, nil, nil, false
	}
	content := rest[FrameHeader : FrameHeader+w.Length() : FrameHeader+w.Length()] // what is behind it is another's
	if !in.sound && (!w.plainMessage() || h.checksumOver(in.salt, in.seq, w, content) != h.crc()) {
		return 0, nil, nil, false
	}
	in.at, in.next = in.next, in.next+size
	in.seq++
	return h.time, content[:n:n], content[n:], true
}

// Frame is the current inner frame, valid until Next.
func (in *Inner) Frame() *Frame { return &in.frame }

// Done reports whether Next went past the last frame.
func (in *Inner) Done() bool { return in.done }

// Skip goes on until the next frame holds the message with the number seq, or a higher
// one. What it passes over it does not verify: it is for a batch that was.
func (in *Inner) Skip(seq uint64) {
	for int64(len(in.body))-in.next >= FrameHeader {
		w := getWord(in.body[in.next:])
		if !w.Valid() || w.State() != Committed || w.Size() > int64(len(in.body))-in.next || in.seq+uint64(w.Count()) > seq {
			return // it is Next's to judge
		}
		in.next += w.Size()
		in.seq += uint64(w.Count())
	}
}

// Next decodes and verifies the next frame; the reason is empty when it is
// sound. After the last one it sets Done.
func (in *Inner) Next() (reason string) {
	in.at = in.next
	if in.at >= int64(len(in.body)) {
		in.done, in.frame = true, Frame{}
		if in.seq != in.end {
			return anotherNumber
		}
		return ""
	}
	p, w, h, reason := checkInner(in.body[in.at:], in.seq, in.salt)
	if reason != "" {
		return reason
	}
	if in.seq+uint64(w.Count()) > in.end { // or it would give out numbers of what is behind it
		return anotherNumber
	}
	in.frame.set(p, w, h, in.seq)
	in.next = in.at + w.Size()
	in.seq += uint64(w.Count())
	return ""
}

// CheckPadding reports whether the padding behind the frame's content, and in a
// batch behind each inner frame's, is zero, as it was written: no checksum covers
// it. verify looks at it.
func (s *Segment) CheckPadding(c Cursor, w Word, f Frame) error {
	if c.Off+w.Size() > s.r.Len() {
		return s.corrupt(c.Off, "the file ends within the padding of a frame")
	}
	end := c.Off + FrameHeader + w.Length()
	if at, ok := nonZero(s.r.Bytes(end, c.Off+w.Size()-end)); ok {
		return s.corrupt(end+at, "the padding is not zero")
	}
	if f.Kind != KindBatch {
		return nil
	}
	for in := f.Inner(s.Salt); in.Next() == "" && !in.Done(); {
		inner := in.Frame()
		end := in.at + FrameHeader + int64(len(inner.Meta)+len(inner.Body))
		if at, ok := nonZero(f.Body[end:in.next]); ok {
			return s.corrupt(c.Off+FrameHeader+end+at, "the padding of a frame in a batch is not zero")
		}
	}
	return nil
}

func nonZero(p []byte) (at int64, found bool) {
	for i, b := range p {
		if b != 0 {
			return int64(i), true
		}
	}
	return 0, false
}
