//go:build walqsteps

package step

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
)

// Enabled says whether steps can be intercepted in this build.
const Enabled = true

// A hook is one function that hangs on a step.
type hook struct{ fn func() error }

var (
	// active holds what a passage of each step calls: the last of its hooks.
	active [len(names)]atomic.Pointer[hook]

	// hung holds all hooks of each step, the oldest first. The lock is for Set
	// and restore; a passage takes none, and may itself call Set.
	hung   [len(names)][]*hook
	hungMu sync.Mutex
)

// At passes the step id: it calls the function that hangs on it, if any. The
// function may not return, may panic, or may return nil; an error it returns
// becomes a panic, because the code at this step has no way to take it, and a
// test that believes it had injected one would prove nothing.
func At(id ID) {
	if err := Err(id); err != nil {
		panic(fmt.Sprintf("step: %v cannot return an error: %v", id, err))
	}
}

// Err passes the step id like At and returns what the function returns.
func Err(id ID) error {
	if !id.valid() {
		panic(fmt.Sprintf("step: %v has no name in ids.go", id))
	}
	h := active[id].Load()
	if h == nil {
		return nil
	}
	return h.fn()
}

// Set hangs fn on the step id, over whatever hangs there already, until
// restore is called. The functions returned by several calls may be called in
// any order and more than once. A passage that has begun when restore is
// called still runs fn to its end.
//
// fn runs on the goroutine that passes the step and may be run by several at
// once. Set and restore are safe for concurrent use.
func Set(id ID, fn func() error) (restore func()) {
	if !id.valid() {
		panic(fmt.Sprintf("step: %v has no name in ids.go", id))
	}
	h := &hook{fn}
	hungMu.Lock()
	defer hungMu.Unlock()
	hung[id] = append(hung[id], h)
	active[id].Store(h)
	return func() { remove(id, h) }
}

// remove takes h off the step id and lets the youngest of the rest act.
func remove(id ID, h *hook) {
	hungMu.Lock()
	defer hungMu.Unlock()
	hung[id] = slices.DeleteFunc(hung[id], func(o *hook) bool { return o == h })
	var last *hook
	if n := len(hung[id]); n > 0 {
		last = hung[id][n-1]
	}
	active[id].Store(last)
}
