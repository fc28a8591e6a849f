package testx

import (
	"os"
	"testing"
)

// InMemory returns a new directory on a file system in memory, if there is one, for
// a test to which the disk is only in the way. It goes with the test.
func InMemory(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "walq-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}
