package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/walq/walq"
)

func newRedrive() *cobra.Command {
	cmd := manual{
		arguments: dirArgument + "\nFROM  the directory of the queue with the messages that were given up",
		exits:     corrupt, see: "walq consume, walq cat",
	}.on(&cobra.Command{
		Use:   "redrive DIR FROM",
		Short: "Put messages that were given up back into their queue",
		Long: `Append the messages that consumers of the queue in DIR gave up, and that went to the
queue in FROM as "walq consume --dead-letter" says, to DIR again, at its end. Those
that came from other queues stay where they are. "walq cat FROM -o json" shows in the
headers of each where it comes from and why it was given up.

What was put back is not put back again. If redrive is killed, run it again: one
message may come twice.

-o json prints redriven, how many were put back.`,
		Example: `  walq redrive /tmp/orders /tmp/orders-dead`,
		Args:    arguments("DIR", "FROM"),
	})
	output := outputFlag(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		n, err := redrive(cmd, args[0], args[1])
		if err != nil && n == 0 {
			return err
		}
		if output.value == "json" {
			return besides(err, printJSON(cmd.OutOrStdout(), redriven{n}))
		}
		cmd.PrintErrf("put back %s\n", plural(n, "message"))
		return err
	}
	return cmd
}

type redriven struct {
	N int `json:"redriven"`
}

func redrive(cmd *cobra.Command, dir, from string) (n int, err error) {
	q, err := walq.Open(cmd.Context(), dir, walq.Options{Role: "redrive"})
	if err != nil {
		return 0, noQueue(dir, err)
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	dead, err := walq.Open(cmd.Context(), from, walq.Options{Role: "redrive"})
	if err != nil {
		return 0, noQueue(from, err)
	}
	defer func() { err = errors.Join(err, dead.Close()) }()
	return q.Redrive(cmd.Context(), dead)
}
