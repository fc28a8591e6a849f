//go:build walqsteps

package wal

import "errors"

// Abandon ends a handle as the kernel ends a process that is killed: its locks are free,
// and nothing is said to others. For tests of death within one process; whoever was in
// the middle of something must not go on.
func (l *Log) Abandon() error {
	l.gate.close()
	close(l.closing)
	l.syncer.rounds.close()
	l.keeper.stop()
	l.releaseAll()
	l.pending.mu.Lock()
	defer l.pending.mu.Unlock()
	for p := range l.pending.open {
		l.table.release(p.own.s)
		p.own.s = nil // else the garbage collector would end it
	}
	var err error
	if p := l.keeper.prepared; p != nil {
		err = p.Close()
	}
	return errors.Join(err, l.files.close())
}

// WithoutKeeper keeps the keeper of a handle from running beside a test that decides
// itself what happens when. It is called before the first append.
func (l *Log) WithoutKeeper() { l.keeper.start.Do(func() { close(l.keeper.gone) }) }
