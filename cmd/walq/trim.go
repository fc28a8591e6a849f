package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/walq/walq"
)

func newTrim() *cobra.Command {
	var before uint64
	var yes bool
	cmd := manual{arguments: dirArgument, exits: corrupt, see: "walq set, walq stat"}.on(&cobra.Command{
		Use:   "trim DIR",
		Short: "Remove the oldest messages beyond the queue's limits",
		Long: `Remove the oldest files of the log beyond the limits of the queue, while others
use it. Writers do so by themselves; this is for a queue that nobody appends to,
and for limits that were just changed with "walq set".

With --before also every file goes that holds only older messages, whatever the
limits. Only whole files go: the one that appends go to stays, and so does what
is not yet durable on a queue of durability always, and what a group of consumers has
not finished that must keep its messages ("walq group set").`,
		Example: `  walq trim /var/lib/orders
  walq trim /var/lib/orders --before 1000000 --yes`,
		Args: arguments("DIR"),
	})
	f := cmd.Flags()
	f.Uint64Var(&before, "before", 0, "remove also what is older than this sequence number (default nothing)")
	f.BoolVar(&yes, "yes", false, "yes, remove what the limits would keep: needed with --before")
	output := outputFlag(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if before > 0 && !yes {
			return usagef("--before removes messages that the limits would keep; say --yes if that is meant")
		}
		result, err := trim(cmd, args[0], walq.Seq(before))
		if err != nil {
			return noQueue(args[0], err)
		}
		if output.value == "json" {
			return printJSON(cmd.OutOrStdout(), result)
		}
		if h := result.held; h != nil && walq.Seq(before) > h.From {
			cmd.PrintErrf("%s needs what is there from seq %d on\n", h.By, h.From)
		}
		cmd.PrintErrf("removed %s; %s are kept, from seq %d\n", plural(result.Removed, "file"), plural(result.Messages, "message"), result.FirstSeq)
		return nil
	}
	return cmd
}

type trimmed struct {
	Removed  int      `json:"removed_segments"`
	FirstSeq walq.Seq `json:"first_seq"`
	Messages uint64   `json:"messages"`
	Bytes    int64    `json:"bytes"`

	held *walq.Held
}

func trim(cmd *cobra.Command, dir string, before walq.Seq) (t trimmed, err error) {
	q, err := walq.Open(cmd.Context(), dir, walq.Options{Role: "trim"})
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	if t.Removed, err = q.TrimBefore(cmd.Context(), before); err != nil {
		return t, err
	}
	s, err := q.Stats()
	t.FirstSeq, t.Messages, t.Bytes, t.held = s.FirstSeq, s.Messages, s.Bytes, s.HeldBy
	return t, err
}
