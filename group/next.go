package group

import "github.com/walq/walq/mmap"

// The ways of most messages: claimed one after the other, and finished. Each is guarded by
// itself, and does what the longer way does, or nothing.

// ClaimNext is Claim if there is nothing else to think of: the base is in force, the group
// neither paused nor has it a delay file, and nothing was sent back since Retries was what
// is given. ok is false if there is, or if n cannot be claimed; then nothing was changed.
//
// Errors: a fault in the mapped file, after which nobody knows whether n was claimed.
func (g *Ring) ClaimNext(n, seq, retries uint64, o Owner, deadline int64) (l Lease, ok bool, err error) {
	guard, done := mmap.Protect(), false
	defer func() {
		if !done {
			breakOff(guard, recover(), &err)
		}
	}()
	if g.Generation() == g.Base.Generation && g.Retries() == retries && !g.Paused() && g.word(grpDelays).Load() == 0 {
		var out Outcome
		l, out = g.Claim(n, seq, o, deadline)
		ok = out == Claimed
	}
	done = true
	mmap.Unprotect(guard)
	return l, ok, err
}

// FinishNext is Finish. wanted: somebody waits for the floor to rise.
//
// Errors: a fault in the mapped file.
func (g *Ring) FinishNext(l *Lease) (ok, wanted bool, err error) {
	guard, done := mmap.Protect(), false
	defer func() {
		if !done {
			breakOff(guard, recover(), &err)
		}
	}()
	if ok = g.Finish(l); ok {
		wanted = g.RoomMayBeWanted()
	}
	done = true
	mmap.Unprotect(guard)
	return ok, wanted, err
}
