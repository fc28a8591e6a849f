package main

import (
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/walq/walq"
)

func newSet() *cobra.Command {
	var maxBytes size
	var maxAge age
	whenFull := choices("", "fail", "wait")
	cmd := manual{arguments: dirArgument, exits: corrupt, see: "walq create, walq trim, walq stat"}.on(&cobra.Command{
		Use:   "set DIR",
		Short: "Change the limits of a queue",
		Long: `Change how much a queue keeps, while others use it. A limit that is not given
stays as it is; 0 takes one away. What lies beyond a new limit goes with the next
trim: writers trim by themselves, or see "walq trim". What a group must keep stays:
--when-full says whether appends fail or wait when that fills the queue.

The size of a file of the log and the durability are what the queue was made
with.`,
		Example: `  walq set /var/lib/orders --max-bytes 10G
  walq set /var/lib/orders --max-age 7d --max-bytes 0`,
		Args: arguments("DIR"),
	})
	f := cmd.Flags()
	f.Var(&maxBytes, "max-bytes", "beyond so many bytes the oldest messages may be trimmed; 0: no limit (default as it is)")
	f.Var(&maxAge, "max-age", "messages older than this may be trimmed, as 36h or 7d; 0: no limit (default as it is)")
	whenFull.flag(cmd, "when-full", "", "what appends do when groups need all of the limit of bytes (default as it is)")
	output := outputFlag(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		if !f.Changed("max-bytes") && !f.Changed("max-age") && !f.Changed("when-full") {
			return usagef("nothing to set: give --max-bytes, --max-age or --when-full")
		}
		q, err := walq.Open(cmd.Context(), args[0], walq.Options{Role: "set"})
		if err != nil {
			return noQueue(args[0], err)
		}
		defer func() { err = errors.Join(err, q.Close()) }()
		s, err := q.Stats()
		if err != nil {
			return err
		}
		bytes, old := s.Settings.MaxBytes, time.Duration(s.Settings.MaxAgeNanos)
		if f.Changed("max-bytes") {
			bytes = int64(maxBytes)
		}
		if f.Changed("max-age") {
			old = time.Duration(maxAge)
		}
		if err := q.SetLimits(cmd.Context(), bytes, old); err != nil {
			return err
		}
		if f.Changed("when-full") {
			if err := q.SetWhenFull(cmd.Context(), whenFullOf(whenFull)); err != nil {
				return err
			}
		}
		if s, err = q.Stats(); err != nil {
			return err
		}
		if output.value == "json" {
			return printJSON(cmd.OutOrStdout(), created{s.ID, args[0], s.Settings})
		}
		cmd.PrintErrf("limits of %s: %s\n", args[0], limits(s.Settings))
		return nil
	}
	return cmd
}
