package wal

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/walq/walq/internal/crc32c"
	"github.com/walq/walq/internal/testx"
)

func TestRepairRefusesWhileOthersHaveTheQueueOpen(t *testing.T) {
	dir := newQueue(t)
	l := create(t, dir, Options{Role: "holder"})
	appendText(t, l, "one")
	before := testx.Fingerprint(t, dir)
	for _, dry := range []bool{true, false} {
		_, err := Repair(t.Context(), dir, RepairOptions{DryRun: dry})
		var in *InUseError
		if !errors.As(err, &in) || !errors.Is(err, ErrInUse) || len(in.By) != 1 {
			t.Fatalf("got %v, want an InUseError with one participant", err)
		}
		if !testx.Race && (in.By[0].PID != os.Getpid() || in.By[0].Role != "holder" || in.By[0].Slot != l.slot) {
			t.Errorf("got %+v, want this process", in.By[0])
		}
	}
	if !testx.Race && testx.Fingerprint(t, dir) != before {
		t.Error("files were changed")
	}
	closeLog(t, l)
	if rep := repair(t, dir, RepairOptions{}); !rep.Sound() {
		t.Errorf("got %+v", rep)
	}
}

func TestRepairOfWhatIsNoQueueChangesNothing(t *testing.T) {
	for name, make := range map[string]func(t *testing.T, dir string) error{
		"an empty directory": func(*testing.T, string) error { return nil },
		"foreign files": func(_ *testing.T, dir string) error {
			return errors.Join(os.Mkdir(filepath.Join(dir, logName), 0o700), os.WriteFile(filepath.Join(dir, logName, "app.log"), []byte("x"), 0o600))
		},
		"a control file of somebody else": func(_ *testing.T, dir string) error {
			return errors.Join(os.Mkdir(filepath.Join(dir, logName), 0o700), os.WriteFile(filepath.Join(dir, controlName), []byte("hello"), 0o600), os.WriteFile(filepath.Join(dir, lockName), nil, 0o600))
		},
		"a segment that is a link": func(t *testing.T, dir string) error {
			other, _ := longQueue(t, 2)
			if err := os.CopyFS(dir, os.DirFS(other)); err != nil {
				return err
			}
			seg := segmentFile(t, dir, 0)
			return errors.Join(os.Remove(seg), os.Symlink(segmentFile(t, other, 0), seg))
		},
		"a control file that is a link": func(t *testing.T, dir string) error {
			other, _ := longQueue(t, 2)
			if err := os.CopyFS(dir, os.DirFS(other)); err != nil {
				return err
			}
			ctl := filepath.Join(dir, controlName)
			return errors.Join(os.Remove(ctl), os.Symlink(filepath.Join(other, controlName), ctl))
		},
		"a quarantine that is a link": func(t *testing.T, dir string) error {
			other, _ := longQueue(t, 2)
			if err := os.CopyFS(dir, os.DirFS(other)); err != nil {
				return err
			}
			damage(t, segmentFile(t, dir, 0), func(b []byte) []byte { b[9000] ^= 1; return b })
			return errors.Join(os.RemoveAll(filepath.Join(dir, quarantineName)), os.Symlink(t.TempDir(), filepath.Join(dir, quarantineName)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := make(t, dir); err != nil {
				t.Fatal(err)
			}
			before := testx.Fingerprint(t, dir)
			if rep, err := Repair(t.Context(), dir, RepairOptions{}); err == nil {
				t.Errorf("got %+v, want an error", rep)
			}
			if testx.Fingerprint(t, dir) != before {
				t.Error("files were changed")
			}
		})
	}
}

func TestRepairHonoursItsContext(t *testing.T) {
	dir, _ := longQueue(t, 3)
	damage(t, segmentFile(t, dir, 1), func(b []byte) []byte { b[9000] ^= 1; return b })
	before := testx.Fingerprint(t, dir)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Repair(ctx, dir, RepairOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's error", err)
	}
	if testx.Fingerprint(t, dir) != before {
		t.Error("files were changed")
	}
}

func TestAQueueOfANewerWalqIsNotRepaired(t *testing.T) {
	dir, _ := longQueue(t, 2)
	damage(t, filepath.Join(dir, controlName), func(b []byte) []byte {
		b[ctlVersion] = 9
		page := bytes.Clone(b[:identityBytes])
		putWord(page[ctlChecksum:], uint64(crc32c.Update(0, page[:ctlChecksum])))
		copy(b, page)
		return b
	})
	if _, err := Repair(t.Context(), dir, RepairOptions{}); !errors.Is(err, ErrVersion) {
		t.Errorf("got %v, want ErrVersion", err)
	}
}
