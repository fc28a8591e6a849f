//go:build !race

package fuzz

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/walq/walq/internal/testx"
	"github.com/walq/walq/mmap"
	"github.com/walq/walq/wal"
)

const (
	// patience is how long one call may take on any input.
	patience = 5 * time.Second
	// memory is how much one input may allocate; what is mapped does not count.
	memory = 64 << 20
)

// What an input of the directory targets asks for beside its edits.
const (
	modeLeft     = 3      // how the queue was left, one of lefts
	modeSnapshot = 1 << 2 // it is opened as a copy
	modeNever    = 1 << 3 // appends do not wait for the disk
)

// within fails if f takes longer than any input may keep a program, and shows
// where it is.
func within(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(2 * patience):
		stacks := make([]byte, 1<<20)
		t.Fatalf("%s: still not done after %v\n%s", what, 2*patience, stacks[:runtime.Stack(stacks, true)])
	}
}

// wantTyped fails unless err is nil or one that a program can tell apart.
func wantTyped(t *testing.T, what string, err error) {
	t.Helper()
	if err == nil {
		return
	}
	for _, known := range []error{
		wal.ErrCorrupt, wal.ErrVersion, wal.ErrNotQueue, wal.ErrPoisoned, wal.ErrTrimmed, wal.ErrSymlink, wal.ErrOwner,
		wal.ErrTooLarge, wal.ErrTooManyOpen, wal.ErrDiskFull, wal.ErrNotDurable, wal.ErrUnsupported, fs.ErrNotExist,
		mmap.ErrNotRegular, mmap.ErrFault,
	} {
		if errors.Is(err, known) {
			return
		}
	}
	if path := (*mmap.PathError)(nil); errors.As(err, &path) && !errors.Is(err, context.DeadlineExceeded) {
		return
	}
	t.Errorf("%s: an error of no known kind: %v", what, err)
}

// A message is one that was read.
type message struct {
	seq  uint64
	body string
}

// A reading is what a reader came by, and the error that it ended with.
type reading struct {
	all []message
	err error
	gap bool // it was told of trimmed messages
}

func (r reading) String() string {
	var b strings.Builder
	for _, m := range r.all {
		fmt.Fprintf(&b, " %d:%.12q", m.seq, m.body)
	}
	return fmt.Sprintf("%d messages%s, then %v", len(r.all), b.String(), r.err)
}

// readAll reads what there is, freeing the log of dead claims on the way.
func readAll(t *testing.T, l *wal.Log) (got reading) {
	t.Helper()
	r, err := l.NewReader(false)
	if err != nil {
		wantTyped(t, "NewReader", err)
		got.err = err
		return got
	}
	defer r.Close()
	for stop := time.Now().Add(patience); ; {
		if time.Now().After(stop) {
			t.Fatalf("reading does not end: %v", got)
		}
		m, ok, err := r.Next()
		gap := (*wal.GapError)(nil)
		switch {
		case errors.As(err, &gap):
			if gap.To <= gap.From {
				t.Fatalf("a gap from %d to %d", gap.From, gap.To)
			}
			got.gap = true
			continue
		case err != nil:
			wantTyped(t, "Next", err)
			got.err = err
			return got
		case ok:
			if n := len(got.all); n > 0 && got.all[n-1].seq >= m.Seq {
				t.Fatalf("message %d after %d", m.Seq, got.all[n-1].seq)
			}
			got.all = append(got.all, message{m.Seq, string(m.Body)})
			continue
		}
		if blocked, err := r.Blocked(); err != nil {
			wantTyped(t, "Blocked", err)
			got.err = err
			return got
		} else if !blocked {
			return got
		}
	}
}

// wantGolden fails if a message was read that nobody wrote.
func wantGolden(t *testing.T, who string, got reading, own map[uint64]string) {
	t.Helper()
	for _, m := range got.all {
		want := string(goldenBody(m.seq))
		if body, ok := own[m.seq]; ok {
			want = body
		}
		if m.body != want || want == "" {
			t.Fatalf("%s: message %d is %.40q, nobody wrote that", who, m.seq, m.body)
		}
	}
}

// wantWhole fails if a message is missing that the control file, which nobody
// edited, promises, and nothing tells of it.
func wantWhole(t *testing.T, who string, got reading) {
	t.Helper()
	there := map[uint64]bool{}
	for _, m := range got.all {
		there[m.seq] = true
	}
	for seq := range uint64(segments*perMessages + 1) {
		if len(goldenBody(seq)) > 0 && !there[seq] {
			t.Fatalf("%s: the acknowledged message %d is missing without a word: %v", who, seq, got)
		}
	}
}

// A trial is one hostile directory on its way through everything that a program
// does with a queue.
type trial struct {
	*testing.T
	mode   byte
	forged forgery
	keeps  bool              // nothing is trimmed because there is too much
	own    map[uint64]string // what the trial appended

	refused error // why the queue was last not opened
}

func (tr *trial) options() wal.Options {
	o := wal.Options{Snapshot: tr.mode&modeSnapshot != 0, StallTimeout: 20 * time.Millisecond}
	if tr.mode&modeNever != 0 {
		o.Durability = wal.SyncNever
	}
	return o
}

func (tr *trial) open(path string, o wal.Options) *wal.Log {
	tr.Helper()
	ctx, cancel := context.WithTimeout(tr.Context(), patience)
	defer cancel()
	l, err := wal.Open(ctx, path, o)
	if err != nil {
		wantTyped(tr.T, "Open", err)
		tr.refused = err
		return nil
	}
	return l
}

// look opens the queue without writing a byte, and reads.
func (tr *trial) look(path string) (got reading, opened bool) {
	before := testx.Fingerprint(tr, path)
	o := tr.options()
	o.ReadOnly = true
	l := tr.open(path, o)
	if l != nil {
		got = readAll(tr.T, l)
		if _, err := l.Stats(); err != nil {
			wantTyped(tr.T, "Stats", err)
		}
		if err := l.Close(); err != nil {
			tr.Errorf("Close of a read-only handle: %v", err)
		}
	}
	if testx.Fingerprint(tr, path) != before {
		tr.Error("a read-only handle changed the files")
	}
	return got, l != nil
}

// use opens the queue, reads it, and does what a program does with a queue. It
// returns what was read first, and what last.
func (tr *trial) use(path string) (first, last reading, opened bool) {
	l := tr.open(path, tr.options())
	if l == nil {
		return first, last, false
	}
	first = readAll(tr.T, l)
	ctx, cancel := context.WithTimeout(tr.Context(), patience)
	defer cancel()
	for i := range 3 {
		body := strings.Repeat(fmt.Sprintf("new %d;", i), 1000)
		a, err := l.Append(nil, []byte(body))
		if err != nil {
			wantTyped(tr.T, "Append", err)
			break
		}
		if _, twice := tr.own[a.Seq]; twice || len(first.all) > 0 && a.Seq <= first.all[len(first.all)-1].seq {
			tr.Fatalf("sequence number %d is given twice", a.Seq)
		}
		tr.own[a.Seq] = body
	}
	_, err := l.Stats()
	wantTyped(tr.T, "Stats", err)
	wantTyped(tr.T, "Sync", l.Sync(ctx))
	last = readAll(tr.T, l)
	if first.err == nil && last.err == nil && tr.forged != forgedFrames && tr.keeps {
		tr.wantBehind(first, last)
	}
	_, err = l.Trim(ctx, 0)
	wantTyped(tr.T, "Trim", err)
	wantTyped(tr.T, "Close", l.Close())
	return first, last, true
}

// wantBehind fails unless the second reading is the first and what was appended.
func (tr *trial) wantBehind(first, last reading) {
	tr.Helper()
	if len(last.all) != len(first.all)+len(tr.own) {
		tr.Fatalf("%d were appended to %v: %v", len(tr.own), first, last)
	}
	tr.wantSame("after appends", first.all, last.all[:len(first.all)])
}

func (tr *trial) wantSame(what string, want, got []message) {
	tr.Helper()
	if len(want) != len(got) {
		tr.Fatalf("%s: got %v, want %v", what, reading{all: got}, reading{all: want})
	}
	for i := range want {
		if want[i] != got[i] {
			tr.Fatalf("%s: got %v, want %v", what, reading{all: got}, reading{all: want})
		}
	}
}

// run takes a directory through a trial.
func run(t *testing.T, mode byte, d directory, forged forgery) {
	tr := &trial{T: t, mode: mode, forged: forged, keeps: unlimited(d), own: map[uint64]string{}}
	one, two := filepath.Join(t.TempDir(), "q"), filepath.Join(t.TempDir(), "q")
	d.write(t, one)
	d.write(t, two)
	within(t, "a trial", func() {
		verified, err := wal.Verify(t.Context(), one, nil)
		wantTyped(t, "Verify", err)
		// Verify does not know that it looks at a snapshot, which is cut as after a
		// power loss.
		sound := err == nil && len(verified.Faults) == 0 && mode&modeSnapshot == 0
		looked, lookedOn := tr.look(one)
		first, last, opened := tr.use(one)
		again, _, reopened := (&trial{T: t, mode: mode &^ modeSnapshot, forged: forged}).useOnce(one)
		other, _, otherOpened := (&trial{T: t, mode: mode, forged: forged}).useOnce(two)

		if opened != otherOpened {
			t.Fatalf("of two equal queues one was opened (%v), one not (%v)", opened, otherOpened)
		}
		for _, name := range []string{controlName, "walq.lock", "log"} {
			if d[name].kind == isLink && (opened || lookedOn) {
				t.Fatalf("a symbolic link was followed to %s", name)
			}
		}
		if tr.keeps {
			tr.wantSame("recovery of an equal queue", first.all, other.all)
		}
		// A feature that allows reading only is no fault, and keeps writers out, of the
		// queue or of a segment.
		sound = sound && !errors.Is(tr.refused, wal.ErrVersion) && !errors.Is(first.err, wal.ErrVersion)
		if sound && (!opened || first.err != nil || !lookedOn || looked.err != nil) {
			t.Fatalf("verify finds nothing wrong, but opened %v, %v; looked on %v, %v (%v)", opened, first, lookedOn, looked, tr.refused)
		}
		promised := forged == honest && bytes.Equal(d[controlName].data, golden[int(mode&modeLeft)%lefts][controlName].data)
		if promised && opened && first.err == nil {
			wantWhole(t, "read first", first)
		}
		if promised && lookedOn && looked.err == nil {
			wantWhole(t, "looked on", looked)
		}
		if last.err == nil && opened && reopened && again.err == nil && !again.gap && tr.keeps {
			tr.wantSame("opened again", last.all, again.all)
		}
		if forged != forgedFrames {
			for who, got := range map[string]reading{"looked on": looked, "read first": first, "read last": last, "opened again": again, "the other": other} {
				wantGolden(t, who, got, tr.own)
			}
		}
	})
}

// useOnce opens the queue, reads it and closes it.
func (tr *trial) useOnce(path string) (got, _ reading, opened bool) {
	l := tr.open(path, tr.options())
	if l == nil {
		return got, got, false
	}
	got = readAll(tr.T, l)
	wantTyped(tr.T, "Close", l.Close())
	return got, got, true
}

// unlimited reports whether nothing is trimmed because the queue is too large.
func unlimited(d directory) bool {
	p := d[controlName].data
	for _, off := range []int{ctlSettings, ctlSettings + 512} {
		if len(p) >= off+32 && !bytes.Equal(p[off+16:off+32], make([]byte, 16)) {
			return false
		}
	}
	return true
}

// bounded runs f and fails if it allocated more than any input may make it.
func bounded(t *testing.T, f func()) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > memory {
		t.Errorf("%d bytes were allocated, want at most %d", n, memory)
	}
}

// edit encodes one edit of an input.
func edit(parts ...any) (p []byte) {
	le := binary.LittleEndian
	for _, part := range parts {
		switch v := part.(type) {
		case int:
			p = append(p, byte(v))
		case uint16:
			p = le.AppendUint16(p, v)
		case uint64:
			p = le.AppendUint64(p, v)
		case string:
			p = append(append(p, byte(len(v))), v...)
		}
	}
	return p
}

// Offsets in edits, divided by 8, and the names' numbers.
const (
	nControl, nFirst, nLast, nLock, nLog, nQuarantine, nFourth = 0, 1, 3, 4, 5, 7, 9
	atFrames                                                   = uint16(framesFrom / 8)
)

// directorySeeds are an edit of each kind, so that the fuzzer begins where the
// checks let it through.
func directorySeeds(add func(mode byte, input []byte)) {
	const allOnes = uint64(math.MaxUint64)
	for left := range byte(lefts) {
		add(left, nil)
		add(left|modeSnapshot, nil)
		for _, input := range [][]byte{
			edit(opWrite, nLast, atFrames, 3, "garbage"),
			edit(opFlip, nFirst, atFrames+4, 0, 3),
			edit(opTruncate, nLast, uint16(200)), edit(opTruncate, nControl, uint16(3)), edit(opTruncate, nFirst, uint16(0)),
			edit(opDelete, nFirst+1), edit(opDelete, nLog), edit(opDelete, nLock), edit(opDelete, nQuarantine), edit(opDelete, nControl),
			edit(opRename, nLast, nFourth), edit(opCopy, nFirst, nFourth), edit(opCopy, nLast, nFirst),
			append(edit(opWrite, nFirst, atFrames+3, 0, "forged"), edit(opSum, nFirst)...),
			edit(opKind, nControl, 0), edit(opKind, nLock, 1, nControl), edit(opKind, nLast, 2), edit(opKind, nLog, 1, nQuarantine),
			edit(opContent, nFourth, "nothing"), edit(opContent, 13, "half made"), edit(opContent, 18, ""),
			edit(opWord, 0, uint64(framesFrom/8)<<0|1<<32), edit(opWord, 14, uint64(7)), edit(opWord, 0, allOnes), edit(opWord, 7, uint64(2)),
			edit(opFrame, 2, 5, uint64(1)<<52), edit(opFrame, 0, 5, uint64(1)<<52), edit(opFrame, 2, 4, uint64(1)<<52|8),
			edit(opHeader, 1, 8, uint64(1)), edit(opHeader, 2, 4, uint64(1)<<30), edit(opHeader, 0, 0, uint64(2)),
			edit(opRecord, 0, 1, uint64(1)<<30), edit(opRecord, 2, 0, allOnes), edit(opRecord, 0, 2, uint64(1)),
			edit(opCut, nLast, atFrames+40, 0), edit(opCut, nFirst+1, uint16(0), 0),
		} {
			add(left, input)
		}
	}
}

// Under the race detector a file is heap memory that outlives its handle: the
// targets that write files are not there.

// FuzzOpen: on any directory that begins as a queue, Verify, Open, reading,
// appends, Stats, Sync, Trim and Close end in time, with success or an error that
// says what it is. No message is delivered that nobody wrote; equal directories
// recover to the same messages; and what was read stays when the queue is opened
// again.
func FuzzOpen(f *testing.F) {
	directorySeeds(func(mode byte, input []byte) { f.Add(mode, input) })
	f.Fuzz(func(t *testing.T, mode byte, input []byte) {
		d, forged := edited(int(mode&modeLeft), input)
		bounded(t, func() { run(t, mode, d, forged) })
	})
}

// FuzzControlWords is FuzzOpen where every edit is of a shared word or a record
// of the control file, its checksum right.
func FuzzControlWords(f *testing.F) {
	for left := range byte(lefts) {
		for i := range words {
			values := []uint64{0, 1, 2, 1<<32 | framesFrom/8, 3<<32 | framesFrom/8, 4<<32 | framesFrom/8, 1 << 20, math.MaxUint64}
			for n := range 2 { // each word two of them, another two where the queue was left in another way
				f.Add(left, edit(i, values[(i+int(left)+3*n)%len(values)]))
			}
		}
	}
	f.Fuzz(func(t *testing.T, mode byte, input []byte) {
		d, _ := edited(int(mode&modeLeft), nil)
		for tp := (&tape{input}); len(tp.p) >= 9; {
			if n := int(tp.byte()); n < len(words) {
				d.poke(controlName, words[n], tp.uint64())
			} else {
				d.poke(controlName, ctlSettings+512*(n%4)+8*(n/4%7), tp.uint64())
			}
		}
		d.change(controlName, sumControl)
		bounded(t, func() { run(t, mode, d, honest) })
	})
}
