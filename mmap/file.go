package mmap

import (
	"errors"
	"fmt"
	"io/fs"
)

// Errors of the file layer. They are wrapped with the path concerned.
var (
	// ErrSymlink: a symbolic link stands where a file or directory should.
	ErrSymlink = errors.New("is a symbolic link, which walq never follows")
	// ErrNotRegular: a file of another kind stands where a regular file should.
	ErrNotRegular = errors.New("is not a regular file")
	// ErrDiskFull: the file system has no room, or a quota is used up.
	ErrDiskFull = errors.New("no space left on the file system")
)

// A PathError is an error with the whole path that it concerns.
type PathError struct {
	Op   string
	Path string
	Err  error
}

func (e *PathError) Error() string { return fmt.Sprintf("%s %s: %v", e.Op, e.Path, e.Err) }

// Unwrap gives the cause.
func (e *PathError) Unwrap() error { return e.Err }

// Owner tells who owns a file and who may use it.
type Owner struct {
	UID, GID uint32
	Mode     fs.FileMode // permission bits only
}

// FileID names a file on this machine while it exists.
type FileID struct{ Dev, Ino uint64 }

// FileStatus tells a file from another one that has the same name, or from what it was.
type FileStatus struct {
	FileID
	Owner
	Size int64 // bytes
}
