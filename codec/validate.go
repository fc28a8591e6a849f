package codec

import "fmt"

// MaxDepth is how many arrays and maps may lie within one another, the
// outermost included. Values that people design nest less than ten deep;
// recursive decoders die of thousands; and the validator, which keeps a
// counter per level, keeps them all in a few cache lines of its stack.
const MaxDepth = 32

const (
	reasonMissing    = "a value is missing"
	reasonReserved   = "byte 0xc1 is reserved"
	reasonCutShort   = "value is cut short"
	reasonArrayCount = "array declares more elements than bytes follow"
	reasonMapCount   = "map declares more pairs than bytes follow"
	reasonSum        = "arrays and maps together declare more than bytes follow"
	reasonDepth      = "arrays and maps are nested too deep"
	reasonTrailing   = "bytes follow the value"
)

// InvalidError says where and why bytes are not the msgpack that they should
// be. The package returns it as a *InvalidError.
type InvalidError struct {
	Offset int    // bytes from the start of what was given
	Reason string // for people; not part of any promise
}

func (e *InvalidError) Error() string {
	return fmt.Sprintf("codec: invalid msgpack at byte %d: %s", e.Offset, e.Reason)
}

// err is the walker's fault as an error, nil if there is none.
func (w *walker) err() error {
	f := w.fault
	switch {
	case f.reason == "":
		return nil
	case f.reason == reasonDepth:
		return &InvalidError{f.at, fmt.Sprintf("%s: more than %d", f.reason, MaxDepth)}
	case f.need > 0:
		return &InvalidError{f.at, fmt.Sprintf("%s: needs %d bytes, has %d", f.reason, f.need, f.room)}
	default:
		return &InvalidError{f.at, f.reason}
	}
}

// Validate reports whether p holds exactly one msgpack value and nothing else.
// The error is a *InvalidError.
//
// It is meant for bytes from outside: it does at most one step per byte of p,
// takes no memory but for the error, and neither recurses nor panics. A value
// that passes is nested at most [MaxDepth] deep, and the counts that its
// arrays and maps declare are all met.
//
// The content of extensions is opaque and not looked into, and text is not
// checked for UTF-8. That a value is valid does not yet make it safe for the
// msgpack library; see [Unmarshal].
func Validate(p []byte) error {
	w := walker{p: p}
	w.skip(0)
	if !w.failed() && w.off < len(p) {
		w.fail(fault{at: w.off, reason: reasonTrailing})
	}
	return w.err()
}
