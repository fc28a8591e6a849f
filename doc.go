// Package walq is an embedded, brokerless, durable queue. A queue is a
// directory; any number of processes on a host open it, append to it and read
// from it at once, with no daemon between them.
//
//	q, err := walq.Open(ctx, "orders", walq.Options{Create: &walq.QueueOptions{}})
//	seq, err := q.Append(ctx, []byte("hello")) // on stable storage when it returns
//	r, err := q.Reader(walq.Oldest, walq.ReaderOptions{})
//	for m, err := range r.Follow(ctx) { ... }
//
// With the default durability an append returns when the message is on stable
// storage; it is visible to every process already a moment before. What was
// acknowledged survives the death of any process at any instruction, and power
// loss.
//
// # Concurrency
//
// A [Queue] is safe for concurrent use. A [Reader] is for one goroutine; make
// as many as you like. A process may open the same queue several times. After a
// fork without exec the child must open the queue anew.
//
// # Requirements
//
// 64-bit little-endian Linux, and a local file system: on a network file system
// neither shared memory nor locks hold between hosts, and Open refuses.
package walq
