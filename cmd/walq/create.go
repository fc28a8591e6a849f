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
	cmd := &cobra.Command{
		Use:   "create DIR",
		Short: "Make a queue",
		Long: `Make a queue in the directory DIR, which is made too if it is missing. What is
not given gets a default: segments of 64 MiB, no limits, durability always.

With --group-access all members of the directory's group can use the queue, else
only the user who makes it.`,
		Example: `  walq create /var/lib/orders
  walq create /tmp/events --segment-size 4M --max-bytes 1G --max-age 7d --durability interval`,
		Args: arguments("DIR"),
	}
	f := cmd.Flags()
	f.Var(&segment, "segment-size", "size of one file of the log, 64K to 1G")
	f.Var(&maxBytes, "max-bytes", "beyond this the oldest messages may be trimmed")
	f.Var(&maxAge, "max-age", "beyond this messages may be trimmed")
	durability := durabilityFlag()
	f.Var(durability, "durability", "when an append is acknowledged: synced, or earlier")
	f.BoolVar(&group, "group-access", false, "let the directory's group use the queue")
	output := outputFlag(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		stats, err := create(cmd.Context(), args[0], walq.QueueOptions{
			SegmentSize: int64(segment), MaxBytes: int64(maxBytes), MaxAge: time.Duration(maxAge),
			Durability: durability.durability(), GroupAccess: group,
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
		return s, err
	}
	q, err = walq.Open(ctx, dir, walq.Options{Create: &o, Role: "create"})
	if err != nil {
		return s, err
	}
	s, err = q.Stats()
	return s, errors.Join(err, q.Close())
}
