// Package codec holds walq's use of msgpack: the metadata of a message, and a
// validator for msgpack that comes from outside.
//
// # Metadata
//
// The metadata of a message is one msgpack map, at most [MaxMeta] bytes. A
// message without metadata has none: zero bytes, not an empty map. The keys
// are integers:
//
//	| key | field          | msgpack type      | meaning                                        |
//	|-----|----------------|-------------------|------------------------------------------------|
//	| 1   | id             | str               | the producer's name for the message            |
//	| 2   | topic          | str               | the stream within the queue                    |
//	| 3   | key            | bin               | the key for ordering and look-up               |
//	| 4   | headers        | map of str to str | the application's own pairs                    |
//	| 5   | content type   | str               | the media type of the body                     |
//	| 6   | reply-to       | str               | where an answer is expected                    |
//	| 7   | correlation id | str               | which request an answer belongs to             |
//	| 8   | not-before     | int               | not delivered earlier; ns since the Unix epoch |
//	| 9   | expire         | int               | not delivered later; ns since the Unix epoch   |
//
// A writer writes each key as a positive fixint, in ascending order, headers
// in ascending order of their names' bytes, every value in its shortest
// encoding, and leaves out a field that is empty. A reader takes the pairs in
// any order and any integer encoding, and treats an empty value (length 0) as
// an absent one. Text (str) is UTF-8. A time fits 64 bits with a sign.
//
// A key that is not an integer, a key of the table or a header name that comes
// twice, and a value of another type are faults. Integer keys outside the
// table belong to later versions: a reader keeps such pairs byte by byte, and
// a writer puts them behind its own.
//
// # Why msgpack is walked by hand before the library sees it
//
// The msgpack library believes declared counts, recurses once per level, and
// reads str, bin and nil alike. Five hostile bytes, or deep nesting, end the
// process beyond what recover can catch. So one iterative walker, which takes
// no memory and believes nothing, is the only reader of metadata; the library
// writes metadata, and reads message bodies only by way of [Unmarshal].
package codec
