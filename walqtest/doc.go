// Package walqtest helps to test programs that use walq: it makes queues that go
// away with the test, fills them, and damages them on purpose, so that what a
// consumer does when messages were trimmed, a bit has rotted, the power failed, a
// sync failed or a writer was killed can be seen before it happens.
//
//	func TestMyConsumerReportsDamage(t *testing.T) {
//		q := walqtest.New(t, walq.Options{})
//		seqs := walqtest.Fill(t, q, 10)
//		walqtest.Flip(t, q.Path(), seqs[4])
//		// the consumer under test gets 4 messages and a walq.CorruptError
//	}
//
// What each damage looks like to a reader:
//
//	TrimAll     one GapError with the numbers that are gone, then it goes on
//	Flip        a CorruptError at each read until Seek; the rest can be read
//	PowerCut    what was durable, and numbers that jump
//	Poison      everything; appends fail with a PoisonError
//	KillWriter  nothing of a message that was not committed; a message whose writer
//	            never knew, and so may append it again
//
// Everything fails the test itself if it cannot do its work. Queues are opened with
// AnyFileSystem, because temporary directories in containers often lie on overlay.
package walqtest
