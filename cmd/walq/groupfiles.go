package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/walq/walq/group"
	"github.com/walq/walq/segment"
	"github.com/walq/walq/wal"
)

// Groups' files in verify, repair and dump.

func groupsDir(dir string) string { return filepath.Join(dir, "groups") }

// verifyGroups adds what is wrong in the files of groups. Its error is about those that
// could not be looked at.
func verifyGroups(dir string, report *wal.Report) error {
	scene := group.Scene(report.Scene)
	all, err := group.InspectAll(groupsDir(dir), scene)
	if !scene.InUse && len(groupFaults(all)) > 0 {
		// Somebody may have come meanwhile, or have been there.
		used, uerr := wal.InUse(dir)
		if scene.InUse = used; uerr != nil {
			return errors.Join(err, uerr)
		}
		all, err = group.InspectAll(groupsDir(dir), scene)
	}
	report.Faults = append(report.Faults, groupFaults(all)...)
	return err
}

func groupFaults(all []group.Inspection) (faults []wal.Fault) {
	for _, x := range all {
		for _, f := range x.Findings {
			faults = append(faults, groupFault(f))
		}
	}
	return faults
}

func groupFault(f group.Finding) wal.Fault {
	return wal.Fault{Path: f.Path, Offset: f.Offset, Reason: f.Reason + "; " + f.Means}
}

// mendedGroups are what a repair does to groups.
type mendedGroups struct {
	done, left []wal.Fault
	kept       []string
}

// mend goes over all groups. One that cannot be read keeps none of the others from
// being mended.
func (m *mendedGroups) mend(dir string, scene wal.Scene, dry bool) (err error) {
	all, err := group.InspectAll(groupsDir(dir), group.Scene(scene))
	for _, x := range all {
		one, merr := group.Mend(x.Path, group.Scene(scene), group.DefaultSettings(), dry)
		err = errors.Join(err, merr)
		for _, f := range one.Done {
			m.done = append(m.done, groupFault(f))
		}
		for _, f := range one.Left {
			m.left = append(m.left, groupFault(f))
		}
		if one.Kept != "" {
			m.kept = append(m.kept, one.Kept)
		}
	}
	return err
}

// A repairReport is of the log and the groups.
type repairReport struct {
	wal.RepairReport
	Left []wal.Fault `json:"left"` // what cannot be mended
}

func (m *mendedGroups) with(log wal.RepairReport) repairReport {
	log.Repaired = append(log.Repaired, m.done...)
	log.Quarantined = append(log.Quarantined, m.kept...)
	return repairReport{log, append([]wal.Fault{}, m.left...)}
}

// isGroupFile tells by its first bytes, or by its name if those are damaged.
func isGroupFile(path string) bool {
	if strings.HasSuffix(path, group.FileName("")) {
		return true
	}
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	magic := make([]byte, len(group.Magic))
	_, err = io.ReadFull(f, magic)
	return err == nil && string(magic) == group.Magic
}

// dumpGroup shows the file of a group, and behind the fields what is wrong.
func dumpGroup(path string, d *dump) error {
	x, err := group.Inspect(path, group.Scene{InUse: true})
	for _, f := range x.Fields {
		if err := d.field(segment.Field(f)); err != nil {
			return err
		}
	}
	for _, f := range x.Findings {
		d.fault(&wal.CorruptError{Path: f.Path, Offset: f.Offset, Reason: f.Reason + "; " + f.Means})
	}
	return err
}
