package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/walq/walq"
	"github.com/walq/walq/internal/limits"
)

// A Variant is one of several sizes of the same thing, measured instead of peers. The
// cost of the first is what that of the others is compared with.
type Variant struct {
	Name string
	Run  func(ctx context.Context, e *Env) ([]Metric, error)
}

// scaleWorks tell how the cost of walq grows with what merely exists, which it is not
// to do, and with the size of a body.
func scaleWorks(o Options) []Work {
	manySegments, many := []int{1, 100, 10_000}, 1000
	if o.Messages < largeScale { // not for figures
		manySegments, many = []int{1, 10, 40}, 20
	}
	segments := Work{
		Name:  "scale/segments",
		About: "a queue of so many segments of 64 KiB with messages of 1 KiB, not synced; in a new process: open; append of 100 B and reading of those again, beginnings of segments included; seek and read one; a trim that finds nothing; resident memory",
		Disk:  true,
	}
	for _, n := range manySegments {
		segments.Variants = append(segments.Variants, Variant{counted(n, "segment"), func(ctx context.Context, e *Env) ([]Metric, error) {
			return e.scaled(ctx, Job{Segments: n})
		}})
	}
	readers := Work{
		Name:  "scale/readers",
		About: "so many readers are open in the process and read nothing; else as for segments, in one of 64 MiB",
		Disk:  true,
	}
	groups := Work{
		Name:  "scale/groups",
		About: "so many groups exist, each has handed out messages, and nobody uses them; else as for readers; and receive and acknowledge in one group more",
		Disk:  true,
	}
	for _, n := range []int{1, many} {
		readers.Variants = append(readers.Variants, Variant{counted(n, "idle reader"), func(ctx context.Context, e *Env) ([]Metric, error) {
			return e.scaled(ctx, Job{Readers: n})
		}})
		groups.Variants = append(groups.Variants, Variant{counted(n, "idle group"), func(ctx context.Context, e *Env) ([]Metric, error) {
			return e.scaled(ctx, Job{Groups: n})
		}})
	}
	bodies := Work{
		Name:  bodiesWork,
		About: "append, not synced, and reading of bodies of so many bytes",
	}
	for _, b := range []struct {
		name string
		size int
	}{{"0 B", 0}, {"100 B", 100}, {"1 KiB", 1 << 10}, {"64 KiB", 64 << 10}, {"1 MiB", 1 << 20}, {"32 MiB", 32 << 20}} {
		bodies.Variants = append(bodies.Variants, Variant{b.name, func(ctx context.Context, e *Env) (ms []Metric, err error) {
			err = e.within(false, func(dir string) error {
				ms, err = bodyCosts(ctx, filepath.Join(dir, "q"), b.size, e.Room)
				return err
			})
			return ms, err
		}})
	}
	return []Work{segments, readers, groups, bodies}
}

const (
	bodiesWork    = "scale/bodies"
	scaleSegment  = 64 << 10 // the least that a segment may have
	scaleBody     = 1 << 10
	scaleMessages = 20_000  // appended and read in one measurement
	largeScale    = 100_000 // messages of a log that is read, where everything is large
	// fewSegments are made anew for each measurement, because that appends some.
	fewSegments = 100
)

// scaled measures in a process of its own. What takes long to make is made once.
func (e *Env) scaled(ctx context.Context, j Job) (ms []Metric, err error) {
	j.Role, j.Messages = "scale", min(scaleMessages, max(e.Messages/10, 100))
	measure := func(dir string) error {
		j.At.Dir = filepath.Join(dir, "q")
		reports, err := together(ctx, e.patience(), j)
		if err == nil {
			ms = reports[0].Metrics
		}
		return err
	}
	if j.Segments <= fewSegments && j.Groups <= 1 {
		return ms, errors.Join(e.within(true, func(dir string) error {
			if err := makeScale(ctx, filepath.Join(dir, "q"), j); err != nil {
				return err
			}
			return measure(dir)
		}))
	}
	key := logKey{fmt.Sprintf("%d segments, %d groups", j.Segments, j.Groups), 0, 0}
	l, ok := e.logs[key]
	if !ok {
		e.talk("making %s", key.peer)
		dir, remove, err := e.fresh(true)
		if err != nil {
			return nil, err
		}
		l = &log{dir: dir}
		if err := makeScale(ctx, filepath.Join(dir, "q"), j); err != nil {
			return nil, errors.Join(err, remove())
		}
		e.logs[key] = l
	}
	err = measure(l.dir)
	return ms, err
}

// scaleOptions are of a queue that is measured; 0 segments: one of the default size.
// It has limits, which are looked at when a segment ends, and which it does not reach.
func scaleOptions(segments int) walq.Options {
	create := &walq.QueueOptions{Durability: walq.SyncNever, MaxBytes: 1 << 40, MaxAge: 1000 * time.Hour}
	if segments > 0 {
		create.SegmentSize = scaleSegment
	}
	return walq.Options{Create: create, Durability: walq.SyncNever, Role: "bench"}
}

// makeScale makes the queue, its segments and its groups.
func makeScale(ctx context.Context, dir string, j Job) (err error) {
	q, err := walq.Open(ctx, dir, scaleOptions(j.Segments))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	one := body(scaleBody)
	for err == nil && ctx.Err() == nil {
		var s walq.Stats
		if s, err = q.Stats(); err != nil || len(s.Segments) >= j.Segments {
			break
		}
		// Half of what is missing, so that looking at them does not take the time.
		for range max((j.Segments-len(s.Segments))*scaleSegment/(2*scaleBody), 1) {
			if _, err = q.Append(ctx, one); err != nil {
				break
			}
		}
	}
	for i := 0; i < 32 && err == nil; i++ {
		_, err = q.Append(ctx, one)
	}
	for i := 0; i < j.Groups && err == nil; i++ {
		err = makeIdleGroup(ctx, q, fmt.Sprintf("idle-%d", i))
	}
	return errors.Join(err, ctx.Err())
}

func makeIdleGroup(ctx context.Context, q *walq.Queue, name string) (err error) {
	g, err := q.Group(name, walq.GroupOptions{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.Close()) }()
	for range 2 {
		d, err := g.Receive(ctx)
		if err != nil {
			return err
		}
		if err := d.Ack(); err != nil {
			return err
		}
	}
	return nil
}

// scale measures a queue that makeScale has made, in a new process.
func scale(ctx context.Context, j Job, ready func() error) (r Outcome, err error) {
	if err := ready(); err != nil {
		return r, err
	}
	before, err := resident()
	if err != nil {
		return r, err
	}
	began := time.Now()
	q, err := walq.Open(ctx, j.At.Dir, scaleOptions(j.Segments))
	if err != nil {
		return r, err
	}
	took := time.Since(began)
	defer func() { err = errors.Join(err, q.Close()) }()
	for range j.Readers {
		idle, err := q.Reader(walq.Oldest, walq.ReaderOptions{})
		if err != nil {
			return r, err
		}
		defer idle.Close()
		if _, ok, err := idle.TryNext(); err != nil || !ok {
			return r, fmt.Errorf("an idle reader got nothing: %w", err)
		}
	}
	after, err := resident()
	if err != nil {
		return r, err
	}
	r.Metrics = []Metric{{"open", "ms", float64(took.Microseconds()) / 1e3}}
	s := &scaling{ctx: ctx, q: q, j: j}
	for _, cost := range []func() (string, time.Duration, int, error){s.append, s.next, s.firstSeek, s.seekNumber, s.seekTime, s.trim, s.group} {
		name, took, n, err := cost()
		if err != nil {
			return r, fmt.Errorf("%s: %w", name, err)
		}
		if n > 0 {
			r.Metrics = append(r.Metrics, Metric{name, "ns", perMessage(took, n)})
		}
	}
	private := (after["RssAnon"] - before["RssAnon"]) / (1 << 20)
	files := (after["RssFile"] + after["RssShmem"] - before["RssFile"] - before["RssShmem"]) / (1 << 20)
	r.Metrics = append(r.Metrics, Metric{"private memory", "MiB", private}, Metric{"mapped memory", "MiB", files})
	return r, nil
}

// scaling is one measurement of scale. Each method gives a name, what it took and how
// often it did it; 0 if the work does not have it.
type scaling struct {
	ctx   context.Context
	q     *walq.Queue
	j     Job
	first walq.Seq // of those that were appended
}

func (s *scaling) append() (string, time.Duration, int, error) {
	b := body(100)
	began := time.Now()
	for i := range s.j.Messages {
		seq, err := s.q.Append(s.ctx, b)
		if err != nil {
			return "append", 0, 0, err
		}
		if i == 0 {
			s.first = seq
		}
	}
	return "append", time.Since(began), s.j.Messages, nil
}

func (s *scaling) next() (_ string, took time.Duration, n int, err error) {
	r, err := s.q.Reader(walq.At(s.first), walq.ReaderOptions{})
	if err != nil {
		return "Next", 0, 0, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	began := time.Now()
	for range s.j.Messages {
		if _, err := r.Next(s.ctx); err != nil {
			return "Next", 0, 0, err
		}
	}
	return "Next", time.Since(began), s.j.Messages, nil
}

func (s *scaling) seekNumber() (string, time.Duration, int, error) {
	first, last, err := s.ends()
	if err != nil {
		return "seek number", 0, 0, err
	}
	return s.seek("seek number", func(random *rand.Rand) walq.Position {
		return walq.At(first.Seq + walq.Seq(random.Int64N(int64(last.Seq-first.Seq)+1)))
	})
}

func (s *scaling) seekTime() (string, time.Duration, int, error) {
	first, last, err := s.ends()
	if err != nil {
		return "seek time", 0, 0, err
	}
	return s.seek("seek time", func(random *rand.Rand) walq.Position {
		return walq.Since(first.Time.Add(time.Duration(random.Int64N(int64(last.Time.Sub(first.Time)) + 1))))
	})
}

// ends are the oldest message and the newest.
func (s *scaling) ends() (first, last walq.Message, err error) {
	for from, m := range map[walq.Position]*walq.Message{walq.Oldest: &first, walq.Last(1): &last} {
		r, err := s.q.Reader(from, walq.ReaderOptions{})
		if err != nil {
			return first, last, err
		}
		got, ok, err := r.TryNext()
		if err = errors.Join(err, r.Close()); err != nil || !ok {
			return first, last, fmt.Errorf("no message at %v: %w", from, err)
		}
		*m = got.Clone()
	}
	return first, last, nil
}

// seek looks random places up and reads one message at each. It gives the median of
// one.
func (s *scaling) seek(name string, where func(*rand.Rand) walq.Position) (_ string, took time.Duration, n int, err error) {
	r, err := s.q.Reader(walq.Oldest, walq.ReaderOptions{})
	if err != nil {
		return name, 0, 0, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	random := rand.New(rand.NewPCG(1, 2))
	samples := make([]int64, seeks)
	for i := range samples {
		p := where(random)
		began := time.Now()
		if err := r.Seek(p); err != nil {
			return name, 0, 0, err
		}
		if _, ok, err := r.TryNext(); err != nil || !ok {
			return name, 0, 0, fmt.Errorf("got no message: %w", err)
		}
		samples[i] = time.Since(began).Nanoseconds()
	}
	return name, time.Duration(limits.QuantilesOf(samples).P50), 1, nil
}

// firstSeek is what it took this handle to find the ends for the first time, for which it
// lists the segments.
func (s *scaling) firstSeek() (string, time.Duration, int, error) {
	began := time.Now()
	_, _, err := s.ends()
	return "first seek", time.Since(began), 1, err
}

// trims is how often a trim that has nothing to do is called.
const trims = 20

func (s *scaling) trim() (string, time.Duration, int, error) {
	began := time.Now()
	for range trims {
		if n, err := s.q.Trim(s.ctx); err != nil || n > 0 {
			return "trim of nothing", 0, 0, fmt.Errorf("trimmed %d segments: %w", n, err)
		}
	}
	return "trim of nothing", time.Since(began), trims, nil
}

func (s *scaling) group() (_ string, took time.Duration, n int, err error) {
	const name = "receive and ack"
	if s.j.Groups == 0 {
		return name, 0, 0, nil
	}
	g, err := s.q.Group(fmt.Sprintf("busy-%d", os.Getpid()), walq.GroupOptions{})
	if err != nil {
		return name, 0, 0, err
	}
	defer func() {
		err = errors.Join(err, g.Close(), s.q.RemoveGroup(g.Name()))
	}()
	began := time.Now()
	for range s.j.Messages {
		d, err := g.Receive(s.ctx)
		if err != nil {
			return name, 0, 0, err
		}
		if err := d.Ack(); err != nil {
			return name, 0, 0, err
		}
	}
	return name, time.Since(began), s.j.Messages, nil
}

// bodyCosts appends and reads bodies of one size, as many as fill a part of the room.
func bodyCosts(ctx context.Context, dir string, size int, room int64) (ms []Metric, err error) {
	q, err := walq.Open(ctx, dir, scaleOptions(0))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	n := int(min(max(room/2/int64(size+frameOverhead), 2), 200_000))
	b := body(size)
	began := time.Now()
	for range n {
		if _, err := q.Append(ctx, b); err != nil {
			return nil, err
		}
	}
	appended := time.Since(began)
	r, err := q.Reader(walq.Oldest, walq.ReaderOptions{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	began = time.Now()
	for range n {
		if m, err := r.Next(ctx); err != nil || len(m.Body) != size {
			return nil, fmt.Errorf("got %d B, want %d: %w", len(m.Body), size, err)
		}
	}
	next := time.Since(began)
	if err := r.Seek(walq.Oldest); err != nil {
		return nil, err
	}
	began = time.Now()
	for range n {
		if err := r.View(ctx, func(walq.Message) error { return nil }); err != nil {
			return nil, err
		}
	}
	view := time.Since(began)
	ms = []Metric{{"append", "ns", perMessage(appended, n)}, {"Next", "ns", perMessage(next, n)}, {"View", "ns", perMessage(view, n)}}
	if size >= 1<<10 {
		rate := func(d time.Duration) float64 { return float64(n) * float64(size) / 1e6 / d.Seconds() }
		ms = append(ms, Metric{"append rate", "MB/s", rate(appended)}, Metric{"View rate", "MB/s", rate(view)})
	}
	return ms, nil
}
