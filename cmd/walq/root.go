package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "walq",
		Short: "An embedded, brokerless, durable queue: a queue is a directory",
		Long: `walq works with queues. A queue is a directory; any number of processes on a
host append to it and read from it at once, with no daemon between them.

Data goes to standard output, everything else to standard error; -o json makes
JSON of the data, one object or one for each line. Commands that read never make
a queue, and need permission to read only.`,
		Example: `  walq demo
  seq 1000 | walq put /tmp/orders
  walq cat /tmp/orders --from -10
  source <(walq completion bash)`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("which command?")
			}
			return usagef("there is no command %q", args[0])
		},
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.CompletionOptions.DisableDefaultCmd = true // there is newCompletion
	manual{exits: corrupt}.on(root)
	setHelp(root)
	root.AddCommand(newDemo(), newCreate(), newSet(), newPut(), newCat(), newConsume(), newGroup(), newRedrive(), newStat(), newVerify(), newRepair(), newTrim(), newDump(), newBench(), newCompletion())
	complete(root)
	return root
}

// A usageError is about the command line and nothing else.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// arguments accepts exactly the named ones.
func arguments(names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) < len(names) {
			return usagef("%s is missing", names[len(args)])
		}
		if len(args) > len(names) {
			return usagef("what is %q for?", args[len(names)])
		}
		for i, arg := range args {
			if arg == "" { // a variable of a script that was not set, most likely
				return usagef("%s is empty", names[i])
			}
		}
		return nil
	}
}

// A choice is a flag with a few possible values, the first of which holds if
// nothing is given.
type choice struct {
	value  string
	values []string
}

func choices(values ...string) *choice { return &choice{values[0], values} }

func (c *choice) String() string { return c.value }
func (c *choice) Type() string   { return strings.Trim(strings.Join(c.values, "|"), "|") }

func (c *choice) Set(s string) error {
	if s == "" || !slices.Contains(c.values, s) {
		return fmt.Errorf("want %s", strings.Join(c.possible(), ", "))
	}
	c.value = s
	return nil
}

// flag adds the choice to the flags of a command; short may be empty.
func (c *choice) flag(cmd *cobra.Command, name, short, usage string) {
	cmd.Flags().VarP(c, name, short, usage)
	completeFlag(cmd, name, cobra.FixedCompletions(c.possible(), cobra.ShellCompDirectiveNoFileComp))
}

// possible are the values that can be given.
func (c *choice) possible() []string {
	return slices.DeleteFunc(slices.Clone(c.values), func(v string) bool { return v == "" })
}

// outputFlag adds -o. The first format is the default.
func outputFlag(cmd *cobra.Command, formats ...string) *choice {
	c := choices(formats...)
	c.flag(cmd, "output", "o", "how to print: for people or for programs")
	return c
}

// printJSON prints one object on a line of its own.
func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// plural counts things for people.
func plural[N int | uint64](n N, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// noQueue makes a missing queue a sentence.
func noQueue(dir string, err error) error {
	if _, serr := os.Stat(dir); errors.Is(err, fs.ErrNotExist) && errors.Is(serr, fs.ErrNotExist) {
		return fmt.Errorf("there is no queue at %s; `walq create` or `walq put` makes one", dir)
	}
	return noDirectory(dir, err)
}

// noDirectory makes a sentence of a path at which no queue can be.
func noDirectory(dir string, err error) error {
	if info, serr := os.Stat(dir); errors.Is(err, syscall.ENOTDIR) && (serr != nil || !info.IsDir()) {
		return fmt.Errorf("%s is no directory, and a queue is one", dir)
	}
	return err
}
