// Package step lets a crash test intervene between two instructions of a
// protocol.
//
// The protocols call At, or Err where they can take an error, at each place
// where a death, a stop or a failure must do no harm. In an ordinary build both
// are empty and inline to nothing. Built with the tag walqsteps, a test in the
// same process hangs functions on them with Set, and a test that starts a
// process tells it through its environment what to do:
//
//	WALQ_STEP="CommitBefore:3=kill,SyncFlushed=sleep=50ms"
//
// kills the process at its third passage of CommitBefore, and delays the first
// passage of SyncFlushed by 50 ms. A step is given by name or by number; the
// passage is 1 unless said otherwise. The actions:
//
//	kill      SIGKILL to the process itself
//	stop      SIGSTOP to the process itself; SIGCONT lets it go on
//	exit      os.Exit with ExitStatus, without running deferred calls
//	eio       Err returns EIO
//	enospc    Err returns ENOSPC
//	sleep=D   sleeps for D, a duration as time.ParseDuration reads it
//
// Several entries may name one step. A value that cannot be understood ends
// the process at once: a misspelt step would make a crash test pass without
// crash.
package step

// ExitStatus is the exit status of the action exit. It is none of the command
// line's own.
const ExitStatus = 86
