package mmap

import (
	"strings"
	"sync"
)

// A Disk stands in, in tests of power loss, for the disk beneath a directory: it
// is told of every operation that a power loss could undo, and asked instead of
// the kernel to make things stable.
type Disk interface {
	// Did is called after an operation, on the goroutine that did it. An unmap is
	// told before, while the memory is still there.
	Did(DiskOp)
	// Sync is called instead of a sync. An error is what the sync returns.
	Sync(DiskOp) error
	// BootID stands in for the kernel's.
	BootID() [16]byte
}

// A DiskOp is one operation. Which fields are set depends on Kind.
type DiskOp struct {
	Kind   DiskOpKind
	Dir    *Dir
	Name   string
	ToDir  *Dir
	ToName string
	File   *File
	Region *Region
	Off, N int64
	Data   []byte
}

// DiskOpKind says what was done.
type DiskOpKind int

// The kinds.
const (
	DiskCreate    DiskOpKind = iota // Dir, Name, File: a file was made, or opened to be made
	DiskMkdir                       // Dir, Name
	DiskLink                        // Dir, Name, ToName
	DiskUnlink                      // Dir, Name
	DiskRename                      // Dir, Name, ToDir, ToName
	DiskAllocate                    // File, Off, N
	DiskWrite                       // File, Off, Data
	DiskTouch                       // Region, Off, N: made dirty without a change
	DiskMap                         // File, Region
	DiskUnmap                       // Region
	DiskSyncFile                    // File
	DiskSyncRange                   // Region, Off, N
	DiskSyncDir                     // Dir
)

var disks struct {
	sync.Mutex
	beneath map[string]Disk
}

// UseDisk puts a disk beneath the directory root, an absolute path, until restore
// is called. It needs a build with the tag walqsteps.
func UseDisk(root string, d Disk) (restore func()) {
	if !diskSeam {
		panic("mmap: built without the tag walqsteps")
	}
	disks.Lock()
	defer disks.Unlock()
	if disks.beneath == nil {
		disks.beneath = map[string]Disk{}
	}
	disks.beneath[root] = d
	return func() {
		disks.Lock()
		defer disks.Unlock()
		delete(disks.beneath, root)
	}
}

func diskBeneath(path string) Disk {
	disks.Lock()
	defer disks.Unlock()
	for root, d := range disks.beneath {
		if path == root || strings.HasPrefix(path, root+"/") {
			return d
		}
	}
	return nil
}

func (o DiskOp) path() string {
	switch {
	case o.Dir != nil:
		return o.Dir.path
	case o.File != nil:
		return o.File.path
	}
	return o.Region.path
}

// did tells the disk beneath, if err is nil, and passes err on.
func did(o DiskOp, err error) error {
	if diskSeam && err == nil {
		if d := diskBeneath(o.path()); d != nil {
			d.Did(o)
		}
	}
	return err
}

// synced asks the disk beneath to sync; false: it is the kernel's.
func synced(o DiskOp) (bool, error) {
	if diskSeam {
		if d := diskBeneath(o.path()); d != nil {
			return true, d.Sync(o)
		}
	}
	return false, nil
}
