//go:build linux && (amd64 || arm64)

package mmap

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// A Dir is a handle on a directory. Every name is resolved beneath it, one
// component at a time, without following a symbolic link. Safe for concurrent
// use, except Close.
type Dir struct {
	fd   int
	path string
}

// OpenDir opens a directory by path. The path itself may lead through links;
// nothing beneath it may.
func OpenDir(path string) (*Dir, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, &PathError{"open", path, err}
	}
	var fd int
	err = eintr(func() (err error) {
		fd, err = unix.Open(abs, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		return
	})
	if err != nil {
		return nil, &PathError{"open", abs, err}
	}
	return &Dir{fd, abs}, nil
}

// Path is the absolute path under which the directory was opened.
func (d *Dir) Path() string { return d.path }

// Join gives the whole path of a name in the directory, for messages.
func (d *Dir) Join(name string) string { return filepath.Join(d.path, name) }

func (d *Dir) fail(op, name string, err error) error {
	if err == nil {
		return nil
	}
	switch {
	case errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT):
		err = fmt.Errorf("%w (%w)", ErrDiskFull, err)
	case errors.Is(err, unix.ELOOP):
		err = ErrSymlink
	case errors.Is(err, unix.ENOTDIR) && d.isSymlink(name):
		err = ErrSymlink
	}
	return &PathError{op, d.Join(name), err}
}

func (d *Dir) isSymlink(name string) bool {
	var st unix.Stat_t
	err := unix.Fstatat(d.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	return err == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK
}

func checkName(name string) error {
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		return fmt.Errorf("mmap: %q is not a name of one component", name)
	}
	return nil
}

func (d *Dir) openat(name string, flags int, perm fs.FileMode) (int, error) {
	if err := checkName(name); err != nil {
		return -1, err
	}
	var fd int
	err := eintr(func() (err error) {
		fd, err = unix.Openat(d.fd, name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, uint32(perm))
		return
	})
	return fd, err
}

// Open opens an existing regular file.
func (d *Dir) Open(name string, readOnly bool) (*File, error) {
	flags := unix.O_RDWR
	if readOnly {
		flags = unix.O_RDONLY
	}
	return d.open(name, flags, 0)
}

// Create makes a new regular file; it is an error if the name is taken. On
// btrfs the file is exempted from copy-on-write, which would defeat
// preallocation.
func (d *Dir) Create(name string, perm fs.FileMode) (*File, error) {
	f, err := d.open(name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, perm)
	if err == nil {
		f.noCopyOnWrite()
	}
	return f, err
}

// OpenOrCreate opens a regular file and makes an empty one if there is none.
func (d *Dir) OpenOrCreate(name string, perm fs.FileMode) (*File, error) {
	return d.open(name, unix.O_RDWR|unix.O_CREAT, perm)
}

func (d *Dir) open(name string, flags int, perm fs.FileMode) (*File, error) {
	fd, err := d.openat(name, flags, perm)
	if err != nil {
		return nil, d.fail("open", name, err)
	}
	f := &File{fd, d.Join(name)}
	st, err := f.stat()
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = f.fail("open", ErrNotRegular)
	}
	if err == nil && flags&unix.O_CREAT != 0 && st.Size == 0 {
		// The umask does not decide who may open a queue.
		err = f.fail("chmod", unix.Fchmod(fd, uint32(perm)))
		if errors.Is(err, unix.EPERM) { // made by another member of the group a moment ago
			err = nil
		}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if flags&unix.O_CREAT != 0 {
		_ = did(DiskOp{Kind: DiskCreate, Dir: d, Name: name, File: f}, nil)
	}
	return f, nil
}

func (f *File) noCopyOnWrite() {
	const noCOW = 0x00800000 // FS_NOCOW_FL
	flags, err := unix.IoctlGetInt(f.fd, unix.FS_IOC_GETFLAGS)
	if err != nil || flags&noCOW != 0 {
		return // the file system has no such flags, and needs none
	}
	var fsInfo unix.Statfs_t
	if unix.Fstatfs(f.fd, &fsInfo) == nil && int64(fsInfo.Type) == unix.BTRFS_SUPER_MAGIC {
		_ = unix.IoctlSetPointerInt(f.fd, unix.FS_IOC_SETFLAGS, flags|noCOW) // best effort: only a matter of speed
	}
}

// OpenDir opens a directory beneath this one.
func (d *Dir) OpenDir(name string) (*Dir, error) {
	fd, err := d.openat(name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, d.fail("open", name, err)
	}
	return &Dir{fd, d.Join(name)}, nil
}

// Again is another handle on the same directory, wherever it was moved.
func (d *Dir) Again() (*Dir, error) {
	fd, err := unix.FcntlInt(uintptr(d.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, d.fail("dup", "", err)
	}
	return &Dir{fd, d.path}, nil
}

// Mkdir makes a directory, with exactly these permissions, unless it is there.
func (d *Dir) Mkdir(name string, perm fs.FileMode) error {
	if err := checkName(name); err != nil {
		return err
	}
	err := did(DiskOp{Kind: DiskMkdir, Dir: d, Name: name}, unix.Mkdirat(d.fd, name, uint32(perm.Perm())))
	if err == unix.EEXIST {
		return nil
	}
	if err == nil {
		sub, err := d.OpenDir(name)
		if err != nil {
			return err
		}
		return errors.Join(sub.Chmod(perm), sub.Close())
	}
	return d.fail("mkdir", name, err)
}

// Chmod sets the directory's permissions; fs.ModeSetgid is honoured.
func (d *Dir) Chmod(perm fs.FileMode) error {
	mode := uint32(perm.Perm())
	if perm&fs.ModeSetgid != 0 {
		mode |= unix.S_ISGID
	}
	return d.fail("chmod", "", unix.Fchmod(d.fd, mode))
}

// Link gives the file that is called from in this directory a second name; it
// fails with fs.ErrExist if that is taken. Of several who link the same name at
// once exactly one succeeds.
func (d *Dir) Link(from, to string) error {
	if err := errors.Join(checkName(from), checkName(to)); err != nil {
		return err
	}
	err := unix.Linkat(d.fd, from, d.fd, to, 0)
	return did(DiskOp{Kind: DiskLink, Dir: d, Name: from, ToName: to}, d.fail("link", to, err))
}

// Unlink removes a name of a file.
func (d *Dir) Unlink(name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	return did(DiskOp{Kind: DiskUnlink, Dir: d, Name: name}, d.fail("unlink", name, unix.Unlinkat(d.fd, name, 0)))
}

// Rename moves a file from this directory to a name in another one, replacing
// what was there.
func (d *Dir) Rename(name string, to *Dir, toName string) error {
	if err := errors.Join(checkName(name), checkName(toName)); err != nil {
		return err
	}
	err := unix.Renameat(d.fd, name, to.fd, toName)
	return did(DiskOp{Kind: DiskRename, Dir: d, Name: name, ToDir: to, ToName: toName}, d.fail("rename", name, err))
}

// Sync forces the directory's entries to stable storage.
func (d *Dir) Sync() error {
	if done, err := synced(DiskOp{Kind: DiskSyncDir, Dir: d}); done {
		return d.fail("sync", "", err)
	}
	return d.fail("sync", "", eintr(func() error { return unix.Fsync(d.fd) }))
}

// Size is the size in bytes of a regular file in the directory.
func (d *Dir) Size(name string) (int64, error) {
	st, err := d.Status(name)
	return st.Size, err
}

// Status tells what regular file the name in the directory leads to.
func (d *Dir) Status(name string) (FileStatus, error) {
	if err := checkName(name); err != nil {
		return FileStatus{}, err
	}
	var st unix.Stat_t
	err := eintr(func() error { return unix.Fstatat(d.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) })
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = ErrNotRegular
	}
	if err != nil {
		return FileStatus{}, d.fail("stat", name, err)
	}
	return statusOf(&st), nil
}

// listBytes is how much of a directory is read at once: some 170 names of segments.
const listBytes = 8 << 10

// Names lists the directory, in no order.
func (d *Dir) Names() ([]string, error) {
	// A descriptor of its own: the position in a directory is part of the
	// open file, and two listings at once would share it.
	fd, err := unix.Openat(d.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, d.fail("list", "", err)
	}
	var names []string
	buf := make([]byte, listBytes)
	for {
		var n int
		err = eintr(func() (err error) { n, err = unix.ReadDirent(fd, buf); return })
		if err != nil || n <= 0 {
			break
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names) // but for . and ..
	}
	if err = errors.Join(err, unix.Close(fd)); err != nil {
		return nil, d.fail("list", "", err)
	}
	return names, nil
}

// Owner tells who owns the directory.
func (d *Dir) Owner() (Owner, error) {
	var st unix.Stat_t
	if err := unix.Fstat(d.fd, &st); err != nil {
		return Owner{}, d.fail("stat", "", err)
	}
	return Owner{st.Uid, st.Gid, fs.FileMode(st.Mode & 0o777)}, nil
}

// Close closes the handle.
func (d *Dir) Close() error { return d.fail("close", "", unix.Close(d.fd)) }

// remoteFileSystems are those on which shared mappings, byte-range locks or
// syncs do not hold between all who have a file open.
var remoteFileSystems = map[int64]string{
	unix.NFS_SUPER_MAGIC:       "NFS",
	0xff534d42:                 "CIFS",
	0xfe534d42:                 "SMB2",
	0x517b:                     "SMB",
	unix.V9FS_MAGIC:            "9p",
	unix.FUSE_SUPER_MAGIC:      "FUSE",
	unix.OVERLAYFS_SUPER_MAGIC: "overlayfs",
	0x00c36400:                 "Ceph",
	unix.AFS_SUPER_MAGIC:       "AFS",
	0x01161970:                 "GFS2",
	0x7461636f:                 "OCFS2",
	0x0bd00bd0:                 "Lustre",
}

// Unreliable names the directory's file system if it is one on which walq's
// protocols cannot be relied on, and is empty for all others.
func (d *Dir) Unreliable() (string, error) {
	var st unix.Statfs_t
	if err := eintr(func() error { return unix.Fstatfs(d.fd, &st) }); err != nil {
		return "", d.fail("statfs", "", err)
	}
	return remoteFileSystems[int64(uint32(st.Type))], nil
}
