package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/walq/walq"
	"github.com/walq/walq/group"
)

type consumeFlags struct {
	group, run      string
	from            position
	lease           age
	options         walq.GroupOptions
	count           uint64
	limited, noWait bool
	output          *choice
}

func newConsume() *cobra.Command {
	var o consumeFlags
	cmd := manual{
		arguments: dirArgument, exits: corrupt, see: "walq group, walq redrive, walq put, walq cat, sh(1)",
	}.on(&cobra.Command{
		Use:   "consume DIR --group G",
		Short: "Work on messages as one of a group of consumers",
		Long: `Take messages of the queue in DIR as a consumer of the group G, which is made if it
is not there. Consumers of one group, in any processes, share the messages: each goes
to one of them, and to another one if that one dies, fails or takes too long. Groups
do not disturb each other.

A message is printed, and then finished: its body and a newline, or with -o json an
object with the keys that "walq cat" has, with attempt, how often it was handed out,
and deaths, how often the process of its consumer died.

With --exec a command works on it, through sh -c, with the body on standard input and
WALQ_SEQ, WALQ_ATTEMPT, WALQ_TOPIC, WALQ_KEY and WALQ_ID in its environment. Exit
status 0 finishes the message, any other one sends it back: it is handed out again
after 0, 1, 5 and then 30 seconds. While the command runs nobody else gets the
message. What it prints is passed through.

What the flags say of the group is stored with it. Those that are not given leave it
as it is; --topic, --window, --ordered and --ordered-by-key cannot be changed, and --from
is for a group that is made.

Ctrl-C ends consume when what is under way is finished; a second one ends it at once,
which counts as a death. The command has a process group of its own, so that Ctrl-C
does not reach it, and goes on if consume is killed. A message that could not be
printed because nobody reads any more is sent back.`,
		Example: `  walq consume /tmp/orders --group mail
  walq consume /tmp/orders --group mail --exec 'mail -s "order $WALQ_SEQ" me' --handlers 4
  walq consume /tmp/orders --group mail --exec ./bill --max-deliver 5 --dead-letter /tmp/orders-dead
  walq consume /tmp/orders --group audit --topic 'eu.*' --no-wait -o json`,
		Args: arguments("DIR"),
	})
	o.flags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o.limited = cmd.Flags().Changed("count")
		if err := o.check(cmd.Flags().Changed("exec")); err != nil {
			return err
		}
		return consumeGroup(cmd, args[0], o)
	}
	return cmd
}

func (o *consumeFlags) flags(cmd *cobra.Command) {
	f, g := cmd.Flags(), &o.options
	f.StringVar(&o.group, "group", "", "`name` of the group (default none: it has to be given)")
	completeFlag(cmd, "group", groupNames)
	f.StringVar(&o.run, "exec", "", "run this `command` for each message (default print it)")
	f.IntVar(&g.Handlers, "handlers", 1, "so many commands of --exec at once")
	f.Var(&o.from, "from", "where a new group begins: oldest, newest, SEQ, -N or a time (RFC 3339)")
	completeFlag(cmd, "from", positions)
	f.StringVar(&g.Topic, "topic", "", "only this topic, or with a star at the end all that begin so (default all)")
	f.Uint64Var(&o.count, "count", 0, "end when so many are finished, and with --handlers those under way (default no limit)")
	f.Var(&o.lease, "lease", "how long a consumer that shows no life may have a message (default 30s)")
	f.IntVar(&g.Window, "window", 0, "how many messages may be in flight, in all consumers (default 4095)")
	f.BoolVar(&g.Ordered, "ordered", false, "hand out a message only when all before it are finished")
	f.BoolVar(&g.OrderedByKey, "ordered-by-key", false, "hand out a message only when all before it with its key are finished")
	f.IntVar(&g.MaxDeliver, "max-deliver", 0, "hand a message out so often, then give it up (default no limit)")
	f.IntVar(&g.MaxDeaths, "max-deaths", 0, "so many consumers may die of a message, then give it up (default no limit)")
	f.StringVar(&g.DeadLetter, "dead-letter", "", "queue for messages that are given up, which is made if it is missing (default none)")
	completeFlag(cmd, "dead-letter", directories)
	f.BoolVar(&g.MayLose, "may-lose", false, "the queue's limits may remove what is not finished (see walq group set)")
	f.BoolVar(&o.noWait, "no-wait", false, "end when there is nothing to hand out")
	o.output = outputFlag(cmd, "raw", "json")
}

// check tells what makes no sense, and completes the options.
func (o *consumeFlags) check(exec bool) error {
	g := &o.options
	switch {
	case o.group == "":
		return usagef("--group is missing")
	case exec && o.run == "":
		return usagef("--exec is empty")
	case exec && o.output.value == "json":
		return usagef("-o json and --exec exclude each other: it is the command that prints")
	case g.Handlers < 1:
		return usagef("--handlers %d: want at least 1", g.Handlers)
	case !exec && g.Handlers > 1:
		return usagef("--handlers is for --exec")
	case g.Window < 0 || g.MaxDeliver < 0 || g.MaxDeaths < 0:
		return usagef("--window, --max-deliver and --max-deaths are not negative")
	case g.Ordered && g.Window > 1:
		return usagef("--ordered and --window exclude each other")
	case g.Ordered && g.OrderedByKey:
		return usagef("--ordered and --ordered-by-key exclude each other")
	}
	if o.limited {
		g.Handlers = int(min(uint64(g.Handlers), max(o.count, 1)))
	}
	g.From = o.from.Position
	g.Lease = time.Duration(o.lease)
	return checkGroupName(o.group)
}

// checkGroupName tells whether a group can be called so.
func checkGroupName(name string) error {
	if err := group.CheckName(name); err != nil {
		return usageError{err}
	}
	return nil
}
