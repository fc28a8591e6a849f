package testx

import (
	"os/exec"
	"strings"
	"testing"
)

func TestBuildBinaryBuildsEachSetOfTagsOnce(t *testing.T) {
	inModule(t)
	plain, other := BuildBinary(t), BuildBinary(t, "other")
	for path, want := range map[string]string{plain: "plain", other: "other"} {
		out, err := exec.Command(path).CombinedOutput()
		if err != nil || string(out) != want {
			t.Errorf("%s: printed %q (%v), want %q", path, out, err, want)
		}
	}
	if _, shared := binaryDir(t); !shared {
		return // each call builds anew
	}
	if again := BuildBinary(t); again != plain {
		t.Errorf("second call: got %s, want %s", again, plain)
	}
}

func TestRootIsTheModule(t *testing.T) {
	inModule(t)
	if root := Root(t); strings.HasSuffix(root, "somewhere") {
		t.Errorf("got %s, want the directory above", root)
	}
}
