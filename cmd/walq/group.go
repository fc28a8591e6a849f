package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/walq/walq"
)

// groupArguments are those of the commands for one group.
const groupArguments = dirArgument + "\nNAME  the group"

func newGroup() *cobra.Command {
	cmd := manual{exits: corrupt, see: "walq consume, walq stat, walq redrive"}.on(&cobra.Command{
		Use:   "group",
		Short: "Look after the groups of consumers of a queue",
		Long: `Show the groups of consumers that a queue has, and stop, move or remove them, while
their consumers are at work. "walq consume" makes a group, and is a consumer.`,
		Example: `  walq group ls /tmp/orders
  walq group reset /tmp/orders mail --from -100 --yes`,
		Args: cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("which command?")
			}
			return usagef("there is no command %q", "group "+args[0])
		},
	})
	cmd.AddCommand(newGroupLs(), newGroupRm(), newGroupReset(), newGroupPause(true), newGroupPause(false), newGroupSet())
	return cmd
}

func newGroupLs() *cobra.Command {
	cmd := manual{arguments: dirArgument, exits: corrupt, see: "walq stat, walq consume"}.on(&cobra.Command{
		Use:   "ls DIR",
		Short: "List the groups and how far they are",
		Long: `List the groups of the queue in DIR. It needs permission to read only.

The floor is the sequence number below which a group has finished everything. The lag
counts the messages that it has not finished; of a group with a topic it may count
messages of other topics that no consumer has gone past. Those that are not due for long
wait as delayed, and do not count as in flight.

-o json prints an object for each group: name, topic, window, ordered_by_key, floor,
lag, in_flight, delayed, finished, redelivered, dead_lettered, paused, may_lose, held_bytes, the
size of the files that it needs, 0 if it may lose messages, and oldest_unfinished_s, the
age of the oldest message that is not finished.`,
		Example: `  walq group ls /tmp/orders
  walq group ls /tmp/orders -o json | jq 'select(.lag > 1000).name'`,
		Args: arguments("DIR"),
	})
	output := outputFlag(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		all, err := groups(cmd.Context(), args[0])
		if output.value == "json" {
			for _, g := range all {
				if perr := printJSON(cmd.OutOrStdout(), g); perr != nil {
					return besides(err, perr)
				}
			}
			return err
		}
		return besides(err, printGroups(cmd.OutOrStdout(), all))
	}
	return cmd
}

// groups looks at the groups of a queue.
func groups(ctx context.Context, dir string) ([]walq.GroupInfo, error) {
	q, err := walq.Open(ctx, dir, walq.Options{ReadOnly: true})
	if err != nil {
		return nil, noQueue(dir, err)
	}
	all, err := q.Groups()
	return all, errors.Join(err, q.Close())
}

// printGroups prints nothing if there are none.
func printGroups(w io.Writer, all []walq.GroupInfo) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if len(all) > 0 {
		fmt.Fprintln(t, "GROUP\tTOPIC\tFLOOR\tLAG\tIN FLIGHT\tDELAYED\tFINISHED\tREDELIVERED\tDEAD\tOLDEST\tPAUSED\tHOLDS")
	}
	for _, g := range all {
		oldest := time.Duration(g.OldestUnfinishedSeconds * float64(time.Second)).Round(time.Millisecond)
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%v\t%s\t%s\n", g.Name, orAll(g.Topic), g.Floor, g.Lag, g.InFlight,
			g.Delayed, g.Finished, g.Redelivered, g.DeadLettered, oldest, yesNo(g.Paused), holds(g))
	}
	return t.Flush()
}

// holds is what a group keeps from being trimmed.
func holds(g walq.GroupInfo) string {
	if g.MayLose {
		return "may lose"
	}
	return formatSize(g.HeldBytes)
}

func orAll(topic string) string {
	if topic == "" {
		return "(all)"
	}
	return topic
}

// findGroup looks at one group.
func findGroup(q *walq.Queue, name string) (walq.GroupInfo, error) {
	all, err := q.Groups()
	for _, g := range all {
		if g.Name == name {
			return g, nil // whatever is wrong with others
		}
	}
	if err == nil {
		err = noGroup(name)
	}
	return walq.GroupInfo{}, err
}

func noGroup(name string) error { return fmt.Errorf("there is no group %s", name) }

// groupArgs accepts a directory and what can be a group's name.
func groupArgs(cmd *cobra.Command, args []string) error {
	if err := arguments("DIR", "NAME")(cmd, args); err != nil {
		return err
	}
	return checkGroupName(args[1])
}

// onGroup calls f with a queue that has the group, and does not say more than is
// needed if it has not.
func onGroup(cmd *cobra.Command, args []string, o walq.Options, f func(q *walq.Queue, name string) error) (err error) {
	q, err := walq.Open(cmd.Context(), args[0], o)
	if err != nil {
		return noQueue(args[0], err)
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	if err = f(q, args[1]); errors.Is(err, fs.ErrNotExist) {
		return noGroup(args[1])
	}
	return err
}

// toChange and toLook are how a queue is opened for a command on a group.
var (
	toChange = walq.Options{Role: "group"}
	toLook   = walq.Options{ReadOnly: true}
)

func newGroupRm() *cobra.Command {
	var yes bool
	cmd := manual{arguments: groupArguments, exits: corrupt, see: "walq group reset, walq group pause"}.on(&cobra.Command{
		Use:   "rm DIR NAME",
		Short: "Remove a group",
		Long: `Remove the group and what it knows. The messages stay. A group of the same name that
is made later begins anew.

Without --yes it only says what would be lost. It refuses while a consumer works on a
message. Consumers that wait get nothing more, and have to be started again.`,
		Example: `  walq group rm /tmp/orders mail --yes`,
		Args:    groupArgs,
	})
	cmd.Flags().BoolVar(&yes, "yes", false, "yes, remove it: without it only say what would be lost")
	output := outputFlag(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !yes {
			return onGroup(cmd, args, toLook, func(q *walq.Queue, name string) error {
				g, err := findGroup(q, name)
				if err != nil {
					return err
				}
				return usagef("group %s has %s not finished and %s in flight, and would forget it; say --yes if that is meant",
					name, plural(g.Lag, "message"), counted(g.InFlight))
			})
		}
		return onGroup(cmd, args, toChange, func(q *walq.Queue, name string) error {
			if err := q.RemoveGroup(name); err != nil {
				return err
			}
			if output.value == "json" {
				return printJSON(cmd.OutOrStdout(), removedGroup{name})
			}
			cmd.PrintErrf("removed group %s\n", name)
			return nil
		})
	}
	return cmd
}

type removedGroup struct {
	Name string `json:"removed"`
}

func counted(n uint64) string {
	if n == 0 {
		return "none"
	}
	return thousands(n)
}

func newGroupPause(pause bool) *cobra.Command {
	use, what := "resume", "Let a paused group go on"
	long := `Let the group hand out messages again.`
	if pause {
		use, what = "pause", "Keep a group from handing out messages"
		long = `Keep the group from handing out messages, until "walq group resume". What consumers
work on they can finish; those that wait go on waiting.`
	}
	cmd := manual{arguments: groupArguments, exits: corrupt, see: "walq group ls, walq group reset"}.on(&cobra.Command{
		Use:     use + " DIR NAME",
		Short:   what,
		Long:    long,
		Example: "  walq group " + use + " /tmp/orders mail",
		Args:    groupArgs,
	})
	output := outputFlag(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return onGroup(cmd, args, toChange, func(q *walq.Queue, name string) error {
			if err := q.PauseGroup(name, pause); err != nil {
				return err
			}
			if output.value == "json" {
				g, err := findGroup(q, name)
				if err != nil {
					return err
				}
				return printJSON(cmd.OutOrStdout(), g)
			}
			cmd.PrintErrf("group %s %s\n", name, map[bool]string{true: "is paused", false: "goes on"}[pause])
			return nil
		})
	}
	return cmd
}

// groupNames completes the name of a group of the queue that was named before.
func groupNames(cmd *cobra.Command, args []string, _ string) (names []cobra.Completion, _ cobra.ShellCompDirective) {
	if len(args) > 0 {
		all, _ := groups(cmd.Context(), args[0]) // nothing to complete is no error
		for _, g := range all {
			names = append(names, g.Name)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
