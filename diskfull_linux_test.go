//go:build !race

package walq_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/walq/walq"
	"github.com/walq/walq/internal/faults"
	"github.com/walq/walq/internal/testx"
)

// smallDisks are file systems of a few MiB.
var smallDisks = map[string]func(t *testing.T) string{
	"ext4":  func(t *testing.T) string { return faults.NewDisk(t, 12, "").Dir },
	"tmpfs": func(t *testing.T) string { return mount(t, "tmpfs", "size=8m,mode=0700") },
}

// fillDisk writes a file until there is not a byte left.
func fillDisk(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 256 << 10; size > 0; {
		_, err := f.Write(make([]byte, size))
		switch {
		case errors.Is(err, unix.ENOSPC):
			size /= 2
		case err != nil:
			t.Fatal(err)
		}
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
}

// Three processes append until the disk is full: in the middle of a segment, or,
// where segments are of the smallest size and so never grow, right at a roll.
func TestThreeProcessesFillADisk(t *testing.T) {
	needProcesses(t)
	bin := testx.BuildBinary(t)
	for kind, place := range smallDisks {
		for _, size := range []string{"64K", "2M"} {
			t.Run(kind+" "+size, func(t *testing.T) { fillWithThree(t, bin, filepath.Join(place(t), "q"), size) })
		}
	}
}

func fillWithThree(t *testing.T, bin, dir, size string) {
	c := newCrew(t, bin, dir, "--segment-size", size)
	follower, printed := c.follow()
	for i, flags := range [][]string{{"--batch", "10"}, {}, {"--sync", "never"}} {
		c.put(nil, fmt.Sprint("w", i), flags...)
	}
	for _, p := range c.putters {
		c.ends(p.Process, 1, walq.ErrDiskFull.Error(), dir)
		if strings.Contains(p.Talk(), "stable storage") {
			t.Errorf("%s: a full disk is told before anything is appended: %s", p.Name, p.Talk())
		}
	}
	all := c.sound()

	// The queue can still be opened, read, looked at; the reader was never disturbed.
	testx.Eventually(t, patience, func() bool { return strings.Count(printed.String(), "\n") == len(all) }, "the follower has printed all")
	if !follower.Running() {
		t.Errorf("the follower ended: %s", follower.Talk())
	}
	for _, command := range []string{"cat", "stat"} {
		if code, _, talk := c.run(command); code != 0 {
			t.Errorf("%s: exit %d: %s", command, code, talk)
		}
	}
	later := c.put(nil, "later")
	later.Await(t) // there may be room for some that are short
	c.ends(later.Process, 1, walq.ErrDiskFull.Error(), dir)
	all = c.sound()

	// Trimming needs no space, gives some, and appending goes on. A participant keeps
	// a file alive while it has it open, and so its space.
	follower.Kill()
	before := all[len(all)/2].Seq
	if code, _, talk := c.run("trim", "--before", fmt.Sprint(before), "--yes"); code != 0 {
		t.Errorf("trim: exit %d: %s", code, talk)
	}
	again := c.put(nil, "again")
	c.await(again, 300)
	c.finish(again)
	if left := c.sound(); left[0].Seq == all[0].Seq {
		t.Error("nothing was trimmed")
	}
}

// What is open goes on on a full disk with the room that it has, sleeps, wakes and
// is closed; a queue can be opened, and none can be made.
func TestAQueueIsUsedOnAFullDisk(t *testing.T) {
	needMappings(t)
	for kind, place := range smallDisks {
		t.Run(kind, func(t *testing.T) {
			dir := filepath.Join(place(t), "q")
			ballast := filepath.Join(filepath.Dir(dir), "ballast")
			writer := create(t, dir, walq.Options{})
			appendText(t, writer, "first")
			newDirs := []string{filepath.Join(filepath.Dir(dir), "new"), filepath.Join(filepath.Dir(dir), "newer")}
			for _, path := range newDirs {
				if err := os.Mkdir(path, 0o700); err != nil {
					t.Fatal(err)
				}
			}
			fillDisk(t, ballast)

			other := open(t, dir, walq.Options{}) // opening needs no space
			r := reader(t, other, walq.Newest, walq.ReaderOptions{})
			ctx := notice(t.Context())
			got := make(chan string, 1)
			go func() { // there is no room for a socket, perhaps: then it polls
				m, err := r.Next(ctx)
				got <- fmt.Sprint(string(m.Body), err)
			}()
			<-ctx.waiting
			appendText(t, writer, "second") // in the room that is there
			within(t, "Next", func() {
				if text := <-got; text != "second<nil>" {
					t.Errorf("Next: got %s", text)
				}
			})
			for _, path := range newDirs {
				_, err := walq.Open(t.Context(), path, walq.Options{Create: &walq.QueueOptions{SegmentSize: smallest}})
				wantSentence(t, err, walq.ErrDiskFull, path)
			}
			closeQueue(t, other)
			closeQueue(t, writer)
			again := open(t, dir, walq.Options{})
			wantLines(t, "contents", contents(t, again), "1 first", "2 second")
			var err error
			for i := 0; err == nil; i++ {
				_, err = again.Append(t.Context(), []byte(text(i, 1000)))
			}
			wantSentence(t, err, walq.ErrDiskFull, dir)
			if err := os.Remove(ballast); err != nil {
				t.Fatal(err)
			}
			appendText(t, again, "with space")
			closeQueue(t, again)
		})
	}
}

// Where there is not even room for the name of a file, that is a full disk too.
func TestNoInodeForANewQueueIsAFullDisk(t *testing.T) {
	needMappings(t)
	place := faults.NewDisk(t, 12, "", "-N", "32").Dir
	dirs := make([]string, 5)
	for i := range dirs {
		dirs[i] = filepath.Join(place, fmt.Sprint("q", i))
		if err := os.Mkdir(dirs[i], 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for i := 0; ; i++ {
		err := os.WriteFile(filepath.Join(place, fmt.Sprint(i)), nil, 0o600)
		if errors.Is(err, unix.ENOSPC) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for left, dir := range dirs { // so many files of the new queues found room before
		_, err := walq.Open(t.Context(), dir, walq.Options{Create: &walq.QueueOptions{}})
		wantSentence(t, err, walq.ErrDiskFull, dir)
		if err := os.Remove(filepath.Join(place, fmt.Sprint(left))); err != nil {
			t.Fatal(err)
		}
	}
}
