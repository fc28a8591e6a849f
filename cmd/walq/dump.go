package main

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/walq/walq/codec"
	"github.com/walq/walq/segment"
	"github.com/walq/walq/wal"
)

func newDump() *cobra.Command {
	var frames uint64
	var body int
	cmd := manual{arguments: "PATH  a file of a queue: log/*.seg, groups/*.grp or walq.ctl", exits: corrupt + ": what can be read of it was shown", see: "walq verify, walq cat"}.on(&cobra.Command{
		Use:   "dump PATH",
		Short: "Show a file of a queue, field by field",
		Long: `Show a segment (log/*.seg), the control file (walq.ctl) or the file of a group
(groups/*.grp) of a queue as it lies: every field of its header, the shared words, of
a segment every frame, up to the end of what is written, and of a group every entry
of its ring that was ever used. The file is read and not changed; others may use the
queue meanwhile.

Of a file that is corrupt everything that can be read is shown, what is wrong goes
to standard error, and the exit status is 3.

-o json prints an object for each field and each frame.`,
		Example: `  walq dump /tmp/orders/walq.ctl
  walq dump /tmp/orders/groups/mail.grp
  walq dump /tmp/orders/log/00000000000000000001.seg --frames 10
  walq dump /tmp/orders/log/00000000000000000001.seg -o json | jq 'select(.crc_ok == false)'`,
		Args: arguments("PATH"),
	})
	cmd.Flags().Uint64Var(&frames, "frames", 0, "end after so many frames, a batch counts as one (default all)")
	cmd.Flags().IntVar(&body, "body", 32, "show so many bytes of each body")
	output := outputFlag(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if body < 0 {
			return usagef("--body %d: want 0 or more", body)
		}
		if info, err := os.Stat(args[0]); err == nil && info.IsDir() {
			return fmt.Errorf("%s is a directory, not a file of a walq queue: choose walq.ctl or one of log/*.seg and groups/*.grp", args[0])
		}
		out := bufio.NewWriterSize(cmd.OutOrStdout(), 64<<10)
		d := dump{
			out: out, talk: cmd.ErrOrStderr(), json: output.value == "json", body: body,
			frames: frames, limited: cmd.Flags().Changed("frames"), stop: func() error { return cmd.Context().Err() },
		}
		var err error
		if isGroupFile(args[0]) {
			err = dumpGroup(args[0], &d)
		} else {
			err = wal.Dump(args[0], wal.Viewer{Field: d.field, Frame: d.frame, Fault: d.fault})
		}
		switch {
		case cmd.Context().Err() != nil:
			err = stopped(cmd.Context())
		case d.faults > 0 && (err == nil || errors.Is(err, errLimit) || errors.Is(err, wal.ErrCorrupt) || errors.Is(err, errPipeClosed)):
			err = fmt.Errorf("%w: %s in %s", errFaults, plural(d.faults, "fault"), args[0])
		case errors.Is(err, errLimit):
			err = nil
		}
		// What was found goes first, whatever else went wrong.
		return besides(err, out.Flush())
	}
	return cmd
}

// errLimit ends a dump that has shown as many frames as it was to.
var errLimit = errors.New("enough")

// A dump prints what wal.Dump finds.
type dump struct {
	out     *bufio.Writer
	talk    io.Writer
	json    bool
	body    int    // bytes of a body to show
	frames  uint64 // so many and no more, if limited
	limited bool
	stop    func() error

	shown  uint64
	faults int
	area   string
}

// fault says what is wrong, behind what was shown up to there.
func (d *dump) fault(err error) {
	d.faults++
	_ = d.out.Flush() // an error of the output comes again at the next write
	fmt.Fprintf(d.talk, "walq: %v\n", err)
}

func (d *dump) field(f segment.Field) error {
	if d.json {
		return printJSON(d.out, f)
	}
	d.heading(map[string]string{"shared": "shared words", "hint": "hints", "participant": "participants in use", "ring": "entries of the ring that were used"}, f.What)
	value := f.Value
	switch v := value.(type) {
	case string:
		if strings.ContainsFunc(v, func(r rune) bool { return r < ' ' }) {
			value = fmt.Sprintf("%q", v)
		}
	case time.Time:
		value = v.Format(time.RFC3339Nano)
	}
	_, err := fmt.Fprintf(d.out, "%10d  %-21s  %v\n", f.Offset, f.Name, value)
	return err
}

// heading names the area of the file that follows.
func (d *dump) heading(names map[string]string, area string) {
	if d.area != area {
		if d.area != "" {
			fmt.Fprintln(d.out)
		}
		d.area = area
		fmt.Fprintln(d.out, cmp.Or(names[area], area))
	}
}

// laid is a frame as JSON.
type laid struct {
	What    string `json:"what"`
	Offset  int64  `json:"offset"`
	Seq     uint64 `json:"seq"`
	Word    string `json:"word"`
	State   string `json:"state,omitempty"`
	Slot    *int   `json:"slot,omitempty"`
	Count   *int   `json:"count,omitempty"`
	Length  *int64 `json:"length,omitempty"`
	InBatch bool   `json:"in_batch,omitempty"`
	*content
	Fault string `json:"fault,omitempty"`
}

// content is what only committed frames have.
type content struct {
	Kind       string         `json:"kind"`
	Flags      uint8          `json:"flags"`
	Time       time.Time      `json:"time"`
	CRC        string         `json:"crc"`
	CRCMatches bool           `json:"crc_ok"`
	Meta       map[string]any `json:"meta,omitempty"`
	MetaFault  string         `json:"meta_fault,omitempty"`
	Body       *string        `json:"body,omitempty"`
	BodyBase64 []byte         `json:"body_base64,omitempty"`
	BodyBytes  int            `json:"body_bytes"` // of the whole body
}

func (d *dump) frame(l segment.Laid) error {
	if err := d.stop(); err != nil {
		return err
	}
	if !l.Inner && l.Word != 0 && !l.Word.Sealed() {
		if d.limited && d.shown == d.frames {
			return errLimit
		}
		d.shown++
	}
	if d.json {
		return printJSON(d.out, d.describe(l))
	}
	d.heading(nil, "frames")
	_, err := fmt.Fprintf(d.out, "%10d  %s\n", l.Offset, d.line(l))
	return err
}

func (d *dump) describe(l segment.Laid) laid {
	j := laid{What: "frame", Offset: l.Offset, Seq: l.Seq, Word: fmt.Sprintf("%#016x", uint64(l.Word)), InBatch: l.Inner}
	if l.Fault != nil {
		j.Fault = l.Fault.Error()
	}
	if !l.Word.Valid() {
		return j
	}
	slot, count, length := l.Word.Slot(), l.Word.Count(), l.Word.Length()
	j.State, j.Slot, j.Count, j.Length = l.Word.State().String(), &slot, &count, &length
	if !l.Filled {
		return j
	}
	c := content{
		Kind: segment.KindName(l.Kind), Flags: l.Flags, Time: time.Unix(0, l.Time).UTC(),
		CRC: fmt.Sprintf("%08x", l.CRC), CRCMatches: l.CRCMatches, BodyBytes: len(l.Body),
	}
	if l.Kind == segment.KindMessage {
		var err error
		if c.Meta, err = metadata(l.Meta); err != nil {
			c.MetaFault = err.Error()
		}
	}
	if l.Kind != segment.KindBatch {
		if part, ok := d.text(l.Body); ok {
			c.Body = &part
		} else {
			c.BodyBase64 = l.Body[:min(d.body, len(l.Body))]
		}
	}
	j.content = &c
	return j
}

// text is the part of a body that is shown, if the body is text up to there.
func (d *dump) text(body []byte) (part string, ok bool) {
	n := min(d.body, len(body))
	for cut := n; cut >= max(0, n-utf8.UTFMax+1); cut-- { // the limit may lie within a rune
		if utf8.Valid(body[:cut]) && (cut == n || n < len(body) && !utf8.FullRune(body[cut:n])) {
			return string(body[:cut]), true
		}
	}
	return "", false
}

// line is a frame for people.
func (d *dump) line(l segment.Laid) string {
	var b strings.Builder
	if l.Inner {
		b.WriteString("  ")
	}
	fmt.Fprintf(&b, "seq %d  ", l.Seq)
	switch w := l.Word; {
	case !w.Valid():
		fmt.Fprintf(&b, "word %#016x  BAD: behind it nothing can be told", uint64(w))
		return b.String()
	case w == 0:
		b.WriteString("FREE  the end of what is written")
		return b.String()
	case w.Sealed():
		fmt.Fprintf(&b, "%v  slot %d  the segment ends here", w.State(), w.Slot())
		return b.String()
	default:
		fmt.Fprintf(&b, "%v  slot %d  count %d  length %d", w.State(), w.Slot(), w.Count(), w.Length())
	}
	if !l.Filled {
		if l.Fault != nil {
			b.WriteString("  BAD: behind it nothing can be told")
		}
		return b.String()
	}
	verdict := map[bool]string{true: "ok", false: "BAD"}[l.CRCMatches]
	fmt.Fprintf(&b, "  %s  flags %d  %s  crc %08x %s", segment.KindName(l.Kind), l.Flags,
		time.Unix(0, l.Time).UTC().Format(time.RFC3339Nano), l.CRC, verdict)
	if l.Kind == segment.KindBatch {
		return b.String()
	}
	if l.Kind == segment.KindMessage {
		b.WriteString(metadataLine(l.Meta))
	} else if len(l.Meta) > 0 {
		fmt.Fprintf(&b, "  meta %q", l.Meta)
	}
	n := min(d.body, len(l.Body))
	fmt.Fprintf(&b, "  %q", l.Body[:n])
	if n < len(l.Body) {
		fmt.Fprintf(&b, "... of %d", len(l.Body))
	}
	return b.String()
}

func metadataLine(p []byte) string {
	meta, err := metadata(p)
	if err != nil {
		return fmt.Sprintf("  metadata %q: %v", p, err)
	}
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(meta)) {
		fmt.Fprintf(&b, "  %s=%q", name, fmt.Sprint(meta[name]))
	}
	return b.String()
}

// metadata decodes the metadata of a message, under the names that cat -o json
// uses.
func metadata(p []byte) (map[string]any, error) {
	m, err := codec.DecodeMeta(p)
	if err != nil {
		return nil, err
	}
	all := map[string]any{}
	for name, text := range map[string]string{
		"id": m.ID, "topic": m.Topic, "content_type": m.ContentType, "reply_to": m.ReplyTo, "correlation_id": m.CorrelationID,
	} {
		if text != "" {
			all[name] = text
		}
	}
	switch {
	case len(m.Key) == 0:
	case utf8.Valid(m.Key):
		all["key"] = string(m.Key)
	default:
		all["key_base64"] = m.Key
	}
	if len(m.Headers) > 0 {
		all["headers"] = m.Headers
	}
	for name, t := range map[string]time.Time{"not_before": m.NotBefore, "expire": m.Expire} {
		if !t.IsZero() {
			all[name] = t
		}
	}
	if len(m.Unknown) > 0 {
		all["unknown_base64"] = m.Unknown
	}
	return all, nil
}
