package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/spf13/cobra"

	"github.com/walq/walq"
)

func newCreate() *cobra.Command {
	var segment, maxBytes size
	var maxAge age
	var group bool
	whenFull := choices("", "fail", "wait")
	cmd := manual{
		arguments: "DIR  where the queue is to be: a directory that is empty or not there",
		exits:     corrupt, see: "walq set, walq put, walq stat",
	}.on(&cobra.Command{
		Use:   "create DIR",
		Short: "Make a queue",
		Long: `Make a queue in the directory DIR, which is made too if it is missing. The limits
can be changed later, what else is given here cannot.

Appends are acknowledged, with durability always, once they are on stable storage;
with interval at once, and synced every 100 ms; with never at once, and synced when
the kernel likes. A writer can choose another durability for itself.

A message fits one file of the log, and trimming removes whole files. What a group of
consumers must keep is not trimmed: when such messages fill --max-bytes appends fail, or
wait with --when-full wait. --max-bytes should be several times the size of a file.

With --group-access all members of the directory's group can use the queue, else
only the user who makes it.`,
		Example: `  walq create /var/lib/orders
  walq create /tmp/events --segment-size 4M --max-bytes 1G --max-age 7d --durability interval`,
		Args: arguments("DIR"),
	})
	f := cmd.Flags()
	f.Var(&segment, "segment-size", "size of one file of the log in bytes, 64K to 1G (default 64M)")
	f.Var(&maxBytes, "max-bytes", "beyond so many bytes the oldest messages may be trimmed (default no limit)")
	f.Var(&maxAge, "max-age", "messages older than this may be trimmed, as 36h or 7d (default no limit)")
	whenFull.flag(cmd, "when-full", "", "what appends do when groups need all of --max-bytes (default fail)")
	durability := durabilityFlag()
	durability.flag(cmd, "durability", "", "when an append is acknowledged (default always)")
	f.BoolVar(&group, "group-access", false, "let the directory's group use the queue")
	output := outputFlag(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		stats, err := create(cmd.Context(), args[0], walq.QueueOptions{
			SegmentSize: int64(segment), MaxBytes: int64(maxBytes), MaxAge: time.Duration(maxAge),
			Durability: durability.durability(), GroupAccess: group, WhenFull: whenFullOf(whenFull),
		})
		if err != nil {
			return err
		}
		if output.value == "json" {
			return printJSON(cmd.OutOrStdout(), created{stats.ID, args[0], stats.Settings})
		}
		cmd.PrintErrf("made queue %s at %s\n", stats.ID, args[0])
		return nil
	}
	return cmd
}

func whenFullOf(c *choice) walq.WhenFull {
	if c.value == "wait" {
		return walq.WaitWhenFull
	}
	return walq.FailWhenFull
}

type created struct {
	ID       walq.UUID     `json:"id"`
	Path     string        `json:"path"`
	Settings walq.Settings `json:"settings"`
}

func create(ctx context.Context, dir string, o walq.QueueOptions) (s walq.Stats, err error) {
	// Anything but an empty place is refused: also a queue that cannot be
	// opened, which has its own error.
	q, err := walq.Open(ctx, dir, walq.Options{ReadOnly: true})
	if err == nil {
		return s, errors.Join(fmt.Errorf("there is a queue at %s already", dir), q.Close())
	}
	if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, walq.ErrNotQueue) {
		return s, noDirectory(dir, err)
	}
	q, err = walq.Open(ctx, dir, walq.Options{Create: &o, Role: "create"})
	if err != nil {
		return s, err
	}
	s, err = q.Stats()
	return s, errors.Join(err, q.Close())
}
