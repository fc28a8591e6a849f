// Package fuzz holds the native fuzz targets for everything that reads bytes
// from outside. It has no code of its own.
//
//	FuzzSegmentHeader    the header of a segment
//	FuzzSegment          its frames, batches, hints and index
//	FuzzControlWords     the control file: every record and every shared word
//	FuzzMetadata         metadata: decoding, look-ups, encoding again
//	FuzzValidate         msgpack, held against the library
//	FuzzUnmarshal        msgpack on its way to the library
//	FuzzNames            names of files in a queue's directories
//	FuzzWakeUps          datagrams at a socket
//	FuzzSleepers         datagrams at a reader that sleeps
//	FuzzOpen             a whole directory: open, recover, read, append, trim, close
//	FuzzCanary...        must fail, or the fuzzer is no check
//
// What only its own package can reach is there: FuzzControl and FuzzModel, several
// handles held against a slice, in wal, FuzzPosition and FuzzSizeAndAge in cmd/walq.
//
// An input of FuzzOpen is a list of edits of a small queue; edits_linux_test.go has
// what there is. They make checksums right where that is asked for, so that the
// fuzzer gets behind them.
//
//	TMPDIR=/dev/shm go test ./fuzz -run '^$' -fuzz '^FuzzOpen$' -fuzztime 10m
package fuzz
