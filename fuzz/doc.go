// Package fuzz holds the native fuzz targets for everything that reads bytes
// from outside. It has no code of its own.
//
//	go test -fuzz='^FuzzMetadata$' -fuzztime=30s ./fuzz
package fuzz
