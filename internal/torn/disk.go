// Package torn makes the directories that a power cut could have left.
//
// A Disk stands beneath a directory and takes down what happens there. What was
// synced is on it; of everything since, a power cut keeps what it likes: each
// sector has any of the values that it had since its last sync, independently of
// the others, so later ones may be there without earlier ones; a file has any of
// its sizes; a name that was made, moved or removed without a sync of its directory
// is as it was before or as it is now. A Cut is one such choice.
//
// Memory is looked at whenever Look is called and at each operation, so a value
// that stood between two looks only is never chosen.
package torn

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/walq/walq/mmap"
)

// sectorBytes is the smallest unit that a disk writes whole.
const sectorBytes = 512

// A Disk takes down what happens beneath a directory. It is safe for concurrent
// use.
type Disk struct {
	root string
	boot [16]byte

	mu    sync.Mutex
	now   int // counts looks and operations
	files map[mmap.FileID]*file
	dirs  map[string]*directory // by path relative to root
	live  map[*mmap.Region]*file
	fail  Failure
}

// A file is what the disk has, and may have, of an inode.
type file struct {
	regions map[*mmap.Region]bool
	now     []byte // as it is in memory, at the last look
	sizes   []sizeAt
	sectors map[int64]*sector // those that are not zero for good
}

// A Failure decides of each sync whether it fails. After one that does, then is
// called, if it is not nil, before anyone is told.
type Failure func(mmap.DiskOp) (err error, then func())

type sizeAt struct {
	at   int
	size int64
}

// A sector has the values that it may have on the disk, the synced one first. It is
// dropped after a write of it failed: the kernel takes it for clean, and no sync
// writes it before its page is dirty again.
type sector struct {
	values  []valueAt
	dropped bool
}

type valueAt struct {
	at    int
	value [sectorBytes]byte
}

// A directory has the names that are on the disk for sure, and what was done
// since.
type directory struct {
	synced map[string]*file // a nil file is a directory
	since  []change
}

// A change makes a name mean something else, or nothing. A rename is one change
// of two names, which may lie in two directories: then each has its half.
type change struct {
	at     int
	set    string // this name ...
	to     *file  // ... means this file, a directory if isDir
	isDir  bool
	remove string // and this one nothing more
}

// New puts a disk beneath the directory root, which has what is there now, all of
// it synced. The boot id is what processes there see. Remove takes it away.
func New(root string, boot byte) (d *Disk, remove func(), err error) {
	d = &Disk{root: root, files: map[mmap.FileID]*file{}, dirs: map[string]*directory{}, live: map[*mmap.Region]*file{}}
	for i := range d.boot {
		d.boot[i] = boot
	}
	if err := d.scan("."); err != nil {
		return nil, nil, err
	}
	return d, mmap.UseDisk(root, d), nil
}

func (d *Disk) scan(rel string) error {
	dir := &directory{synced: map[string]*file{}}
	d.dirs[rel] = dir
	all, err := os.ReadDir(filepath.Join(d.root, rel))
	if err != nil {
		return err
	}
	for _, e := range all {
		switch {
		case e.IsDir():
			dir.synced[e.Name()] = nil
			err = d.scan(filepath.Join(rel, e.Name()))
		case e.Type().IsRegular():
			dir.synced[e.Name()], err = d.scanFile(filepath.Join(d.root, rel), e.Name())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (d *Disk) scanFile(dir, name string) (*file, error) {
	content, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return nil, err
	}
	md, err := mmap.OpenDir(dir)
	if err != nil {
		return nil, err
	}
	defer md.Close()
	mf, err := md.Open(name, true)
	if err != nil {
		return nil, err
	}
	defer mf.Close()
	id, err := mf.ID()
	if err != nil {
		return nil, err
	}
	f := newFile()
	f.resize(0, int64(len(content)))
	f.take(0, 0, content)
	f.syncRange(0, int64(len(content)), false)
	f.syncSize(int64(len(content)))
	d.files[id] = f
	return f, nil
}

// FailSyncs makes syncs fail. What one that fails should have written may be on the
// disk or not, and a later sync does not make it so, unless it was made dirty again.
func (d *Disk) FailSyncs(f Failure) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fail = f
}

// BootID stands in for the kernel's.
func (d *Disk) BootID() [16]byte { return d.boot }

// Look takes down what memory holds at this moment.
func (d *Disk) Look() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.look()
}

func (d *Disk) look() {
	d.now++
	for r, f := range d.live {
		f.lookAt(d.now, r)
	}
}

// Did takes down an operation.
func (d *Disk) Did(o mmap.DiskOp) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.look()
	switch o.Kind {
	case mmap.DiskCreate:
		d.created(o)
	case mmap.DiskMkdir:
		rel := d.rel(o.Dir.Join(o.Name))
		if d.dirs[rel] == nil {
			d.dirs[rel] = &directory{synced: map[string]*file{}}
		}
		d.change(o.Dir, change{set: o.Name, isDir: true})
	case mmap.DiskLink:
		d.change(o.Dir, change{set: o.ToName, to: d.named(o.Dir, o.Name)})
	case mmap.DiskUnlink:
		d.change(o.Dir, change{remove: o.Name})
	case mmap.DiskRename:
		f := d.named(o.Dir, o.Name)
		if d.rel(o.Dir.Path()) == d.rel(o.ToDir.Path()) {
			d.change(o.Dir, change{set: o.ToName, to: f, remove: o.Name})
			return
		}
		d.change(o.ToDir, change{set: o.ToName, to: f})
		d.change(o.Dir, change{remove: o.Name})
	case mmap.DiskAllocate:
		f := d.known(o.File)
		f.resize(d.now, max(int64(len(f.now)), o.Off+o.N))
	case mmap.DiskWrite:
		f := d.known(o.File)
		f.resize(d.now, max(int64(len(f.now)), o.Off+int64(len(o.Data))))
		f.take(d.now, o.Off, o.Data)
	case mmap.DiskTouch:
		d.live[o.Region].dirty(o.Off, o.Off+o.N)
	case mmap.DiskMap:
		f := d.known(o.File)
		f.regions[o.Region] = true
		d.live[o.Region] = f
	case mmap.DiskUnmap:
		if f := d.live[o.Region]; f != nil {
			delete(f.regions, o.Region)
			delete(d.live, o.Region)
		}
	default:
		panic(fmt.Sprintf("torn: operation %d", o.Kind))
	}
}

// created takes down a file that was made; one that was there already stays what
// it is. An inode that was used before is another file now.
func (d *Disk) created(o mmap.DiskOp) {
	if d.named(o.Dir, o.Name) != nil {
		return
	}
	id, err := o.File.ID()
	if err != nil {
		panic(err)
	}
	f := newFile()
	d.files[id] = f
	d.change(o.Dir, change{set: o.Name, to: f})
}

func (d *Disk) rel(path string) string {
	rel, err := filepath.Rel(d.root, path)
	if err != nil || strings.HasPrefix(rel, "..") {
		panic(fmt.Sprintf("torn: %s is not beneath %s", path, d.root))
	}
	return rel
}

func (d *Disk) change(dir *mmap.Dir, c change) {
	c.at = d.now
	to := d.dirs[d.rel(dir.Path())]
	to.since = append(to.since, c)
}

// named finds the file that a name means now.
func (d *Disk) named(dir *mmap.Dir, name string) *file {
	return d.dirs[d.rel(dir.Path())].after(func(change) bool { return true })[name]
}

// after gives the names once those changes that are kept were made. A change whose
// name was taken away since it was made is a change all the same.
func (dir *directory) after(kept func(change) bool) map[string]*file {
	names := maps.Clone(dir.synced)
	for _, c := range dir.since {
		if !kept(c) {
			continue
		}
		delete(names, c.remove)
		if c.set != "" {
			names[c.set] = c.to
		}
	}
	return names
}

func (d *Disk) known(f *mmap.File) *file {
	id, err := f.ID()
	if err != nil {
		panic(err)
	}
	known := d.files[id]
	if known == nil {
		panic(fmt.Sprintf("torn: %s was never made", f.Path()))
	}
	return known
}

// Sync makes something stable.
func (d *Disk) Sync(o mmap.DiskOp) error {
	d.mu.Lock()
	d.look()
	var err error
	var then func()
	if d.fail != nil {
		err, then = d.fail(o)
	}
	d.sync(o, err != nil)
	d.mu.Unlock()
	if err != nil && then != nil {
		then()
	}
	return err
}

func (d *Disk) sync(o mmap.DiskOp, failed bool) {
	switch o.Kind {
	case mmap.DiskSyncFile:
		f := d.known(o.File)
		f.syncRange(0, int64(len(f.now)), failed)
		if !failed {
			f.syncSize(int64(len(f.now)))
		}
	case mmap.DiskSyncRange:
		f := d.live[o.Region]
		f.syncRange(o.Off, o.Off+o.N, failed)
		if !failed {
			f.syncSize(min(o.Off+o.N, int64(len(f.now)))) // only what is needed to find the data again
		}
	case mmap.DiskSyncDir:
		dir := d.dirs[d.rel(o.Dir.Path())]
		if !failed {
			dir.synced, dir.since = dir.after(func(change) bool { return true }), nil
		}
	}
}

func newFile() *file {
	return &file{regions: map[*mmap.Region]bool{}, sectors: map[int64]*sector{}, sizes: []sizeAt{{}}}
}

func (f *file) resize(now int, size int64) {
	if size == int64(len(f.now)) {
		return
	}
	f.now = append(f.now, make([]byte, size-int64(len(f.now)))...)
	f.sizes = append(f.sizes, sizeAt{now, size})
}

// syncSize: no size below n is possible any more.
func (f *file) syncSize(n int64) {
	for len(f.sizes) > 1 && f.sizes[0].size < n {
		f.sizes = f.sizes[1:]
	}
}

func (f *file) lookAt(now int, r *mmap.Region) {
	n := min(int64(len(f.now)), r.Len())
	f.take(now, 0, r.Bytes(0, n))
}

// take takes down what stands at off now.
func (f *file) take(now int, off int64, p []byte) {
	for at := off &^ (sectorBytes - 1); at < off+int64(len(p)); at += sectorBytes {
		from, to := max(at, off), min(at+sectorBytes, off+int64(len(p)))
		if bytes.Equal(f.now[from:to], p[from-off:to-off]) {
			continue
		}
		copy(f.now[from:to], p[from-off:to-off])
		s := f.sectors[at]
		if s == nil {
			s = &sector{values: []valueAt{{}}} // zeros, from the beginning
			f.sectors[at] = s
		}
		v := valueAt{at: now}
		copy(v.value[:], f.now[at:min(at+sectorBytes, int64(len(f.now)))])
		s.values = append(s.values, v)
		f.dirty(at, at+sectorBytes)
	}
}

// syncRange: of the sectors in it only the values of now are possible, or if it
// failed, for good whatever was.
func (f *file) syncRange(from, to int64, failed bool) {
	for at, s := range f.sectors {
		switch {
		case at < from || at >= to || s.dropped:
		case failed:
			s.dropped = len(s.values) > 1
		default:
			s.values = s.values[len(s.values)-1:]
		}
	}
}

// dirty: the pages that hold the range will be written again.
func (f *file) dirty(from, to int64) {
	const page = mmap.PageSize
	for at := from &^ (page - 1); at < (to+page-1)&^(page-1); at += sectorBytes {
		if s := f.sectors[at]; s != nil {
			s.dropped = false
		}
	}
}
