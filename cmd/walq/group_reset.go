package main

import (
	"github.com/spf13/cobra"

	"github.com/walq/walq"
)

func newGroupReset() *cobra.Command {
	var from position
	var yes bool
	cmd := manual{arguments: groupArguments, exits: corrupt, see: "walq group ls, walq group pause, walq cat"}.on(&cobra.Command{
		Use:   "reset DIR NAME --from POS",
		Short: "Move a group to another place in the queue",
		Long: `Move the group to another place: what is behind it is handed out next, once more or
for the first time; what is before it counts as finished. Without --yes it only says
what would be done.

--from takes oldest, newest (behind the last message), a sequence number, -N (the
last N messages of the queue), or a time such as 2026-03-01T10:00:00Z.

Consumers go on at the new place. What they are at work on is no longer theirs: they
are told so when they finish it, and it may be handed out again.

-o json prints name, floor and lag as they were, new_floor, new_lag and dry_run.`,
		Example: `  walq group reset /tmp/orders mail --from oldest
  walq group reset /tmp/orders mail --from 2026-03-01T10:00:00Z --yes`,
		Args: groupArgs,
	})
	f := cmd.Flags()
	f.Var(&from, "from", "where to: oldest, newest, SEQ, -N or a time (RFC 3339) (default none: it has to be given)")
	f.Lookup("from").DefValue = "" // help is not to say oldest
	completeFlag(cmd, "from", positions)
	f.BoolVar(&yes, "yes", false, "yes, move it: without it only say what would be done")
	output := outputFlag(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !f.Changed("from") {
			return usagef("--from is missing")
		}
		o := toLook
		if yes {
			o = toChange
		}
		return onGroup(cmd, args, o, func(q *walq.Queue, name string) error {
			r, err := resetGroup(cmd, q, name, from.Position, yes)
			if err != nil {
				return err
			}
			if output.value == "json" {
				return printJSON(cmd.OutOrStdout(), r)
			}
			did, more := "moved", ""
			if r.DryRun {
				did, more = "would move", "; --yes does it"
			}
			cmd.PrintErrf("%s group %s from seq %d, %s not finished, to seq %d, %s%s\n",
				did, name, r.Floor, plural(r.Lag, "message"), r.NewFloor, plural(r.NewLag, "message"), more)
			return nil
		})
	}
	return cmd
}

type groupReset struct {
	Name     string   `json:"name"`
	Floor    walq.Seq `json:"floor"`
	Lag      uint64   `json:"lag"`
	NewFloor walq.Seq `json:"new_floor"`
	NewLag   uint64   `json:"new_lag"`
	DryRun   bool     `json:"dry_run"`
}

func resetGroup(cmd *cobra.Command, q *walq.Queue, name string, to walq.Position, yes bool) (r groupReset, err error) {
	g, err := findGroup(q, name)
	if err != nil {
		return r, err
	}
	r = groupReset{Name: name, Floor: g.Floor, Lag: g.Lag, DryRun: !yes}
	if r.NewFloor, r.NewLag, err = q.Behind(to); err != nil || !yes {
		return r, err
	}
	// So that what is appended meanwhile does not move what was said.
	return r, q.ResetGroup(cmd.Context(), name, walq.At(r.NewFloor))
}
