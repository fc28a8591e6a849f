package walq

import (
	"sync"
	"time"
)

// fakeTimes are clocks that go only as a test says.
type fakeTimes struct {
	mu           sync.Mutex
	wall         time.Time
	ranFor, boot time.Duration
	timers       []*fakeTimer
}

func newFakeTimes() *fakeTimes {
	return &fakeTimes{wall: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC), ranFor: time.Hour, boot: 2 * time.Hour}
}

func (f *fakeTimes) now() (time.Time, time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.wall, f.ranFor
}

func (f *fakeTimes) ran() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ranFor
}

func (f *fakeTimes) sinceBoot() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.boot
}

// A fakeTimer calls its function from pass.
type fakeTimer struct {
	t  *fakeTimes
	at time.Duration // by ranFor; 0: stopped
	f  func()
}

func (f *fakeTimes) afterFunc(d time.Duration, call func()) timer {
	x := &fakeTimer{t: f, f: call}
	x.Reset(d)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.timers = append(f.timers, x)
	return x
}

func (x *fakeTimer) Stop() bool {
	x.t.mu.Lock()
	defer x.t.mu.Unlock()
	was := x.at > 0
	x.at = 0
	return was
}

func (x *fakeTimer) Reset(d time.Duration) bool {
	x.t.mu.Lock()
	defer x.t.mu.Unlock()
	was := x.at > 0
	x.at = x.t.ranFor + d
	return was
}

// pass lets time pass, and calls the timers that end meanwhile, each at its time.
func (f *fakeTimes) pass(d time.Duration) {
	f.mu.Lock()
	for end := f.ranFor + d; ; {
		next, first := end, (*fakeTimer)(nil)
		for _, x := range f.timers {
			if x.at > 0 && x.at <= next && (first == nil || x.at < next) {
				next, first = x.at, x
			}
		}
		f.wall, f.boot, f.ranFor = f.wall.Add(next-f.ranFor), f.boot+next-f.ranFor, next
		if first == nil {
			break
		}
		first.at = 0
		f.mu.Unlock()
		first.f()
		f.mu.Lock()
	}
	f.mu.Unlock()
}

// suspend has the machine sleep: nothing runs, no timer goes on. Waking up takes a
// moment.
func (f *fakeTimes) suspend(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wall, f.boot, f.ranFor = f.wall.Add(d+wallEvery), f.boot+d+wallEvery, f.ranFor+wallEvery
}

// setWall sets the wall clock.
func (f *fakeTimes) setWall(by time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wall = f.wall.Add(by)
}
