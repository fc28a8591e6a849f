package main

import (
	"github.com/spf13/cobra"

	"github.com/walq/walq"
)

func newGroupSet() *cobra.Command {
	var mayLose, mustKeep bool
	cmd := manual{arguments: groupArguments, exits: corrupt, see: "walq group ls, walq set, walq trim"}.on(&cobra.Command{
		Use:   "set DIR NAME --may-lose|--must-keep",
		Short: "Say whether a group may lose messages",
		Long: `Say whether the limits of the queue may remove messages that the group has not
finished. It counts at once, while consumers are at work.

A group must keep its messages, unless it was said otherwise: they stay beyond the
limits, and when they fill the queue appends fail, or wait. Of a group that may lose
messages the consumers are told which are gone.`,
		Example: `  walq group set /tmp/orders audit --may-lose`,
		Args:    groupArgs,
	})
	cmd.Flags().BoolVar(&mayLose, "may-lose", false, "limits may remove what the group has not finished")
	cmd.Flags().BoolVar(&mustKeep, "must-keep", false, "what the group has not finished stays")
	output := outputFlag(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if mayLose == mustKeep {
			return usagef("say either --may-lose or --must-keep")
		}
		return onGroup(cmd, args, toChange, func(q *walq.Queue, name string) error {
			if err := q.SetGroupMayLose(name, mayLose); err != nil {
				return err
			}
			if output.value == "json" {
				g, err := findGroup(q, name)
				if err != nil {
					return err
				}
				return printJSON(cmd.OutOrStdout(), g)
			}
			cmd.PrintErrf("group %s %s\n", name, map[bool]string{true: "may lose messages", false: "keeps its messages"}[mayLose])
			return nil
		})
	}
	return cmd
}
