package faults

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/walq/walq/internal/testx"
)

// A Disk is an ext4 file system in an image file, mounted over a loop device.
type Disk struct {
	Dir     string // where it is mounted
	image   string
	options string
	mounted bool
}

// NewDisk makes a disk of the size in MiB and mounts it; format are further
// arguments of mkfs.ext4, options those of mount. The test is skipped where that
// is not possible. The image is sparse.
func NewDisk(t testing.TB, mib int, options string, format ...string) *Disk {
	t.Helper()
	if os.Geteuid() != 0 {
		testx.Skip(t, "needs root to mount a loop device")
	}
	for _, tool := range []string{"mkfs.ext4", "mount", "umount"} {
		if _, err := exec.LookPath(tool); err != nil {
			testx.Skip(t, "needs "+tool)
		}
	}
	place := t.TempDir()
	d := &Disk{Dir: filepath.Join(place, "disk"), image: filepath.Join(place, "image"), options: "loop"}
	if options != "" {
		d.options += "," + options
	}
	if err := errors.Join(os.Mkdir(d.Dir, 0o700), os.WriteFile(d.image, nil, 0o600), os.Truncate(d.image, int64(mib)<<20)); err != nil {
		t.Fatal(err)
	}
	if err := command("mkfs.ext4", append([]string{"-q", "-F"}, append(format, d.image)...)...); err != nil {
		t.Fatal(err)
	}
	if err := d.plug(); err != nil {
		testx.Skip(t, "cannot mount a loop device: "+err.Error())
	}
	t.Cleanup(func() {
		if d.mounted {
			if err := command("umount", d.Dir); err != nil {
				t.Error(err)
				_ = unix.Unmount(d.Dir, unix.MNT_DETACH) // else the temporary directory stays as well
			}
		}
	})
	return d
}

// A Cut says what a disk may still do when its power goes.
type Cut int

// The ways to cut the power, by the kernel's numbers.
const (
	CutSynced  Cut = 0 // everything is written first: an orderly end of the file system
	CutJournal Cut = 1 // the journal is written first, the data are not
	CutAtOnce  Cut = 2 // nothing more is written
)

// ext4Shutdown is EXT4_IOC_SHUTDOWN.
const ext4Shutdown = 0x8004587d

// Cut ends all writing to the disk at this instant: what the kernel holds in
// memory stays there and is lost when the disk is mounted again. The test is
// skipped where the kernel cannot do that.
func (d *Disk) Cut(t testing.TB, how Cut) {
	t.Helper()
	f, err := os.Open(d.Dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	err = unix.IoctlSetPointerInt(int(f.Fd()), ext4Shutdown, int(how))
	switch {
	case errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EPERM):
		testx.Skip(t, "the kernel cannot shut ext4 down: "+err.Error())
	case err != nil:
		t.Fatal(err)
	}
}

// Replug unmounts the disk, which drops all that the kernel remembers of it, and
// mounts it again, which replays its journal. Nobody may have a file of it open.
func (d *Disk) Replug(t testing.TB) {
	t.Helper()
	// A process that was killed may be gone before the kernel let go of its files.
	testx.Eventually(t, patience, func() bool { return command("umount", d.Dir) == nil }, "the disk is unmounted")
	d.mounted = false
	if err := d.plug(); err != nil {
		t.Fatal(err)
	}
}

func (d *Disk) plug() error {
	err := command("mount", "-t", "ext4", "-o", d.options, d.image, d.Dir)
	d.mounted = d.mounted || err == nil
	return err
}

// command runs a program that says what is wrong if it fails.
func command(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, bytes.TrimSpace(out))
	}
	return nil
}
