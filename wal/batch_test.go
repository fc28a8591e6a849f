package wal

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/walq/walq/segment"
)

func TestABatchOfBodiesReadsAsABatchOfParts(t *testing.T) {
	dir := newQueue(t)
	l := create(t, dir, Options{})
	var bodies [][]byte
	var parts []Part
	for i := range 300 { // of all lengths, some alike behind one another, some empty
		body := bytes.Repeat([]byte{byte(i)}, i/2%100)
		bodies, parts = append(bodies, body), append(parts, Part{Body: body})
	}
	a, err := l.AppendBodies(bodies)
	b, err2 := l.AppendBatch(parts)
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	if a.Seq != 1 || b.Seq != 301 || b.End.off()-a.End.off() != a.End.off()-tailOf(t, l).Start().Off {
		t.Errorf("bodies at %+v, parts at %+v: want numbers 1 and 301, and the same room for both", a, b)
	}
	r, err := l.NewReader(false)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for i := range 600 {
		if m := next(t, r); m.Seq != uint64(i+1) || len(m.Meta) != 0 || !bytes.Equal(m.Body, bodies[i%300]) {
			t.Fatalf("message %d: got number %d, %d bytes of metadata, body %q", i+1, m.Seq, len(m.Meta), m.Body)
		}
	}
	closeLog(t, l)
	wantSound(t, dir, 600)
}

func TestABatchOfBodiesThatDoesNotFitIsRefused(t *testing.T) {
	l := open(t, newQueue(t), Options{Create: &Settings{SegmentSize: 1 << 20, Durability: SyncNever}})
	defer closeLog(t, l)
	for name, err := range map[string]error{
		"too many": second(l.AppendBodies(make([][]byte, segment.MaxCount+1))),
		"too long": second(l.AppendBodies([][]byte{nil, make([]byte, l.MaxContent())})),
	} {
		if !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: got %v, want ErrTooLarge", name, err)
		}
	}
	if _, err := l.AppendBodies(nil); err == nil {
		t.Error("an empty batch was appended")
	}
	if a, err := l.AppendBodies(make([][]byte, segment.MaxCount)); err != nil || a.Seq != 1 {
		t.Errorf("as many as fit: got number %d, %v, want 1", a.Seq, err)
	}
}

// Whoever changes the slices of a batch while it is appended gets a panic, and the log no
// batch: neither one with a gap, nor anything outside its room.
func TestABatchOfBodiesThatChangesMeanwhileIsDeadRoom(t *testing.T) {
	for _, longer := range []bool{false, true} {
		t.Run(fmt.Sprint("longer ", longer), func(t *testing.T) {
			dir := newQueue(t)
			l := create(t, dir, Options{})
			bodies := [][]byte{make([]byte, 20), make([]byte, 20), make([]byte, 20)}
			length := segment.BodiesLength(bodies)
			bodies[1] = make([]byte, 12)
			if longer {
				bodies[1] = make([]byte, 28)
			}
			func() {
				defer func() {
					if recover() == nil {
						t.Error("no panic")
					}
				}()
				_, err := l.append(0, length, len(bodies), nil, func(own claim, now int64) error {
					own.s.FillBodies(own.c, own.w, now, bodies)
					return nil
				})
				t.Errorf("appended, error %v", err)
			}()
			if a := appendText(t, l, "next"); a.Seq != 4 {
				t.Errorf("the next message has number %d, want 4: three went to the dead room", a.Seq)
			}
			closeLog(t, l)
			wantSound(t, dir, 1)
		})
	}
}
