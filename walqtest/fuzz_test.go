package walqtest_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/walq/walq"
	"github.com/walq/walq/walqtest"
)

// The README shows this target.
func FuzzConsumer(f *testing.F) {
	f.Add([]byte("order 7"), []byte("order 8"), true)
	f.Fuzz(func(t *testing.T, first, second []byte, damaged bool) {
		q := walqtest.New(t, walq.Options{Durability: walq.SyncNever})
		seqs := walqtest.Put(t, q, first, second)
		if damaged {
			walqtest.Flip(t, q.Path(), seqs[0])
		}
		got := 0
		_, lost, err := consume(t.Context(), q, walq.Oldest, func(string) { got++ })
		if err != nil || got+lost != 2 || damaged != (lost == 1) {
			t.Errorf("got %d messages, lost %d, error %v", got, lost, err)
		}
	})
}

func TestTheReadmeShowsTheFuzzTarget(t *testing.T) {
	source, err := os.ReadFile("fuzz_test.go")
	if err != nil {
		t.Fatal(err)
	}
	_, target, _ := strings.Cut(string(source), "func FuzzConsumer")
	target, _, _ = strings.Cut(target, "\n}\n")
	readme, err := os.ReadFile(filepath.Join("..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	if want := "```go\nfunc FuzzConsumer" + target + "\n}\n```\n"; !strings.Contains(string(readme), want) {
		t.Errorf("README.md does not show the target as it is:\n%s", want)
	}
}
