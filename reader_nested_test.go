package walq_test

import (
	"fmt"
	"testing"

	"github.com/walq/walq"
)

// A message that is shown stays what it is while fn reads on with the same reader.
func TestAMessageThatIsShownStaysItselfWhileItsFunctionReadsOn(t *testing.T) {
	dir := newDir(t)
	q := open(t, dir, walq.Options{Create: &walq.QueueOptions{SegmentSize: 64 << 10, Durability: walq.SyncNever}})
	for i := range 700 {
		body := fmt.Appendf(make([]byte, 0, 5000), "%05000d", i) // a dozen in each segment
		if _, err := q.Publish(t.Context(), walq.Draft{Topic: fmt.Sprint("t", i), Body: body}); err != nil {
			t.Fatal(err)
		}
	}
	closeQueue(t, q)
	q = open(t, dir, walq.Options{}) // nobody but the reader has the segments mapped
	see := func(at string, m walq.Message) {
		if i := uint64(m.Seq) - 1; m.Topic() != fmt.Sprint("t", i) || string(m.Body) != fmt.Sprintf("%05000d", i) {
			t.Errorf("%s: message %d has the topic %q and the body %.9q", at, m.Seq, m.Topic(), m.Body)
		}
	}
	ways := map[string]func(r *walq.Reader, fn func(walq.Message) error) error{
		"View": func(r *walq.Reader, fn func(walq.Message) error) error { return r.View(t.Context(), fn) },
		"ViewBatch": func(r *walq.Reader, fn func(walq.Message) error) error {
			_, err := r.ViewBatch(t.Context(), 3, fn)
			return err
		},
		"Next": func(r *walq.Reader, fn func(walq.Message) error) error {
			m, err := r.Next(t.Context())
			if err != nil {
				return err
			}
			return fn(m)
		},
		"Next of many": func(r *walq.Reader, fn func(walq.Message) error) error {
			for range 30 {
				m, err := r.Next(t.Context())
				if err != nil {
					return err
				}
				if err := fn(m); err != nil {
					return err
				}
			}
			return nil
		},
		"Seek": func(r *walq.Reader, _ func(walq.Message) error) error { return r.Seek(walq.At(150)) },
	}
	for outer, view := range ways {
		for inner, more := range ways {
			if outer != "View" && outer != "ViewBatch" {
				continue
			}
			t.Run(outer+" "+inner, func(t *testing.T) {
				r := reader(t, q, walq.Oldest, walq.ReaderOptions{})
				for range 3 {
					if err := view(r, func(m walq.Message) error {
						see("before", m)
						err := more(r, func(m walq.Message) error { see("within", m); return nil })
						see("after", m)
						if err == nil && inner != "Seek" {
							err = more(r, func(m walq.Message) error { see("within", m); return nil })
							see("after two", m)
						}
						return err
					}); err != nil {
						t.Fatal(err)
					}
				}
			})
		}
	}
}

// So does one whose function closes the reader, or panics.
func TestAMessageThatIsShownOutlivesItsReader(t *testing.T) {
	q, r := numberedQueue(t, 20)
	if err := r.View(t.Context(), func(m walq.Message) error {
		err := r.Close()
		if string(m.Body) != "0" {
			t.Errorf("it is %q now", m.Body)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	r = reader(t, q, walq.Oldest, walq.ReaderOptions{})
	for i := range 10 {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic is gone")
				}
			}()
			_, _ = r.ViewBatch(t.Context(), 5, func(walq.Message) error { panic(i) })
		}()
	}
	if m, err := r.Next(t.Context()); err != nil || string(m.Body) != "10" {
		t.Errorf("got %q, %v, want 10", m.Body, err)
	}
}
