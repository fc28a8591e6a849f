package walq

import (
	"path/filepath"
	"testing"

	"github.com/walq/walq/group"
)

// wantSoundGroups fails if anything is wrong in the files of the groups, which nobody
// uses at this moment: whoever was killed in the midst of something did no damage.
func wantSoundGroups(t *testing.T, q *Queue) {
	t.Helper()
	epoch, err := q.log.Epoch()
	if err != nil {
		t.Fatal(err)
	}
	end, _, err := q.Behind(Newest)
	if err != nil {
		t.Fatal(err)
	}
	all, err := group.InspectAll(filepath.Join(q.Path(), "groups"), group.Scene{
		Queue: q.log.Queue(), Boot: q.log.BootID(), Epoch: epoch, Next: uint64(end),
	})
	if err != nil || len(all) == 0 {
		t.Errorf("%d groups, %v", len(all), err)
	}
	for _, x := range all {
		for _, f := range x.Findings {
			t.Errorf("%s: offset %d: %s", f.Path, f.Offset, f.Reason)
		}
	}
}
